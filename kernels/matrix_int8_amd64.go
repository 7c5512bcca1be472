//go:build amd64 && !purego

package kernels

// rowsInt8 is the height of an 8-bit tile: its sums take twice the registers.
const rowsInt8 = 7

// The quantised products share all but the tile. With VNNI, a row of packed A takes k/4 words of bytes and two words a group;
// AVX2 goes by way of float32 panels.

func rowsQuantised() int {
	if current == avx2 {
		return rows256
	}
	return rowsInt8
}

// packedQuantised is the words of a packed row of `groups` groups.
func packedQuantised(groups int) int {
	if current == avx2 {
		return groups * group
	}
	return groups * (group/4 + 2)
}

// packQuantised turns rows of A, in of them used, into [k/4][rows] bytes by fours and [group][2][rows] words beside them (AVX-512),
// or into [k][rows] float32 (AVX2); inputs past the last are zero.
func packQuantised(dst, a []float32, lda, in, rows int, sums bool, s *Scratch) {
	groups := (in + group - 1) / group
	k := groups * group
	words, aux := k/4, 2*groups
	if current == avx2 {
		words, aux = k, 0
	}
	t := grow(&s.t, rows*(words+aux)+k)
	pad := t[rows*(words+aux):]
	for r := 0; r < rows; r++ {
		x := a[r*lda : r*lda+in]
		if in < k {
			clear(pad[copy(pad, x):])
			x = pad
		}
		if current == avx2 {
			requantiseAVX2(&t[r*words], &x[0], k)
		} else {
			quantiseAVX512(&t[r*words], &t[rows*words+r*aux], &x[0], k, sums)
		}
	}
	packRows(dst, t, words, words, rows)
	if aux > 0 {
		packRows(dst[rows*words:], t[rows*words:], aux, aux, rows)
	}
}

func (w *matrixInt8) shape() (int, int) { return w.out, w.in }
func (w *matrixInt8) tileRows() int     { return rowsQuantised() }
func (w *matrixInt8) packedLen() int    { return packedQuantised(w.groups()) }

func (w *matrixInt8) pack(dst, a []float32, lda, rows int, s *Scratch) {
	packQuantised(dst, a, lda, w.in, rows, false, s)
}

func (w *matrixInt8) prepare(p int, s *Scratch) {
	if current != avx2 {
		return
	}
	n := w.groups() * group / 4 * panel
	expandInt8AVX2(&grow(&s.b, 4*n)[0], asFloats(w.data[p*n:(p+1)*n]), &w.scales[p*panel], n)
}

func (w *matrixInt8) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	k := w.groups() * group
	if current == avx2 {
		tileF32(c, ldc, a, s.b, panel, k, rows, cols, accumulate)
		return
	}
	gemmInt8AVX512(&c[0], 4*uintptr(ldc), &a[0], &a[rows*k/4], asFloats(w.data[p*k/4*panel:]), &w.scales[p*panel],
		w.groups(), rows, uint32(1<<cols-1), accumulate)
}

func (w *matrixInt8) mul(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	if current == generic {
		w.mulGeneric(c, ldc, a, lda, m, accumulate, s)
		return
	}
	product(w, c, ldc, a, lda, m, accumulate, s)
}

func (w *matrixQ4) shape() (int, int) { return w.out, w.in }
func (w *matrixQ4) tileRows() int     { return rowsQuantised() }
func (w *matrixQ4) packedLen() int    { return packedQuantised(w.groups()) }

func (w *matrixQ4) pack(dst, a []float32, lda, rows int, s *Scratch) {
	packQuantised(dst, a, lda, w.in, rows, true, s)
}

func (w *matrixQ4) prepare(p int, s *Scratch) {
	if current != avx2 {
		return
	}
	n := w.groups() * q4Group
	expandQ4AVX2(&grow(&s.b, w.in*panel)[0], asFloats(w.data[p*n:(p+1)*n]), w.groups())
}

func (w *matrixQ4) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	if current == avx2 {
		tileF32(c, ldc, a, s.b, panel, w.in, rows, cols, accumulate)
		return
	}
	gemmQ4AVX512(&c[0], 4*uintptr(ldc), &a[0], &a[rows*w.in/4], asFloats(w.data[p*w.groups()*q4Group:]), nil,
		w.groups(), rows, uint32(1<<cols-1), accumulate)
}

func (w *matrixQ4) mul(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	if current == generic {
		w.mulGeneric(c, ldc, a, lda, m, accumulate, s)
		return
	}
	product(w, c, ldc, a, lda, m, accumulate, s)
}
