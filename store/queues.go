package store

import (
	"container/heap"
	"math/bits"
	"slices"
	"sync"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// queues are the store's to-do lists. The disk holds them in key order, but reading the head of a
// list there means stepping over the tombstones of all that was done before; so the oldest part of
// each is kept in memory.
//
// mu is taken after Store.writer, where a write changes the lists, and alone by readers. Snapshots
// are taken and installed under it (heads, install), so the lists always belong to the snapshot
// that a reader gets with them.
type queues struct {
	mu       sync.Mutex
	debts    window
	latest   latest // of debts
	requests window
	unread   bitset
	handed   map[string]uint64 // user -> the newest journal line when Owed last gave out the debt
}

// changes of the queues by one write, in order.
type changes struct{ list []change }

type change struct {
	key string
	add bool

	again bool // a debt that was there before, of a user who clicked again
}

func (c *changes) add(key []byte)    { c.list = append(c.list, change{key: string(key), add: true}) }
func (c *changes) remove(key []byte) { c.list = append(c.list, change{key: string(key)}) }
func (c *changes) touch(key []byte) {
	c.list = append(c.list, change{key: string(key), add: true, again: true})
}

// load reads the lists when the store is opened.
func (q *queues) load(txn *badger.Txn, most int) error {
	q.handed = map[string]uint64{}
	if err := q.debts.load(txn, pDebt, most); err != nil {
		return err
	}
	if err := q.requests.load(txn, pRequest, most); err != nil {
		return err
	}
	return scan(txn, []byte{pUnread}, nil, func(key []byte, _ *badger.Item) (bool, error) {
		if len(key) == 5 {
			q.unread.set(unreadSeq(key))
		}
		return true, nil
	})
}

// apply is called under the lock, together with making the snapshot that holds the changes the current one.
func (q *queues) apply(c *changes) {
	for _, ch := range c.list {
		switch ch.key[0] {
		case pDebt:
			if !ch.again {
				q.debts.change(ch)
			}
			q.latest.change(ch)
		case pRequest:
			q.requests.change(ch)
		case pUnread:
			if seq := unreadSeq([]byte(ch.key)); ch.add {
				q.unread.set(seq)
			} else {
				q.unread.clear(seq)
			}
		}
	}
}

func (q *queues) unreadItems(n int) []uint32 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.unread.first(n)
}

// maxHanded bounds the marks of debts handed out and never settled. Past it they are forgotten: Owed.Oldest of a user
// may then name an interaction that was covered.
const maxHanded = 1 << 16

// hand marks a user's debt as given out as of a journal line. From then on the user's newer
// interactions are kept apart from it (owe), and Settle removes the older ones alone.
func (q *queues) hand(user string, seq uint64) {
	if len(q.handed) >= maxHanded {
		clear(q.handed)
	}
	q.handed[user] = seq
}

// settled forgets the marks of paid debts, unless the debt was handed out again meanwhile.
func (q *queues) settled(paid []corastream.Owed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range paid {
		if o := &paid[i]; o.Request == nil && o.Seq <= q.handed[o.User] {
			delete(q.handed, o.User)
		}
	}
}

func (q *queues) handedTo(user string) uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.handed[user]
}

// window is the oldest part of a list: all its keys below bound, or simply all when bound is "".
//
// Keys that are done are only taken out of live. They stay in the heap until first or shrink meets
// them, because removing from the middle of a heap would cost a search. New keys below bound join,
// and those behind it are left to the disk. When the window runs out, refill reads on from bound.
type window struct {
	prefix byte
	heap   keyHeap // may hold keys that are gone; live tells
	live   map[string]struct{}
	bound  string
	max    int // keys kept in memory; up to twice as many for moments
	count  int // keys in the whole list
}

type keyHeap []string

func (h keyHeap) Len() int           { return len(h) }
func (h keyHeap) Less(i, j int) bool { return h[i] < h[j] }
func (h keyHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *keyHeap) Push(x any)        { *h = append(*h, x.(string)) }
func (h *keyHeap) Pop() any {
	last := len(*h) - 1
	x := (*h)[last]
	(*h)[last] = ""
	*h = (*h)[:last]
	return x
}

func (w *window) load(txn *badger.Txn, prefix byte, most int) error {
	w.prefix, w.max, w.live = prefix, most, map[string]struct{}{}
	return scan(txn, []byte{prefix}, nil, func(key []byte, _ *badger.Item) (bool, error) {
		w.count++
		switch {
		case len(w.live) < w.max:
			w.push(string(key))
		case w.bound == "":
			w.bound = string(key)
		}
		return true, nil
	})
}

func (w *window) push(key string) {
	if _, there := w.live[key]; !there {
		w.live[key] = struct{}{}
		heap.Push(&w.heap, key)
	}
}

func (w *window) change(c change) {
	if !c.add {
		w.count--
		delete(w.live, c.key)
		return
	}
	w.count++
	if w.bound != "" && c.key >= w.bound {
		return // on the disk, behind what is in memory
	}
	w.push(c.key)
	if len(w.heap) > 2*w.max {
		w.shrink()
	}
}

// shrink keeps the oldest half of max. Halving leaves room for as many new keys before the next
// shrink, so its sort is paid for by them.
func (w *window) shrink() {
	w.heap = slices.DeleteFunc(w.heap, func(k string) bool { _, ok := w.live[k]; return !ok })
	slices.Sort(w.heap) // a sorted slice is a heap
	w.heap = slices.Compact(w.heap)
	if keep := w.max / 2; len(w.heap) > keep {
		w.bound = w.heap[keep]
		for _, k := range w.heap[keep:] {
			delete(w.live, k)
		}
		w.heap = slices.Clone(w.heap[:keep])
	}
}

// first returns the up to n oldest keys, from the disk when memory has run out. The keys stay in
// the window: the caller settles them later, or not at all.
func (w *window) first(txn *badger.Txn, n int) ([]string, error) {
	if n <= 0 {
		return nil, nil
	}
	if len(w.live) < n && w.bound != "" {
		if err := w.refill(txn); err != nil {
			return nil, err
		}
	}
	var out []string
	for len(out) < n && len(w.heap) > 0 {
		key := heap.Pop(&w.heap).(string)
		if _, ok := w.live[key]; ok && (len(out) == 0 || out[len(out)-1] != key) {
			out = append(out, key)
		}
	}
	for _, key := range out {
		heap.Push(&w.heap, key)
	}
	return out, nil
}

// refill reads on from where the window ends.
func (w *window) refill(txn *badger.Txn) error {
	from := []byte(w.bound)
	w.bound = ""
	return scan(txn, []byte{w.prefix}, from, func(key []byte, _ *badger.Item) (bool, error) {
		if len(w.live) >= w.max/2 {
			w.bound = string(key)
			return false, nil
		}
		w.push(string(key))
		return true, nil
	})
}

// bitset holds item indices.
type bitset struct {
	words []uint64
	low   int // no bit is set in words below this one
	count int
}

func (b *bitset) set(i uint32) {
	word := int(i / 64)
	for len(b.words) <= word {
		b.words = append(b.words, 0)
	}
	if b.words[word]&(1<<(i%64)) == 0 {
		b.words[word] |= 1 << (i % 64)
		b.low, b.count = min(b.low, word), b.count+1
	}
}

func (b *bitset) clear(i uint32) {
	if word := int(i / 64); word < len(b.words) && b.words[word]&(1<<(i%64)) != 0 {
		b.words[word] &^= 1 << (i % 64)
		b.count--
	}
}

func (b *bitset) first(n int) (out []uint32) {
	for b.low < len(b.words) && b.words[b.low] == 0 {
		b.low++
	}
	for i := b.low; i < len(b.words); i++ {
		for word := b.words[i]; word != 0; word &= word - 1 {
			if len(out) >= n {
				return out
			}
			out = append(out, uint32(i*64+bits.TrailingZeros64(word)))
		}
	}
	return out
}
