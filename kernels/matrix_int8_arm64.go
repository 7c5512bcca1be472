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

// kind is how the scales of a weight lie (see gen/arm64_int8.go).
type kind int

const (
	perColumn kind = iota // one for each output
	perGroup              // one for each output and 32 inputs, and a minimum
	perHalf               // one for each output and 16 inputs
)

// tileQuantised computes a tile of the panel whose bytes are in b.
func tileQuantised(k kind, c []float32, ldc int, a, b, scales []float32, groups, rows, cols int, accumulate bool) {
	most, across, step := 3, 1, 1 // rows of the wide tile; words of B and of scales to a column
	if current == i8mmbf16 {
		most, across, step = 2, 2, [...]int{perColumn: 1, perGroup: 4, perHalf: 2}[k]
	}
	aux, to := &a[auxAt(rows, groups*group/4)], 4*uintptr(ldc)
	for j := 0; j < cols; {
		b, scales := &b[across*j], &scales[step*j]
		switch left := cols - j; {
		case left >= 16 && rows <= most:
			gemmQuantisedX16(k, &c[j], to, &a[0], aux, b, scales, groups, rows, accumulate)
			j += 16
		case left >= 8:
			gemmQuantisedX8(k, &c[j], to, &a[0], aux, b, scales, groups, rows, accumulate)
			j += 8
		default:
			var e edgeTile
			gemmQuantisedX8(k, e.begin(c[j:], ldc, rows, left, accumulate), 4*8, &a[0], aux, b, scales, groups, rows, accumulate)
			e.end(c[j:], ldc, rows, left)
			j = cols
		}
	}
}

func gemmQuantisedX16(k kind, c *float32, ldc uintptr, a, aux, b, scales *float32, groups, rows int, accumulate bool) {
	switch dot := current == dotprod; {
	case dot && k == perColumn:
		gemmInt8x16DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case dot && k == perGroup:
		gemmQ4x16DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case dot:
		gemmQ6x16DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case k == perColumn:
		gemmInt8x16MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case k == perGroup:
		gemmQ4x16MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	default:
		gemmQ6x16MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	}
}

func gemmQuantisedX8(k kind, c *float32, ldc uintptr, a, aux, b, scales *float32, groups, rows int, accumulate bool) {
	switch dot := current == dotprod; {
	case dot && k == perColumn:
		gemmInt8x8DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case dot && k == perGroup:
		gemmQ4x8DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case dot:
		gemmQ6x8DOT(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case k == perColumn:
		gemmInt8x8MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	case k == perGroup:
		gemmQ4x8MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	default:
		gemmQ6x8MM(c, ldc, a, aux, b, scales, groups, rows, accumulate)
	}
}

// panelOf gives the parts of the scratch that a panel of 4- or 6-bit weights is expanded into: its bytes, its scales, and without SDOT
// the panel in float32.
func panelOf(s *Scratch, groups int) (bytes, scales, floats []float32) {
	n, scalesLen, floatsLen := groups*group/4*panel, 4*panel*groups, 0
	if current == neon {
		floatsLen = 4 * n
	}
	b := grow(&s.b, n+scalesLen+floatsLen)
	return b[:n], b[n : n+scalesLen], b[n+scalesLen:]
}

func (w *matrixInt8) tileRows() int  { return rowsQuantised() }
func (w *matrixInt8) packedLen() int { return packedQuantised(w.groups()) }

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
	tileQuantised(perColumn, c, ldc, a, s.b, w.scales[p*panel:], w.groups(), rows, cols, accumulate)
}

func (w *matrixQ4) tileRows() int  { return rowsQuantised() }
func (w *matrixQ4) packedLen() int { return packedQuantised(w.groups()) }

func (w *matrixQ4) pack(dst, a []float32, lda, rows int, s *Scratch) {
	packQuantised(dst, a, lda, w.in, rows, s)
}

func (w *matrixQ4) prepare(p int, s *Scratch) {
	n := w.groups() * q4Group
	src := asFloats(w.data[p*n : (p+1)*n])
	bytes, scales, floats := panelOf(s, w.groups())
	if current == i8mmbf16 {
		nibblesMM(&bytes[0], src, 4*q4Group, w.groups())
		scalesQ4MM(&scales[0], src, w.groups())
		return
	}
	nibblesDOT(&bytes[0], src, 4*q4Group, w.groups())
	scalesQ4DOT(&scales[0], src, w.groups())
	if current == neon {
		floatsOf4NEON(&floats[0], &bytes[0], &scales[0], w.groups())
	}
}

func (w *matrixQ4) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	bytes, scales, floats := panelOf(s, w.groups())
	if current == neon {
		tileF32(c, ldc, a, floats, panel, w.in, rows, cols, accumulate)
		return
	}
	tileQuantised(perGroup, c, ldc, a, bytes, scales, w.groups(), rows, cols, accumulate)
}
