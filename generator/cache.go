package generator

import (
	"container/list"
	"fmt"
	"math"
	"strings"
	"sync"
)

// cache keeps the newest W_A of each user (or pair), least recently used out first. An entry is
// found only when the inputs it was made from are the same bits: the shared taste w moves with
// every event, so a version number of the user alone would serve stale weights.
//
// mu guards the list and the map. It is a leaf, and no product is made under it.
type cache struct {
	limit int64

	mu    sync.Mutex
	bytes int64
	order *list.List // front: most recently used
	byKey map[string]*list.Element
}

type cached struct {
	key         string
	input, made []float32
}

// entryOverhead is about what an entry costs beside its floats and key.
const entryOverhead = 200

func (c *cached) size() int64 {
	return 4*int64(len(c.input)+len(c.made)) + int64(len(c.key)) + entryOverhead
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, order: list.New(), byKey: map[string]*list.Element{}}
}

func (c *cache) get(key string, input []float32) []float32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[key]
	if e == nil || !equalBits(e.Value.(*cached).input, input) {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).made
}

// put keeps made, in place of what the key had.
func (c *cache) put(key string, input, made []float32) {
	fresh := &cached{key, input, made}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byKey[key]; old != nil {
		c.drop(old)
	}
	if fresh.size() > c.limit {
		return
	}
	for c.bytes+fresh.size() > c.limit {
		c.drop(c.order.Back())
	}
	c.byKey[key] = c.order.PushFront(fresh)
	c.bytes += fresh.size()
}

func (c *cache) drop(e *list.Element) {
	old := c.order.Remove(e).(*cached)
	delete(c.byKey, old.key)
	c.bytes -= old.size()
}

// forget drops what is kept of a user.
func (c *cache) forget(user string, perPair bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !perPair {
		if e := c.byKey[user]; e != nil {
			c.drop(e)
		}
		return
	}
	prefix := pairKey(user, "")
	for key, e := range c.byKey {
		if strings.HasPrefix(key, prefix) {
			c.drop(e)
		}
	}
}

// pairKey is the key of a W_A that one pair has for itself. The length keeps apart what concatenation would not.
func pairKey(user, item string) string { return fmt.Sprintf("%d:%s%s", len(user), user, item) }

func (c *cache) size() (entries int, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.order.Len(), c.bytes
}

func equalBits(a, b []float32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return false
		}
	}
	return true
}
