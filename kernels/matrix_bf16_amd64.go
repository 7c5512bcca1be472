//go:build amd64 && !purego

package kernels

import (
	"math"
	"unsafe"
)

// With AVX512_BF16 the tile multiplies pairs; without, A is rounded and each panel made float32, which costs little beside a
// few rows.
func (w *matrixBF16) tileRows() int { return rowsF32() }

func (w *matrixBF16) packedLen() int {
	if current == avx512bf16 {
		return w.pairs()
	}
	return w.in
}

func (w *matrixBF16) pack(dst, a []float32, lda, rows int, s *Scratch) {
	if current == avx512bf16 {
		packPairs(dst, a, lda, w.in, rows)
		return
	}
	t := grow(&s.t, rows*w.in)
	for r := 0; r < rows; r++ {
		roundBF16(t[r*w.in:(r+1)*w.in], a[r*lda:r*lda+w.in])
	}
	packRows(dst, t, w.in, w.in, rows)
}

func (w *matrixBF16) prepare(p int, s *Scratch) {
	if current == avx512bf16 {
		return
	}
	b, n := grow(&s.b, 2*w.pairs()*panel), w.pairs()*panel
	src := asFloats(w.data[p*n:][:n])
	if current == avx512 {
		expandBF16AVX512(&b[0], src, n)
	} else {
		expandBF16AVX2(&b[0], src, n)
	}
}

func (w *matrixBF16) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	if current != avx512bf16 {
		tileF32(c, ldc, a, s.b, panel, w.in, rows, cols, accumulate)
		return
	}
	b := asFloats(w.data[p*panel*w.pairs():])
	gemmBF16AVX512BF16(&c[0], 4*uintptr(ldc), &a[0], b, 4*panel, w.pairs(), rows, uint32(1<<cols-1), accumulate)
}

// packPairs writes rows of A, lda apart, as dst[k/2][rows] pairs of bfloat16; the last pair of an odd k has a zero.
func packPairs(dst, a []float32, lda, k, rows int) {
	pairs := (k + 1) / 2
	_, _ = dst[pairs*rows+lanes-1], a[(rows-1)*lda+k-1]
	whole := k / 2 &^ 15
	packBF16AVX512BF16(&dst[0], 4*uintptr(rows), &a[0], 4*uintptr(lda), whole, rows)
	for q := whole; q < pairs; q++ {
		for r := 0; r < rows; r++ {
			v := uint32(ToBF16(a[r*lda+2*q]))
			if 2*q+1 < k {
				v |= uint32(ToBF16(a[r*lda+2*q+1])) << 16
			}
			dst[q*rows+r] = math.Float32frombits(v)
		}
	}
}

// roundBF16 sets dst to x rounded to bfloat16.
func roundBF16(dst, x []float32) {
	if current >= avx512 {
		roundBF16AVX512(&dst[0], &x[0], len(x))
	} else {
		roundBF16AVX2(&dst[0], &x[0], len(x))
	}
}

// asFloats passes 32-bit words to assembly, which takes them as they are.
func asFloats(x []uint32) *float32 { return (*float32)(unsafe.Pointer(&x[0])) }
