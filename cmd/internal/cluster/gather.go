package cluster

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/store"
)

// A user belongs to one shard, that of the partition that murmur2 of the user's id names. Producers that choose partitions in another way,
// or write records without a key, put a user's events elsewhere, and two shards would each know half a user. Such events are written
// again where they belong, and only there they are learnt.

// Owned says which records of a shard's part of the log the shard learns from.
type Owned struct {
	shard, shards int
	topics        ingest.Topics
	homes         ingest.Homes
}

// NewOwned is for a shard whose cluster began with so many partitions of the interactions topic.
func NewOwned(kafka ingest.Config, shard, partitions int) Owned {
	return Owned{shard, kafka.Shards, kafka.Topics, ingest.NewHomes(partitions)}
}

// split takes out of the batch what the shard does not learn from. strays are events of this
// shard's partitions that belong to another shard, and items are catalogue records that came among
// events. Both are to be written again. Everything else that is taken out reaches its shard without
// that, because every shard reads the items topic.
func (o Owned) split(b *corastream.Batch) (strays []corastream.Event, items []corastream.Item) {
	home := func(user string) int { return corastream.PartitionShard(o.homes.Of(user), o.shards) }
	foreign := func(ev corastream.Event) bool { return home(ev.User) != o.shard }
	if slices.ContainsFunc(b.Events, foreign) {
		var mine []corastream.Event
		for _, ev := range b.Events {
			switch {
			case !foreign(ev):
				mine = append(mine, ev)
			case ev.Pos.Topic == o.topics.Interactions: // every shard reads the items topic
				strays = append(strays, ev)
			}
		}
		b.Events = mine
	}
	lost := func(it corastream.Item) bool { return it.Pos.Topic == o.topics.Interactions }
	if slices.ContainsFunc(b.Items, lost) {
		for _, it := range b.Items {
			if lost(it) {
				items = append(items, it)
			}
		}
		b.Items = slices.DeleteFunc(slices.Clone(b.Items), lost)
	}
	return strays, items
}

// Keep takes out of a batch what the shard does not learn from, for a re-run of its journal.
func (o Owned) Keep(b *corastream.Batch) { o.split(b) }

const metaPartitions = "partitions"

// PartitionsOf is the number of partitions by which a shard's store tells its users; 0: it has learnt nothing yet.
func PartitionsOf(st *store.Store) (int, error) {
	v, err := st.Meta(metaPartitions)
	if err != nil || v == "" {
		return 0, err
	}
	return strconv.Atoi(v)
}

// partitions binds the shard's store to the topic's number of partitions when it learns for the
// first time. Which user belongs to which shard depends on that number for ever, so the number is
// kept even if the topic grows.
//
// A topic may grow to another multiple of the number of shards. The user's partition then changes,
// but not the partition modulo the shards.
func partitions(ctx context.Context, st *store.Store, kafka ingest.Config) (int, error) {
	now, err := ingest.Partitions(ctx, kafka, kafka.Topics.Interactions)
	if err != nil {
		return 0, err
	}
	born, err := PartitionsOf(st)
	if err == nil && born == 0 {
		born, err = now, st.SetMeta(ctx, metaPartitions, strconv.Itoa(now))
	}
	if err != nil {
		return 0, err
	}
	return born, fits(kafka, born, now)
}

func fits(kafka ingest.Config, born, now int) error {
	if born == now || born%kafka.Shards == 0 && now%kafka.Shards == 0 {
		return nil
	}
	return corastream.Usagef("topic "+kafka.Topics.Interactions,
		fmt.Sprintf("give the topic a multiple of %d partitions from the start, and name new topics to learn anew", kafka.Shards),
		"it had %d partitions when the %d shards began and has %d: users would change their shards, and each would know half of them", born, kafka.Shards, now)
}

// gather is a shard's part of the log without other shards' users, whose events it sends home before it hands the rest on.
type gather struct {
	corastream.Source
	owned Owned
	move  func(context.Context, []corastream.Event, []corastream.Item) error
	tell  func(n int, first corastream.Event, home int32)
}

// Next implements corastream.Source. The copies are written before the batch is handed on, so an
// offset is never committed before its stray events are where they belong. Should the process die
// in between, they are written again. A copy has the event's id, or one made of the original's
// position, so the shard that learns it drops the second.
func (g *gather) Next(ctx context.Context) (corastream.Batch, error) {
	b, err := g.Source.Next(ctx)
	if err != nil {
		return b, err
	}
	strays, items := g.owned.split(&b)
	if len(strays)+len(items) == 0 {
		return b, nil
	}
	if len(strays) > 0 {
		g.tell(len(strays), strays[0], g.owned.homes.Of(strays[0].User))
	}
	if err := g.move(ctx, strays, items); err != nil {
		return corastream.Batch{}, fmt.Errorf("bring users together: %w", err)
	}
	return b, nil
}

// strays counts the events that were sent home, and warns of them now and then.
type strays struct {
	mu   sync.Mutex
	n    int64
	said time.Time
}

const straysEvery = 10 * time.Minute // between two warnings

func (s *strays) add(n int, first corastream.Event, home int32, log zerolog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += int64(n)
	if !s.said.IsZero() && time.Since(s.said) < straysEvery {
		return
	}
	s.said = time.Now()
	log.Warn().Int64("events", s.n).Str("topic", first.Pos.Topic).Int32("partition", first.Pos.Partition).Int64("offset", first.Pos.Offset).Int32("belongs_to", home).
		Str("fix", "key records by user, and set the producer's partitioner to murmur2: partitioner=murmur2_random with librdkafka (confluent-kafka, node-rdkafka, "+
			"confluent-kafka-go), and the default of Java's client").
		Msg("a user's events lie on a partition where murmur2 does not put them; they are written again where the user's others are")
}

func (s *strays) count() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}
