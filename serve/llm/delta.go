package llm

import (
	"bytes"
	"fmt"
	"slices"
	"sort"
	"sync"
	"unsafe"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// delta is the low-rank addition y += (alpha/r) P^T (W_A^T x) of a batch (method 3.3), never merged into the weights: W_A
// differs from pair to pair, so it is two thin products over the batch.
type delta struct {
	*prepared
	w []corastream.Weights
}

// prepared is a projection, packed.
type prepared struct {
	rank   int
	scale  float32 // alpha/r
	adapt  corastream.Adapt
	lowest int // the lowest adapted layer
	layers []layerDelta
}

// layerDelta holds a layer's P by the linear that shares an input: q, k, v; o; gate, up. A nil one is not adapted.
type layerDelta struct{ qkv, o, gateUp *projection }

// projection is P of one or more targets side by side [rank][out], times alpha/r once packed; columns of absent targets are zero.
type projection struct {
	out    int
	apply  kernels.Matrix // T [m][rank] -> [m][out]
	back   kernels.Matrix // dY [m][out] -> dT [m][rank]; nil unless for a backward pass
	values []float32      // P itself, unscaled
	slots  []slotColumns
}

type slotColumns struct {
	slot   corastream.Slot
	lo, hi int
}

// newDelta checks the weights and the projection against the model. nil weights are the base model: a nil delta.
func (m *Model) newDelta(n int, w []corastream.Weights, p *corastream.Projection, backward bool) (*delta, error) {
	if w == nil && !backward {
		return nil, nil
	}
	a := m.arch
	if p == nil || p.Rank < 1 || p.Rank > a.hidden {
		return nil, fmt.Errorf("llm: weights need a projection of rank 1 to %d", a.hidden)
	}
	if len(w) != n {
		return nil, fmt.Errorf("llm: %d prompts but %d weights", n, len(w))
	}
	size := a.hidden * p.Rank
	for i, x := range w {
		if x.Hidden != a.hidden || x.Rank != p.Rank || len(x.User) != size || x.Item != nil && len(x.Item) != size {
			return nil, fmt.Errorf("llm: weights %d are [%d, %d] with %d and %d values; the model and the projection need [%d, %d]: %w",
				i, x.Hidden, x.Rank, len(x.User), len(x.Item), a.hidden, p.Rank, corastream.ErrMismatch)
		}
	}
	d := delta{w: w}
	if ready := m.ready.find(p); ready != nil && !backward {
		d.prepared = ready
		return &d, nil
	}
	var err error
	if d.prepared, err = prepare(a, p, backward); err != nil {
		return nil, err
	}
	if !backward {
		m.ready.keep(d.prepared)
	}
	return &d, nil
}

// prepare packs a projection.
func prepare(a arch, p *corastream.Projection, backward bool) (*prepared, error) {
	switch p.Adapt {
	case corastream.AdaptAll, corastream.AdaptSuffix, corastream.AdaptLast:
	default:
		return nil, fmt.Errorf("llm: projection adapts %q; known are all, suffix, last: %w", p.Adapt, corastream.ErrMismatch)
	}
	d := &prepared{rank: p.Rank, scale: p.Scale(), adapt: p.Adapt, lowest: a.layers, layers: make([]layerDelta, a.layers)}
	for slot, v := range p.P {
		if err := d.attach(a, slot, v); err != nil {
			return nil, err
		}
	}
	for i := range d.layers {
		for _, q := range d.layers[i].all() {
			if q != nil {
				scaled := make([]float32, len(q.values))
				kernels.Axpy(d.scale, q.values, scaled)
				q.apply = kernels.PackF32T(scaled, p.Rank, q.out)
				if backward {
					q.back = kernels.PackF32(scaled, p.Rank, q.out)
				}
			}
		}
	}
	return d, nil
}

// ready keeps the last few packed projections. They are found by content, never by address: a trainer changes P in place.
type ready struct {
	mu   sync.Mutex
	list []*prepared
}

const readyLimit = 4

func (r *ready) find(p *corastream.Projection) *prepared {
	r.mu.Lock()
	list := slices.Clone(r.list)
	r.mu.Unlock()
	for _, d := range list {
		if d.same(p) {
			return d
		}
	}
	return nil
}

func (r *ready) keep(d *prepared) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append([]*prepared{d}, r.list[:min(len(r.list), readyLimit-1)]...)
}

// same compares bit by bit.
func (d *prepared) same(p *corastream.Projection) bool {
	if d.rank != p.Rank || d.scale != p.Scale() || d.adapt != p.Adapt {
		return false
	}
	slots := 0
	for l := range d.layers {
		for _, q := range d.layers[l].all() {
			if q == nil {
				continue
			}
			for _, c := range q.slots {
				v, n := p.P[c.slot], c.hi-c.lo
				if len(v) != d.rank*n {
					return false
				}
				for r := range d.rank {
					if !bytes.Equal(raw(v[r*n:(r+1)*n]), raw(q.values[r*q.out+c.lo:r*q.out+c.hi])) {
						return false
					}
				}
				slots++
			}
		}
	}
	return slots == len(p.P)
}

func raw(v []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
}

// attach puts one P beside those that share its input.
func (d *prepared) attach(a arch, slot corastream.Slot, v []float32) error {
	if slot.Layer < 0 || slot.Layer >= a.layers {
		return fmt.Errorf("llm: projection adapts layer %d of a model of %d layers: %w", slot.Layer, a.layers, corastream.ErrMismatch)
	}
	l := &d.layers[slot.Layer]
	var in, out, lo, width int
	var at **projection
	switch slot.Target {
	case corastream.TargetQ:
		at, in, lo, out, width = &l.qkv, a.hidden, 0, a.qWidth(), a.qkvWidth()
	case corastream.TargetK:
		at, in, lo, out, width = &l.qkv, a.hidden, a.qWidth(), a.kvWidth(), a.qkvWidth()
	case corastream.TargetV:
		at, in, lo, out, width = &l.qkv, a.hidden, a.qWidth()+a.kvWidth(), a.kvWidth(), a.qkvWidth()
	case corastream.TargetO:
		at, in, lo, out, width = &l.o, a.qWidth(), 0, a.hidden, a.hidden
	case corastream.TargetGate:
		at, in, lo, out, width = &l.gateUp, a.hidden, 0, a.ffn, 2*a.ffn
	case corastream.TargetUp:
		at, in, lo, out, width = &l.gateUp, a.hidden, a.ffn, a.ffn, 2*a.ffn
	case "down":
		in = a.ffn
	default:
		return fmt.Errorf("llm: projection adapts %q in layer %d; known targets are q, k, v, o, gate, up: %w", slot.Target, slot.Layer,
			corastream.ErrMismatch)
	}
	if in != a.hidden {
		return fmt.Errorf("llm: target %q can not be adapted: its input is %d wide, W_A has %d rows (fix: leave it out of the targets): %w",
			slot.Target, in, a.hidden, corastream.ErrMismatch)
	}
	if len(v) != d.rank*out {
		return fmt.Errorf("llm: P of layer %d, target %q holds %d values, needs %d x %d: %w", slot.Layer, slot.Target, len(v), d.rank, out,
			corastream.ErrMismatch)
	}
	if *at == nil {
		*at = &projection{out: width, values: make([]float32, d.rank*width)}
	}
	for r := range d.rank {
		copy((*at).values[r*width+lo:], v[r*out:(r+1)*out])
	}
	(*at).slots = append((*at).slots, slotColumns{slot, lo, lo + out})
	d.lowest = min(d.lowest, slot.Layer)
	return nil
}

// frozen is how many tokens of a prompt no delta reaches.
func (d *delta) frozen(t tokens) int {
	switch {
	case d == nil:
		return len(t.ids)
	case d.adapt == corastream.AdaptAll:
		return 0
	case d.adapt == corastream.AdaptSuffix:
		return t.title
	}
	return len(t.ids) - 1
}

// order sorts the pairs so that those with the same matrices are neighbours.
func (d *delta) order(pairs []int) []int {
	if d == nil {
		return pairs
	}
	type key struct{ item, user *float32 }
	first := map[key]int{}
	for i, p := range pairs {
		k := key{unsafe.SliceData(d.w[p].Item), unsafe.SliceData(d.w[p].User)}
		if _, ok := first[k]; !ok {
			first[k] = i
		}
		item := key{item: k.item}
		if _, ok := first[item]; !ok {
			first[item] = i
		}
	}
	rank := func(p int) (int, int) {
		item := unsafe.SliceData(d.w[p].Item)
		return first[key{item: item}], first[key{item, unsafe.SliceData(d.w[p].User)}]
	}
	sorted := append([]int(nil), pairs...)
	sort.SliceStable(sorted, func(i, j int) bool {
		a1, a2 := rank(sorted[i])
		b1, b2 := rank(sorted[j])
		return a1 < b1 || a1 == b1 && a2 < b2
	})
	return sorted
}

// assign tells a row set which matrices its rows from priv on take: rows of pair order[i] are counts(i) long.
func (d *delta) assign(s *rowSet, order []int, count func(i int) int) {
	if d == nil {
		return
	}
	row := s.priv
	for i, p := range order {
		n := count(i)
		w := d.w[p]
		s.groups = extend(s.groups, row, n, w.User)
		if w.Item != nil {
			s.shared = extend(s.shared, row, n, w.Item)
		}
		for range n {
			s.scale = append(s.scale, w.ItemScale)
		}
		s.pairs = append(s.pairs, span{int32(row), int32(row + n)})
		row += n
	}
}

func extend(g []group, row, n int, a []float32) []group {
	if k := len(g); k > 0 && g[k-1].hi == row && unsafe.SliceData(g[k-1].a) == unsafe.SliceData(a) {
		g[k-1].hi += n
		return g
	}
	return append(g, group{row, row + n, a})
}

// within calls f for the parts of groups that lie in rows [lo, hi).
func within(groups []group, lo, hi int, f func(lo, hi int, a []float32)) {
	for i := sort.Search(len(groups), func(i int) bool { return groups[i].hi > lo }); i < len(groups) && groups[i].lo < hi; i++ {
		f(max(lo, groups[i].lo), min(hi, groups[i].hi), groups[i].a)
	}
}

// add computes T = W_A^T x for rows [lo, hi) of the row set and adds (alpha/r) P^T T to y. x and y begin at row lo; t [hi-lo][rank]
// keeps T for the backward pass.
func (d *delta) add(s *rowSet, p *projection, lo, hi int, x []float32, ldx int, y []float32, ldy int, t []float32, w *worker) {
	skip := max(0, s.priv-lo)
	if p == nil || lo+skip >= hi {
		return
	}
	r := d.rank
	within(s.groups, lo+skip, hi, func(from, to int, a []float32) {
		kernels.Gemm(t[(from-lo)*r:], r, x[(from-lo)*ldx:], ldx, a, r, to-from, r, w.hidden, false, false, false)
	})
	within(s.shared, lo+skip, hi, func(from, to int, a []float32) {
		u := w.rank(0, (to-from)*r)
		kernels.Gemm(u, r, x[(from-lo)*ldx:], ldx, a, r, to-from, r, w.hidden, false, false, false)
		for i := from; i < to; i++ {
			kernels.Axpy(s.scale[i-s.priv], u[(i-from)*r:(i-from+1)*r], t[(i-lo)*r:(i-lo+1)*r])
		}
	})
	p.apply.Mul(y[skip*ldy:], ldy, t[skip*r:], r, hi-lo-skip, true, &w.scratch)
}
