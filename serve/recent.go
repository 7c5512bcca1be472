package serve

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/corastream/corastream"
)

// recent remembers the last recommendations and dead letters for the dashboard; both rings are
// bounded.
type recent struct {
	mu      sync.Mutex
	made    ring[Made]
	letters ring[Letter]
	reasons map[string]int64
}

// Made is a recommendation that was published.
type Made struct {
	ID          string              `json:"id"`
	UserID      string              `json:"user_id"`
	Items       []corastream.Scored `json:"items" api:"nullable"`
	Made        time.Time           `json:"made"`
	FreshnessMS *float64            `json:"freshness_ms"`
	// "" or "cf": scored without the LLM, because no usable checkpoint is loaded or it failed
	Degraded string `json:"degraded" api:"enum=|cf"`
	Cold     bool   `json:"cold"`
	Arm      string `json:"arm,omitempty"`                         // the share of a rollout that the user fell in
	Fallback string `json:"fallback,omitempty" api:"enum=popular"` // popular: nothing was known to rank by
}

// Letter is a record that could not be used, with the beginning of its bytes. It is shown only to
// callers with the token.
type Letter struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Reason    string    `json:"reason"`
	Detail    string    `json:"detail,omitempty"`
	Preview   string    `json:"preview,omitempty"`
	Seen      time.Time `json:"seen"`
}

const (
	maxReasons   = 32  // more kinds than that are counted as "other"
	shownItems   = 10  // of one recommendation
	previewBytes = 160 // of a dead letter
)

func newRecent(n int) *recent {
	return &recent{made: ring[Made]{cap: n}, letters: ring[Letter]{cap: n}, reasons: map[string]int64{}}
}

// ring keeps the newest cap values.
type ring[T any] struct {
	cap, next int
	all       []T
}

func (r *ring[T]) add(v T) {
	if len(r.all) < r.cap {
		r.all = append(r.all, v)
		return
	}
	r.all[r.next] = v
	r.next = (r.next + 1) % r.cap
}

// newest calls f with the values, newest first, until it returns false.
func (r *ring[T]) newest(f func(T) bool) {
	for i := range r.all {
		if !f(r.all[(r.next+len(r.all)-1-i)%len(r.all)]) {
			return
		}
	}
}

// Publish implements corastream.Sink: it remembers the recommendations. It never fails, and it
// waits for its lock alone.
func (s *Server) Publish(_ context.Context, recs []corastream.Recommendation) error {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	for _, rec := range recs {
		resp := responseOf(rec)
		s.recent.made.add(Made{
			ID: rec.ID, UserID: rec.User, Items: slices.Clone(rec.Items[:min(shownItems, len(rec.Items))]), Made: resp.Made,
			FreshnessMS: resp.FreshnessMS, Degraded: rec.Degraded, Cold: rec.Cold, Arm: rec.Arm, Fallback: rec.Fallback,
		})
	}
	return nil
}

// Bury implements corastream.DeadLetters: it counts by reason and remembers the last ones.
func (s *Server) Bury(_ context.Context, letters []corastream.DeadLetter) error {
	now := s.deps.Now().UTC()
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	for _, l := range letters {
		reason := l.Reason
		if _, seen := s.recent.reasons[reason]; reason == "" || !seen && len(s.recent.reasons) >= maxReasons {
			reason = "other"
		}
		s.recent.reasons[reason]++
		s.recent.letters.add(Letter{
			Topic: l.Pos.Topic, Partition: l.Pos.Partition, Offset: l.Pos.Offset, Reason: reason, Detail: l.Detail,
			Preview: preview(l.Value), Seen: now,
		})
	}
	return nil
}

// Forget removes a user's recommendations, for erasure. Dead letters whose bytes contain the id
// are removed too.
func (s *Server) Forget(user string) {
	s.pages.forget(recommendOwner(user))
	if s.deps.Crowd != nil {
		s.deps.Crowd.Forget(user)
	}
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	s.recent.made.remove(func(m Made) bool { return m.UserID == user })
	s.recent.letters.remove(func(l Letter) bool { return containsID(l.Preview, user) || containsID(l.Detail, user) })
}

func (r *ring[T]) remove(drop func(T) bool) {
	kept := make([]T, 0, len(r.all))
	r.newest(func(v T) bool {
		if !drop(v) {
			kept = append(kept, v)
		}
		return true
	})
	slices.Reverse(kept)
	r.all, r.next = kept, 0
}

// of returns the recommendations of one user, newest first.
func (r *recent) of(user string) []Made {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []Made{}
	r.made.newest(func(m Made) bool {
		if m.UserID == user {
			out = append(out, m)
		}
		return len(out) < 5
	})
	return out
}

// shown returns the newest n recommendations and dead letters.
func (r *recent) shown(n int) (made []Made, letters []Letter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	made, letters = []Made{}, []Letter{}
	r.made.newest(func(m Made) bool { made = append(made, m); return len(made) < n })
	r.letters.newest(func(l Letter) bool { letters = append(letters, l); return len(letters) < n })
	return made, letters
}

// deadLetters counts by reason. Dead letters that did not pass Bury are counted as "unseen", so
// that the sum equals the pipeline's own.
func (s *Server) deadLetters() map[string]int64 {
	s.recent.mu.Lock()
	out := maps.Clone(s.recent.reasons)
	s.recent.mu.Unlock()
	total := s.deps.Stats.DeadLetters.Load()
	for _, n := range out {
		total -= n
	}
	if total > 0 {
		out["unseen"] = total
	}
	return out
}

// preview returns the beginning of a record as text, with a dot for every byte that is not text.
func preview(b []byte) string {
	out := make([]rune, 0, previewBytes)
	for len(b) > 0 && len(out) < previewBytes {
		r, n := utf8.DecodeRune(b)
		if r == utf8.RuneError || r < ' ' || r == 0x7f {
			r = '·'
		}
		out, b = append(out, r), b[n:]
	}
	if len(b) > 0 {
		out = append(out, '…')
	}
	return string(out)
}
