package serve

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// TestWhoWaitsIsToldWhetherEventsAreLearnt: and one who waits holds nobody up, however long learning takes.
func TestWhoWaitsIsToldWhetherEventsAreLearnt(t *testing.T) {
	learnt, asked := make(chan struct{}), make(chan []corastream.Position, 8)
	f := newFixture(t, func(c *Config, d *Deps) {
		c.MaxInFlight, c.LearntWaitMS = 1, 20
		d.Learnt = func(ctx context.Context, at []corastream.Position) error {
			asked <- at
			select {
			case <-learnt:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	const ev = `[{"user_id":"anna","item_id":"i1"},{"user_id":"anna","item_id":"i2"}]`
	var out accepted
	if w := f.call("POST", "/v1/events?wait=learnt", ev, &out); w.Code != http.StatusAccepted || *out.Learnt || out.Accepted != 2 || out.LearntMS != nil {
		t.Errorf("%d %+v", w.Code, out)
	}
	if at := <-asked; len(at) != 2 || at[1].Offset != 1 {
		t.Errorf("waited for %v", at)
	}
	f.cfg.LearntWaitMS = 60_000
	const waiting = 9 // more than the gate lets in
	done := make(chan int, waiting)
	for range waiting {
		go func() { done <- f.call("DELETE", "/v1/users/anna/events?item_id=i1&wait=learnt", "", nil).Code }()
	}
	for range waiting {
		select {
		case <-asked:
		case <-time.After(10 * time.Second):
			t.Fatal("one who waits holds the others up")
		}
	}
	close(learnt)
	for range waiting {
		if code := <-done; code != http.StatusOK {
			t.Errorf("%d", code)
		}
	}
	for _, path := range []string{"/v1/events?wait=", "/v1/events?wait=stored", "/v1/events?wait=learnt&wait=learnt"} {
		if status, fail := f.failure("POST", path, ev); status != 400 || fail.Field != "wait" {
			t.Errorf("%s: %d %+v", path, status, fail)
		}
	}
	f.deps.Learnt = nil
	sent := len(f.sent.events)
	if status, _ := f.failure("POST", "/v1/events?wait=learnt", ev); status != http.StatusNotImplemented || len(f.sent.events) != sent {
		t.Errorf("%d, and %d events were sent", status, len(f.sent.events)-sent)
	}
}
