package llm

import (
	"container/list"
	"errors"
	"weak"

	"github.com/corastream/corastream/kernels/cuda"
)

// pages is the item cache on the device: keys and values of the top layers in pages of cuda.PageTokens tokens
// [page][layer][token][2*kvWidth] bfloat16, least recently used items first out. It holds no item alive: an entry that left the
// cache in memory is found no more.
type pages struct {
	dims  arch
	top   int
	limit int // pages at most
	pool  *cuda.Buffer
	count int // pages in pool
	spare []int32
	byKey map[weak.Pointer[entry]]*list.Element
	order *list.List // of *paged, most recently used first
}

type paged struct {
	key   weak.Pointer[entry]
	pages []int32
}

func (p *pages) init(m *Model) {
	p.dims, p.top = m.arch, m.opts.TopLayers
	p.limit = int(max(1, min(m.opts.KVBytes/p.pageBytes(), 1<<26)))
	p.clear()
}

func (p *pages) clear() {
	p.byKey, p.order, p.spare, p.count = map[weak.Pointer[entry]]*list.Element{}, list.New(), nil, 0
}

func (p *pages) pageValues() int  { return p.top * cuda.PageTokens * 2 * p.dims.kvWidth() }
func (p *pages) pageBytes() int64 { return 2 * int64(p.pageValues()) }

func (p *pages) free(q *cuda.Queue) error {
	err := q.Free(p.pool)
	p.pool = nil
	p.clear()
	return err
}

func pagesFor(tokens int) int { return (tokens + cuda.PageTokens - 1) / cuda.PageTokens }

// upload returns the pages of every entry, and uploads those that are not on the device. Entries of one call never push each other out.
func (p *pages) upload(q *cuda.Queue, entries []*entry) ([][]int32, error) {
	need, fresh := 0, 0 // pages, and those of entries that are not there
	seen := map[*entry]bool{}
	for _, e := range entries {
		if !seen[e] {
			seen[e] = true
			need += pagesFor(e.n)
			if p.byKey[weak.Make(e)] == nil {
				fresh += pagesFor(e.n)
			}
		}
	}
	if err := p.reserve(q, need, fresh); err != nil {
		return nil, err
	}
	out := make([][]int32, len(entries))
	var missing []int
	for i, e := range entries { // first those at hand, so that they move to the front
		if el := p.byKey[weak.Make(e)]; el != nil {
			p.order.MoveToFront(el)
			out[i] = el.Value.(*paged).pages
		} else if e.n > 0 {
			missing = append(missing, i)
		}
	}
	for _, i := range missing {
		e := entries[i]
		if el := p.byKey[weak.Make(e)]; el != nil { // named twice
			out[i] = el.Value.(*paged).pages
			continue
		}
		x, err := p.add(q, e)
		if err != nil {
			return nil, errors.Join(err, p.free(q))
		}
		out[i] = x.pages
	}
	return out, nil
}

// reserve makes the pool hold at least n pages, some of them fresh; a larger pool begins empty.
func (p *pages) reserve(q *cuda.Queue, n, fresh int) error {
	if n <= p.count && (p.count >= p.limit || fresh <= len(p.spare)) {
		return nil
	} else if p.count > 0 {
		n = max(n, 2*p.count)
	}
	n = max(min(max(n, 64), p.limit), n)
	if n <= p.count {
		return nil
	}
	if err := p.free(q); err != nil {
		return err
	}
	pool, err := q.Alloc(p.pageBytes() * int64(n))
	if err != nil {
		return err
	}
	p.pool, p.count = pool, n
	for i := range n {
		p.spare = append(p.spare, int32(i))
	}
	return nil
}

// add uploads one entry.
func (p *pages) add(q *cuda.Queue, e *entry) (*paged, error) {
	n := pagesFor(e.n)
	for len(p.spare) < n {
		last := p.order.Back()
		old := p.order.Remove(last).(*paged)
		delete(p.byKey, old.key)
		p.spare = append(p.spare, old.pages...)
	}
	x := &paged{key: weak.Make(e), pages: append([]int32(nil), p.spare[len(p.spare)-n:]...)}
	p.spare = p.spare[:len(p.spare)-n]
	kv, a := p.dims.kvWidth(), p.dims
	block := make([]uint16, p.pageValues())
	for i, page := range x.pages {
		clear(block)
		for t := i * cuda.PageTokens; t < min(e.n, (i+1)*cuda.PageTokens); t++ {
			for l := range p.top {
				at := block[(l*cuda.PageTokens+t%cuda.PageTokens)*2*kv:][:2*kv]
				layer := a.layers - p.top + l
				key, value := e.kv16[e.row(layer, 0, t):][:kv], e.kv16[e.row(layer, 1, t):][:kv]
				for j := range kv {
					at[j] = key[a.turnedFrom(j)]
				}
				copy(at[kv:], value)
			}
		}
		if err := cuda.Upload(q, p.pool, int64(page)*p.pageBytes(), block); err != nil {
			return nil, err
		}
	}
	p.byKey[x.key] = p.order.PushFront(x)
	return x, nil
}
