package kernels

import (
	"math"
	"unsafe"
)

// matrixBF16 keeps W rounded to bfloat16, in panels of 32 outputs with k in pairs: data[p][k/2][j] has W[32p+j][k] in its lower
// half and W[32p+j][k+1] in its upper half, zero past the last output and input.
type matrixBF16 struct {
	out, in int
	data    []uint32
}

// PackBF16 packs w, row-major [out][in], rounded to bfloat16 (ties to even). Mul rounds A so too, on every level, and sums
// in float32.
func PackBF16(w []float32, out, in int) Matrix {
	checkShape("PackBF16", len(w), out, in)
	m := newMatrixBF16(out, in)
	pairs := m.pairs()
	// Rows of pairs, seen as 32-bit words, are turned as float32 rows are.
	halves, words := make([]uint16, 2*pairs), make([]float32, panel*pairs)
	data := unsafe.Slice((*float32)(unsafe.Pointer(&m.data[0])), len(m.data))
	for o := 0; o < out; o += panel {
		n := min(panel, out-o)
		for j := 0; j < n; j++ {
			BF16FromF32(halves, w[(o+j)*in:(o+j+1)*in])
			for k := 0; k < pairs; k++ {
				words[j*pairs+k] = math.Float32frombits(uint32(halves[2*k]) | uint32(halves[2*k+1])<<16)
			}
		}
		packPanel(data[o*pairs:(o+panel)*pairs], words[:n*pairs], pairs)
	}
	return m
}

// PackBF16T packs the transpose of w, row-major [out][in], for the backward pass, as PackF32T does.
func PackBF16T(w []float32, out, in int) Matrix {
	checkShape("PackBF16T", len(w), out, in)
	m := newMatrixBF16(in, out)
	pairs, none := m.pairs(), make([]float32, in)
	for k := 0; k < pairs; k++ {
		low, high := w[2*k*in:(2*k+1)*in], none
		if 2*k+1 < out {
			high = w[(2*k+1)*in : (2*k+2)*in]
		}
		for o := 0; o < in; o += panel {
			n := min(panel, in-o)
			to := m.data[(o*pairs + k*panel):][:n]
			for j := pairBF16(to, low[o:], high[o:]); j < n; j++ {
				to[j] = uint32(ToBF16(low[o+j])) | uint32(ToBF16(high[o+j]))<<16
			}
		}
	}
	return m
}

func newMatrixBF16(out, in int) *matrixBF16 {
	m := &matrixBF16{out: out, in: in}
	m.data = make([]uint32, panels(out)*panel*m.pairs())
	return m
}

// pairs is how many steps of two k there are.
func (w *matrixBF16) pairs() int { return (w.in + 1) / 2 }

func (w *matrixBF16) Out() int   { return w.out }
func (w *matrixBF16) In() int    { return w.in }
func (w *matrixBF16) Bytes() int { return 4 * len(w.data) }

func (w *matrixBF16) Mul(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	multiply(w, c, ldc, a, lda, m, accumulate, s)
}

// mulGeneric is the reference: both factors rounded to bfloat16, products and sums in float32, k in order.
func (w *matrixBF16) mulGeneric(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	rounded, b := grow(&s.t, m*w.in), grow(&s.b, 2*w.pairs()*panel)
	for i := 0; i < m; i++ {
		for k, v := range a[i*lda : i*lda+w.in] {
			rounded[i*w.in+k] = FromBF16(ToBF16(v))
		}
	}
	for p := 0; p < panels(w.out); p++ {
		expandBF16Generic(b, w.data[p*panel*w.pairs():(p+1)*panel*w.pairs()])
		n := min(panel, w.out-p*panel)
		for i := 0; i < m; i++ {
			var acc [panel]float32
			to := c[i*ldc+p*panel:][:n]
			start(&acc, to, accumulate)
			rowPanel(&acc, rounded[i*w.in:(i+1)*w.in], b)
			copy(to, acc[:])
		}
	}
}

// expandBF16Generic makes a panel of pairs one of float32: [k/2][32] becomes [k][32].
func expandBF16Generic(dst []float32, src []uint32) {
	for i, v := range src {
		k, j := i/panel*2, i%panel
		dst[k*panel+j] = FromBF16(uint16(v))
		dst[(k+1)*panel+j] = FromBF16(uint16(v >> 16))
	}
}
