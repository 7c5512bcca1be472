package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/corastream/corastream"
)

// exchange joins the two sources of a shard. Its own part of the log passes as it comes. News of
// the other shards, which are their vectors and parcels about ours, passes once in a while. Between
// two exchanges many versions of a vector become one, and many sums for one vector are written
// once. Without it half of all writes would be other shards' news.
//
// collect fills pending in a goroutine of its own, and take empties it in the pipeline's. mu guards
// all below it. It is a leaf, and collect releases it before it waits for room.
type exchange struct {
	log, news corastream.Source
	every     time.Duration
	own       string // the embeddings topic

	mu      sync.Mutex
	pending corastream.Batch
	latest  map[string]int  // key of a change -> its place in pending
	placed  map[string]bool // keys of which pending holds the first place without a value
	room    chan struct{}   // closed and replaced when pending was taken
	err     error
	last    time.Time
}

// NewsLimit is how many changes and parcels wait at most, because one transaction must hold them.
const NewsLimit = 2000

func newExchange(log, news corastream.Source, every time.Duration, own string) *exchange {
	return &exchange{log: log, news: news, every: every, own: own, latest: map[string]int{}, placed: map[string]bool{}, room: make(chan struct{})}
}

// collect reads the news until ctx ends. When as much waits as one transaction should hold, it
// stops reading until take has emptied pending, so that the rest waits in Kafka and not in memory.
func (x *exchange) collect(ctx context.Context) {
	for {
		b, err := x.news.Next(ctx)
		if err != nil {
			x.mu.Lock()
			x.err = err
			x.mu.Unlock()
			return
		}
		x.mu.Lock()
		x.add(b)
		full, room := x.full(), x.room
		x.mu.Unlock()
		if full {
			select {
			case <-room:
			case <-ctx.Done():
			}
		}
	}
}

// add takes in a batch of news. Of several versions of a vector only the last keeps its value.
//
// The first version's key stays in its place without a value, because an item's number in our store
// comes from the order in which items first appear. A re-run reads the same log without the
// exchange, and has to number them alike.
func (x *exchange) add(b corastream.Batch) {
	p := &x.pending
	p.Spans = joinSpans(p.Spans, b.Spans)
	p.Parcels = append(p.Parcels, b.Parcels...)
	for _, c := range b.Changes {
		// Only within one owner's time does a later record stand for sure above an earlier one.
		if i, ok := x.latest[string(c.Key)]; ok && p.Changes[i].Epoch == c.Epoch && p.Changes[i].Pos.Partition == c.Pos.Partition {
			if p.Changes[i].Value = nil; x.placed[string(c.Key)] {
				p.Changes[i].Key = nil
			}
			x.placed[string(c.Key)] = true // the item's place in the order of first appearance is kept
		}
		x.latest[string(c.Key)] = len(p.Changes)
		p.Changes = append(p.Changes, c)
	}
}

// full says that the waiting news is as much as one transaction should hold. Reading stops until it is taken. Called under the lock.
func (x *exchange) full() bool {
	return len(x.latest)+len(x.pending.Parcels) >= NewsLimit || len(x.pending.Changes) >= 20*NewsLimit
}

// take returns the news since the last exchange if it is worth a transaction and its time has come.
//
// Offsets of other shards' changelogs alone are not worth one. If they were committed, the commit
// would be a record in our own changelog, and thus news for all others, who would commit it in
// turn: for ever. They are stored with the next transaction that has something to say.
func (x *exchange) take() (b corastream.Batch, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	foreign := slices.ContainsFunc(x.pending.Spans, func(s corastream.Span) bool { return s.Topic != x.own })
	if len(x.pending.Changes) == 0 && !foreign || !x.full() && time.Since(x.last) < x.every {
		return b, false
	}
	b, x.pending, x.last = x.pending, corastream.Batch{}, time.Now()
	b.Changes = slices.DeleteFunc(b.Changes, func(c corastream.Change) bool { return c.Key == nil })
	inOrder(&b)
	clear(x.latest)
	clear(x.placed)
	close(x.room)
	x.room = make(chan struct{})
	return b, true
}

// inOrder puts changes and parcels in the order of the spans, since a re-run reads span after span
// and must apply them in the same order.
func inOrder(b *corastream.Batch) {
	rank := func(pos corastream.Position) int {
		return slices.IndexFunc(b.Spans, func(s corastream.Span) bool {
			return s.ID == pos.Partition && pos.Offset >= s.From && pos.Offset < s.To && s.Topic == pos.Topic
		})
	}
	slices.SortStableFunc(b.Changes, func(a, c corastream.Change) int { return rank(a.Pos) - rank(c.Pos) })
	slices.SortStableFunc(b.Parcels, func(a, c corastream.Parcel) int { return rank(a.Pos) - rank(c.Pos) })
}

// Next implements corastream.Source. It waits for events of the log, but no longer than an exchange
// may take, so that an idle shard learns of the others too. News comes first in the batch: its
// vectors are what the events then learn with.
func (x *exchange) Next(ctx context.Context) (corastream.Batch, error) {
	for {
		wait, cancel := context.WithTimeout(ctx, x.every)
		b, err := x.log.Next(wait)
		late := errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil
		cancel()
		if err != nil && !late {
			return b, err
		}
		x.mu.Lock()
		failed := x.err
		x.mu.Unlock()
		if failed != nil {
			return corastream.Batch{}, failed
		}
		news, ok := x.take()
		if ok {
			b.Changes, b.Parcels, b.Spans = news.Changes, news.Parcels, append(news.Spans, b.Spans...)
		}
		if ok || !late {
			return b, nil
		}
	}
}

// Committed implements corastream.Source. It does nothing, because the store's offsets count and there is no group.
func (x *exchange) Committed([]corastream.Span) {}

// joinSpans appends b to a. Runs that meet become one, in the place of the first.
func joinSpans(a, b []corastream.Span) []corastream.Span {
	out := slices.Clone(a)
	for _, s := range b {
		i := slices.IndexFunc(out, func(o corastream.Span) bool { return o.Partition == s.Partition && o.To == s.From })
		if i >= 0 {
			out[i].To = s.To
		} else {
			out = append(out, s)
		}
	}
	return out
}
