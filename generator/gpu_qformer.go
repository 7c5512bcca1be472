package generator

import (
	"errors"
	"math"

	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/kernels/cuda"
)

// deviceQFormer is the Q-Former on a device. Weights are [out][padded in] bfloat16.
type deviceQFormer struct {
	query  *cuda.Buffer
	cross  deviceLinear // all layers': [layers*width][in]
	layers []deviceQLayer
	out    deviceLinear // out.weight with its bias
	lin    deviceLinear // lin.weight; nothing without a linear path
	// one batch
	x, wide, h, copy, qkv, mix, mixed, body *cuda.Buffer
	linRows, raw                            *cuda.Buffer
}

type deviceQLayer struct {
	qkv, o, up, down     deviceLinear
	selfNorm, cross, ffn [2]*cuda.Buffer // scale, bias
}

// deviceLinear is y = W x + b.
type deviceLinear struct {
	w, b    *cuda.Buffer
	out, ld int
}

// qformerFits says whether the kernels have a form for the spec: self-attention keeps a row's queries in shared memory, and
// products write pairs of columns.
func qformerFits(s Spec) bool {
	w, nq := s.queryWidth(), s.QFormer.Queries
	return s.Kind == KindQFormer && w%2 == 0 && 4*(nq*3*w+s.QFormer.Heads*nq*nq) <= 48<<10
}

// loader uploads tensors and remembers them, so that a failure leaves nothing behind.
type loader struct {
	q    *cuda.Queue
	list []*cuda.Buffer
	err  error
}

func (l *loader) floats(v []float32) *cuda.Buffer { return loaded32(l, v) }

func loaded32[T cuda.Value](l *loader, v []T) *cuda.Buffer {
	if l.err != nil {
		return nil
	}
	var b *cuda.Buffer
	if b, l.err = cuda.Put(l.q, v); b != nil {
		l.list = append(l.list, b)
	}
	return b
}

// linear takes w [in][out], as the checkpoint has it.
func (l *loader) linear(w, b []float32, in, out int) deviceLinear {
	turned := make([]float32, len(w))
	for i := range in {
		for j := range out {
			turned[j*in+i] = w[i*out+j]
		}
	}
	d := deviceLinear{w: loaded32(l, cuda.BF16Rows(turned, out, in)), out: out, ld: cuda.Padded(in)}
	if b != nil {
		d.b = l.floats(b)
	}
	return d
}

// loadQFormer puts the tensors on the device.
func loadQFormer(q *cuda.Queue, m *Model) (*deviceQFormer, []*cuda.Buffer, error) {
	s := &m.Spec
	in, w, heads, size := s.inputs(), s.queryWidth(), s.QFormer.Heads, s.Size()
	l := &loader{q: q}
	d := &deviceQFormer{query: l.floats(m.at["qf.query"])}
	crossW, crossB := make([]float32, len(m.qf)*w*in), make([]float32, len(m.qf)*w) // [in][layers*w]
	for i := range m.qf {
		f := &m.qf[i]
		var x deviceQLayer
		// q, k, v [heads][w][d] side by side: [w][3w]
		qkv, bias, dim := make([]float32, 3*w*w), make([]float32, 3*w), w/heads
		for k, part := range [][2][]float32{{f.q, f.qb}, {f.k, f.kb}, {f.v, f.vb}} {
			copy(bias[k*w:], part[1])
			for c := range heads {
				for r := range w {
					copy(qkv[r*3*w+k*w+c*dim:][:dim], part[0][(c*w+r)*dim:])
				}
			}
		}
		x.qkv, x.o = l.linear(qkv, bias, w, 3*w), l.linear(f.o, f.ob, w, w)
		x.up, x.down = l.linear(f.up, f.upB, w, 4*w), l.linear(f.down, f.downB, 4*w, w)
		for _, n := range []struct {
			at   *[2]*cuda.Buffer
			v, b []float32
		}{{&x.selfNorm, f.selfNorm, f.selfNormB}, {&x.cross, f.crossNorm, f.crossNormB}, {&x.ffn, f.ffnNorm, f.ffnNormB}} {
			n.at[0], n.at[1] = l.floats(n.v), l.floats(n.b)
		}
		d.layers = append(d.layers, x)
		// Value and output maps of cross-attention with one token are one map.
		both, shift := make([]float32, in*w), append([]float32(nil), f.crossOB...)
		kernels.Gemm(both, w, f.crossV, w, f.crossO, w, in, w, w, false, false, false)
		kernels.Gemm(shift, w, f.crossVB, w, f.crossO, w, 1, w, w, false, false, true)
		for r := range in {
			copy(crossW[r*len(m.qf)*w+i*w:][:w], both[r*w:])
		}
		copy(crossB[i*w:], shift)
	}
	d.cross = l.linear(crossW, crossB, in, len(m.qf)*w)
	d.out = l.linear(m.out.weight, m.out.bias, w, size)
	if s.Linear {
		d.lin = l.linear(m.at["lin.weight"], nil, s.linearInputs(), size)
	}
	if l.err != nil {
		for _, b := range l.list {
			l.err = errors.Join(l.err, q.Free(b))
		}
		return nil, nil, l.err
	}
	return d, l.list, nil
}

// buffers of a batch, for whoever frees them.
func (d *deviceQFormer) buffers() []**cuda.Buffer {
	return []**cuda.Buffer{&d.x, &d.wide, &d.h, &d.copy, &d.qkv, &d.mix, &d.mixed, &d.body, &d.linRows, &d.raw}
}

// upload takes a batch's inputs; launch then makes the rows.
func (d *deviceQFormer) upload(q *cuda.Queue, m *Model, x, lin []float32, rows int, bf16 bool) error {
	s := &m.Spec
	raw := 0
	if bf16 {
		raw = 4 * rows * s.Size()
	}
	w, n, in := s.queryWidth(), rows*s.QFormer.Queries, s.inputs()
	ld := cuda.Padded(w)
	for _, b := range []struct {
		at    **cuda.Buffer
		bytes int
		clear bool // padding that no kernel writes
	}{
		{&d.x, 2 * rows * cuda.Padded(in), false},
		{&d.h, 4 * n * w, false},
		{&d.copy, 2 * n * ld, false},
		{&d.qkv, 2 * n * cuda.Padded(3*w), true},
		{&d.mix, 2 * n * ld, false},
		{&d.wide, 2 * n * cuda.Padded(4*w), true},
		{&d.mixed, 4 * rows * d.cross.out, false},
		{&d.body, 2 * rows * ld, false},
		{&d.linRows, 2 * rows * max(1, d.lin.ld), false},
		{&d.raw, raw, false},
	} {
		grow := q.Grow
		if b.clear {
			grow = q.GrowCleared
		}
		if err := grow(b.at, int64(b.bytes)); err != nil {
			return err
		}
	}
	if err := cuda.Upload(q, d.x, 0, cuda.BF16Rows(x, rows, in)); err != nil || d.lin.w == nil {
		return err
	}
	return cuda.Upload(q, d.linRows, 0, cuda.BF16Rows(lin, rows, s.linearInputs()))
}

// launch makes dst rows `where`, in bfloat16 by way of raw.
func (d *deviceQFormer) launch(q *cuda.Queue, m *Model, rows int, dst, where cuda.Pointer, bf16 bool) error {
	s := &m.Spec
	w, nq, size := s.queryWidth(), s.QFormer.Queries, s.Size()
	n, ld := rows*nq, cuda.Padded(w)
	block := [3]int{128, 1, 1}
	product := func(end string, m int, a *cuda.Buffer, l deviceLinear, out cuda.Pointer, ldo int) error {
		return q.Gemm(cuda.Gemm{End: end, M: m, N: l.out, K: l.ld, A: a.At(0), LDA: l.ld, W: l.w.At(0), LDW: l.ld, Out: out, LDO: ldo, Bias: l.b.At(0)})
	}
	norm := func(p [2]*cuda.Buffer, more cuda.Pointer) error {
		return q.Launch("qf_norm", [3]int{(n + 3) / 4, 1, 1}, block, 0, d.h, more, d.cross.out, nq, p[0], p[1], float32(LayerNormEps), n, w, d.copy, ld)
	}
	err := q.Launch("qf_start", [3]int{n, 1, 1}, block, 0, d.query, nq, w, d.h, d.copy, ld)
	if err == nil {
		err = product("floats", rows, d.x, d.cross, d.mixed.At(0), d.cross.out)
	}
	scale := float32(1 / math.Sqrt(float64(w/s.QFormer.Heads)))
	for i := range d.layers {
		l := &d.layers[i]
		for _, step := range []func() error{
			func() error { return product("bf16", n, d.copy, l.qkv, d.qkv.At(0), cuda.Padded(3*w)) },
			func() error {
				return q.Launch("qf_attend", [3]int{rows, 1, 1}, block, 4*(nq*3*w+s.QFormer.Heads*nq*nq), d.qkv, cuda.Padded(3*w), nq, w, s.QFormer.Heads, scale, d.mix, ld)
			},
			func() error { return product("add", n, d.mix, l.o, d.h.At(0), w) },
			func() error { return norm(l.selfNorm, 0) },
			func() error { return norm(l.cross, d.mixed.At(int64(4*i*w))) },
			func() error { return product("gelu", n, d.copy, l.up, d.wide.At(0), cuda.Padded(4*w)) },
			func() error { return product("add", n, d.wide, l.down, d.h.At(0), w) },
			func() error { return norm(l.ffn, 0) },
		} {
			if err == nil {
				err = step()
			}
		}
	}
	if err != nil {
		return err
	}
	rounded, at := dst, where // at: rows of dst, their own where that is 0
	if bf16 {
		dst, at = d.raw.At(0), 0
	}
	if err := q.Launch("qf_mean", [3]int{rows, 1, 1}, block, 0, d.h, nq, w, d.body, ld); err != nil {
		return err
	}
	if err := q.Gemm(cuda.Gemm{End: "floats", M: rows, N: size, K: ld, A: d.body.At(0), LDA: ld, W: d.out.w.At(0), LDW: ld, Out: dst, LDO: size, Bias: d.out.b.At(0), Where: at}); err != nil {
		return err
	}
	gain := float32(1)
	if s.Linear {
		gain = m.at["gain"][0]
	}
	if err := q.Launch("unit_rows", [3]int{rows, 1, 1}, block, 16, dst, at, size, gain, float32(NormEps)); err != nil {
		return err
	}
	if d.lin.w != nil {
		if err := q.Gemm(cuda.Gemm{End: "add", M: rows, N: size, K: d.lin.ld, A: d.linRows.At(0), LDA: d.lin.ld, W: d.lin.w.At(0), LDW: d.lin.ld, Out: dst, LDO: size, Where: at}); err != nil {
			return err
		}
	}
	if !bf16 {
		return nil
	}
	return q.Launch("round_rows", [3]int{rows, 1, 1}, block, 0, dst, where, size, rounded)
}
