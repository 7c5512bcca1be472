//go:build amd64 && !purego

package kernels

// rowsInt8 is the height of an 8-bit tile: its sums take twice the registers.
const rowsInt8 = 7

// packedQuantised is the words of a packed row of `groups` groups: k/4 words of bytes, and two words a group.
func packedQuantised(groups int) int { return groups * (group/4 + 2) }

// packQuantised turns rows of A, in of them used, into [k/4][rows] bytes by fours and [group][2][rows] words beside them; inputs past the
// last are zero.
func packQuantised(dst, a []float32, lda, in, rows int, sums bool, s *Scratch) {
	groups := (in + group - 1) / group
	k := groups * group
	words, aux := k/4, 2*groups
	t := grow(&s.t, rows*(words+aux)+k)
	pad := t[rows*(words+aux):]
	for r := 0; r < rows; r++ {
		x := a[r*lda : r*lda+in]
		if in < k {
			clear(pad[copy(pad, x):])
			x = pad
		}
		quantiseAVX512(&t[r*words], &t[rows*words+r*aux], &x[0], k, sums)
	}
	packRows(dst, t, words, words, rows)
	packRows(dst[rows*words:], t[rows*words:], aux, aux, rows)
}

// panelOf is panel p of those of n words each, nothing past the last.
func panelOf(data []uint32, p, n int) []uint32 {
	if (p+1)*n > len(data) {
		return nil
	}
	return data[p*n : (p+1)*n]
}

func (w *matrixInt8) tileRows() int { return rowsBytes() }

func (w *matrixInt8) packedLen() int {
	if current == avx2 {
		return w.groups() * (group/2 + 1)
	}
	return packedQuantised(w.groups())
}

func (w *matrixInt8) pack(dst, a []float32, lda, rows int, s *Scratch) {
	if current == avx2 {
		packBytes(dst, a, lda, w.in, rows, group/2, 1, s, quantiseWordsAVX2)
		return
	}
	packQuantised(dst, a, lda, w.in, rows, false, s)
}

func (w *matrixInt8) prepare(p int, s *Scratch) {
	if current != avx2 {
		return
	}
	n := w.groups() * group / 4 * panel
	s.cold = true
	bytesToWordsAVX2(&grow(&s.b, 2*n)[0], asFloats(w.data[p*n:(p+1)*n]), n/panel)
}

func (w *matrixInt8) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	k := w.groups() * group
	if current == avx2 {
		tile256(words, c, ldc, a, a[rows*k/2:], s.b, w.scales[p*panel:], w.groups(), rows, cols, accumulate, panelOf(w.data, p+1, k/4*panel), s)
		return
	}
	gemmInt8AVX512(&c[0], 4*uintptr(ldc), &a[0], &a[rows*k/4], asFloats(w.data[p*k/4*panel:]), &w.scales[p*panel],
		w.groups(), rows, uint32(1<<cols-1), accumulate)
}

func (w *matrixQ4) tileRows() int { return rowsBytes() }

func (w *matrixQ4) packedLen() int {
	if current == avx2 {
		return w.groups() * (group/4 + kAux)
	}
	return packedQuantised(w.groups())
}

func (w *matrixQ4) pack(dst, a []float32, lda, rows int, s *Scratch) {
	if current == avx2 {
		packBytes(dst, a, lda, w.in, rows, group/4, kAux, s, quantiseKAVX2)
		return
	}
	packQuantised(dst, a, lda, w.in, rows, true, s)
}

func (w *matrixQ4) prepare(p int, s *Scratch) {
	if current != avx2 {
		return
	}
	n := w.groups() * q4Group
	scales, bytes := expanded(s, w.groups())
	src := asFloats(w.data[p*n : (p+1)*n])
	s.cold = true
	scalesQ4AVX2(&scales[0], src, w.groups())
	nibblesToBytesAVX2(&bytes[0], src, 4*q4Group, w.groups())
}

func (w *matrixQ4) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	if current == avx2 {
		scales, bytes := expanded(s, w.groups())
		tile256(bytes15, c, ldc, a, a[rows*w.in/4:], bytes, scales, w.groups(), rows, cols, accumulate, panelOf(w.data, p+1, w.groups()*q4Group), s)
		return
	}
	gemmQ4AVX512(&c[0], 4*uintptr(ldc), &a[0], &a[rows*w.in/4], asFloats(w.data[p*w.groups()*q4Group:]), nil,
		w.groups(), rows, uint32(1<<cols-1), accumulate)
}
