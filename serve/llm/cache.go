package llm

import (
	"container/list"
	"sync"
)

// cache keeps entries by content, the least recently used are dropped past limit. With a file behind it, what was dropped is
// read again from there; without, it is computed again.
type cache struct {
	mu    sync.Mutex
	limit int64
	used  int64
	byKey map[entryKey]*list.Element
	order *list.List // most recently used first
	dims  *entryDims

	hits, misses, evicted int64
}

type cached struct {
	key entryKey
	e   *entry
}

func openCache(m *Model) (*cache, error) {
	a := m.arch
	c := &cache{limit: m.opts.KVBytes, byKey: map[entryKey]*list.Element{}, order: list.New()}
	c.dims = &entryDims{layers: a.layers, top: m.opts.TopLayers, hidden: a.hidden, qWidth: a.qWidth(), kvWidth: a.kvWidth()}
	return c, nil
}

// get finds an entry, nil when it must be computed.
func (c *cache) get(k entryKey) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el := c.byKey[k]; el != nil {
		c.hits++
		c.order.MoveToFront(el)
		return el.Value.(cached).e
	}
	c.misses++
	return nil
}

// put adds an entry and drops old ones past the limit. The newest always stays, even when it alone is over it.
func (c *cache) put(k entryKey, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[k] != nil {
		return
	}
	c.byKey[k] = c.order.PushFront(cached{k, e})
	c.used += e.bytes()
	for c.used > c.limit && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(cached)
		delete(c.byKey, old.key)
		c.used -= old.e.bytes()
		c.evicted++
	}
}

func (c *cache) close() error { return nil }
