package replay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/corastream/corastream"
)

// Sharding replays the CF models as a cluster would learn: each shard on its own copies of all items and of the shared vector, which
// hear of each other with a delay.
type Sharding struct {
	// Shards is how many shards learn. Default 1, range 1..256; 1 is one process, without any of this.
	Shards int `yaml:"shards" json:"shards"`
	// Partitions of the interactions topic, over which users are spread by Kafka's hash of their id. Default 64, range 1..100000.
	Partitions int `yaml:"partitions" json:"partitions"`
	// SyncEvents is a micro-batch of the whole cluster in events of the log: after as many, every shard sends off what it learnt and
	// takes in what the others had sent a micro-batch before. Default 0, range 0..100000000; 0: see sync_every.
	SyncEvents int `yaml:"sync_events" json:"sync_events,omitempty"`
	// SyncEvery is the same in time, by the events' own clock. Default 0, range 0..8760h.
	SyncEvery time.Duration `yaml:"sync_every" json:"-"`
}

// DefaultSharding returns the defaults above.
func DefaultSharding() Sharding { return Sharding{Shards: 1, Partitions: 64} }

// Validate reports all problems at once.
func (c Sharding) Validate() error {
	errs := []error{
		inRange("sharding.shards", float64(c.Shards), 1, 256), inRange("sharding.partitions", float64(c.Partitions), 1, 100000),
		inRange("sharding.sync_events", float64(c.SyncEvents), 0, 1e8), inRange("sharding.sync_every (hours)", c.SyncEvery.Hours(), 0, 8760),
	}
	const fix = "give one of --study sync-events=100 and --study sync-every=1s"
	switch {
	case c.SyncEvents > 0 && c.SyncEvery > 0:
		errs = append(errs, corastream.Usagef("sharding", fix, "sync_events and sync_every are two clocks"))
	case c.Shards > 1 && c.SyncEvents == 0 && c.SyncEvery == 0:
		errs = append(errs, corastream.Usagef("sharding", fix, "shards that never hear of each other are no cluster"))
	case c.Shards == 1 && (c.SyncEvents > 0 || c.SyncEvery > 0):
		errs = append(errs, corastream.Usagef("sharding", "give --study shards=4, or drop it", "one shard has nobody to hear from"))
	case c.Shards > c.Partitions:
		errs = append(errs, corastream.Usagef("sharding.partitions", "choose at least as many partitions as shards", "%d shards can not share %d partitions", c.Shards, c.Partitions))
	}
	return errors.Join(errs...)
}

// withinRounds is how long an event takes to reach the copies of all shards: it waits for its micro-batch's end, its parcel travels for one,
// the owner's change waits for the end of the one it is applied in, and travels for one.
const withinRounds = 4

// Staleness is the longest that a copy may lag behind what its shard's peers have learnt.
func (c Sharding) Staleness() string {
	switch {
	case c.Shards == 1:
		return "0 events"
	case c.SyncEvents > 0:
		return strconv.Itoa(withinRounds*c.SyncEvents) + " events"
	}
	return (withinRounds * c.SyncEvery).String()
}

// Cluster is what a report says of it.
type Cluster struct {
	Sharding
	SyncEvery string `json:"sync_every"`
	// Staleness is how far a copy may lag behind, in events of the whole log or in the log's own time.
	Staleness string `json:"staleness"`
}

func (c Sharding) String() string {
	return fmt.Sprintf("%d shards, %d partitions, staleness up to %s", c.Shards, c.Partitions, c.Staleness())
}

// shardOf is the shard that learns a user's events.
func (c Sharding) shardOf(user string) int {
	return corastream.PartitionShard(int32(murmur2(user)&0x7fffffff)%int32(c.Partitions), c.Shards)
}

// murmur2 is the hash by which Kafka's producers spread keys over partitions (Appleby's MurmurHash2, seed 0x9747b28c).
func murmur2(key string) uint32 {
	const m = 0x5bd1e995
	n := len(key)
	h := uint32(0x9747b28c) ^ uint32(n)
	for ; len(key) >= 4; key = key[4:] {
		k := uint32(key[0]) | uint32(key[1])<<8 | uint32(key[2])<<16 | uint32(key[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
	}
	for i := len(key) - 1; i >= 0; i-- {
		h ^= uint32(key[i]) << (8 * i)
	}
	if len(key) > 0 {
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// cluster is a CF model learnt by several shards, as a contender. A row is scored by its user's shard.
type cluster struct {
	Sharding
	merger corastream.Merger
	shards []*shard
	flight mail // what was sent at the last micro-batch's end
	events int  // of this micro-batch
	ends   time.Time
	last   time.Time
}

// shard has its own copies of everything.
type shard struct {
	*cf
	batch recording
}

// mail is what a micro-batch sends: to each owner what was learnt of its items, and to everybody what owners made of theirs.
type mail struct {
	parcels [][]parcel // by owner
	changes []change
}

type parcel struct {
	item  string // "": the shared vector
	delta corastream.Embedding
}

type change struct {
	owner int
	parcel
}

func newCluster(c Sharding, shards []*cf) (*cluster, error) {
	merger, ok := shards[0].model.(corastream.Merger)
	if !ok {
		return nil, corastream.Usagef("sharding.shards", "leave it out, or choose shards 1", "its state can not be divided")
	}
	k := &cluster{Sharding: c, merger: merger}
	for _, own := range shards {
		s := &shard{cf: own}
		if err := s.batch.begin(own.state); err != nil {
			return nil, err
		}
		k.shards = append(k.shards, s)
	}
	return k, nil
}

func (c *cluster) of(user string) *shard { return c.shards[c.shardOf(user)] }

func (c *cluster) fit(ctx context.Context, train []corastream.Event) error {
	for epoch := range c.shards[0].epochs {
		for i, ev := range train {
			if i%4096 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := c.step(ev, epoch == 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cluster) learn(ev corastream.Event) error { return c.step(ev, true) }

// step has the user's shard learn an event, after the micro-batches that have ended by then.
func (c *cluster) step(ev corastream.Event, remember bool) error {
	if c.over(ev.Time) {
		if err := c.exchange(); err != nil {
			return err
		}
	}
	c.events++
	s := c.of(ev.User)
	if err := s.model.Learn(&s.batch, ev); err != nil {
		return err
	}
	if remember {
		return s.remember(ev)
	}
	return nil
}

// over says whether the micro-batch ends before an event of that time. Time that goes back is another pass over the log.
func (c *cluster) over(at time.Time) bool {
	defer func() { c.last = at }()
	if c.SyncEvents > 0 {
		return c.events >= c.SyncEvents
	}
	if c.events > 0 && !at.Before(c.last) && at.Before(c.ends) {
		return false
	}
	c.ends = at.Add(c.SyncEvery)
	return c.events > 0
}

func (c *cluster) remember(ev corastream.Event) error { return c.of(ev.User).remember(ev) }

func (c *cluster) see(ev corastream.Event) (sight, error) { return c.of(ev.User).see(ev) }

func (c *cluster) all(user string, out []float64) error { return c.of(user).all(user, out) }

func (c *cluster) choose(u *universe, user string, best []int32, target int32) ([]candidate, error) {
	return c.of(user).choose(u, user, best, target)
}

// settle lets all that is under way arrive.
func (c *cluster) settle() error {
	for range withinRounds {
		if err := c.exchange(); err != nil {
			return err
		}
	}
	return nil
}

// exchange ends the micro-batch: what it made is sent off, what was sent at the end of the one before arrives, changes first.
func (c *cluster) exchange() error {
	out, err := c.collect()
	if err != nil {
		return err
	}
	for _, s := range c.shards {
		if err := s.batch.begin(s.state); err != nil {
			return err
		}
	}
	for _, ch := range c.flight.changes {
		for n, s := range c.shards {
			if n != ch.owner {
				if err := s.take(ch.parcel); err != nil {
					return err
				}
			}
		}
	}
	for owner, parcels := range c.flight.parcels {
		for _, p := range parcels {
			if err := c.shards[owner].merge(c.merger, p); err != nil {
				return err
			}
		}
	}
	c.flight, c.events = out, 0
	return nil
}

// collect makes the mail of a micro-batch.
func (c *cluster) collect() (mail, error) {
	out := mail{parcels: make([][]parcel, len(c.shards))}
	for n, s := range c.shards {
		for _, id := range s.batch.touched {
			it, err := s.state.Item(id)
			if err != nil {
				return out, err
			}
			was := s.batch.before[id]
			if was.Version == it.Version {
				continue
			}
			if owner := corastream.ItemShard(id, len(c.shards)); owner != n {
				out.parcels[owner] = append(out.parcels[owner], parcel{id, c.merger.ItemDelta(id, &was, &it.Embedding)})
			} else {
				out.changes = append(out.changes, change{n, parcel{id, it.Embedding.Clone()}})
			}
		}
		shared, err := s.state.Shared()
		if err != nil {
			return out, err
		}
		was := s.batch.shared
		switch {
		case was.Version == shared.Version:
		case n != 0:
			out.parcels[0] = append(out.parcels[0], parcel{"", c.merger.SharedDelta(&was, shared)})
		default:
			out.changes = append(out.changes, change{0, parcel{"", shared.Clone()}})
		}
	}
	return out, nil
}

// take overwrites a copy with what its owner made of it.
func (s *shard) take(p parcel) error {
	if p.item == "" {
		shared, err := s.state.Shared()
		if err != nil {
			return err
		}
		overwrite(shared, p.delta)
		overwrite(&s.batch.shared, p.delta)
		return nil
	}
	it, err := s.state.Item(p.item)
	if err != nil {
		return err
	}
	overwrite(&it.Embedding, p.delta)
	s.forget(p.item)
	return nil
}

func overwrite(e *corastream.Embedding, by corastream.Embedding) {
	vec, acc := append(e.Vec[:0], by.Vec...), append(e.Acc[:0], by.Acc...)
	*e = by
	e.Vec, e.Acc = vec, acc
}

// merge adds what another shard learnt; it is part of the owner's next micro-batch.
func (s *shard) merge(m corastream.Merger, p parcel) error {
	if p.item == "" {
		shared, err := s.batch.Shared()
		if err != nil {
			return err
		}
		return m.MergeShared(shared, &p.delta)
	}
	it, err := s.batch.Item(p.item)
	if err != nil {
		return err
	}
	return m.MergeItem(it, &p.delta)
}

// recording is a State that keeps what each record was before the micro-batch.
type recording struct {
	*corastream.Memory
	shared  corastream.Embedding
	before  map[string]corastream.Embedding
	touched []string // in order
}

func (r *recording) begin(m *corastream.Memory) error {
	shared, err := m.Shared()
	if err != nil {
		return err
	}
	r.Memory, r.touched = m, r.touched[:0]
	if r.before == nil {
		r.before = map[string]corastream.Embedding{}
	}
	clear(r.before)
	overwrite(&r.shared, *shared)
	return nil
}

// Item implements corastream.State.
func (r *recording) Item(id string) (*corastream.ItemState, error) { return r.note(r.Memory.Item(id)) }

// ItemAt implements corastream.State.
func (r *recording) ItemAt(seq uint32) (*corastream.ItemState, error) {
	return r.note(r.Memory.ItemAt(seq))
}

func (r *recording) note(it *corastream.ItemState, err error) (*corastream.ItemState, error) {
	if err != nil {
		return nil, err
	}
	if _, ok := r.before[it.ID]; !ok {
		r.before[it.ID], r.touched = it.Embedding.Clone(), append(r.touched, it.ID)
	}
	return it, nil
}
