package decode

import (
	"math"
	"sync/atomic"
)

// Counts of what was decoded, by dialect and by reason. Safe to read while decoding goes on.
type Counts struct {
	dialects, letters []atomic.Int64
	noTime, implied   atomic.Int64
	strangers         *strangers

	ratings, unrated atomic.Int64  // unrated: of exactly 0
	lo, hi           atomic.Uint64 // bits of the lowest and highest rating
}

func newCounts(s *strangers) *Counts {
	c := &Counts{strangers: s, dialects: make([]atomic.Int64, len(dialects)), letters: make([]atomic.Int64, len(reasons))}
	c.lo.Store(math.Float64bits(math.Inf(1)))
	c.hi.Store(math.Float64bits(math.Inf(-1)))
	return c
}

func add(names []string, n []atomic.Int64, name string) {
	for i := range names {
		if names[i] == name {
			n[i].Add(1)
			return
		}
	}
	panic("ingest: unknown counter " + name)
}

func (c *Counts) event(dialect string) { add(dialects, c.dialects, dialect) }
func (c *Counts) letter(reason string) { add(reasons, c.letters, reason) }

func byName(names []string, n []atomic.Int64) map[string]int64 {
	out := make(map[string]int64, len(names))
	for i := range names {
		out[names[i]] = n[i].Load()
	}
	return out
}

// Dialects gives the good events, items and requests by dialect; all dialects are there, also at 0.
func (c *Counts) Dialects() map[string]int64 { return byName(dialects, c.dialects) }

// Letters gives the dead letters by reason; all reasons are there, also at 0.
func (c *Counts) Letters() map[string]int64 { return byName(reasons, c.letters) }

// NoTime is how many events took the record's time for lack of their own.
func (c *Counts) NoTime() int64 { return c.noTime.Load() }

// Implied is how many events said nothing about what happened, and were taken for default_kind.
func (c *Counts) Implied() int64 { return c.implied.Load() }

// Unread is how often fields came that nothing reads, by their names; at most 1000 names are told apart.
func (c *Counts) Unread() map[string]int64 {
	c.strangers.mu.RLock()
	defer c.strangers.mu.RUnlock()
	out := make(map[string]int64, len(c.strangers.m))
	for name, s := range c.strangers.m {
		if n := s.n.Load(); n > 0 {
			out[name] = n
		}
	}
	return out
}

// rated takes in one rating.
func (c *Counts) rated(v float64) {
	c.ratings.Add(1)
	if v == 0 {
		c.unrated.Add(1)
	}
	bound(&c.lo, v, func(old float64) bool { return v < old })
	bound(&c.hi, v, func(old float64) bool { return v > old })
}

func bound(at *atomic.Uint64, v float64, beyond func(float64) bool) {
	for {
		old := at.Load()
		if !beyond(math.Float64frombits(old)) || at.CompareAndSwap(old, math.Float64bits(v)) {
			return
		}
	}
}

// Ratings gives the lowest and the highest rating, how many there were, and how many of them were 0.
func (c *Counts) Ratings() (lo, hi float64, n, zeros int64) {
	return math.Float64frombits(c.lo.Load()), math.Float64frombits(c.hi.Load()), c.ratings.Load(), c.unrated.Load()
}
