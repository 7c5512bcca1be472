package kernels

import (
	"math"
	"unsafe"
)

// group is how many values of k share an activation's scale, and in Q4_1 a weight's.
const group = 32

// Activations are brought to 8 bits in groups: scale = max|x|/127, q = round(x * (127/max|x|)), ties to even. One scale for a
// whole row would ruin the ranking: outlier channels of an LLM take it all (measured: the spread of the logit's error is .22
// with a scale per row, .07 with one per 32).

// tinyMagnitude is the least max|x| that is told from zero, so that 127/max|x| stays finite.
const tinyMagnitude float32 = 1e-30

// requantiseGeneric sets dst to scale*q of x, whose length is at most a group. A NaN or an infinity makes the group NaN.
func requantiseGeneric(dst, x []float32) {
	top := math.Float32bits(tinyMagnitude)
	for _, v := range x {
		top = max(top, math.Float32bits(v)&^(1<<31))
	}
	m := math.Float32frombits(top)
	scale, inverse := m/127, 127/m
	for i, v := range x {
		dst[i] = scale * float32(math.RoundToEven(float64(v*inverse)))
	}
}

// matrixInt8 keeps W in 8 bits with a scale per output, unsigned (128 is zero), because the CPU multiplies unsigned by signed
// bytes: data[p][k/4][j] has W[32p+j][k..k+3], lowest first; inputs past the last are zero weights.
type matrixInt8 struct {
	out, in int
	data    []uint32
	scales  []float32 // of each output, zero past the last
	all     []uint32  // the memory of both
}

// PackInt8 packs w, row-major [out][in], in 8 bits: W[o][k] is about scale[o]*q with q in -127..127. Mul brings A to 8 bits with
// a scale for each 32 values of a row. Not a finite weight: panic.
func PackInt8(w []float32, out, in int) Matrix {
	checkShape("PackInt8", len(w), out, in)
	columns := panels(out) * panel
	m := newMatrixInt8(make([]uint32, columns*((in+group-1)/group*group/4)+columns), out, in)
	for i := range m.data {
		m.data[i] = 0x80808080
	}
	for o := 0; o < out; o++ {
		row := w[o*in : (o+1)*in]
		top := tinyMagnitude
		for _, v := range row {
			if v-v != 0 {
				panic("kernels.PackInt8: a weight is not finite")
			}
			if v = math.Float32frombits(math.Float32bits(v) &^ (1 << 31)); v > top {
				top = v
			}
		}
		m.scales[o] = top / 127
		to := m.data[o/panel*panel*m.groups()*group/4+o%panel:]
		inverse := 127 / top
		for k := 0; len(row) > 0; k++ {
			if len(row) >= 4 {
				to[k*panel] = byteOf(row[0], inverse) | byteOf(row[1], inverse)<<8 | byteOf(row[2], inverse)<<16 | byteOf(row[3], inverse)<<24
				row = row[4:]
				continue
			}
			word := uint32(0x80808080)
			for b, v := range row {
				word += (byteOf(v, inverse) - 0x80) << (8 * b)
			}
			to[k*panel], row = word, nil
		}
	}
	return m
}

// byteOf rounds v*inverse, ties to even, to the byte q+128: the last bit of a float32 as large as the constant is worth 1.
func byteOf(v, inverse float32) uint32 {
	return math.Float32bits(float32(v*inverse)+(3<<22+128)) & 0xff
}

// newMatrixInt8 finds weights and scales in one piece of memory.
func newMatrixInt8(all []uint32, out, in int) *matrixInt8 {
	n := len(all) - panels(out)*panel
	return &matrixInt8{out: out, in: in, data: all[:n], scales: unsafe.Slice((*float32)(unsafe.Pointer(&all[n])), len(all)-n), all: all}
}

func (w *matrixInt8) groups() int { return (w.in + group - 1) / group }

func (w *matrixInt8) Out() int   { return w.out }
func (w *matrixInt8) In() int    { return w.in }
func (w *matrixInt8) Bytes() int { return 4 * len(w.all) }

func (w *matrixInt8) Mul(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	multiply(w, c, ldc, a, lda, m, accumulate, s)
}

func (w *matrixInt8) mulGeneric(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	mulExpanded(c, ldc, a, lda, m, w.out, w.in, accumulate, s, func(b []float32, p int) {
		n := w.groups() * group / 4 * panel
		expandInt8Generic(b, w.data[p*n:(p+1)*n], w.scales[p*panel:])
	})
}

// expandInt8Generic makes a panel float32: [k/4][32] becomes [k][32].
func expandInt8Generic(dst []float32, src []uint32, scales []float32) {
	for i, v := range src {
		k, j := i/panel*4, i%panel
		for b := 0; b < 4; b++ {
			dst[(k+b)*panel+j] = (float32(v>>(8*b)&255) - 128) * scales[j]
		}
	}
}

// mulExpanded is the reference of the quantised products: activations through 8 bits and back, each panel made float32 by
// expand.
func mulExpanded(c []float32, ldc int, a []float32, lda, m, out, in int, accumulate bool, s *Scratch, expand func(b []float32, p int)) {
	rounded, b := grow(&s.t, m*in), grow(&s.b, (in+group-1)/group*group*panel)
	for i := 0; i < m; i++ {
		for k := 0; k < in; k += group {
			end := min(k+group, in)
			requantiseGeneric(rounded[i*in+k:i*in+end], a[i*lda+k:i*lda+end])
		}
	}
	for p := 0; p < panels(out); p++ {
		expand(b, p)
		for i := 0; i < m; i++ {
			var acc [panel]float32
			to := c[i*ldc+p*panel:][:min(panel, out-p*panel)]
			start(&acc, to, accumulate)
			rowPanel(&acc, rounded[i*in:(i+1)*in], b)
			copy(to, acc[:])
		}
	}
}
