package train

import (
	"fmt"
	"math"

	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/kernels/cuda"
)

// steps launches kernels on the arena's slices; after an error it launches nothing more.
type steps struct {
	d   *resident
	q   *cuda.Queue
	err error
}

var block = [3]int{128, 1, 1}

func tiles(n, of int) int { return (n + of - 1) / of }

func (s *steps) launch(kernel string, grid [3]int, shared int, args ...any) {
	if s.err == nil {
		s.err = s.q.Launch(kernel, grid, block, shared, args...)
	}
}

func (s *steps) param(name string) cuda.Pointer { return s.d.arena.Param(s.d.slot[name]) }
func (s *steps) grad(name string) cuda.Pointer  { return s.d.arena.Grad(s.d.slot[name]) }

// linear is a weight of the arena, name.weight and name.bias: in inputs, out outputs, in matrices [in][head].
type linear struct {
	name          string
	in, out, head int
}

func (s *steps) affine(rows int, x *cuda.Buffer, l linear, y *cuda.Buffer) {
	s.launch("learn_affine", [3]int{tiles(l.out, 128), tiles(rows, 16), 1}, 0, x, s.param(l.name+".weight"), s.param(l.name+".bias"), rows, l.in, l.out, l.head, y)
}

// learnt makes the gradients of a linear from its inputs x and its outputs' gradient dy.
func (s *steps) learnt(rows int, x *cuda.Buffer, l linear, dy *cuda.Buffer) {
	s.outer(rows, x, l.in, dy, l.out, l.head, l.name+".weight")
	s.outer(rows, nil, 1, dy, l.out, l.out, l.name+".bias")
}

func (s *steps) outer(rows int, x *cuda.Buffer, in int, dy *cuda.Buffer, out, head int, name string) {
	s.launch("learn_outer", [3]int{tiles(out, 128), tiles(in, 16), 1}, 0, x, in, dy, rows, out, head, s.grad(name))
}

// back makes dx, the gradient of a linear's inputs, or with before of what GELU made them from; more adds to what dx holds.
func (s *steps) back(rows int, dy *cuda.Buffer, l linear, before *cuda.Buffer, more bool, dx *cuda.Buffer) {
	add := 0
	if more {
		add = 1
	}
	s.launch("learn_back", [3]int{rows, tiles(l.in, 4), 1}, 0, dy, s.param(l.name+".weight"), before, l.in, l.out, l.head, add, dx)
}

// body is the part of a generator before its output layer, on a device.
type body interface {
	// lists its buffers with the values that each holds.
	buffers() map[**cuda.Buffer]int
	// forward makes made() of the input rows x; backward takes the gradient in dmade() on to all gradients of the body.
	forward(s *steps, x *cuda.Buffer)
	backward(s *steps, x *cuda.Buffer)
	made() *cuda.Buffer
	dmade() *cuda.Buffer
	width() int
	// last is the GELU's input that made is GELU of, nil where it is not.
	last() *cuda.Buffer
}

func newBody(spec *generator.Spec, in, rows int) body {
	if spec.Kind == generator.KindMLP {
		return &mlpBody{in: in, rows: rows, w: spec.Width}
	}
	w := spec.QFormer.Width // as generator.Spec has it: 0 is the memory's, rounded up to a multiple of heads
	if w == 0 {
		w = tiles(in, spec.QFormer.Heads) * spec.QFormer.Heads
	}
	return &qformerBody{spec: spec.QFormer, in: in, rows: rows, w: w, layers: make([]qformerTape, spec.QFormer.Layers)}
}

// mlpBody is one hidden layer.
type mlpBody struct {
	in, rows, w int
	a, h, da    *cuda.Buffer // before and after GELU, and the first's gradient
}

func (b *mlpBody) buffers() map[**cuda.Buffer]int {
	n := b.rows * b.w
	return map[**cuda.Buffer]int{&b.a: n, &b.h: n, &b.da: n}
}
func (b *mlpBody) made() *cuda.Buffer  { return b.h }
func (b *mlpBody) dmade() *cuda.Buffer { return b.da }
func (b *mlpBody) last() *cuda.Buffer  { return b.a }
func (b *mlpBody) width() int          { return b.w }

func (b *mlpBody) forward(s *steps, x *cuda.Buffer) {
	s.launch("learn_hidden", [3]int{b.rows, 1, 1}, 4*b.in, x, s.param("mlp.0.weight"), s.param("mlp.0.bias"), b.in, b.w, b.a, b.h)
}

func (b *mlpBody) backward(s *steps, x *cuda.Buffer) {
	s.learnt(b.rows, x, linear{"mlp.0", b.in, b.w, b.w}, b.da)
}

// qformerBody is the Q-Former: graph_qformer.go, in float32.
type qformerBody struct {
	spec        generator.QFormerSpec
	in, rows, w int
	layers      []qformerTape
	// one gradient each of: the stream and a norm's input [rows*queries][w], q, k, v, attention's output; the wide layer; the memory's way
	// [rows][w]; attention's weights
	d, dsum, dq, dk, dv, dm, dwide, dmixed, dvalue, dp *cuda.Buffer
	y, mixed, mean                                     *cuda.Buffer
}

// qformerTape is what a layer's forward pass leaves for the way back.
type qformerTape struct {
	h, q, k, v, p, m *cuda.Buffer // the layer's input; attention
	value            *cuda.Buffer
	a, g             *cuda.Buffer // the wide layer before and after GELU
	unit, inv, out   [3]*cuda.Buffer
}

func (b *qformerBody) buffers() map[**cuda.Buffer]int {
	nq := b.spec.Queries
	n, all := b.rows*nq*b.w, map[**cuda.Buffer]int{}
	weights := b.rows * b.spec.Heads * nq * nq
	for _, x := range []**cuda.Buffer{&b.d, &b.dsum, &b.dq, &b.dk, &b.dv, &b.dm, &b.y} {
		all[x] = n
	}
	for _, x := range []**cuda.Buffer{&b.dmixed, &b.dvalue, &b.mixed, &b.mean} {
		all[x] = b.rows * b.w
	}
	all[&b.dwide], all[&b.dp] = 4*n, weights
	for l := range b.layers {
		t := &b.layers[l]
		for _, x := range []**cuda.Buffer{&t.q, &t.k, &t.v, &t.m, &t.unit[0], &t.unit[1], &t.unit[2], &t.out[0], &t.out[1], &t.out[2]} {
			all[x] = n
		}
		if l == 0 {
			all[&t.h] = n // the others' is the output of the layer before
		}
		all[&t.p], all[&t.value], all[&t.a], all[&t.g] = weights, b.rows*b.w, 4*n, 4*n
		for k := range t.inv {
			all[&t.inv[k]] = b.rows * nq
		}
	}
	return all
}
func (b *qformerBody) made() *cuda.Buffer  { return b.mean }
func (b *qformerBody) dmade() *cuda.Buffer { return b.dmixed }
func (b *qformerBody) last() *cuda.Buffer  { return nil }
func (b *qformerBody) width() int          { return b.w }

// linears of layer l, by what they are.
type qformerLinears struct{ q, k, v, o, value, mix, up, down linear }

func (b *qformerBody) linears(l int) qformerLinears {
	at, w, head := fmt.Sprintf("qf.%d.", l), b.w, b.w/b.spec.Heads
	return qformerLinears{
		linear{at + "self.q", w, w, head},
		linear{at + "self.k", w, w, head},
		linear{at + "self.v", w, w, head},
		linear{at + "self.o", w, w, w},
		linear{at + "cross.v", b.in, w, w},
		linear{at + "cross.o", w, w, w},
		linear{at + "ffn.0", w, 4 * w, 4 * w},
		linear{at + "ffn.1", 4 * w, w, w},
	}
}

var normNames = [3]string{"self.norm", "cross.norm", "ffn.norm"}

func (b *qformerBody) norm(s *steps, l, k int, h, y *cuda.Buffer, group int) {
	t, name := &b.layers[l], fmt.Sprintf("qf.%d.%s", l, normNames[k])
	rows := b.rows * b.spec.Queries
	s.launch("learn_norm", [3]int{tiles(rows, 4), 1, 1}, 0, h, y, group, s.param(name+".weight"), s.param(name+".bias"), float32(generator.LayerNormEps), rows, b.w,
		t.unit[k], t.inv[k], t.out[k])
}

// normBack takes the gradient in b.d through a norm to b.dsum.
func (b *qformerBody) normBack(s *steps, l, k int) {
	t, name := &b.layers[l], fmt.Sprintf("qf.%d.%s", l, normNames[k])
	rows := b.rows * b.spec.Queries
	s.launch("learn_scale_back", [3]int{tiles(b.w, 128), 1, 1}, 0, b.d, t.unit[k], rows, b.w, s.grad(name+".weight"))
	s.outer(rows, nil, 1, b.d, b.w, b.w, name+".bias")
	s.launch("learn_norm_back", [3]int{tiles(rows, 4), 1, 1}, 0, b.d, t.unit[k], t.inv[k], s.param(name+".weight"), rows, b.w, b.dsum)
}

func (b *qformerBody) scale() float32 { return float32(1 / math.Sqrt(float64(b.w/b.spec.Heads))) }

func (b *qformerBody) forward(s *steps, x *cuda.Buffer) {
	nq := b.spec.Queries
	rows := b.rows * nq
	s.launch("learn_spread", [3]int{rows, 1, 1}, 0, s.param("qf.query"), 1, nq, b.w, float32(1), b.layers[0].h)
	for l := range b.layers {
		t, of := &b.layers[l], b.linears(l)
		if l > 0 {
			t.h = b.layers[l-1].out[2]
		}
		s.affine(rows, t.h, of.q, t.q)
		s.affine(rows, t.h, of.k, t.k)
		s.affine(rows, t.h, of.v, t.v)
		s.launch("learn_mix", [3]int{b.rows, 1, 1}, 0, t.q, t.k, t.v, nq, b.w, b.spec.Heads, b.scale(), t.p, t.m)
		s.affine(rows, t.m, of.o, b.y)
		b.norm(s, l, 0, t.h, b.y, 1)
		s.affine(b.rows, x, of.value, t.value)
		s.affine(b.rows, t.value, of.mix, b.mixed)
		b.norm(s, l, 1, t.out[0], b.mixed, nq)
		s.affine(rows, t.out[1], of.up, t.a)
		s.launch("learn_gelu", [3]int{tiles(rows*4*b.w, 128), 1, 1}, 0, t.a, rows*4*b.w, t.g)
		s.affine(rows, t.g, of.down, b.y)
		b.norm(s, l, 2, t.out[1], b.y, 1)
	}
	s.launch("learn_sum", [3]int{b.rows, 1, 1}, 0, b.layers[len(b.layers)-1].out[2], nq, nq, 1, b.w, 1/float32(nq), b.mean)
}

func (b *qformerBody) backward(s *steps, x *cuda.Buffer) {
	nq := b.spec.Queries
	rows := b.rows * nq
	s.launch("learn_spread", [3]int{rows, 1, 1}, 0, b.dmixed, nq, b.rows, b.w, 1/float32(nq), b.d)
	for l := len(b.layers) - 1; l >= 0; l-- {
		t, of := &b.layers[l], b.linears(l)
		b.normBack(s, l, 2)
		s.learnt(rows, t.g, of.down, b.dsum)
		s.back(rows, b.dsum, of.down, t.a, false, b.dwide)
		s.learnt(rows, t.out[1], of.up, b.dwide)
		s.back(rows, b.dwide, of.up, nil, true, b.dsum)
		b.d, b.dsum = b.dsum, b.d

		b.normBack(s, l, 1)
		s.launch("learn_sum", [3]int{b.rows, 1, 1}, 0, b.dsum, nq, nq, 1, b.w, float32(1), b.dmixed)
		s.learnt(b.rows, t.value, of.mix, b.dmixed)
		s.back(b.rows, b.dmixed, of.mix, nil, false, b.dvalue)
		s.learnt(b.rows, x, of.value, b.dvalue)
		b.d, b.dsum = b.dsum, b.d

		b.normBack(s, l, 0)
		s.learnt(rows, t.m, of.o, b.dsum)
		s.back(rows, b.dsum, of.o, nil, false, b.dm)
		s.launch("learn_mix_back", [3]int{b.rows, 1, 1}, 0, b.dm, t.q, t.k, t.v, t.p, nq, b.w, b.spec.Heads, b.scale(), b.dp, b.dq, b.dk, b.dv)
		for _, part := range []struct {
			l linear
			d *cuda.Buffer
		}{{of.q, b.dq}, {of.k, b.dk}, {of.v, b.dv}} {
			s.learnt(rows, t.h, part.l, part.d)
			s.back(rows, part.d, part.l, nil, true, b.dsum)
		}
		b.d, b.dsum = b.dsum, b.d
	}
	s.launch("learn_sum", [3]int{nq, 1, 1}, 0, b.d, b.rows, 1, nq, b.w, float32(1), s.grad("qf.query"))
}
