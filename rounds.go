package corastream

import (
	"context"
	"slices"
	"time"
)

// init fills in what a Pipeline may lack. Recommend and Wake may be called before Run, from the
// HTTP server's goroutines, so it runs once.
func (p *Pipeline) init() {
	p.once.Do(func() {
		p.debts, p.unread = make(chan struct{}, 1), make(chan struct{}, 1)
		if p.Now == nil {
			p.Now = time.Now
		}
		if p.Warn == nil {
			p.Warn = func(string, error) {}
		}
		if p.Tracer == nil {
			p.Tracer = untraced{}
		}
	})
}

// untraced is the Tracer that makes no spans.
type untraced struct{}

func (untraced) Learn(ctx context.Context, _ Batch) (context.Context, func(Commit, error)) {
	return ctx, func(Commit, error) {}
}

func (untraced) Recommend(ctx context.Context, _ []Owed) (context.Context, func([]Recommendation, error)) {
	return ctx, func([]Recommendation, error) {}
}

// moved tells the retriever which items changed.
func (p *Pipeline) moved(ctx context.Context, items []string) error {
	if len(items) == 0 || p.Retriever == nil {
		return nil
	}
	return p.Store.View(ctx, func(s State) error { return p.Retriever.Moved(s, items) })
}

// rounds calls work until it finds nothing to do, then waits to be woken; after `last` is closed it
// ends once idle. The select may take `last` while a token waits too, so work runs once more before
// the end.
func (p *Pipeline) rounds(ctx context.Context, awake, last <-chan struct{}, work func() (int, error)) error {
	for ending := false; ; {
		n, err := work()
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if ending {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-awake:
		case <-last:
			ending = true
		}
	}
}

// wanted are the debts that somebody waits for: all requests, and of moved users those that the Audience names. The others may be debts
// of a time when the configuration said otherwise.
func (p *Pipeline) wanted(owed []Owed) []Owed {
	return slices.DeleteFunc(slices.Clone(owed), func(o Owed) bool { return o.Request == nil && !p.Audience.Wants(o.User) })
}

// Wake says that the store may owe a recommendation that no batch brought.
func (p *Pipeline) Wake() {
	p.init()
	wake(p.debts)
}

// wake leaves a token unless one is there. It never waits: it is called by the learning stage.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
