//go:build !purego

package kernels

import "unsafe"

// With BFMMLA the tile takes four values of k at a time. Without, A is rounded and each panel made float32, which costs little beside
// a few rows.
func (w *matrixBF16) tileRows() int { return mostRows }

// steps is how many times four values of k there are.
func (w *matrixBF16) steps() int { return (w.in + 3) / 4 }

func (w *matrixBF16) packedLen() int {
	if current == i8mmbf16 {
		return 2 * w.steps()
	}
	return w.in
}

func (w *matrixBF16) pack(dst, a []float32, lda, rows int, s *Scratch) {
	if current == i8mmbf16 {
		words := 2 * w.steps()
		t := grow(&s.t, rows*words)
		for r := 0; r < rows; r++ {
			row := t[r*words : (r+1)*words]
			halves := unsafe.Slice((*uint16)(unsafe.Pointer(&row[0])), 2*words)
			BF16FromF32(halves, a[r*lda:r*lda+w.in])
			clear(halves[w.in:])
		}
		packPairs(dst, t, words, w.steps(), rows)
		return
	}
	t := grow(&s.t, rows*w.in)
	for r := 0; r < rows; r++ {
		roundBF16NEON(&t[r*w.in], &a[r*lda], w.in)
	}
	packRows(dst, t, w.in, w.in, rows)
}

func (w *matrixBF16) prepare(p int, s *Scratch) {
	n := w.pairs() * panel
	src := w.data[p*n:][:n]
	if current != i8mmbf16 {
		expandBF16NEON(&grow(&s.b, 2*n)[0], asFloats(src), n)
		return
	}
	b := grow(&s.b, 2*panel*w.steps())
	whole := w.pairs() / 2
	zipBF16MM(&b[0], asFloats(src), whole)
	if whole < w.steps() { // the last pair of k has no second one
		var last [2 * panel]uint32
		copy(last[:], src[2*whole*panel:])
		zipBF16MM(&b[2*panel*whole], asFloats(last[:]), 1)
	}
}

func (w *matrixBF16) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	if current != i8mmbf16 {
		tileF32(c, ldc, a, s.b, panel, w.in, rows, cols, accumulate)
		return
	}
	k, to := w.steps(), 4*uintptr(ldc)
	for j := 0; j < cols; {
		b := &s.b[2*j] // a column of a step has four values of two bytes
		switch left := cols - j; {
		case left >= 32 && rows <= 2:
			gemmBF16x32MM(&c[j], to, &a[0], b, k, rows, accumulate)
			j += 32
		case left >= 16 && rows <= 6:
			gemmBF16x16MM(&c[j], to, &a[0], b, k, rows, accumulate)
			j += 16
		case left >= 8:
			gemmBF16x8MM(&c[j], to, &a[0], b, k, rows, accumulate)
			j += 8
		default:
			var e edgeTile
			gemmBF16x8MM(e.begin(c[j:], ldc, rows, left, accumulate), 4*8, &a[0], b, k, rows, accumulate)
			e.end(c[j:], ldc, rows, left)
			j = cols
		}
	}
}

// asFloats passes 32-bit words to assembly, which takes them as they are.
func asFloats(x []uint32) *float32 { return (*float32)(unsafe.Pointer(&x[0])) }
