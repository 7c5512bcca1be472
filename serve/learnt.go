package serve

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// accepted is the answer to events: the broker has them.
type accepted struct {
	Accepted int `json:"accepted"` // how many events the broker has
	// Learnt says, to who asked with wait=learnt, whether the next list is made with them. Where it is false they are not lost: they
	// are learnt later, and must not be sent again.
	Learnt   *bool    `json:"learnt,omitempty"`
	LearntMS *float64 `json:"learnt_ms,omitempty"` // from when the broker had them until they were learnt
}

const waitParameter = "wait"

// wantsLearnt reads ?wait=learnt. It refuses before anything is sent what can not be waited for.
func (s *Server) wantsLearnt(r *http.Request) (bool, error) {
	switch values := r.URL.Query()[waitParameter]; {
	case len(values) == 0:
		return false, nil
	case len(values) > 1 || values[0] != "learnt":
		return false, badField(waitParameter, "send wait=learnt, or leave it out", "there is nothing else to wait for")
	case s.deps.Learnt == nil:
		return false, missing("a learner", "leave wait out, or ask a process that learns or follows what others learnt")
	}
	return true, nil
}

// accept produces events and answers: 202 when the broker has them, or with wait 200 when they are learnt. What is not learnt within
// LearntWaitMS is answered 202 too: an error would make clients send it twice.
func (s *Server) accept(w http.ResponseWriter, r *http.Request, to EventSink, wait bool, events [][]byte, headers map[string]string) error {
	out := accepted{Accepted: len(events)}
	if len(events) == 0 {
		writeJSON(w, http.StatusAccepted, out)
		return nil
	}
	at, err := to.Produce(r.Context(), events, headers)
	if err != nil {
		return fmt.Errorf("produce events: %w", err)
	}
	status := http.StatusAccepted
	if wait {
		leaveSlot(r.Context()) // others may send while this one waits
		began := time.Now()
		ctx, cancel := context.WithTimeout(r.Context(), ms(s.cfg.LearntWaitMS))
		defer cancel()
		learnt := s.deps.Learnt(ctx, at) == nil
		if out.Learnt = &learnt; learnt {
			took := float64(time.Since(began).Microseconds()) / 1000
			out.LearntMS, status = &took, http.StatusOK
		}
	}
	writeJSON(w, status, out)
	return nil
}

// slot is a request's place in its gate.
type slot struct {
	g    *gate
	once sync.Once
}

type slotKey struct{}

func (s *slot) leave() { s.once.Do(s.g.leave) }

// leaveSlot gives the request's place to the next one, for what costs nothing from here on.
func leaveSlot(ctx context.Context) {
	if s, ok := ctx.Value(slotKey{}).(*slot); ok {
		s.leave()
	}
}
