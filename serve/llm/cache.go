package llm

import (
	"container/list"
	"sync"
)

// cache keeps entries by content; the least recently used are dropped past limit. With a file
// behind it, what was dropped is read again from there; without, it is computed again. Entries are
// never written to after put, so a pass uses one without a lock even if it is dropped meanwhile.
//
// mu is not held while the file is read or written. Two callers may then read one entry at once;
// add keeps the first.
type cache struct {
	mu    sync.Mutex
	limit int64
	used  int64
	byKey map[entryKey]*list.Element
	order *list.List // most recently used first
	dims  *entryDims
	file  *cacheFile // nil without a folder
	stats CacheStats
}

// CacheStats counts what the item cache did since Open.
type CacheStats struct {
	Entries   int   // in memory
	Bytes     int64 // in memory
	Hits      int64 // found in memory
	DiskHits  int64 // read from the file
	Misses    int64 // had to be computed
	Evicted   int64
	OnDisk    int   // entries in the file
	DiskBytes int64 // size of the file
	DiskError error // the first failure to write to CacheDir; the model goes on without
	// ForwardTokens went through the layers from the embedding on; CachedTokens started from the cache.
	ForwardTokens int64
	CachedTokens  int64
}

type cached struct {
	key entryKey
	e   *entry
}

func openCache(m *Model) (*cache, error) {
	a := m.arch
	c := &cache{limit: m.opts.KVBytes, byKey: map[entryKey]*list.Element{}, order: list.New()}
	c.dims = &entryDims{
		layers: a.layers, top: m.opts.TopLayers, hidden: a.hidden, kvWidth: a.kvWidth(),
		bf16: m.opts.Numerics != "f32", numerics: m.opts.Numerics,
	}
	if m.opts.CacheDir == "" || m.opts.TextOnly { // such entries are not whole
		return c, nil
	}
	var err error
	c.file, err = openCacheFile(m.opts.CacheDir, m.digest, m.opts.ReadLayer, c.dims, m.opts.DiskBytes)
	return c, err
}

// get finds an entry, nil when it must be computed.
func (c *cache) get(k entryKey) *entry {
	c.mu.Lock()
	if el := c.byKey[k]; el != nil {
		c.stats.Hits++
		c.order.MoveToFront(el)
		c.mu.Unlock()
		return el.Value.(cached).e
	}
	c.mu.Unlock()
	var e *entry
	if c.file != nil {
		e = c.file.get(k)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e == nil {
		c.stats.Misses++
		return nil
	}
	c.stats.DiskHits++
	c.add(k, e)
	return e
}

// put adds an entry to memory and file.
func (c *cache) put(k entryKey, e *entry) {
	if c.file != nil {
		c.file.put(k, e)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(k, e)
}

// add keeps an entry and drops old ones past the limit. The newest always stays, even when it alone is over it.
func (c *cache) add(k entryKey, e *entry) {
	if c.byKey[k] != nil {
		return
	}
	c.byKey[k] = c.order.PushFront(cached{k, e})
	c.used += e.bytes()
	for c.used > c.limit && c.order.Len() > 1 {
		old := c.order.Remove(c.order.Back()).(cached)
		delete(c.byKey, old.key)
		c.used -= old.e.bytes()
		c.stats.Evicted++
	}
}

// CacheStats returns the item cache's counters.
func (m *Model) CacheStats() CacheStats {
	c := m.cache
	c.mu.Lock()
	s := c.stats
	s.Entries, s.Bytes = c.order.Len(), c.used
	c.mu.Unlock()
	if f := c.file; f != nil {
		f.mu.Lock()
		s.OnDisk, s.DiskBytes, s.DiskError = len(f.index), f.end, f.err
		f.mu.Unlock()
	}
	if s.DiskError == nil {
		s.DiskError = m.weights.keepErr
	}
	s.ForwardTokens, s.CachedTokens = m.forward.Load(), m.cached.Load()
	return s
}

func (c *cache) close() error {
	if c.file == nil {
		return nil
	}
	return c.file.close()
}
