package generator

import (
	"fmt"
	"math"

	"github.com/corastream/corastream/kernels"
)

// qformerLayer is one block of the Q-Former (BERT style, norms after the residual): self-attention over the queries,
// cross-attention to the CF memory, feed-forward. The memory is one token, so that its softmax is 1 and cross-attention is
// the value and output maps alone: the query and key maps could not be learnt and are left out.
type qformerLayer struct {
	q, k, v, o                     []float32 // q, k, v [heads][width][d], o [heads][d][width]
	qb, kb, vb, ob                 []float32
	selfNorm, selfNormB            []float32
	crossV, crossVB, crossO        []float32
	crossOB, crossNorm, crossNormB []float32
	up, upB, down, downB           []float32
	ffnNorm, ffnNormB              []float32
}

func (m *Model) qformerLayer(l int) qformerLayer {
	get := func(name string) []float32 { return m.at[fmt.Sprintf("qf.%d.%s", l, name)] }
	return qformerLayer{
		q: get("self.q.weight"), k: get("self.k.weight"), v: get("self.v.weight"), o: get("self.o.weight"),
		qb: get("self.q.bias"), kb: get("self.k.bias"), vb: get("self.v.bias"), ob: get("self.o.bias"),
		selfNorm: get("self.norm.weight"), selfNormB: get("self.norm.bias"),
		crossV: get("cross.v.weight"), crossVB: get("cross.v.bias"), crossO: get("cross.o.weight"),
		crossOB: get("cross.o.bias"), crossNorm: get("cross.norm.weight"), crossNormB: get("cross.norm.bias"),
		up: get("ffn.0.weight"), upB: get("ffn.0.bias"), down: get("ffn.1.weight"), downB: get("ffn.1.bias"),
		ffnNorm: get("ffn.norm.weight"), ffnNormB: get("ffn.norm.bias"),
	}
}

// qformer runs memory x [rows][inputs] through the blocks and returns the mean over the queries [rows][width].
func (m *Model) qformer(x []float32, rows int) []float32 {
	nq, w := m.Spec.QFormer.Queries, m.Spec.queryWidth()
	n := rows * nq
	h := make([]float32, n*w)
	for r := range rows {
		copy(h[r*nq*w:], m.at["qf.query"])
	}
	y := make([]float32, n*w)
	heads := newHeads(n, nq, w, m.Spec.QFormer.Heads)
	value, mixed := make([]float32, rows*w), make([]float32, rows*w)
	wide := make([]float32, n*4*w)
	for i := range m.qf {
		l := &m.qf[i]
		heads.attend(y, h, l)
		addNorm(h, y, l.selfNorm, l.selfNormB, w)
		affine(value, x, l.crossV, l.crossVB, rows, m.Spec.inputs(), w)
		affine(mixed, value, l.crossO, l.crossOB, rows, w, w)
		for r := range n {
			copy(y[r*w:(r+1)*w], mixed[r/nq*w:])
		}
		addNorm(h, y, l.crossNorm, l.crossNormB, w)
		affine(wide, h, l.up, l.upB, n, w, 4*w)
		kernels.GELU(wide, wide)
		affine(y, wide, l.down, l.downB, n, 4*w, w)
		addNorm(h, y, l.ffnNorm, l.ffnNormB, w)
	}
	mean := make([]float32, rows*w)
	for r := range n {
		kernels.Axpy(1/float32(nq), h[r*w:(r+1)*w], mean[r/nq*w:(r/nq+1)*w])
	}
	return mean
}

// heads holds the buffers of self-attention: n rows in groups of nq queries, width w.
type heads struct {
	n, nq, w, count, d int
	q, k, v, mix       []float32 // [n][d]
	s                  []float32 // [nq][nq]
}

func newHeads(n, nq, w, count int) *heads {
	d := w / count
	b := make([]float32, 4*n*d+nq*nq)
	return &heads{
		n: n, nq: nq, w: w, count: count, d: d,
		q: b[:n*d], k: b[n*d : 2*n*d], v: b[2*n*d : 3*n*d], mix: b[3*n*d : 4*n*d], s: b[4*n*d:],
	}
}

// attend computes y [n][w] = sum over heads of softmax(q k^T / sqrt(d)) v o + bias, within each group of queries.
func (a *heads) attend(y, h []float32, l *qformerLayer) {
	for r := range a.n {
		copy(y[r*a.w:(r+1)*a.w], l.ob)
	}
	wd, d, nq := a.w*a.d, a.d, a.nq
	for c := range a.count {
		affine(a.q, h, l.q[c*wd:(c+1)*wd], l.qb[c*d:(c+1)*d], a.n, a.w, d)
		affine(a.k, h, l.k[c*wd:(c+1)*wd], l.kb[c*d:(c+1)*d], a.n, a.w, d)
		affine(a.v, h, l.v[c*wd:(c+1)*wd], l.vb[c*d:(c+1)*d], a.n, a.w, d)
		kernels.Scale(float32(1/math.Sqrt(float64(d))), a.q)
		for g := 0; g < a.n*d; g += nq * d {
			kernels.Gemm(a.s, nq, a.q[g:g+nq*d], d, a.k[g:g+nq*d], d, nq, nq, d, false, true, false)
			for i := 0; i < nq*nq; i += nq {
				kernels.Softmax(a.s[i : i+nq])
			}
			kernels.Gemm(a.mix[g:g+nq*d], d, a.s, nq, a.v[g:g+nq*d], d, nq, d, nq, false, false, false)
		}
		kernels.Gemm(y, a.w, a.mix, d, l.o[c*wd:(c+1)*wd], a.w, a.n, a.w, d, false, false, true)
	}
}

// addNorm sets h = LayerNorm(h + y) * scale + bias, row by row of width w.
func addNorm(h, y, scale, bias []float32, w int) {
	kernels.Add(h, y)
	for r := 0; r < len(h); r += w {
		row := h[r : r+w]
		var mean, variance float64
		for _, v := range row {
			mean += float64(v)
		}
		mean /= float64(w)
		for _, v := range row {
			variance += (float64(v) - mean) * (float64(v) - mean)
		}
		inv := 1 / math.Sqrt(variance/float64(w)+LayerNormEps)
		for i, v := range row {
			row[i] = float32((float64(v)-mean)*inv)*scale[i] + bias[i]
		}
	}
}
