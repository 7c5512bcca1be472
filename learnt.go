package corastream

import (
	"context"
	"sync"
)

// progress says how far each partition has been learnt since the process began. Waiters share one
// channel, which is closed and forgotten at the next batch; each then looks again. mu is a leaf.
type progress struct {
	mu   sync.Mutex
	to   map[Partition]int64 // the offset after the last one learnt
	news chan struct{}       // closed and replaced when to changes; nil: nobody waits
}

// reach notes the offsets of a batch whose transaction is done.
func (p *progress) reach(spans []Span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.to == nil {
		p.to = map[Partition]int64{}
	}
	for _, s := range spans {
		p.to[s.Partition] = max(p.to[s.Partition], s.To)
	}
	if p.news != nil {
		close(p.news)
		p.news = nil
	}
}

// behind returns what to wait for while one of the records is not learnt; nil when all are.
func (p *progress) behind(at []Position) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range at {
		if p.to[Partition{a.Topic, a.Partition}] > a.Offset {
			continue
		}
		if p.news == nil {
			p.news = make(chan struct{})
		}
		return p.news
	}
	return nil
}

// Learnt waits until the records at these positions are learnt, so that the next list is made with them, or until ctx ends. It
// knows the records that this process has read since it began: one that was learnt before is never reported.
func (p *Pipeline) Learnt(ctx context.Context, at []Position) error {
	for {
		news := p.applied.behind(at)
		if news == nil {
			return nil
		}
		if p.Hurry != nil {
			p.Hurry()
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-news:
		}
	}
}
