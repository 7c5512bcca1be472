//go:build amd64 && !purego

package kernels

import "unsafe"

// The scales of K-quants are made float32 a panel at a time, into the scratch; AVX-512 unpacks weights as it multiplies, AVX2 works from
// bytes that are made a panel at a time too. A row of packed A takes k/4 words of bytes and four words a group.

// rowsBytes256 is the height of an AVX2 tile of bytes.
const rowsBytes256 = 3

func rowsBytes() int {
	if current == avx2 {
		return rowsBytes256
	}
	return rowsInt8
}

// kAux is how many words a group of activations has beside its bytes.
const kAux = 4

// packBytes turns rows of A, in of them used, into [k/4][rows] words and [group][aux][rows] words beside them, by quantise, which makes
// perGroup words and aux ones of each 32 values; inputs past the last are zero.
func packBytes(dst, a []float32, lda, in, rows, perGroup, aux int, s *Scratch, quantise func(q, aux, x *float32, n int)) {
	groups := (in + group - 1) / group
	k, words := groups*group, groups*perGroup
	t := grow(&s.t, rows*(words+groups*aux)+k)
	pad := t[rows*(words+groups*aux):]
	for r := 0; r < rows; r++ {
		x := a[r*lda : r*lda+in]
		if in < k {
			clear(pad[copy(pad, x):])
			x = pad
		}
		quantise(&t[r*words], &t[rows*words+r*groups*aux], &x[0], k)
	}
	packRows(dst, t, words, words, rows)
	packRows(dst[rows*words:], t[rows*words:], groups*aux, groups*aux, rows)
}

// The kinds of AVX2 tiles of bytes.
const (
	bytes15 = iota
	bytes31
	bytes63
	words
)

// tile256 computes rows x cols of C from an expanded panel, 16 columns at a time; next is the panel to ask for meanwhile.
func tile256(kind int, c []float32, ldc int, a, aux, b, scales []float32, groups, rows, cols int, accumulate bool, next []uint32, s *Scratch) {
	ahead, step := s.ahead(next, 2*groups)
	for j := 0; j < cols; j += 16 {
		to, stride := &c[j], 4*uintptr(ldc)
		var t [rowsBytes256 * 16]float32
		if cols-j < 16 { // a part of a tile goes by way of a whole one
			for r := 0; r < rows && accumulate; r++ {
				copy(t[r*16:], c[r*ldc+j:r*ldc+cols])
			}
			to, stride = &t[0], 4*16
		}
		switch kind {
		case bytes15:
			gemmBytes15AVX2(to, stride, &a[0], &aux[0], &b[j], &scales[j], groups, rows, accumulate, ahead, step)
		case bytes31:
			gemmBytes31AVX2(to, stride, &a[0], &aux[0], &b[j], &scales[j], groups, rows, accumulate, ahead, step)
		case bytes63:
			gemmBytes63AVX2(to, stride, &a[0], &aux[0], &b[j], &scales[j], groups, rows, accumulate, ahead, step)
		default:
			gemmWordsAVX2(to, stride, &a[0], &aux[0], &b[j], &scales[j], groups, rows, accumulate, ahead, step)
		}
		if cols-j < 16 {
			for r := 0; r < rows; r++ {
				copy(c[r*ldc+j:r*ldc+cols], t[r*16:])
			}
		}
		ahead += uintptr(groups) * step
	}
}

// ahead gives where the next panel begins, and the bytes of it that go with each of `parts` parts of a tile: to the first tile of a
// panel alone.
func (s *Scratch) ahead(next []uint32, parts int) (address, step uintptr) {
	if !s.cold || len(next) == 0 {
		return uintptr(unsafe.Pointer(&s.b[0])), 0
	}
	s.cold = false
	return uintptr(unsafe.Pointer(&next[0])), uintptr(4 * len(next) / parts)
}

// expanded is a panel in the scratch: scales [group][2][32], and on AVX2 bytes [group][8][32] words.
func expanded(s *Scratch, groups int) (scales, bytes []float32) {
	n := groups * 2 * panel
	if current != avx2 {
		return grow(&s.b, n), nil
	}
	b := grow(&s.b, n+groups*8*panel)
	return b[:n], b[n:]
}

func (w *matrixK) tileRows() int  { return rowsBytes() }
func (w *matrixK) packedLen() int { return w.in / group * (group/4 + kAux) }

func (w *matrixK) pack(dst, a []float32, lda, rows int, s *Scratch) {
	quantise := quantiseKAVX512
	if current == avx2 {
		quantise = quantiseKAVX2
	}
	packBytes(dst, a, lda, w.in, rows, group/4, kAux, s, quantise)
}

func (w *matrixK) prepare(p int, s *Scratch) {
	n := w.in / group
	s.cold = true
	groups, beside := w.panel(p)
	scales, bytes := expanded(s, n)
	form, from := w.all[p], asFloats(beside)
	if current != avx2 {
		if form == formQ6K {
			scalesQ6KAVX512(&scales[0], from, w.blocks())
		} else {
			scalesQ4KAVX512(&scales[0], from, w.blocks())
		}
		return
	}
	if form == formQ6K {
		scalesQ6KAVX2(&scales[0], from, w.blocks())
	} else {
		scalesQ4KAVX2(&scales[0], from, w.blocks())
	}
	stride := 4 * uintptr(kForms[form].group)
	switch form {
	case formQ4K:
		nibblesToBytesAVX2(&bytes[0], asFloats(groups), stride, n)
	case formQ5K:
		fiveBitsToBytesAVX2(&bytes[0], asFloats(groups), stride, n)
	case formQ6K:
		sixBitsToBytesAVX2(&bytes[0], asFloats(groups), stride, n)
	}
}

// bytesOfForm is the kind of AVX2 tile for each form.
var bytesOfForm = [...]int{formQ4K: bytes15, formQ5K: bytes31, formQ6K: bytes63}

func (w *matrixK) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	n := w.in / group
	scales, bytes := expanded(s, n)
	aux, next := a[rows*w.in/4:], w.next(p)
	if current == avx2 {
		tile256(bytesOfForm[w.all[p]], c, ldc, a, aux, bytes, scales, n, rows, cols, accumulate, next, s)
		return
	}
	b, stride, mask := asFloats(w.all[w.at[p]:]), 4*uintptr(ldc), uint32(1<<cols-1)
	ahead, step := s.ahead(next, n)
	switch w.all[p] {
	case formQ4K:
		gemmQ4KAVX512(&c[0], stride, &a[0], &aux[0], b, &scales[0], n, rows, mask, accumulate, ahead, step)
	case formQ5K:
		gemmQ5KAVX512(&c[0], stride, &a[0], &aux[0], b, &scales[0], n, rows, mask, accumulate, ahead, step)
	case formQ6K:
		gemmQ6KAVX512(&c[0], stride, &a[0], &aux[0], b, &scales[0], n, rows, mask, accumulate, ahead, step)
	}
}

// next is the words of the panel after p.
func (w *matrixK) next(p int) []uint32 {
	if p+1 == len(w.at) {
		return nil
	}
	groups, beside := w.panel(p + 1)
	return w.all[w.at[p+1]:][:len(groups)+len(beside)]
}
