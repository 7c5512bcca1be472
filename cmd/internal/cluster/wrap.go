package cluster

import (
	"context"
	"slices"
	"sync"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/store"
)

// dropForeignBad drops dead letters that another shard buries.
type dropForeignBad struct {
	corastream.Source
	notMine func(corastream.DeadLetter) bool
}

// Next implements corastream.Source.
func (f dropForeignBad) Next(ctx context.Context) (corastream.Batch, error) {
	b, err := f.Source.Next(ctx)
	b.Bad = slices.DeleteFunc(b.Bad, f.notMine)
	return b, err
}

// lockedMonitor lets several shards share a monitor, one event at a time. Observe runs inside a
// commit, under the store's writer lock, so this lock comes after it.
type lockedMonitor struct {
	corastream.Monitor
	mu *sync.Mutex
}

// Observe implements corastream.Monitor.
func (m *lockedMonitor) Observe(ev corastream.Event, before corastream.Pair, user *corastream.UserState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Monitor.Observe(ev, before, user)
}

// countingStore is the shard's store as the pipeline sees it. It counts learnt events and wakes the
// sender of the outbox. wake holds one token: a sender that is busy finds the new parcels by
// itself.
type countingStore struct {
	*store.Store
	o *owner
}

// Commit implements corastream.Store.
func (s *countingStore) Commit(ctx context.Context, b corastream.Batch, learn func(corastream.State, corastream.Event) error) (corastream.Commit, error) {
	done, err := s.Store.Commit(ctx, b, learn)
	if err != nil {
		return done, err
	}
	st := &s.o.l.stats
	st.Events.Add(int64(done.Learnt))
	st.Duplicates.Add(int64(done.Duplicates))
	st.DeadLetters.Add(int64(len(b.Bad)))
	select {
	case s.o.wake <- struct{}{}:
	default:
	}
	return done, nil
}

// Join implements corastream.Store.
func (s *countingStore) Join(ctx context.Context, items []corastream.Item) error {
	if err := s.Store.Join(ctx, items); err != nil {
		return err
	}
	s.o.l.stats.ItemsRead.Add(int64(len(items)))
	return nil
}
