package mix

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// saveMagic begins a saved state. The number changes with the fields that are saved.
const (
	saveFamily = "corastream mix "
	saveMagic  = saveFamily + "5\n"
)

// coder writes a state or reads one, field by field in one order, so that both can not differ.
type coder struct {
	w   *bufio.Writer // nil: reading
	r   io.Reader
	err error
	buf []byte
}

// maxSaved bounds the length of anything read: what a damaged file says is not believed.
const (
	maxSaved = 1 << 34
	maxItems = 1 << 31
)

func (c *coder) bytes(b []byte) {
	if c.err != nil {
		return
	}
	if c.w != nil {
		_, c.err = c.w.Write(b)
	} else {
		_, c.err = io.ReadFull(c.r, b)
	}
}

// length codes how many elements follow.
func (c *coder) length(n int) int {
	v := int64(n)
	c.i64(&v)
	if c.err == nil && (v < 0 || v > maxSaved) {
		c.err = fmt.Errorf("%w: a length of %d", corastream.ErrCorrupt, v)
	}
	if c.err != nil {
		return 0
	}
	return int(v)
}

func (c *coder) i64(v *int64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(*v))
	c.bytes(b[:])
	if c.w == nil { // while it is written, others read the state
		*v = int64(binary.LittleEndian.Uint64(b[:]))
	}
}

func (c *coder) u64(v *uint64) {
	x := int64(*v)
	c.i64(&x)
	if c.w == nil {
		*v = uint64(x)
	}
}

func (c *coder) int(v *int) {
	x := int64(*v)
	c.i64(&x)
	if c.w == nil {
		*v = int(x)
	}
}

func (c *coder) f64(v *float64) {
	x := int64(math.Float64bits(*v))
	c.i64(&x)
	if c.w == nil {
		*v = math.Float64frombits(uint64(x))
	}
}

func (c *coder) bool(v *bool) {
	x := int64(0)
	if *v {
		x = 1
	}
	c.i64(&x)
	if c.w == nil {
		*v = x != 0
	}
}

func (c *coder) string(v *string) {
	b := []byte(*v)
	n := c.length(len(b))
	if c.w == nil {
		if n > 1<<20 {
			c.err = fmt.Errorf("%w: a string of %d bytes", corastream.ErrCorrupt, n)
			return
		}
		b = make([]byte, n)
	}
	c.bytes(b)
	*v = string(b)
}

// chunk is how many numbers are coded at once.
const chunk = 4096

// words codes n numbers of four bytes.
func (c *coder) words(n int, get func(i int) uint32, set func(i int, v uint32)) {
	if c.buf == nil {
		c.buf = make([]byte, 4*chunk)
	}
	for from := 0; from < n && c.err == nil; from += chunk {
		b := c.buf[:4*min(chunk, n-from)]
		if c.w != nil {
			for i := range len(b) / 4 {
				binary.LittleEndian.PutUint32(b[4*i:], get(from+i))
			}
		}
		c.bytes(b)
		if c.w == nil && c.err == nil {
			for i := range len(b) / 4 {
				set(from+i, binary.LittleEndian.Uint32(b[4*i:]))
			}
		}
	}
}

// more lengthens a slice by what is about to be read, at most a chunk at a time: a length is not believed before its bytes came.
func sliceOf[T any](c *coder, v *[]T, get func(T) uint32, set func(uint32) T) {
	n := c.length(len(*v))
	if c.w != nil {
		c.words(n, func(i int) uint32 { return get((*v)[i]) }, nil)
		return
	}
	*v = (*v)[:0]
	for len(*v) < n && c.err == nil {
		k := min(n-len(*v), 1<<16)
		c.words(k, nil, func(_ int, x uint32) { *v = append(*v, set(x)) })
	}
	if n == 0 {
		*v = nil
	}
}

func (c *coder) f32s(v *[]float32) { sliceOf(c, v, math.Float32bits, math.Float32frombits) }

func (c *coder) i32s(v *[]int32) {
	sliceOf(c, v, func(x int32) uint32 { return uint32(x) }, func(x uint32) int32 { return int32(x) })
}

func (c *coder) f64s(v *[]float64) {
	n := c.length(len(*v))
	if c.w == nil {
		*v = (*v)[:0]
	}
	for i := 0; i < n && c.err == nil; i++ {
		if c.w == nil {
			*v = append(*v, 0)
		}
		c.f64(&(*v)[i])
	}
}

// Save implements corastream.Derived.
func (m *Model) Save(w io.Writer) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	c := &coder{w: bufio.NewWriterSize(w, 1<<16)}
	m.code(c)
	if c.err == nil {
		c.err = c.w.Flush()
	}
	if c.err != nil {
		return fmt.Errorf("save the list model: %w", c.err)
	}
	return nil
}

// Load implements corastream.Derived.
func (m *Model) Load(r io.Reader) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reset()
	c := &coder{r: bufio.NewReaderSize(r, 1<<16)}
	m.code(c)
	if c.err == io.EOF || c.err == io.ErrUnexpectedEOF {
		c.err = fmt.Errorf("%w: the state is cut off", corastream.ErrCorrupt)
	}
	if c.err != nil {
		m.reset()
		return fmt.Errorf("load the list model: %w", c.err)
	}
	return nil
}

func (m *Model) code(c *coder) {
	magic, spec := saveMagic, m.spec.String()
	c.string(&magic)
	c.string(&spec)
	if c.err == nil && magic != saveMagic && strings.HasPrefix(magic, saveFamily) {
		c.err = fmt.Errorf("%w: another build saved it in format %q, this one reads %q", corastream.ErrFormat, magic, saveMagic)
	}
	if c.err == nil && magic != saveMagic {
		c.err = fmt.Errorf("%w: not a saved list model", corastream.ErrCorrupt)
	}
	if c.err == nil && spec != m.spec.String() {
		c.err = fmt.Errorf("%w: saved by %q, this is %q", corastream.ErrMismatch, spec, m.spec.String())
	}
	c.i64(&m.events)
	c.i64(&m.likes)
	c.i64(&m.repeats)
	c.u64(&m.draws)
	n := c.length(len(m.items))
	for i := 0; i < n && c.err == nil; i++ {
		if c.w == nil {
			m.items = append(m.items, item{})
		}
		it := &m.items[i]
		c.string(&it.id)
		c.bool(&it.described)
		c.bool(&it.gone)
		if c.w == nil {
			m.number[it.id] = int32(i)
			if it.described {
				m.described++
			}
		}
	}
	for _, s := range m.sources {
		s.code(c)
	}
	m.weights.code(c)
	if c.w == nil && c.err == nil {
		c.err = m.check()
	}
}

// check refuses a state whose parts do not fit together: what it would index is out of range.
func (m *Model) check() error {
	n := len(m.items)
	bad := func(what string) error {
		return fmt.Errorf("%w: %s does not fit %d items", corastream.ErrCorrupt, what, n)
	}
	if len(m.covisit.lists) != n || len(m.covisit.n) != n {
		return bad("the neighbour table")
	}
	for i := range m.covisit.lists {
		l := &m.covisit.lists[i]
		if len(l.sym) != len(l.ids) || len(l.rest) != len(l.ids) || !within(l.ids, 0, n) {
			return bad("a neighbour list")
		}
	}
	for h := range m.popular.count {
		if len(m.popular.count[h]) != n {
			return bad("a count")
		}
	}
	for h, list := range m.popular.heads {
		if !within(list, 0, n) || len(list) > headItems || len(m.popular.in) != n {
			return bad("the most popular items")
		}
		for i, j := range list {
			if slices.Contains(list[:i], j) {
				return fmt.Errorf("%w: item %d is twice among the heads of count %d", corastream.ErrCorrupt, j, h)
			}
		}
	}
	for _, s := range m.sources {
		switch s := s.(type) {
		case *quality:
			if len(s.likes) != n || len(s.events) != n || len(s.first) != n {
				return bad("quality")
			}
		case *content:
			if len(s.words) != n || len(s.own) != n || !s.sound() || len(s.df) != len(s.where) {
				return bad("content")
			}
		case *sequence:
			if len(s.aq) != n || len(s.ap) != n || len(s.q) != n*s.d || len(s.p) != n*s.d || !within(s.ring, 0, n) || !within(s.memory, -1, n) {
				return bad("the sequence factors")
			}
		case *vectors:
			if !s.sound(n) {
				return bad("the items' own vectors")
			}
		case *labels:
			if !s.sound(n) {
				return bad("the labels")
			}
		case *steer:
			if len(s.coded) != n || len(s.codes) > n*s.d || len(s.codes)%s.d != 0 || s.some > 0 && len(s.codes) < n*s.d || !s.rows.fits(n) || !within(s.fresh.items, 0, n) {
				return bad("the LLM's part")
			}
		case *ease:
			if len(s.place) != n || len(s.items) != len(s.gram) || len(s.p) != s.n*s.n || !within(s.items, 0, n) || !within(s.place, -1, len(s.items)+1) {
				return bad("the linear autoencoder")
			}
		}
	}
	return nil
}

func within(v []int32, lo, hi int) bool {
	for _, x := range v {
		if int(x) < lo || int(x) >= hi {
			return false
		}
	}
	return true
}

func (w *weights) code(c *coder) {
	for r := range w.w {
		c.f32s(&w.w[r])
		c.f32s(&w.g[r])
		if c.err == nil && (len(w.w[r]) != len(w.names) || len(w.g[r]) != len(w.names)) {
			c.err = fmt.Errorf("%w: %d weights for %d features", corastream.ErrCorrupt, len(w.w[r]), len(w.names))
		}
	}
	c.f32s(&w.usual)
	c.i64(&w.next)
	if c.err == nil && len(w.usual) != len(w.names) {
		c.err = fmt.Errorf("%w: %d means for %d features", corastream.ErrCorrupt, len(w.usual), len(w.names))
	}
}

func (v *covisit) code(c *coder) {
	c.f64(&v.zero)
	c.int(&v.width)
	c.f32s(&v.n)
	n := c.length(len(v.lists))
	for i := 0; i < n && c.err == nil; i++ {
		if c.w == nil {
			v.lists = append(v.lists, neighbours{})
		}
		l := &v.lists[i]
		c.i32s(&l.ids)
		c.f32s(&l.sym)
		if c.w == nil {
			l.rest = make([][pairSums - 1]float32, len(l.ids))
		}
		c.words(len(l.rest)*(pairSums-1),
			func(k int) uint32 { return math.Float32bits(l.rest[k/(pairSums-1)][k%(pairSums-1)]) },
			func(k int, x uint32) { l.rest[k/(pairSums-1)][k%(pairSums-1)] = math.Float32frombits(x) })
	}
}

func (p *popularity) code(c *coder) {
	for h := range p.count {
		c.f64s(&p.count[h])
		c.f64(&p.sum[h])
		c.f64(&p.zero[h])
	}
	for h := range p.heads {
		c.i32s(&p.heads[h])
	}
	if c.w == nil && len(p.count[0]) <= maxItems {
		p.in = make([]uint8, len(p.count[0]))
		for h, list := range p.heads {
			for _, j := range list {
				if int(j) < len(p.in) && j >= 0 {
					p.in[j] |= 1 << h
				}
			}
		}
	}
}

func (k *quality) code(c *coder) {
	c.f32s(&k.likes)
	c.f32s(&k.events)
	c.f64s(&k.first)
}

func (s *sequence) code(c *coder) {
	c.f32s(&s.q)
	c.f32s(&s.p)
	c.f32s(&s.aq)
	c.f32s(&s.ap)
	for _, v := range []*[sequenceLags]float32{&s.c, &s.gc} {
		c.words(sequenceLags, func(i int) uint32 { return math.Float32bits(v[i]) }, func(i int, x uint32) { v[i] = math.Float32frombits(x) })
	}
	c.i32s(&s.ring)
	c.u64(&s.targets)
	c.u64(&s.draws)
	c.i32s(&s.memory)
	c.i64(&s.kept)
}

// code waits for a fit under way: the state holds its result, and when it is to be taken in.
func (e *ease) code(c *coder) {
	c.bool(&e.over)
	c.i64(&e.likes)
	c.i64(&e.next)
	c.i64(&e.take)
	c.i32s(&e.place)
	c.i32s(&e.items)
	n := c.length(len(e.gram))
	for i := 0; i < n && c.err == nil; i++ {
		if c.w == nil {
			e.gram = append(e.gram, nil)
		}
		c.f32s(&e.gram[i])
		if c.err == nil && len(e.gram[i]) != i+1 {
			c.err = fmt.Errorf("%w: row %d of the likes has %d numbers", corastream.ErrCorrupt, i, len(e.gram[i]))
		}
	}
	fit := easeFit{e.p, e.n}
	fit.code(c, len(e.items))
	if c.w == nil && c.err == nil && fit.n > 0 {
		e.install(fit)
	}
	waits := e.solved != nil
	c.bool(&waits)
	if !waits {
		return
	}
	var next easeFit
	if c.w != nil {
		next = <-e.solved
		e.solved <- next
	}
	next.code(c, len(e.items))
	if c.w == nil && c.err == nil {
		e.solved = make(chan easeFit, 1)
		e.solved <- next
	}
}

// code codes the lower triangle of at most so many rows.
func (f *easeFit) code(c *coder, rows int) {
	f.n = c.length(f.n)
	if c.err == nil && f.n > rows {
		c.err = fmt.Errorf("%w: a fit of %d rows of %d", corastream.ErrCorrupt, f.n, rows)
	}
	if c.err != nil {
		return
	}
	if c.w == nil {
		f.p = make([]float32, f.n*f.n)
	}
	for i := range f.n {
		c.words(i+1, func(j int) uint32 { return math.Float32bits(f.p[i*f.n+j]) }, func(j int, x uint32) {
			f.p[i*f.n+j], f.p[j*f.n+i] = math.Float32frombits(x), math.Float32frombits(x)
		})
	}
}

// sound says that no title has more words than its item.
func (t *content) sound() bool {
	for j, n := range t.own {
		if n < 0 || int(n) > len(t.words[j]) {
			return false
		}
	}
	return true
}

// code keeps the titles' words; how often each is, follows from them.
func (t *content) code(c *coder) {
	names := make([]string, len(t.df))
	for word, w := range t.number {
		names[w] = word
	}
	n := c.length(len(names))
	for i := 0; i < n && c.err == nil; i++ {
		if c.w == nil {
			names = append(names, "")
		}
		c.string(&names[i])
		if c.w == nil {
			t.number[names[i]] = int32(i)
		}
	}
	c.i32s(&t.df)
	c.int(&t.titles)
	if c.w == nil && c.err == nil {
		t.all = num.Ln32(float32(1 + max(0, t.titles)))
		for _, n := range t.df {
			t.ln = append(t.ln, num.Ln32(float32(1+max(0, n))))
		}
	}
	n = c.length(len(t.words))
	for i := 0; i < n && c.err == nil; i++ {
		if c.w == nil {
			t.words = append(t.words, nil)
		}
		c.i32s(&t.words[i])
		if c.err == nil && !within(t.words[i], 0, len(t.df)) {
			c.err = fmt.Errorf("%w: item %d has a word that there is none of", corastream.ErrCorrupt, i)
		}
	}
	c.i32s(&t.own)
	n = c.length(len(t.where))
	for i := 0; i < n && c.err == nil; i++ {
		if c.w == nil {
			t.where = append(t.where, nil)
		}
		c.i32s(&t.where[i])
		if c.err == nil && !within(t.where[i], 0, len(t.words)) {
			c.err = fmt.Errorf("%w: word %d is of an item that there is none of", corastream.ErrCorrupt, i)
		}
	}
}

// code waits for a training under way, as ease's does.
func (s *steer) code(c *coder) {
	c.i32s(&s.fresh.items)
	c.int(&s.fresh.old)
	c.int(&s.recoded)
	c.i64(&s.next)
	c.i64(&s.take)
	c.i64(&s.since)
	n := c.length(len(s.coded))
	for i := 0; i < n && c.err == nil; i++ {
		if c.w == nil {
			s.coded = append(s.coded, false)
		}
		c.bool(&s.coded[i])
		if c.w == nil && s.coded[i] {
			s.some++
		}
	}
	c.f32s(&s.codes)
	c.i64(&s.rows.kept)
	c.i32s(&s.rows.past)
	c.i32s(&s.rows.cand)
	c.f32s(&s.rows.z)
	c.i32s(&s.rows.of)
	s.late.code(c)
	s.worth.code(c)
	s.court.code(c, s.d)
	waits := s.solved != nil
	c.bool(&waits)
	if !waits || c.err != nil {
		return
	}
	var next trained
	if c.w != nil {
		next = <-s.solved
		s.solved <- next
	}
	next.code(c, s.d)
	if c.w == nil && c.err == nil {
		s.solved = make(chan trained, 1)
		s.solved <- next
	}
}

func (f *fit) code(c *coder, d int) {
	c.words(steerLags, func(i int) uint32 { return math.Float32bits(f.lag[i]) }, func(i int, x uint32) { f.lag[i] = math.Float32frombits(x) })
	c.words(1, func(int) uint32 { return math.Float32bits(f.gain) }, func(_ int, x uint32) { f.gain = math.Float32frombits(x) })
	c.f32s(&f.a)
	if c.err == nil && len(f.a) != d*d {
		c.err = fmt.Errorf("%w: a fit of %d numbers for codes of %d", corastream.ErrCorrupt, len(f.a), d)
	}
}

// fits says that rows of n items have whole lines and known items.
func (r *rows) fits(n int) bool {
	k := r.n()
	return k <= r.most && len(r.z) == k*tuneTop && len(r.cand) == k*tuneTop && len(r.past) == k*steerLags && len(r.of) == k &&
		int64(k) == min(r.kept, int64(r.most)) && within(r.cand, -1, n) && within(r.past, -1, n)
}
