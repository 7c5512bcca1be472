package ingest

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/rs/zerolog"
	kafka "github.com/segmentio/kafka-go"

	"github.com/corastream/corastream"
)

// Homes says in which partition of the interactions topic a user's events belong: murmur2 of the user's id, as Java's clients and ours
// choose it for a record that is keyed by user.
type Homes struct{ all []int }

// NewHomes is for a topic of so many partitions.
func NewHomes(partitions int) Homes {
	h := Homes{make([]int, partitions)}
	for i := range h.all {
		h.all[i] = i
	}
	return h
}

// Of is the user's partition.
func (h Homes) Of(user string) int32 {
	return int32(kafka.Murmur2Balancer{}.Balance(kafka.Message{Key: []byte(user)}, h.all...))
}

// PartitionOf is the partition of the interactions topic in which a user's events belong.
func PartitionOf(ctx context.Context, cfg Config, user string) (int32, error) {
	n, err := Partitions(ctx, cfg, cfg.Topics.Interactions)
	if err != nil {
		return 0, err
	}
	return NewHomes(n).Of(user), nil
}

// Partitions counts a topic's partitions.
func Partitions(ctx context.Context, cfg Config, topic string) (int, error) {
	a, err := newAccess(cfg)
	if err != nil {
		return 0, err
	}
	cl, err := a.describe(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("reach the brokers: %w", Explain(err))
	}
	t := cl.topics[topic]
	if t.err != nil {
		return 0, fmt.Errorf("topic %s: %w", topic, t.err)
	}
	if len(t.leaders) == 0 {
		return 0, fmt.Errorf("topic %s has no partitions: %w", topic, kafka.LeaderNotAvailable)
	}
	return len(t.leaders), nil
}

// Headers of a record that a cluster has moved to its user's partition: where the first copy lies, and when the broker appended that one
// [unix ms].
const (
	headerMoved    = "corastream-moved"
	headerAppended = "corastream-appended"
)

// Mover writes events again where their user's other events lie, and catalogue records that came among events to the items topic. The copy
// has an id, the event's own or one made of its place, so that a copy that is written twice is learnt once.
type Mover struct {
	topics Topics
	w      *writer
}

// NewMover makes a mover. It connects when first used.
func NewMover(cfg Config, log zerolog.Logger) (*Mover, error) {
	w, err := newWriter(cfg, writeBytes, log)
	if err != nil {
		return nil, err
	}
	return &Mover{cfg.Topics, w}, nil
}

// Close flushes and disconnects.
func (m *Mover) Close() error { return m.w.close() }

// Move returns once all in-sync replicas have the copies.
func (m *Mover) Move(ctx context.Context, events []corastream.Event, items []corastream.Item) error {
	msgs := make([]kafka.Message, 0, len(events)+len(items))
	add := func(topic, key string, value []byte, pos corastream.Position, appended time.Time) {
		headers := []kafka.Header{{Key: headerMoved, Value: fmt.Appendf(nil, "%s/%d@%d", pos.Topic, pos.Partition, pos.Offset)}}
		if !appended.IsZero() {
			headers = append(headers, kafka.Header{Key: headerAppended, Value: strconv.AppendInt(nil, appended.UnixMilli(), 10)})
		}
		msgs = append(msgs, kafka.Message{Topic: topic, Key: []byte(key), Value: value, Headers: headers})
	}
	for i, e := range events {
		if e.ID == "" {
			n := 0 // among the events of one record
			for n < i && events[i-1-n].Pos == e.Pos {
				n++
			}
			e.ID = fmt.Sprintf("moved#%d@%d#%d", e.Pos.Partition, e.Pos.Offset, n)
		}
		v, err := EncodeEvent(e)
		if err != nil {
			return err
		}
		add(m.topics.Interactions, e.User, v, e.Pos, e.Appended)
	}
	for _, it := range items {
		v, err := EncodeItem(it)
		if err != nil {
			return err
		}
		add(m.topics.Items, it.ID, v, it.Pos, time.Time{})
	}
	return m.w.write(ctx, msgs)
}

// moved says whether a record is a copy that a cluster has moved, and when the first one was appended.
func moved(r *Record) (is bool, appended time.Time) {
	for _, h := range r.Headers {
		switch h.Key {
		case headerMoved:
			is = true
		case headerAppended:
			if ms, err := strconv.ParseInt(string(h.Value), 10, 64); err == nil && ms > 0 {
				appended = time.UnixMilli(ms)
			}
		}
	}
	return is, appended
}
