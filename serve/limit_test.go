package serve

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

type panicking struct{}

func (panicking) Recommend(context.Context, []corastream.Owed) ([]corastream.Recommendation, error) {
	panic("a bug, holding " + token)
}

// blocking answers when told to.
type blocking struct {
	entered chan struct{}
	release chan struct{}
}

func (b blocking) Recommend(ctx context.Context, owed []corastream.Owed) ([]corastream.Recommendation, error) {
	b.entered <- struct{}{}
	select {
	case <-b.release:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return []corastream.Recommendation{{User: owed[0].User, Made: time.Unix(1, 0)}}, nil
}

func TestTooMuchAtOnceIs503(t *testing.T) {
	b := blocking{make(chan struct{}, 9), make(chan struct{})}
	f := newFixture(t, func(c *Config, d *Deps) {
		c.MaxInFlight, c.MaxQueue, c.QueueTimeoutMS = 1, 1, 60_000
		d.Recommender = b
	})
	answers := make(chan int, 2)
	ask := func() { answers <- f.call("POST", "/v1/recommend", `{"user_id":"anna"}`, nil).Code }
	go ask()
	<-b.entered
	go ask() // waits
	for f.gate.waiting.Load() != 1 {
		time.Sleep(time.Millisecond)
	}
	w := f.call("POST", "/v1/recommend", `{"user_id":"anna"}`, nil)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"overloaded"`) {
		t.Errorf("a full queue: %d %v %s", w.Code, w.Header(), w.Body)
	}
	if w := f.call("GET", "/healthz", "", nil); w.Code != 200 {
		t.Errorf("health must not queue: %d", w.Code)
	}
	close(b.release)
	for range 2 {
		if code := <-answers; code != 200 {
			t.Errorf("one that was let in or waited: %d", code)
		}
	}
	if f.gate.waiting.Load() != 0 || len(f.gate.slots) != 0 {
		t.Error("a slot was not given back")
	}
}

// TestWhoIsLetInStandsAsideOnce: of requests that come at the same time, those without a slot are refused at once, not after those
// that have one.
func TestWhoIsLetInStandsAsideOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	g := newGate(1, 0, time.Hour)
	var wg sync.WaitGroup
	var in, refused atomic.Int64
	for range 20 {
		wg.Go(func() {
			if g.enter(t.Context()) != nil {
				refused.Add(1)
				return
			}
			defer g.leave()
			in.Add(1)
			for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
			}
		})
	}
	wg.Wait()
	if in.Load() == 0 || refused.Load() < 10 {
		t.Errorf("%d of 20 were let in one after the other, %d refused", in.Load(), refused.Load())
	}
}

func TestWaitingHasAnEnd(t *testing.T) {
	g := newGate(1, 5, time.Millisecond)
	if err := g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := g.enter(t.Context()); err == nil || failureOf(err).Code != "overloaded" {
		t.Errorf("a slot that never comes free: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newFullGate(t).enter(ctx); err == nil || failureOf(err).Code != "cancelled" {
		t.Errorf("a client that went away: %v", err)
	}
}

func newFullGate(t *testing.T) *gate {
	g := newGate(1, 5, time.Hour)
	if err := g.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestOneClientsExcessIs429(t *testing.T) {
	now := time.Unix(1000, 0)
	f := newFixture(t, func(c *Config, d *Deps) {
		c.RatePerSecond = 2
		d.Now = func() time.Time { return now }
	})
	codes := func(n int, addr string) (out []int) {
		for range n {
			r, _ := http.NewRequest("GET", "/healthz", nil)
			r.Host, r.RemoteAddr = "localhost", addr
			w := &statusOnly{header: http.Header{}}
			f.Handler().ServeHTTP(w, r)
			out = append(out, w.code)
			if w.code == 429 && w.header.Get("Retry-After") != "1" {
				t.Errorf("Retry-After is %q", w.header.Get("Retry-After"))
			}
		}
		return out
	}
	check := func(what string, got []int, want ...int) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	check("a burst", codes(5, "192.0.2.1:1"), 200, 200, 200, 200, 429)
	check("another client", codes(1, "192.0.2.2:1"), 200)
	check("another port of the first", codes(1, "192.0.2.1:2"), 429)
	now = now.Add(time.Second)
	check("a second later", codes(3, "192.0.2.1:1"), 200, 200, 429)
	check("an IPv6 network", codes(5, "[2001:db8::1]:1"), 200, 200, 200, 200, 429)
	check("its neighbour", codes(1, "[2001:db8::ffff]:1"), 429)
}

type statusOnly struct {
	header http.Header
	code   int
}

func (w *statusOnly) Header() http.Header { return w.header }

func (w *statusOnly) Write(p []byte) (int, error) { return len(p), nil }

func (w *statusOnly) WriteHeader(code int) { w.code = code }

func TestLimiterForgetsTheIdleFirstAndStaysBounded(t *testing.T) {
	l := newLimiter(1, 2)
	now := time.Unix(1000, 0)
	l.take("busy", now)
	for i := range 3 * maxClients {
		l.take(fmt.Sprint(i), now)
		if len(l.buckets) > maxClients {
			t.Fatalf("%d clients kept", len(l.buckets))
		}
	}
	l = newLimiter(1, 2)
	for i := range maxClients - 1 {
		l.take(fmt.Sprint(i), now)
	}
	later := now.Add(time.Minute)
	l.take("busy", later)
	l.take("busy", later)
	l.take("new", later) // full: those idle for a minute go
	if wait := l.take("busy", later); wait == 0 || len(l.buckets) > 2 {
		t.Errorf("the busy one was let off (%v), or the idle were kept (%d)", wait, len(l.buckets))
	}
}

func TestAnAnswerThatTakesTooLongIs504(t *testing.T) {
	b := blocking{make(chan struct{}, 1), make(chan struct{})}
	f := newFixture(t, func(c *Config, d *Deps) {
		c.RequestTimeoutMS = 100
		d.Recommender = b
	})
	if code, fail := f.failure("POST", "/v1/recommend", `{"user_id":"anna"}`); code != 504 || fail.Code != "timeout" {
		t.Errorf("%d %+v", code, fail)
	}
}
