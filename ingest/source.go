package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
)

// Hooks join a source to the store. Offsets live there, in the transaction that learnt from them; Kafka's own group
// offsets are for lag tools.
type Hooks struct {
	// Next is the offset after the last one learnt from a partition; known is false when there is none yet. nil: no store,
	// every partition begins at Config.Start.
	Next func(corastream.Partition) (offset int64, known bool, err error)
	// Meta and SetMeta keep short facts across restarts: the cluster's and the topics' ids, under keys that begin with
	// "kafka.". Meta gives "" for an unknown key. Without them a recreated topic shows only when it is too short.
	Meta    func(key string) (string, error)
	SetMeta func(key, value string) error
	Log     zerolog.Logger

	// Topics to read. Default: interactions, items and requests.
	Topics []string
	// Pick chooses among all partitions when there is no group; nil: all of them.
	Pick func([]corastream.Partition) []corastream.Partition
	// Keep says of a change's key whether it is wanted; nil: all are. The others are covered by the spans all the same.
	Keep func(key []byte) bool
	// GroupOffsets starts a partition at the offset that the group has for it, not at Next's: for what a store has no part in. The
	// group's offset is what Committed was told, so a batch that was handed out and not reported is read again by whoever comes next.
	GroupOffsets bool
}

// Source reads topics in micro-batches and implements corastream.Source. Next is for one goroutine;
// everything else may be called from any.
//
// One goroutine holds the assignment (assignAll or assignByGroup), and one feed for each assigned
// partition reads and decodes. The feeds put decoded blocks into queues, and Next cuts batches from
// all queues in turn. mu guards the feeds' queues and everything below it. It is a leaf, held for
// moments. metaMu is held across a call into the store.
type Source struct {
	cfg     Config
	hooks   Hooks
	access  *access
	decoder *Decoder
	topics  []string
	compact map[string]bool

	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
	commit committer

	mu     sync.Mutex
	feeds  []*feed // of the partitions assigned now, by topic and partition
	turn   int     // which feed goes first in the next batch
	handed map[corastream.Partition]int64
	had    map[corastream.Partition]bool // the assignment before the present one
	placed bool                          // an assignment is in force
	err    error
	active time.Time     // when something last came, or the assignment changed
	last   time.Time     // when a batch was last handed out
	hurry  bool          // the next batch is handed out without a pause
	news   chan struct{} // closed and replaced when any of the above changes

	metaMu                 sync.Mutex // the partitions of one topic ask at once
	reconnects, rebalances atomic.Int64
}

// NewSource connects, checks that this is the cluster and these are the topics that the store was made from, and starts
// reading. Close ends it, as does ctx.
func NewSource(ctx context.Context, cfg Config, h Hooks) (*Source, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a, err := newAccess(cfg)
	if err != nil {
		return nil, err
	}
	s := &Source{
		cfg: cfg, hooks: h, access: a, decoder: NewDecoder(cfg), handed: map[corastream.Partition]int64{},
		topics: h.Topics,
		news:   make(chan struct{}), active: time.Now(), last: time.Now().Add(-time.Minute), // the first batch takes its time, so that it sees all partitions
	}
	if len(s.topics) == 0 {
		s.topics = []string{cfg.Topics.Interactions, cfg.Topics.Items, cfg.Topics.Requests}
	}
	if h.GroupOffsets && cfg.Group == "" {
		return nil, corastream.Usagef("group", "name a group", "a group's offsets are asked for, but there is no group")
	}
	if s.compact, err = compacted(ctx, a, cfg.Topics, s.topics); err != nil {
		return nil, err
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if cfg.Group == "" {
		s.wg.Go(s.assignAll)
	} else {
		s.wg.Go(s.assignByGroup)
	}
	return s, nil
}

// Counts of what was decoded.
func (s *Source) Counts() *Counts { return s.decoder.Counts }

// Reconnects is how often a partition was lost and found again, Rebalances how often the assignment changed.
func (s *Source) Reconnects() int64 { return s.reconnects.Load() }

// Rebalances counts the assignments.
func (s *Source) Rebalances() int64 { return s.rebalances.Load() }

// Lag is how many offsets of each assigned partition have not been handed out yet, as last seen.
func (s *Source) Lag() map[corastream.Partition]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[corastream.Partition]int64{}
	for _, f := range s.feeds {
		if f.end >= 0 {
			out[f.part] = max(0, f.end-f.position())
		}
	}
	return out
}

// Assigned lists the partitions that are read now.
func (s *Source) Assigned() []corastream.Partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]corastream.Partition, len(s.feeds))
	for i, f := range s.feeds {
		out[i] = f.part
	}
	return out
}

// position is the offset after the last one handed out. Called under the source's lock. It may lie
// within a block: Next hands blocks out piece by piece.
func (f *feed) position() int64 {
	if len(f.queue) == 0 {
		return f.read
	}
	if b := f.queue[0]; b.taken > 0 {
		return b.marks[b.taken-1].to
	}
	return f.queue[0].from
}

// Connected says whether every assigned partition is being read without trouble, and some partition is.
func (s *Source) Connected() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.feeds) > 0 && !slices.ContainsFunc(s.feeds, func(f *feed) bool { return f.end < 0 })
}

// Close stops reading, reports the last offsets and leaves the group.
func (s *Source) Close() error {
	s.cancel(context.Canceled)
	s.wg.Wait()
	return nil
}

// Hurry ends the pause before the next batch: somebody waits until it is learnt.
func (s *Source) Hurry() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hurry {
		s.hurry = true
		s.changed()
	}
}

// changed wakes everyone who waits for news, by closing the channel and putting a fresh one in its
// place. A waiter takes the channel under the lock, together with what it looked at, so it can not
// miss a change. Called under the lock.
func (s *Source) changed() {
	close(s.news)
	s.news = make(chan struct{})
}

// fail ends the source: Next returns err from now on. The first failure counts, since later ones
// are mostly its consequences.
func (s *Source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.changed()
	}
}

// put queues a block. The feed holds a token of room for it, which take gives back once the whole
// block is handed out. So a slow learner holds the reader up, and memory stays bounded.
func (s *Source) put(f *feed, b *block, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.queue = append(f.queue, b)
	f.left += b.left()
	f.read, f.end, f.caught = b.to, end, b.to == end
	s.active = b.came
	s.changed()
}

// idle notes an empty answer. The offset moves even so: it passes over control records and over
// what compaction removed.
func (s *Source) idle(f *feed, end int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.read = f.tail.next
	if end >= 0 {
		f.end = end
	}
	// An end before what was read is a broker that is still recovering.
	if was := f.caught; was != (f.read == end) {
		f.caught = !was
		s.changed()
	}
}

// trouble notes a failed read. An outage shows on every partition; it is logged for the first one.
func (s *Source) trouble(f *feed, err error) {
	s.mu.Lock()
	first := !slices.ContainsFunc(s.feeds, func(f *feed) bool { return f.lost })
	f.lost, f.caught, f.end = true, false, -1
	s.mu.Unlock()
	if first {
		s.hooks.Log.Warn().Err(err).Str("topic", f.part.Topic).Int32("partition", f.part.ID).Msg("reading stopped; trying again")
	}
}

// recovered notes a read that went well after failed ones; the last partition to come back is logged.
func (s *Source) recovered(f *feed) {
	s.reconnects.Add(1)
	s.mu.Lock()
	f.lost = false
	last := !slices.ContainsFunc(s.feeds, func(f *feed) bool { return f.lost })
	s.mu.Unlock()
	if last {
		s.hooks.Log.Info().Str("topic", f.part.Topic).Int32("partition", f.part.ID).Msg("reading again")
	}
}

// start begins to read a partition at the store's offset (Hooks.Next), which is what has been
// learnt. Where the group's offset is the truth (Hooks.GroupOffsets), it stands in its place.
//
// This process may have handed out more than that. The difference is in the batch that is being
// learnt now, and reading it again would teach it twice, so the feed begins behind it. A partition
// without any offset begins where Config.Start says.
func (s *Source) start(ctx context.Context, a assigned) (*feed, error) {
	var next int64
	var known bool
	p := a.Partition
	switch {
	case s.hooks.GroupOffsets:
		next, known = a.offset, a.offset >= 0
		s.commit.begin(p, next)
	case s.hooks.Next != nil:
		var err error
		if next, known, err = s.hooks.Next(p); err != nil {
			return nil, fmt.Errorf("offset of %s/%d: %w", p.Topic, p.ID, err)
		}
	}
	if !known {
		next = fromFirst
		if s.cfg.Start == startLatest {
			next = fromEnd
		}
	}
	s.mu.Lock()
	if h, ok := s.handed[p]; ok && h > next {
		next = h
	}
	s.mu.Unlock()
	t := s.cfg.tail(s.access, p, next, s.compact[p.Topic])
	t.vet = func(c brokersView) error { return s.vet(c, p.Topic) }
	ctx, cancel := context.WithCancel(ctx)
	f := &feed{
		s: s, part: p, end: -1, read: max(next, 0), tail: t, cancel: cancel,
		done: make(chan struct{}), room: make(chan struct{}, blocksAhead), wants: wants{keep: s.hooks.Keep},
	}
	go f.run(ctx)
	return f, nil
}

func (c Config) tail(a *access, p corastream.Partition, next int64, compacted bool) *tail {
	t := &tail{
		access: a, part: p, next: next, compacted: compacted, size: c.FetchBytes, patience: c.GapPatience,
		limits: limits{record: c.MaxRecordBytes, batch: c.MaxFetchBytes}, now: time.Now,
	}
	if c.Topics.own(p.Topic) {
		t.limits.record = ownBatchBytes
	}
	return t
}

// assigned is a partition to read, and the offset that the group has of it; below 0: none.
type assigned struct {
	corastream.Partition
	offset int64
}

// assign replaces the partitions that are read. All feeds stop before new ones start, also those of
// partitions that stay: a feed has no state that is worth more than its offset. Blocks that are
// queued and not handed out are dropped. Whoever has the partition next reads them again, or this
// process does.
func (s *Source) assign(ctx context.Context, parts []assigned) error {
	s.unassign()
	s.keepHanded(parts)
	slices.SortFunc(parts, func(a, b assigned) int { return comparePartitions(a.Partition, b.Partition) })
	var feeds []*feed
	var errs []error
	for _, p := range parts {
		f, err := s.start(ctx, p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		feeds = append(feeds, f)
	}
	s.rebalances.Add(1)
	s.mu.Lock()
	s.feeds, s.placed, s.active = feeds, true, time.Now()
	s.changed()
	s.mu.Unlock()
	return errors.Join(errs...)
}

// keepHanded forgets how far a partition was handed out if another process had it in between. It
// matters only where the group's offset is the truth: the other process has read again what was
// handed out here and never reported, and whatever the group's offset leaves is a duty of this
// process anew. Within an uninterrupted assignment the duty is still in our memory.
func (s *Source) keepHanded(parts []assigned) {
	if !s.hooks.GroupOffsets {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for p := range s.handed {
		if !s.had[p] {
			delete(s.handed, p)
		}
	}
	s.had = map[corastream.Partition]bool{}
	for _, p := range parts {
		s.had[p.Partition] = true
	}
}

// unassign stops all feeds and waits for them. After it, nothing is read here: the group may give
// the partitions to another process.
func (s *Source) unassign() {
	s.mu.Lock()
	feeds := s.feeds
	s.feeds, s.placed = nil, false
	s.changed()
	s.mu.Unlock()
	for _, f := range feeds {
		f.cancel()
	}
	for _, f := range feeds {
		<-f.done
	}
}
