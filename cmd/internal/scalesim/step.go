package scalesim

import (
	"math"
	"math/rand/v2"

	"github.com/corastream/corastream"
)

func (s *Sim) step() {
	s.arrive()
	slot := s.tick % hopSlots
	for _, p := range s.parcels[slot] {
		sh := &s.shards[p.owner]
		sh.inbox = append(sh.inbox, p.item)
	}
	s.parcels[slot] = s.parcels[slot][:0]
	last := s.log[len(s.log)-1]
	f := s.flows[slot]
	s.log = append(s.log, flow{last.changes + f.changes, last.firsts + f.firsts, last.users + f.users, last.events + f.events, last.bytes + f.bytes, last.all + f.all})
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
func (s *Sim) arrive() {
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

func (s *Sim) owner(item uint32) int32 {
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
func (s *Sim) start(i int, now float64) {
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
		limit = s.NewsLimit
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
func (s *Sim) readRate() float64 {
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
func (s *Sim) answer(now float64) {
	visible := s.log[len(s.log)-1]
	s.replica.bytes = min(visible.all, s.replica.bytes+min(s.Network, s.Network*float64(s.Brokers)/float64(s.Shards+s.Replicas))*tickS)
	to := s.log.at(s.replica, func(f flow) float64 { return f.all })
	s.applying -= tickMS
	for s.applying < 0 && s.replica.tick < to {
		a, b := s.log[s.replica.tick], s.log[s.replica.tick+1]
		s.applying += s.applyMS(flow{changes: b.changes - a.changes, users: b.users - a.users, events: b.events - a.events, all: b.all - a.all})
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
func (s *Sim) applyMS(f flow) float64 {
	return (f.changes*s.followUS()+f.users*s.Service.UserUS+f.events*s.Service.TeachUS)/1e3 + max(0, f.all-f.changes*s.Bytes.Item-f.users*s.Bytes.User)*s.Service.SkipNS/1e6
}

// answerMS is what one answer costs a core.
func (s *Sim) answerMS() float64 {
	return s.Service.AnswerMS + s.Service.ListMS
}
