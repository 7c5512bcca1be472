//go:build !purego

package kernels

// The quantised products share all but what a panel is made of. With SDOT, a row of packed A takes k/4 words of bytes and two words a
// group, with SMMLA twice those two; without them the way is by float32 panels.

func rowsQuantised() int {
	if current == neon {
		return mostRows
	}
	return rowsInt8
}

// auxWords is how many words a group has beside its bytes: its scale, and that times the sum of the bytes.
func auxWords() int {
	switch current {
	case neon:
		return 0
	case dotprod:
		return 2
	}
	return 4
}

// packedQuantised is the words of a packed row of `groups` groups.
func packedQuantised(groups int) int {
	if current == neon {
		return groups * group
	}
	return groups * (group/4 + auxWords())
}

// packQuantised turns rows of A, in of them used, into the order that the tile of the level reads (see gen/arm64_int8.go); inputs past
// the last are zero. What the groups have beside their bytes begins where the bytes end.
func packQuantised(dst, a []float32, lda, in, rows int, s *Scratch) {
	groups := (in + group - 1) / group
	k := groups * group
	words, aux := k/4, auxWords()*groups
	if current == neon {
		words = k
	}
	t := grow(&s.t, rows*(words+aux)+k)
	pad := t[rows*(words+aux):]
	for r := 0; r < rows; r++ {
		x := a[r*lda : r*lda+in]
		if in < k {
			clear(pad[copy(pad, x):])
			x = pad
		}
		switch current {
		case neon:
			requantiseNEON(&t[r*words], &x[0], k)
		case dotprod:
			quantiseDOT(&t[r*words], &t[rows*words+r*aux], &x[0], k)
		default:
			quantiseMM(&t[r*words], &t[rows*words+r*aux], &x[0], k)
		}
	}
	if current == i8mmbf16 {
		packPairs(dst, t, words, words/2, rows)
		packPairs(dst[auxAt(rows, words):], t[rows*words:], aux, aux/2, rows)
		return
	}
	packRows(dst, t, words, words, rows)
	if aux > 0 {
		packRows(dst[auxAt(rows, words):], t[rows*words:], aux, aux, rows)
	}
}

// auxAt is where packed bytes of rows end.
func auxAt(rows, words int) int {
	if current == i8mmbf16 {
		rows = (rows + 1) &^ 1
	}
	return rows * words
}

// tileQuantised computes a tile of panel p, which prepare has brought into s.b; perGroup says that each group has scales of its own.
func tileQuantised(c []float32, ldc int, a, scales []float32, groups, rows, cols int, accumulate bool, s *Scratch, perGroup bool) {
	most, across, step := 3, 1, 1 // rows of the wide tile; words of B and of scales to a column
	if current == i8mmbf16 {
		most, across = 2, 2
		if perGroup {
			step = 4
		}
	}
	aux, to := &a[auxAt(rows, groups*group/4)], 4*uintptr(ldc)
	for j := 0; j < cols; {
		b, scales := &s.b[across*j], &scales[step*j]
		switch left := cols - j; {
		case left >= 16 && rows <= most:
			gemmQuantisedX16(perGroup, &c[j], to, &a[0], aux, b, scales, groups, rows, accumulate)
			j += 16
		case left >= 8:
			gemmQuantisedX8(perGroup, &c[j], to, &a[0], aux, b, scales, groups, rows, accumulate)
			j += 8
		default:
			var e edgeTile
			gemmQuantisedX8(perGroup, e.begin(c[j:], ldc, rows, left, accumulate), 4*8, &a[0], aux, b, scales, groups, rows, accumulate)
			e.end(c[j:], ldc, rows, left)
			j = cols
		}
	}
}

func gemmQuantisedX16(perGroup bool, c *float32, ldc uintptr, a, aux, b, scales *float32, groups, rows int, accumulate bool) {
	switch {
	case current == dotprod && perGroup:
		gemmQ4x16DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case current == dotprod:
		gemmInt8x16DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case perGroup:
		gemmQ4x16MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	default:
		gemmInt8x16MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	}
}

func gemmQuantisedX8(perGroup bool, c *float32, ldc uintptr, a, aux, b, scales *float32, groups, rows int, accumulate bool) {
	switch {
	case current == dotprod && perGroup:
		gemmQ4x8DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case current == dotprod:
		gemmInt8x8DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case perGroup:
		gemmQ4x8MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	default:
		gemmInt8x8MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	}
}

func (w *matrixInt8) shape() (int, int) { return w.out, w.in }
func (w *matrixInt8) tileRows() int     { return rowsQuantised() }
func (w *matrixInt8) packedLen() int    { return packedQuantised(w.groups()) }

func (w *matrixInt8) pack(dst, a []float32, lda, rows int, s *Scratch) {
	packQuantised(dst, a, lda, w.in, rows, s)
}

func (w *matrixInt8) prepare(p int, s *Scratch) {
	n := w.groups() * group / 4 * panel
	src := asFloats(w.data[p*n : (p+1)*n])
	switch current {
	case neon:
		expandInt8NEON(&grow(&s.b, 4*n)[0], src, &w.scales[p*panel], n)
	case dotprod:
		signInt8NEON(&grow(&s.b, n)[0], src, 4*n)
	default:
		zipInt8MM(&grow(&s.b, n)[0], src, n/(2*panel))
	}
}

func (w *matrixInt8) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	if current == neon {
		tileF32(c, ldc, a, s.b, panel, w.groups()*group, rows, cols, accumulate)
		return
	}
	tileQuantised(c, ldc, a, w.scales[p*panel:], w.groups(), rows, cols, accumulate, s, false)
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
	packQuantised(dst, a, lda, w.in, rows, s)
}

// prepare brings the bytes of a panel into s.b, and behind them the scales and minima of its groups.
func (w *matrixQ4) prepare(p int, s *Scratch) {
	n := w.groups() * q4Group
	src := asFloats(w.data[p*n : (p+1)*n])
	words := w.in / 4 * panel
	switch current {
	case neon:
		expandQ4NEON(&grow(&s.b, w.in*panel)[0], src, w.groups())
	case dotprod:
		b := grow(&s.b, words+2*panel*w.groups())
		bytesQ4DOT(&b[0], &b[words], src, w.groups())
	default:
		b := grow(&s.b, words+4*panel*w.groups())
		bytesQ4MM(&b[0], &b[words], src, w.groups())
	}
}

func (w *matrixQ4) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	if current == neon {
		tileF32(c, ldc, a, s.b, panel, w.in, rows, cols, accumulate)
		return
	}
	tileQuantised(c, ldc, a, s.b[w.in/4*panel:], w.groups(), rows, cols, accumulate, s, true)
}

func (w *matrixQ4) mul(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	if current == generic {
		w.mulGeneric(c, ldc, a, lda, m, accumulate, s)
		return
	}
	product(w, c, ldc, a, lda, m, accumulate, s)
}
