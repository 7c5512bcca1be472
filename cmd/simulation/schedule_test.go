package simulation

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing/synctest"
	"time"
)

// errKilled is what every stage answers once the process is dead. Nothing after it reaches the world.
var errKilled = errors.New("the simulated process is dead")

// schedule stops each goroutine of the pipeline at its steps and lets one at a time go on.
type schedule struct {
	w      *world
	mu     sync.Mutex
	at     []*stop
	inside int // goroutines within a stage's own code: Badger may wait for its own timers
	dead   bool
	cause  error // of an orderly end
}

// stop is a goroutine that waits for its turn.
type stop struct {
	who, what string
	until     time.Time   // not before; zero: any time
	ready     func() bool // nil: always
	turn      chan struct{}
}

// step is where a goroutine of the pipeline stops. It returns errKilled when the process died meanwhile.
func (s *schedule) step(ctx context.Context, who, what string, until time.Time, ready func() bool) error {
	st := &stop{who: who, what: what, until: until, ready: ready, turn: make(chan struct{})}
	s.mu.Lock()
	if s.dead {
		s.mu.Unlock()
		return errKilled
	}
	s.at = append(s.at, st)
	s.mu.Unlock()
	select {
	case <-st.turn:
	case <-ctx.Done(): // the pipeline ends because of another goroutine's error
		s.mu.Lock()
		s.at = slices.DeleteFunc(s.at, func(o *stop) bool { return o == st })
		s.mu.Unlock()
		return context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		return errKilled
	}
	return nil
}

// call runs a stage's own code between two steps: the process can die right before and right after it.
func (s *schedule) call(ctx context.Context, who, what string, do func() error) error {
	if err := s.step(ctx, who, what, time.Time{}, nil); err != nil {
		return err
	}
	s.within(1)
	err := do()
	s.within(-1)
	if err != nil {
		return err
	}
	return s.step(ctx, who, what+" done", time.Time{}, nil)
}

func (s *schedule) within(n int) {
	s.mu.Lock()
	s.inside += n
	s.mu.Unlock()
}

// settle waits until every goroutine of the bubble stands still. Badger's own timers run on the bubble's clock, which
// moves only here.
func (s *schedule) settle() {
	for synctest.Wait(); ; synctest.Wait() {
		s.mu.Lock()
		busy := s.inside > 0
		s.mu.Unlock()
		if !busy {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// next picks who goes on: one of those that can, or, when all wait for a time, the first of them after the clock has been
// put forward to it. nil: nobody can ever go on.
func (s *schedule) next() *stop {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.at, func(a, b *stop) int { return cmp.Or(cmp.Compare(a.who, b.who), cmp.Compare(a.what, b.what)) })
	var can []*stop
	var soonest *stop
	for _, st := range s.at {
		if st.ready != nil && !st.ready() {
			continue
		}
		if st.until.After(s.w.now) {
			if soonest == nil || st.until.Before(soonest.until) {
				soonest = st
			}
			continue
		}
		can = append(can, st)
	}
	if len(can) > 0 {
		return can[s.w.rng.IntN(len(can))]
	}
	if soonest != nil {
		s.w.pass(soonest.until.Sub(s.w.now))
	}
	return soonest
}

func (s *schedule) release(st *stop) {
	s.mu.Lock()
	s.at = slices.DeleteFunc(s.at, func(o *stop) bool { return o == st })
	s.mu.Unlock()
	close(st.turn)
}

// fatal is for an error that ends the pipeline: the others see the end at once. Left to themselves they would see it when
// Go's select happens to choose so, and the trace would not be the seed's alone.
func (s *schedule) fatal(err error) error {
	s.mu.Lock()
	s.cause = err
	s.mu.Unlock()
	s.kill()
	return err
}

// kill lets every goroutine see that the process is dead.
func (s *schedule) kill() {
	s.mu.Lock()
	all := s.at
	s.at, s.dead = nil, true
	s.mu.Unlock()
	for _, st := range all {
		close(st.turn)
	}
}
