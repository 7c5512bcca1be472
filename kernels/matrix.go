package kernels

import "fmt"

// Matrix is a frozen weight W of Out x In, packed once for Mul. It is safe for use by many goroutines at a time, each
// with its own Scratch.
type Matrix interface {
	Out() int   // columns of the result
	In() int    // columns of a
	Bytes() int // memory held
	// Mul computes C = A W^T, or C += A W^T when accumulate: a has m rows of In values, lda apart; c has m rows of Out
	// values, ldc apart. A row of C does not depend on m. NaN and infinity pass through. It panics when a slice is too short.
	Mul(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch)
}

// Scratch holds the buffers that Mul reuses. The zero value works; one per goroutine; it stops growing once it has seen the
// largest shapes.
type Scratch struct {
	f32 []float32
}

func (s *Scratch) floats(n int) []float32 {
	if cap(s.f32) < n {
		s.f32 = make([]float32, n)
	}
	return s.f32[:n]
}

// panel is the number of columns packed side by side: two vectors of 16.
const panel = 32

// matrixF32 keeps W in panels of 32 outputs: data[p][k][j] = W[32p+j][k], zero past the last output. All levels read it.
type matrixF32 struct {
	out, in int
	data    []float32
}

// PackF32 packs w, row-major [out][in].
func PackF32(w []float32, out, in int) Matrix {
	checkShape("PackF32", len(w), out, in)
	m := newMatrixF32(out, in)
	for o := 0; o < out; o++ {
		p := m.data[o/panel*panel*in+o%panel:]
		for k, v := range w[o*in : (o+1)*in] {
			p[k*panel] = v
		}
	}
	return m
}

// PackF32T packs the transpose of w, row-major [out][in], for the backward pass: Mul gives dX[m][in] = dY[m][out] W, so the
// result's Out() is in and its In() is out.
func PackF32T(w []float32, out, in int) Matrix {
	checkShape("PackF32T", len(w), out, in)
	m := newMatrixF32(in, out)
	for k := 0; k < out; k++ {
		for o, v := range w[k*in : (k+1)*in] {
			m.data[o/panel*panel*out+k*panel+o%panel] = v
		}
	}
	return m
}

func checkShape(function string, have, out, in int) {
	if out <= 0 || in <= 0 {
		panic(fmt.Sprintf("kernels.%s: shape %d x %d", function, out, in))
	}
	need(function, "w", have, out*in)
}

func newMatrixF32(out, in int) *matrixF32 {
	return &matrixF32{out: out, in: in, data: make([]float32, panels(out)*panel*in)}
}

func panels(out int) int { return (out + panel - 1) / panel }

func (m *matrixF32) Out() int   { return m.out }
func (m *matrixF32) In() int    { return m.in }
func (m *matrixF32) Bytes() int { return 4 * len(m.data) }

func (w *matrixF32) Mul(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	if !checkMul("Mul", c, ldc, a, lda, m, w.out, w.in) {
		return
	}
	w.mul(c, ldc, a, lda, m, accumulate, s)
}

// checkMul holds the slices of a product against its sizes; false means that there is nothing to do.
func checkMul(function string, c []float32, ldc int, a []float32, lda int, m, out, in int) bool {
	if m <= 0 {
		return false
	}
	if ldc < out || lda < in {
		panic(fmt.Sprintf("kernels.%s: row strides ldc %d and lda %d are less than the %d outputs and %d inputs", function, ldc, lda, out, in))
	}
	need(function, "c", len(c), span(m, out, ldc))
	need(function, "a", len(a), span(m, in, lda))
	return true
}
