package token

// symbol is a run of text that is one token so far, in a list of neighbours.
type symbol struct {
	id         int32 // the token; -1: none
	start, end int32 // its bytes in the text
	prev, next int32 // neighbours; -1: none
	key        uint32
	merged     int32 // the token that this and next would make, and its key (lower first); -1: none
}

// merger joins neighbours, best pair first, leftmost first among equals: the greedy rule of both BPE kinds. A heap of
// (key, position) makes it n log n; entries that went stale are known by their key and passed over.
type merger struct {
	symbols []symbol
	heap    []uint64
}

// reset empties the merger, keeping its buffers unless a huge text made them large.
func (m *merger) reset() {
	if cap(m.symbols) > 1<<14 {
		*m = merger{}
	}
	m.symbols, m.heap = m.symbols[:0], m.heap[:0]
}

// add appends the symbol of text[start:end].
func (m *merger) add(id int32, start, end int) {
	n := int32(len(m.symbols))
	m.symbols = append(m.symbols, symbol{id: id, start: int32(start), end: int32(end), prev: n - 1, next: n + 1, merged: -1})
}

// run merges until no pair is left; pair gives the key and the token of two neighbours, or a token of -1. Afterwards the
// symbols that remain are found by following next from 0.
func (m *merger) run(pair func(a, b *symbol) (key uint32, merged int32)) {
	if len(m.symbols) == 0 {
		return
	}
	m.symbols[len(m.symbols)-1].next = -1
	look := func(i int32) {
		s := &m.symbols[i]
		s.merged = -1
		if s.next < 0 {
			return
		}
		if s.key, s.merged = pair(s, &m.symbols[s.next]); s.merged >= 0 {
			m.push(uint64(s.key)<<32 | uint64(i))
		}
	}
	for i := range m.symbols {
		look(int32(i))
	}
	for len(m.heap) > 0 {
		top := m.pop()
		i := int32(uint32(top))
		s := &m.symbols[i]
		if s.merged < 0 || uint64(s.key) != top>>32 {
			continue
		}
		n := &m.symbols[s.next]
		s.id, s.end, s.next = s.merged, n.end, n.next
		n.merged = -1
		if s.next >= 0 {
			m.symbols[s.next].prev = i
		}
		look(i)
		if s.prev >= 0 {
			look(s.prev)
		}
	}
}

func (m *merger) push(x uint64) {
	m.heap = append(m.heap, x)
	h, i := m.heap, len(m.heap)-1
	for i > 0 {
		up := (i - 1) / 2
		if h[up] <= x {
			break
		}
		h[i], i = h[up], up
	}
	h[i] = x
}

func (m *merger) pop() uint64 {
	h := m.heap
	top, x := h[0], h[len(h)-1]
	h = h[:len(h)-1]
	m.heap = h
	if len(h) == 0 {
		return top
	}
	i := 0
	for {
		down := 2*i + 1
		if down >= len(h) {
			break
		}
		if down+1 < len(h) && h[down+1] < h[down] {
			down++
		}
		if x <= h[down] {
			break
		}
		h[i], i = h[down], down
	}
	h[i] = x
	return top
}
