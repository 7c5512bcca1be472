package ingest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
)

// ParcelSink sends parcels to the gradients topic, partition Parcel.To. It may be used by many goroutines, which take turns.
type ParcelSink struct {
	topic   string
	shards  int
	log     zerolog.Logger
	failing atomic.Bool

	mu   sync.Mutex
	post *poster
}

const (
	parcelBatch   = 4 << 20  // of one partition in a request
	parcelRequest = 32 << 20 // of all of them; brokers take 100 MB by default
)

// NewParcelSink makes a sink; it connects when first used.
func NewParcelSink(cfg Config, log zerolog.Logger) (*ParcelSink, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a, err := newAccess(cfg)
	if err != nil {
		return nil, err
	}
	return &ParcelSink{topic: cfg.Topics.Gradients, shards: cfg.Shards, log: log, post: newPoster(a)}, nil
}

// Writing says that no parcel is being sent again because it failed.
func (s *ParcelSink) Writing() bool { return !s.failing.Load() }

// Close closes the connections.
func (s *ParcelSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.post.close()
}

// Send returns when every in-sync replica has the parcels; it tries again while that can help, and only ctx ends that. Those to one shard
// come to lie in the order given: a receiver takes one whose Seq is no higher than the last from that shard for a repeat, so
// nothing is sent to a shard while an earlier parcel to it may be missing. A repeat of some is possible, a hole is not.
func (s *ParcelSink) Send(ctx context.Context, parcels []corastream.Parcel) error {
	waiting := map[int32][]Record{}
	for _, p := range parcels {
		r := encodeParcel(p)
		if p.To < 0 || int(p.To) >= s.shards || p.From < 0 || int(p.From) >= s.shards {
			return fmt.Errorf("send parcel %d from shard %d: there is no shard %d of %d", p.Seq, p.From, p.To, s.shards)
		}
		if n := sizeOf(r); n > ownAppendBytes {
			return fmt.Errorf("send parcel %d from shard %d to shard %d: it has %d bytes, over %d: %w (fix: learn in smaller batches: lower kafka.max_batch_events)",
				p.Seq, p.From, p.To, n, ownAppendBytes, errTooLargeToAppend)
		}
		waiting[p.To] = append(waiting[p.To], r)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.failing.Store(false)
	for fails := 0; len(waiting) > 0; {
		round := s.round(waiting)
		s.post.post(ctx, round...)
		var failed error
		for _, p := range round {
			switch {
			case p.err == nil:
				if waiting[p.part.ID] = waiting[p.part.ID][len(p.records):]; len(waiting[p.part.ID]) == 0 {
					delete(waiting, p.part.ID)
				}
			case failed == nil || !retryable(p.err):
				failed = p.err
			}
		}
		switch {
		case ctx.Err() != nil && len(waiting) > 0:
			return context.Cause(ctx)
		case failed == nil:
			if fails > 0 {
				s.log.Info().Str("topic", s.topic).Int("attempts", fails).Msg("writing again")
				s.failing.Store(false)
			}
			fails = 0
			continue
		case !retryable(failed):
			return fmt.Errorf("send parcels: %w", failed)
		}
		if fails++; fails == 1 {
			s.failing.Store(true)
			s.log.Warn().Err(failed).Str("topic", s.topic).Msg("writing stopped; trying again")
		}
		if err := pause(ctx, fails); err != nil {
			return err
		}
	}
	return nil
}

// round takes the next batch of every partition, as far as a request holds them.
func (s *ParcelSink) round(waiting map[int32][]Record) (out []*posting) {
	total := 0
	ids := make([]int32, 0, len(waiting))
	for id := range waiting {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		n, size := 0, 0
		for _, r := range waiting[id] {
			if size += sizeOf(r); n > 0 && size > parcelBatch {
				break
			}
			n++
		}
		if total += min(size, ownAppendBytes); len(out) > 0 && total > parcelRequest {
			return out
		}
		out = append(out, &posting{part: corastream.Partition{Topic: s.topic, ID: id}, records: waiting[id][:n]})
	}
	return out
}
