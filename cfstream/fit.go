package cfstream

import (
	"context"
	"fmt"
	"slices"

	"github.com/corastream/corastream"
)

// Fitter is a model with a way of its own to learn a whole log: lightgcn and sasrec have one.
type Fitter interface {
	Fit(ctx context.Context, s *corastream.Memory, events []corastream.Event, epochs int) error
}

// Fit makes several passes over a log, in time order, into a state in memory: how a model starts before its stream.
// Histories are written by the first pass alone, so they hold each interaction once, and negatives of later passes know them. It returns ctx's error when cancelled.
func Fit(ctx context.Context, s *corastream.Memory, l corastream.Learner, events []corastream.Event, epochs int) error {
	if epochs < 1 {
		return corastream.Usagef("epochs", "choose at least 1", "%d passes", epochs)
	}
	if f, ok := l.(Fitter); ok {
		return f.Fit(ctx, s, events, epochs)
	}
	events = corastream.Settled(inOrder(events))
	for epoch := range epochs {
		if epoch > 0 {
			if err := uncount(s, events); err != nil {
				return err
			}
		}
		for i, ev := range events {
			if i%4096 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			learn := func() error { return l.Learn(s, ev) }
			if epoch == 0 {
				learn = func() error { return s.Apply(l, ev) }
			}
			if err := learn(); err != nil {
				return fmt.Errorf("pass %d, event %d of %d: %w", epoch+1, i+1, len(events), err)
			}
		}
	}
	return nil
}

// inOrder is a log in time order; events of equal times keep theirs.
func inOrder(events []corastream.Event) []corastream.Event {
	byTime := func(a, b corastream.Event) int { return a.Time.Compare(b.Time) }
	if !slices.IsSortedFunc(events, byTime) {
		events = slices.Clone(events)
		slices.SortStableFunc(events, byTime)
	}
	return events
}

func remember(s *corastream.Memory, ev corastream.Event) error {
	u, err := s.User(ev.User)
	if err == nil {
		u.Remember(ev, s.HistoryLimit)
	}
	return err
}
