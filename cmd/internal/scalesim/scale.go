package scalesim

import (
	"context"
	"math/rand/v2"
)

// The simulation walks in steps of a millisecond through a world of shards, each of which is what a learner is: one server that takes
// a micro-batch (its events, what others learnt of its items, what others made of theirs), is busy for as long as that costs, and then
// hands out what came of it. Every event is drawn: its user (so its partition and shard) and its item (so its owner); how many records
// a batch touches is counted, not assumed. Networks are rates that readers share. Answering is one queue before all replicas' cores.
const (
	tickMS   = 1
	tickS    = tickMS / 1e3
	hopSlots = 1 << 10 // more ticks than a hop has
	// sampleEvery: of so many events one's freshness is noted.
	sampleEvery = 8
	// maxWaiting ends a run whose queues grow without end.
	maxWaiting = 40_000_000
)

// simEvent is one interaction on its way.
type simEvent struct {
	at         int32 // the tick of its coming
	user, item uint32
}

// simParcel is one item of a parcel.
type simParcel struct {
	owner int32
	item  uint32
}

// simShard is one learner.
type simShard struct {
	events  []simEvent
	head    int
	inbox   []uint32 // items of parcels that have come
	came    int
	learnt  int
	merged  int
	follows cursor

	busy    bool
	until   float64 // ms
	batch   []simEvent
	taken   int     // parcels' items in the batch
	adopted int     // changes of others in it, an item's counted once
	news    float64 // when it last took such in, ms
	skipped float64
	waiting float64 // since when something is there, ms; below 0: nothing
	dirty   map[uint32]bool
	flushed float64
	work    float64 // ms of processor time

	out struct { // of the batch under way
		parcels []simParcel
		published, firsts, bytes, itemBytes,
		users float64
	}
}

// flow counts what is published: items' changes, those of them that are an item's first within an exchange's time, users' records and
// events that a replica takes over, the bytes that learners read of it, and those that replicas do.
type flow struct{ changes, firsts, users, events, bytes, all float64 }

// published keeps the sums by tick, so that a reader who has come so many bytes far knows what that held and how old it is.
type published []flow

// cursor is how far a reader has come.
type cursor struct {
	tick  int
	bytes float64
}

// Sim is the state of a run.
type Sim struct {
	Config
	rng    *rand.Rand
	users  *rand.Zipf
	items  *rand.Zipf
	shards []simShard
	tick   int

	seen     []uint32 // by item: the batch that touched it last
	epochs   []uint32 // by item: the exchange's time in which it was last published
	visitors []uint64 // users of a batch, hashed
	batches  uint32
	parcels  [hopSlots][]simParcel
	flows    [hopSlots]flow
	log      published
	replica  cursor
	applying float64 // ms that the replicas' reader still needs for what it has begun
	sampled  int
	moved    []movedUsers // published and not yet seen by replicas
	backlog  float64      // of the replicas' cores, in ms of one core

	m measures
}

// movedUsers are a batch's users who wait for an answer.
type movedUsers struct {
	tick   int // of their being published
	users  float64
	sample []int32 // when some of their events had come
}

// measures are what the report is made of.
type measures struct {
	arrived, learnt          int
	inSystem, sojourn        float64 // event-ticks in shards; ms summed over learnt events
	sent, merged             int
	changes, firsts          float64
	adopted, users           float64
	logBytes, itemBytes      float64
	parcelBytes, skipped     float64
	work                     [4]float64 // learn, merge, follow, skip; ms, all shards
	answers                  float64
	fresh                    []float32
	hotItem, hotUser         int
	age                      float64 // of what shards follow, ms summed over ticks and shards
	oldest                   float64
	agesStart, agesEnd       [2]float64 // of what learners and replicas have read, ms
	batches, lagStart        int
	lagEnd                   int
	backlogStart, backlogEnd float64
	measured                 float64 // s
	overflow                 bool
}

// New prepares a run of a valid configuration.
func New(c Config) *Sim {
	rng := rand.New(rand.NewPCG(c.Seed, 77))
	s := &Sim{
		Config: c, rng: rng, users: rand.NewZipf(rng, c.UserExponent, c.UserFlat, uint64(c.Users-1)),
		items: rand.NewZipf(rng, c.ItemExponent, c.ItemFlat, uint64(c.Items-1)), shards: make([]simShard, c.Shards),
		seen: make([]uint32, c.Items), epochs: make([]uint32, c.Items), visitors: make([]uint64, 1<<16), log: published{{}},
	}
	for i := range s.shards {
		s.shards[i].waiting = -1
		if c.Broadcast > 0 {
			s.shards[i].dirty = map[uint32]bool{}
			s.shards[i].flushed = c.Broadcast.Seconds() * 1e3 * float64(i) / float64(c.Shards) // not all at once
		}
	}
	return s
}

// Run walks to the end; told hears how far it is.
func (s *Sim) Run(ctx context.Context, told func(done, total int)) error {
	warm, total := int(s.Warm/tickS), int((s.Warm+s.Seconds)/tickS)
	for s.tick = 0; s.tick < total; s.tick++ {
		if s.tick == warm {
			s.begin()
		}
		if s.tick%64 == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			told(s.tick, total)
		}
		s.step()
		if s.waiting() > maxWaiting {
			s.m.overflow = true
			s.tick++
			break
		}
	}
	told(total, total)
	s.m.measured = float64(s.tick-warm) * tickS
	s.m.lagEnd, s.m.backlogEnd, s.m.agesEnd = s.queued(), s.backlog, s.ages()
	return nil
}

// begin forgets what was measured while queues filled.
func (s *Sim) begin() {
	s.m = measures{lagStart: s.queued(), backlogStart: s.backlog, agesStart: s.ages()}
	for i := range s.shards {
		s.shards[i].work, s.shards[i].came, s.shards[i].learnt, s.shards[i].merged = 0, 0, 0, 0
	}
}

// ages are how far learners, in the mean, and replicas lie behind what is published, ms.
func (s *Sim) ages() (a [2]float64) {
	for i := range s.shards {
		a[0] += float64(len(s.log)-1-s.shards[i].follows.tick) * tickMS / float64(len(s.shards))
	}
	a[1] = float64(len(s.log)-1-s.replica.tick) * tickMS
	if s.Shards == 1 {
		a[0] = 0
	}
	return a
}

// waiting bounds the memory of the run.
func (s *Sim) waiting() int {
	if s.tick%256 != 0 {
		return 0
	}
	n := s.queued()
	for i := range s.shards {
		n += len(s.shards[i].inbox)
	}
	return n
}

// queued are the events that have come and are not learnt.
func (s *Sim) queued() (n int) {
	for i := range s.shards {
		sh := &s.shards[i]
		n += len(sh.events) - sh.head + len(sh.batch)
	}
	return n
}
