//go:build amd64 && !purego

package kernels

// Weights of 4 and 6 bits are expanded to bytes and float32 scales a panel at a time, into the scratch: that is little beside the
// products of a few rows, and stays in the cache. A row of packed A takes k/4 words of bytes and four words a group.

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
	bytesK4 = iota
	bytesK6
	bytesInt8
)

// tile256 computes rows x cols of C from an expanded panel, 16 columns at a time.
func tile256(kind int, c []float32, ldc int, a, aux, b, scales []float32, groups, rows, cols int, accumulate bool) {
	for j := 0; j < cols; j += 16 {
		if cols-j >= 16 {
			tile256x16(kind, &c[j], 4*uintptr(ldc), &a[0], &aux[0], &b[j], &scales[j], groups, rows, accumulate)
			continue
		}
		// A part of a tile goes by way of a whole one.
		var t [rowsBytes256 * 16]float32
		for r := 0; r < rows && accumulate; r++ {
			copy(t[r*16:], c[r*ldc+j:r*ldc+cols])
		}
		tile256x16(kind, &t[0], 4*16, &a[0], &aux[0], &b[j], &scales[j], groups, rows, accumulate)
		for r := 0; r < rows; r++ {
			copy(c[r*ldc+j:r*ldc+cols], t[r*16:])
		}
	}
}

func tile256x16(kind int, c *float32, ldc uintptr, a, aux, b, scales *float32, groups, rows int, accumulate bool) {
	switch kind {
	case bytesK4:
		gemmK4AVX2(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case bytesK6:
		gemmK6AVX2(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	default:
		gemmInt8AVX2(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	}
}

// expanded is a panel in the scratch: bytes [group][8][32] words, then scales [group][2][32].
func expanded(s *Scratch, groups int) (bytes, scales []float32) {
	b := grow(&s.b, groups*(8+2)*panel)
	return b[:groups*8*panel], b[groups*8*panel:]
}

func (w *matrixK) shape() (int, int) { return w.out, w.in }
func (w *matrixK) tileRows() int     { return rowsBytes() }
func (w *matrixK) packedLen() int    { return w.in / group * (group/4 + kAux) }

func (w *matrixK) pack(dst, a []float32, lda, rows int, s *Scratch) {
	quantise := quantiseKAVX512
	if current == avx2 {
		quantise = quantiseKAVX2
	}
	packBytes(dst, a, lda, w.in, rows, group/4, kAux, s, quantise)
}

func (w *matrixK) prepare(p int, s *Scratch) {
	form, words := w.panel(p)
	b, scales := expanded(s, w.in/group)
	n, src := w.blocks(), asFloats(words)
	switch {
	case form == formQ4K && current == avx2:
		expandQ4KAVX2(&b[0], &scales[0], src, n)
	case form == formQ4K:
		expandQ4KAVX512(&b[0], &scales[0], src, n)
	case current == avx2:
		expandQ6KAVX2(&b[0], &scales[0], src, n)
	default:
		expandQ6KAVX512(&b[0], &scales[0], src, n)
	}
}

func (w *matrixK) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	groups := w.in / group
	b, scales := expanded(s, groups)
	aux := a[rows*w.in/4:]
	q4 := w.all[p] == formQ4K
	switch mask := uint32(1<<cols - 1); {
	case current == avx2 && q4:
		tile256(bytesK4, c, ldc, a, aux, b, scales, groups, rows, cols, accumulate)
	case current == avx2:
		tile256(bytesK6, c, ldc, a, aux, b, scales, groups, rows, cols, accumulate)
	case q4:
		gemmK4AVX512(&c[0], 4*uintptr(ldc), &a[0], &aux[0], &b[0], &scales[0], groups, rows, mask, accumulate)
	default:
		gemmK6AVX512(&c[0], 4*uintptr(ldc), &a[0], &aux[0], &b[0], &scales[0], groups, rows, mask, accumulate)
	}
}

func (w *matrixK) mul(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	if current == generic {
		w.mulGeneric(c, ldc, a, lda, m, accumulate, s)
		return
	}
	product(w, c, ldc, a, lda, m, accumulate, s)
}
