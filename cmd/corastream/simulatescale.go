package main

import (
	"context"
	"math"
	"math/rand/v2"

	"github.com/corastream/corastream"
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

// flow counts what is published: items' changes, those of them that are an item's first within an exchange's time, users' records, the
// bytes that learners read of it, and those that replicas do.
type flow struct{ changes, firsts, users, bytes, all float64 }

// published keeps the sums by tick, so that a reader who has come so many bytes far knows what that held and how old it is.
type published []flow

// cursor is how far a reader has come.
type cursor struct {
	tick  int
	bytes float64
}

// scaleSim is the state of a run.
type scaleSim struct {
	scaleConfig
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

func newScaleSim(c scaleConfig) *scaleSim {
	rng := rand.New(rand.NewPCG(c.Seed, 77))
	s := &scaleSim{
		scaleConfig: c, rng: rng, users: rand.NewZipf(rng, c.UserExponent, c.UserFlat, uint64(c.Users-1)),
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

// run walks to the end; told hears how far it is.
func (s *scaleSim) run(ctx context.Context, told func(done, total int)) error {
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
func (s *scaleSim) begin() {
	s.m = measures{lagStart: s.queued(), backlogStart: s.backlog, agesStart: s.ages()}
	for i := range s.shards {
		s.shards[i].work, s.shards[i].came, s.shards[i].learnt, s.shards[i].merged = 0, 0, 0, 0
	}
}

// ages are how far learners, in the mean, and replicas lie behind what is published, ms.
func (s *scaleSim) ages() (a [2]float64) {
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
func (s *scaleSim) waiting() int {
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
func (s *scaleSim) queued() (n int) {
	for i := range s.shards {
		sh := &s.shards[i]
		n += len(sh.events) - sh.head + len(sh.batch)
	}
	return n
}

func (s *scaleSim) step() {
	s.arrive()
	slot := s.tick % hopSlots
	for _, p := range s.parcels[slot] {
		sh := &s.shards[p.owner]
		sh.inbox = append(sh.inbox, p.item)
	}
	s.parcels[slot] = s.parcels[slot][:0]
	last := s.log[len(s.log)-1]
	f := s.flows[slot]
	s.log = append(s.log, flow{last.changes + f.changes, last.firsts + f.firsts, last.users + f.users, last.bytes + f.bytes, last.all + f.all})
	s.flows[slot] = flow{}
	now := float64(s.tick) * tickMS
	in := 0
	for i := range s.shards {
		sh := &s.shards[i]
		// It reads on while it learns, as far as its share of the networks goes.
		sh.follows.bytes = min(s.log[len(s.log)-1].bytes, sh.follows.bytes+s.readRate()*tickS)
		if sh.busy && sh.until <= now {
			s.finish(i)
		}
		if !sh.busy {
			s.start(i, now)
		}
		in += len(sh.events) - sh.head + len(sh.batch)
		if s.Shards > 1 {
			age := float64(len(s.log)-1-sh.follows.tick) * tickMS
			s.m.age += age
			s.m.oldest = max(s.m.oldest, age)
		}
	}
	s.m.inSystem += float64(in)
	s.answer(now)
}

// arrive draws the events of a tick.
func (s *scaleSim) arrive() {
	n := poisson(s.rng, s.Events*tickS)
	s.m.arrived += n
	for range n {
		user, item := uint32(s.users.Uint64()), uint32(s.items.Uint64())
		if user == 0 {
			s.m.hotUser++
		}
		shard := corastream.PartitionShard(int32(scramble(uint64(user))%uint64(s.Partitions)), s.Shards)
		sh := &s.shards[shard]
		sh.came++
		sh.events = append(sh.events, simEvent{int32(s.tick), user, item})
	}
}

// scramble spreads ids evenly (splitmix64's finaliser).
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (s *scaleSim) owner(item uint32) int32 {
	return int32(scramble(uint64(item)^0xabcdef) % uint64(s.Shards))
}

// poisson draws how many came; a normal approximation where that is as good.
func poisson(r *rand.Rand, mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	n, p, limit := 0, r.Float64(), math.Exp(-mean)
	for p > limit {
		n++
		p *= r.Float64()
	}
	return n
}

// start takes a micro-batch when one is due: events as they come, the others' news in a rhythm of its own.
func (s *scaleSim) start(i int, now float64) {
	sh := &s.shards[i]
	events := len(sh.events) - sh.head
	if events == 0 {
		sh.waiting = -1
	} else if sh.waiting < 0 {
		sh.waiting = now
	}
	at := s.log.at(sh.follows, func(f flow) float64 { return f.bytes })
	others := float64(s.Shards-1) / float64(s.Shards) // of what is published
	offered := max(0, s.log[at].changes-s.log[sh.follows.tick].changes) * others
	limit := math.Inf(1)
	if !s.InMemory {
		limit = newsLimit
	}
	news := (offered >= 1 || len(sh.inbox) > 0) && (now-sh.news >= s.Service.ExchangeMS || offered >= limit)
	due := events >= s.Service.BatchEvents || events > 0 && now-sh.waiting >= s.Service.BatchWaitMS
	if !due && !(news && events == 0) {
		return
	}
	take := min(events, s.Service.BatchEvents)
	sh.batch = append(sh.batch[:0], sh.events[sh.head:sh.head+take]...)
	sh.head += take
	if sh.head > 1<<14 && sh.head*2 > len(sh.events) {
		sh.events, sh.head = append(sh.events[:0], sh.events[sh.head:]...), 0
	}
	sh.taken, sh.adopted, sh.skipped = 0, 0, 0
	if news {
		if offered > limit {
			at = s.log.reach(sh.follows.tick, at, limit/others)
		}
		was, is := s.log[sh.follows.tick], s.log[at]
		sh.adopted, sh.skipped = int((is.firsts-was.firsts)*others), is.bytes-was.bytes
		sh.follows.tick, sh.news = at, now
		sh.taken = len(sh.inbox)
	}
	sh.waiting = -1
	sh.busy = true
	sh.until = now + s.learn(i)
}

// readRate is what one shard can read of what all publish: its part of its machine's network, and of the brokers'.
func (s *scaleSim) readRate() float64 {
	hosted := min(s.Hosted, s.Shards)
	return min(s.Network/float64(hosted), s.Network*float64(s.Brokers)/float64(s.Shards+s.Replicas))
}

// at is the last tick that lies within what a reader has read.
func (p published) at(c cursor, read func(flow) float64) int {
	t := c.tick
	for t+1 < len(p) && read(p[t+1]) <= c.bytes+1e-6 {
		t++
	}
	return t
}

// reach is the last tick up to `to` that is no more than `changes` past `from`; at least one tick on, so that nobody stands still.
func (p published) reach(from, to int, changes float64) int {
	t := min(from+1, to)
	for t < to && p[t+1].changes-p[from].changes <= changes+0.5 {
		t++
	}
	return t
}

// answer has replicas take over what is published, and answer the users who moved.
func (s *scaleSim) answer(now float64) {
	visible := s.log[len(s.log)-1]
	s.replica.bytes = min(visible.all, s.replica.bytes+min(s.Network, s.Network*float64(s.Brokers)/float64(s.Shards+s.Replicas))*tickS)
	to := s.log.at(s.replica, func(f flow) float64 { return f.all })
	s.applying -= tickMS
	for s.applying < 0 && s.replica.tick < to {
		a, b := s.log[s.replica.tick], s.log[s.replica.tick+1]
		s.applying += s.applyMS(flow{changes: b.changes - a.changes, users: b.users - a.users, all: b.all - a.all})
		s.replica.tick++
	}
	s.applying = max(s.applying, 0)
	cores := float64(s.Replicas * max(1, s.Cores-1)) // one core applies
	n := 0
	for _, m := range s.moved {
		if m.tick > s.replica.tick {
			break
		}
		n++
		service := s.answerMS()
		s.backlog += m.users * service
		s.m.answers += m.users
		for _, came := range m.sample {
			s.m.fresh = append(s.m.fresh, float32(now+s.backlog/cores+service-float64(came)*tickMS))
		}
	}
	s.moved = s.moved[n:]
	s.backlog = max(0, s.backlog-cores*tickMS)
}

// applyMS is what a replica's one writer needs for a piece of the changelogs.
func (s *scaleSim) applyMS(f flow) float64 {
	return (f.changes*s.followUS()+f.users*s.Service.UserUS)/1e3 + max(0, f.all-f.changes*s.Bytes.Item-f.users*s.Bytes.User)*s.Service.SkipNS/1e6
}

// answerMS is what one answer costs a core.
func (s *scaleSim) answerMS() float64 {
	return s.Service.AnswerMS + float64(s.Items)*s.Service.ScanNS/1e6
}
