package store

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// cache holds decoded records up to a number of bytes. A record in it is never changed, only replaced: readers take what
// they find without a lock held. Eviction is CLOCK: a record touched since the hand last passed is spared once.
type cache[R any] struct {
	shards  [16]shard[R]
	seed    maphash.Seed
	stored  func(rec *R) // called under the shard's lock, as is evicted; either may be nil
	evicted func(rec *R)
	hits    atomic.Int64
	misses  atomic.Int64
}

type shard[R any] struct {
	mu    sync.RWMutex
	slots map[string]*slot[R]
	ring  []*slot[R]
	hand  int
	bytes int64
	limit int64
	_     [64]byte // shards do not share cache lines
}

type slot[R any] struct {
	key     string
	rec     *R
	bytes   int64
	at      int // in the ring
	touched atomic.Bool
}

func newCache[R any](limit int64) *cache[R] {
	c := &cache[R]{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].slots, c.shards[i].limit = map[string]*slot[R]{}, limit/int64(len(c.shards))
	}
	return c
}

func (c *cache[R]) shard(key string) *shard[R] {
	return &c.shards[maphash.String(c.seed, key)%uint64(len(c.shards))]
}

// get returns the newest record, or nil.
func (c *cache[R]) get(key string) *R {
	sh := c.shard(key)
	sh.mu.RLock()
	s := sh.slots[key]
	if s == nil {
		sh.mu.RUnlock()
		c.misses.Add(1)
		return nil
	}
	rec := s.rec
	if !s.touched.Load() {
		s.touched.Store(true)
	}
	sh.mu.RUnlock()
	c.hits.Add(1)
	return rec
}

// put sets or replaces a record. allowed, when not nil, is asked under the lock; a record already there then stays.
func (c *cache[R]) put(key string, rec *R, bytes int64, allowed func() bool) {
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	s := sh.slots[key]
	if allowed != nil && (s != nil || !allowed()) {
		return
	}
	if s == nil {
		s = &slot[R]{key: key, at: len(sh.ring)}
		sh.slots[key] = s
		sh.ring = append(sh.ring, s)
	} else {
		s.touched.Store(true) // a new one has to earn it: a scan does not push out what is in use
	}
	sh.bytes += bytes - s.bytes
	s.rec, s.bytes = rec, bytes
	if c.stored != nil {
		c.stored(rec)
	}
	for sh.bytes > sh.limit && len(sh.ring) > 0 {
		c.evict(sh)
	}
}

// evict removes one record.
func (c *cache[R]) evict(sh *shard[R]) {
	for {
		sh.hand %= len(sh.ring)
		s := sh.ring[sh.hand]
		if !s.touched.Swap(false) {
			c.drop(sh, s)
			sh.hand++ // past the record that took the place: the newest one
			return
		}
		sh.hand++
	}
}

func (c *cache[R]) drop(sh *shard[R], s *slot[R]) {
	last := sh.ring[len(sh.ring)-1]
	sh.ring[s.at], last.at = last, s.at
	sh.ring[len(sh.ring)-1] = nil
	sh.ring = sh.ring[:len(sh.ring)-1]
	delete(sh.slots, s.key)
	sh.bytes -= s.bytes
	if c.evicted != nil {
		c.evicted(s.rec)
	}
}

// remove forgets a record.
func (c *cache[R]) remove(key string) {
	sh := c.shard(key)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s := sh.slots[key]; s != nil {
		c.drop(sh, s)
	}
}

func (c *cache[R]) usage() (records int, bytes int64) {
	for i := range c.shards {
		sh := &c.shards[i]
		sh.mu.RLock()
		records, bytes = records+len(sh.ring), bytes+sh.bytes
		sh.mu.RUnlock()
	}
	return records, bytes
}
