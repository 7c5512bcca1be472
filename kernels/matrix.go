package kernels

// Matrix is a frozen weight W of Out x In, packed once for Mul. It is safe for use by many goroutines at a time, each
// with its own Scratch.
type Matrix interface {
	Out() int   // columns of the result
	In() int    // columns of a
	Bytes() int // memory held
	// Mul computes C = A W^T, or C += A W^T when accumulate: a has m rows of In values, lda apart; c has m rows of Out
	// values, ldc apart. A row of C does not depend on m. NaN and infinity pass through. It panics when a slice is too short.
	// Linears that read the same input are best packed as one matrix (q, k, v; gate, up): A is then packed and rounded once.
	Mul(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch)
}

// matrixF32 keeps W in panels of 32 outputs: data[p][k][j] = W[32p+j][k], zero past the last output. All levels read it.
type matrixF32 struct {
	out, in int
	data    []float32
}

// PackF32 packs w, row-major [out][in].
func PackF32(w []float32, out, in int) Matrix {
	checkShape("PackF32", len(w), out, in)
	m := newMatrixF32(out, in)
	for o := 0; o < out; o += panel {
		packPanel(m.data[o*in:(o+panel)*in], w[o*in:min(o+panel, out)*in], in)
	}
	return m
}

// packPanel writes dst[k][j] = w[j][k] for the rows of w, up to 32.
func packPanel(dst, w []float32, in int) {
	if turnPanel(dst, w, in, len(w)/in) {
		return
	}
	for j := 0; j*in < len(w); j++ {
		for k, v := range w[j*in : (j+1)*in] {
			dst[k*panel+j] = v
		}
	}
}

// PackF32T packs the transpose of w, row-major [out][in], for the backward pass: Mul gives dX[m][in] = dY[m][out] W, so the
// result's Out() is in and its In() is out.
func PackF32T(w []float32, out, in int) Matrix {
	checkShape("PackF32T", len(w), out, in)
	m := newMatrixF32(in, out)
	for k := 0; k < out; k++ {
		for o := 0; o < in; o += panel {
			copy(m.data[o*out+k*panel:][:panel], w[k*in+o:k*in+min(o+panel, in)])
		}
	}
	return m
}

// packedMatrix is what every form of packed weights has, whatever the processor.
type packedMatrix interface {
	Out() int
	In() int
	mulGeneric(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch)
}

// multiply is Mul of every packed matrix: the check of the arguments, then the reference or the kernels of the level in use.
func multiply(w weights, c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	switch {
	case !checkMul("Mul", c, ldc, a, lda, m, w.Out(), w.In()):
	case current == generic:
		w.mulGeneric(c, ldc, a, lda, m, accumulate, s)
	default:
		product(w, c, ldc, a, lda, m, accumulate, s)
	}
}

func newMatrixF32(out, in int) *matrixF32 {
	return &matrixF32{out: out, in: in, data: make([]float32, panels(out)*panel*in)}
}

func (w *matrixF32) Out() int   { return w.out }
func (w *matrixF32) In() int    { return w.in }
func (w *matrixF32) Bytes() int { return 4 * len(w.data) }

func (w *matrixF32) Mul(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	multiply(w, c, ldc, a, lda, m, accumulate, s)
}

// mulGeneric is the reference: C[i][o] = sum over k of A[i][k] W[o][k], k in order.
func (w *matrixF32) mulGeneric(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, _ *Scratch) {
	for p := 0; p < panels(w.out); p++ {
		b := w.data[p*panel*w.in : (p+1)*panel*w.in]
		n := min(panel, w.out-p*panel)
		for i := 0; i < m; i++ {
			var acc [panel]float32
			to := c[i*ldc+p*panel:][:n]
			start(&acc, to, accumulate)
			rowPanel(&acc, a[i*lda:i*lda+w.in], b)
			copy(to, acc[:])
		}
	}
}
