package llm

import (
	"math"
	"sync/atomic"

	"github.com/corastream/corastream/kernels"
)

// blockRows is how many rows a worker takes through a feed-forward at once: its intermediate values then stay in the
// cache. A multiple of the kernels' 14 rows.
const blockRows = 112

// activations are the values of one layer that others read: the residual stream, q|k|v after rotation, attention's output.
// With tape set, what a backward pass needs is kept too, and x, mid and the next layer's x are different slices.
type activations struct {
	x   []float32 // [rows][hidden], the layer's input
	qkv []float32 // [rows][qkvWidth]
	att []float32 // [rows][qWidth], the o-projection's input
	// tap, when set, gets the inputs of gate and up [rows][hidden]
	tap []float32
	// tape
	tape   bool
	raw    []float32 // [rows][turnedWidth], q and k before their norm; empty without one
	oRaw   []float32 // [rows][hidden], o's output before its norm; empty without one
	ffnRaw []float32 // [rows][hidden], the feed-forward's
	mid    []float32 // [rows][hidden], the residual after attention
	gateUp []float32 // [rows][2*ffn]
	tq     []float32 // [rows][rank] T of q|k|v, of o, of gate|up
	to, tg []float32
}

// worker holds what one goroutine of a pass writes.
type worker struct {
	scratch kernels.Scratch
	hidden  int
	scale   float32   // of attention
	norm    []float32 // [blockRows][hidden]
	gateUp  []float32 // [blockRows][2*ffn]
	act     []float32 // [blockRows][ffn]
	scores  []float32
	ranks   [3][]float32
	cache   []kernels.Stretch
	cut     []int
	kv      []float32 // a cached item's keys and values, widened
}

func (w *worker) rank(i, n int) []float32 { return grow(&w.ranks[i], n) }

// grow returns a slice of n values, making a larger one only when it must.
func grow[T float32 | int](s *[]T, n int) []T {
	if cap(*s) < n {
		*s = make([]T, n+n/4)
	}
	return (*s)[:n]
}

// pass is the working memory of one batch on its way through the layers. It grows to the largest batch and is kept.
type pass struct {
	m                 *Model
	workers           []worker
	act               activations // untaped
	x, qkv, att, last []float32
	tap               []float32
	next              atomic.Int64
	tape              tape
}

func newPass(m *Model) *pass {
	p := &pass{m: m, workers: make([]worker, m.opts.Threads)}
	for i := range p.workers {
		w := &p.workers[i]
		w.hidden, w.scale = m.arch.hidden, m.scale
		w.norm = make([]float32, blockRows*m.arch.hidden)
		w.gateUp = make([]float32, blockRows*2*m.arch.ffn)
		w.act = make([]float32, blockRows*m.arch.ffn)
	}
	return p
}

// reserve makes the untaped activations for rows.
func (p *pass) reserve(rows int) *activations {
	a := p.m.arch
	p.act = activations{x: grow(&p.x, rows*a.hidden), qkv: grow(&p.qkv, rows*a.qkvWidth()), att: grow(&p.att, rows*a.qWidth())}
	return &p.act
}

// rows calls f on blocks of at most blockRows rows, spread over the workers.
func (p *pass) rows(n int, f func(lo, hi int, w *worker)) {
	kernels.Parallel(p.m.opts.Threads, n, func(lo, hi, worker int) {
		for b := lo; b < hi; b += blockRows {
			f(b, min(hi, b+blockRows), &p.workers[worker])
		}
	})
}

// embed sets x to the tokens' rows of the embedding table.
func (p *pass) embed(tokens []int32, x []float32) error {
	h := p.m.arch.hidden
	for i, t := range tokens {
		if err := p.m.embedding.Row(x[i*h:(i+1)*h], int(t)); err != nil {
			return err
		}
	}
	if p.m.arch.embedRoot {
		kernels.Scale(float32(math.Sqrt(float64(h))), x[:len(tokens)*h])
	}
	return nil
}

// project computes q, k and v of every row of the row set: norm, linear, bias, delta, norm of the heads, rotation.
func (p *pass) project(l int, s *rowSet, d *delta, a *activations) {
	p.rows(s.rows, func(lo, hi int, w *worker) { p.m.projectRows(l, s, d, a, lo, hi, w) })
}

// projectRows does so for rows [lo, hi), at most blockRows.
func (m *Model) projectRows(l int, s *rowSet, d *delta, a *activations, lo, hi int, w *worker) {
	ly, h, q := &m.weights.layers[l], m.arch.hidden, m.arch.qkvWidth()
	n := hi - lo
	for i := range n {
		kernels.RMSNorm(w.norm[i*h:(i+1)*h], a.x[(lo+i)*h:(lo+i+1)*h], ly.attnNorm, m.arch.eps)
	}
	out := a.qkv[lo*q : hi*q]
	ly.qkv.Mul(out, q, w.norm, h, n, false, &w.scratch)
	addBias(out, ly.bias, n)
	if d != nil {
		d.add(s, d.layers[l].qkv, lo, hi, w.norm, h, out, q, d.kept(a.tq, lo, hi, w), w)
	}
	turned := m.arch.turnedWidth()
	for i := range n {
		if m.arch.headNorms {
			if a.tape {
				copy(a.raw[(lo+i)*turned:(lo+i+1)*turned], out[i*q:])
			}
			m.normQK(ly, out[i*q:(i+1)*q])
		}
		cos, sin := m.anglesOf(l, s.pos[lo+i])
		kernels.Rotate(out[i*q:i*q+turned], m.arch.heads+m.arch.kvHeads, m.arch.headDim, cos, sin, true)
	}
}

// kept is where T of rows [lo, hi) goes: the tape, or the worker's own.
func (d *delta) kept(tape []float32, lo, hi int, w *worker) []float32 {
	if tape != nil {
		return tape[lo*d.rank : hi*d.rank]
	}
	return w.rank(1, (hi-lo)*d.rank)
}

// finish takes the row set's rows from attention to the next layer: o, residual, norm, feed-forward, residual. next may be
// a.x when nothing is taped.
func (p *pass) finish(l int, s *rowSet, d *delta, a *activations, next []float32) {
	p.rows(s.rows, func(lo, hi int, w *worker) { p.m.finishRows(l, s, d, a, next, lo, hi, w) })
}

// finishAndProject takes rows from layer l's attention to q, k and v of the next layer: both ask for a row's own values alone, so
// that the workers meet once for both.
func (p *pass) finishAndProject(l int, s *rowSet, d *delta, a *activations) {
	p.rows(s.rows, func(lo, hi int, w *worker) {
		p.m.finishRows(l, s, d, a, a.x, lo, hi, w)
		p.m.projectRows(l+1, s, d, a, lo, hi, w)
	})
}

// finishRows does so for rows [lo, hi), at most blockRows.
func (m *Model) finishRows(l int, s *rowSet, d *delta, a *activations, next []float32, lo, hi int, w *worker) {
	ly := &m.weights.layers[l]
	h, o, f := m.arch.hidden, m.arch.qWidth(), m.arch.ffn
	n := hi - lo
	x := a.x[lo*h : hi*h]
	if a.tape {
		copy(a.mid[lo*h:hi*h], x)
		x = a.mid[lo*h : hi*h]
	}
	att := a.att[lo*o : hi*o]
	// Summed by itself first: products added one by one to a large residual would each lose its last bits.
	sum := w.norm[:n*h]
	ly.o.Mul(sum, h, att, o, n, false, &w.scratch)
	addBias(sum, ly.oBias, n)
	if d != nil {
		d.add(s, d.layers[l].o, lo, hi, att, o, sum, h, d.kept(a.to, lo, hi, w), w)
	}
	m.normAdded(sum, ly.postAttn, a.oRaw, lo, hi)
	kernels.Add(x, sum)
	for i := range n {
		kernels.RMSNorm(w.norm[i*h:(i+1)*h], x[i*h:(i+1)*h], ly.ffnNorm, m.arch.eps)
	}
	if a.tap != nil {
		copy(a.tap[lo*h:hi*h], w.norm)
	}
	gu := w.gateUp[:n*2*f]
	if a.tape {
		gu = a.gateUp[lo*2*f : hi*2*f]
	}
	ly.gateUp.Mul(gu, 2*f, w.norm, h, n, false, &w.scratch)
	addBias(gu, ly.gateUpBias, n)
	if d != nil {
		d.add(s, d.layers[l].gateUp, lo, hi, w.norm, h, gu, 2*f, d.kept(a.tg, lo, hi, w), w)
	}
	for i := range n {
		m.arch.gated(w.act[i*f:(i+1)*f], gu[i*2*f:i*2*f+f], gu[i*2*f+f:(i+1)*2*f])
	}
	out := next[lo*h : hi*h]
	if a.tape {
		copy(out, x)
	}
	ly.down.Mul(sum, h, w.act, f, n, false, &w.scratch)
	addBias(sum, ly.downBias, n)
	m.normAdded(sum, ly.postFFN, a.ffnRaw, lo, hi)
	kernels.Add(out, sum)
}
