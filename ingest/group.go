package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
)

const (
	heartbeat      = 500 * time.Millisecond
	sessionTimeout = 6 * time.Second  // the least that brokers allow: so long a killed member holds the next one up
	refreshEvery   = 10 * time.Second // how soon a partition that was added is found
)

// assignByGroup lets the group's generations say which partitions to read, until the source ends.
// Kafka's group is used for the division of partitions alone. Which offset to read from is the
// store's to say.
//
// Errors that another attempt may mend are tried for ever: a broker that is down for a night is no
// reason to end.
func (s *Source) assignByGroup() {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: s.cfg.Group, Brokers: s.cfg.Brokers, Dialer: s.access.dialer(), Topics: s.topics,
		HeartbeatInterval: heartbeat, SessionTimeout: sessionTimeout, RebalanceTimeout: sessionTimeout,
		JoinGroupBackoff: backoffMin * 4, WatchPartitionChanges: true, PartitionWatchInterval: refreshEvery,
		Timeout: callTimeout, StartOffset: kafka.FirstOffset,
	})
	if err != nil {
		s.fail(fmt.Errorf("consumer group %s: %w", s.cfg.Group, err))
		return
	}
	defer group.Close()
	for fails := 0; ; {
		gen, err := group.Next(s.ctx)
		if err == nil {
			fails = 0
			s.generation(gen)
			continue
		}
		if s.ctx.Err() != nil || errors.Is(err, kafka.ErrGroupClosed) {
			return
		}
		if !retryable(err) {
			s.fail(fmt.Errorf("join group %s: %w", s.cfg.Group, err))
			return
		}
		// A cluster's first group finds no coordinator for a moment: that is no news.
		if fails++; fails == 3 {
			s.hooks.Log.Warn().Err(err).Str("group", s.cfg.Group).Msg("can not join; trying again")
		}
	}
}

// generation reads what one generation assigns, until the group rebalances.
//
// kafka-go gives the function passed to Start a context that ends at the rebalance, and does not
// join the next generation before the function has returned. The function returns after unassign,
// so no partition is read here and elsewhere at once. The source's own end is joined to that
// context with AfterFunc, because the group knows nothing of it.
func (s *Source) generation(gen *kafka.Generation) {
	var parts []assigned
	for topic, list := range gen.Assignments {
		for _, a := range list {
			parts = append(parts, assigned{corastream.Partition{Topic: topic, ID: int32(a.ID)}, a.Offset})
		}
	}
	ready := make(chan struct{})
	gen.Start(func(ctx context.Context) {
		defer close(ready)
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
		if err := s.assign(ctx, parts); err != nil {
			s.fail(err)
		}
		s.hooks.Log.Info().Int32("generation", gen.ID).Int("partitions", len(parts)).Msg("partitions assigned")
		s.commit.run(ctx, s.cfg.CommitEvery, gen, s.mine)
		s.unassign()
	})
	<-ready
}

// mine says whether a partition is assigned here now.
func (s *Source) mine(p corastream.Partition) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.feeds, func(f *feed) bool { return f.part == p })
}

// assignAll reads all partitions of the topics, or those that Hooks.Pick chooses, without a group.
// It asks for the list again every refreshEvery, so partitions that are added later are found.
func (s *Source) assignAll() {
	defer s.unassign()
	var have []corastream.Partition
	first := false // until then, no partition is an assignment too
	for fails := 0; ; {
		parts, err := s.access.partitions(s.ctx, s.topics)
		if err == nil && s.hooks.Pick != nil {
			parts = s.hooks.Pick(parts)
		}
		wait := refreshEvery
		switch {
		case err == nil && (!slices.Equal(parts, have) || !first):
			fails, first = 0, true
			all := make([]assigned, len(parts))
			for i, p := range parts {
				all[i] = assigned{p, -1}
			}
			if err := s.assign(s.ctx, all); err != nil {
				s.fail(err)
			}
			have = parts
		case err != nil && s.ctx.Err() == nil:
			if fails++; fails == 1 {
				s.hooks.Log.Warn().Err(err).Msg("can not list partitions; trying again")
			}
			wait = backoffMax
		}
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// partitions lists all partitions of the topics, in order.
func (a *access) partitions(ctx context.Context, topics []string) ([]corastream.Partition, error) {
	cl, err := a.describe(ctx, topics...)
	if err != nil {
		return nil, err
	}
	var out []corastream.Partition
	for _, t := range topics {
		if err := cl.topics[t].err; err != nil {
			return nil, fmt.Errorf("topic %s: %w", t, err)
		}
		for p := range cl.topics[t].leaders {
			out = append(out, corastream.Partition{Topic: t, ID: p})
		}
	}
	slices.SortFunc(out, comparePartitions)
	return out, nil
}

// Committed tells the source that a batch's spans are done with. They are reported to the group soon: for lag tools, and where
// Hooks.GroupOffsets is set, for whoever reads on. It may be called long after Next, in any order between partitions, but for each
// partition in the order in which its spans were handed out.
func (s *Source) Committed(spans []corastream.Span) {
	if err := corastream.Failpoint("ingest.applied"); err != nil {
		s.fail(err)
	}
	s.commit.note(spans)
}

// committer reports offsets to the group in a rhythm of its own. For a store's source a failure is
// no harm, because the store's offsets are the true ones and these are for lag tools. For a
// replica's duties (Hooks.GroupOffsets) they are the truth, and a report that is lost means that a
// duty is done twice.
//
// mu is a leaf. It is not held during the call to the broker.
type committer struct {
	mu   sync.Mutex
	next map[corastream.Partition]int64 // not reported yet
	from map[corastream.Partition]int64 // where the group's offset stood when the partition was assigned; it never moves back
}

// begin takes note of the group's offset of a partition that is assigned. Another member may have
// moved it on meanwhile. A report below it would move it back, and others would do work again that
// is done.
func (c *committer) begin(p corastream.Partition, offset int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from == nil {
		c.from = map[corastream.Partition]int64{}
	}
	c.from[p] = offset
	if c.next[p] <= offset {
		delete(c.next, p)
	}
}

// note keeps the furthest end of a partition's spans. Spans of one partition come in order, so the
// furthest end stands for all of them.
func (c *committer) note(spans []corastream.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = map[corastream.Partition]int64{}
	}
	for _, s := range spans {
		if from, ok := c.from[s.Partition]; !ok || s.To > from {
			c.next[s.Partition] = max(c.next[s.Partition], s.To)
		}
	}
}

// run reports until ctx ends, and then once more. The last report goes out in this generation's
// name, while the rebalance still waits for its members.
func (c *committer) run(ctx context.Context, every time.Duration, gen *kafka.Generation, mine func(corastream.Partition) bool) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			c.flush(gen, mine)
			return
		case <-tick.C:
			c.flush(gen, mine)
		}
	}
}

// flush sends what has not been reported. It leaves out partitions that are elsewhere by now: their
// new reader reports them. Entries that grew during the call stay for the next one.
func (c *committer) flush(gen *kafka.Generation, mine func(corastream.Partition) bool) {
	c.mu.Lock()
	offsets := map[string]map[int]int64{}
	for p, o := range c.next {
		if !mine(p) {
			continue
		}
		if offsets[p.Topic] == nil {
			offsets[p.Topic] = map[int]int64{}
		}
		offsets[p.Topic][int(p.ID)] = o
	}
	sent := maps.Clone(c.next)
	c.mu.Unlock()
	if len(offsets) == 0 || gen.CommitOffsets(offsets) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.next, func(p corastream.Partition, o int64) bool { return o == sent[p] && offsets[p.Topic] != nil })
}
