//go:build !purego

package kernels

// K-quants go the way of Q4_1: once a panel its weights become bytes and float32 scales, which the tiles multiply.

func (w *matrixK) tileRows() int  { return rowsQuantised() }
func (w *matrixK) packedLen() int { return packedQuantised(w.in / group) }

func (w *matrixK) pack(dst, a []float32, lda, rows int, s *Scratch) {
	packQuantised(dst, a, lda, w.in, rows, s)
}

func (w *matrixK) prepare(p int, s *Scratch) {
	n := w.in / group
	groups, beside := w.panel(p)
	bytes, scales, floats := panelOf(s, n)
	form := w.all[p]
	switch {
	case current == i8mmbf16 && form == formQ4K:
		nibblesMM(&bytes[0], asFloats(groups), 4*uintptr(kForms[formQ4K].group), n)
		scalesQ4KMM(&scales[0], asFloats(beside), w.blocks())
	case current == i8mmbf16 && form == formQ5K:
		fiveBitsMM(&bytes[0], asFloats(groups), n)
		scalesQ4KMM(&scales[0], asFloats(beside), w.blocks())
	case current == i8mmbf16:
		sixBitsMM(&bytes[0], asFloats(groups), n)
		scalesQ6KMM(&scales[0], asFloats(beside), w.blocks())
	case form == formQ4K:
		nibblesDOT(&bytes[0], asFloats(groups), 4*uintptr(kForms[formQ4K].group), n)
		scalesQ4KDOT(&scales[0], asFloats(beside), w.blocks())
	case form == formQ5K:
		fiveBitsDOT(&bytes[0], asFloats(groups), n)
		scalesQ4KDOT(&scales[0], asFloats(beside), w.blocks())
	default:
		sixBitsDOT(&bytes[0], asFloats(groups), n)
		scalesQ6KDOT(&scales[0], asFloats(beside), w.blocks())
	}
	switch {
	case current == neon && form != formQ6K:
		floatsOf4NEON(&floats[0], &bytes[0], &scales[0], n)
	case current == neon:
		floatsOf6NEON(&floats[0], &bytes[0], &scales[0], n)
	}
}

func (w *matrixK) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch) {
	n := w.in / group
	bytes, scales, floats := panelOf(s, n)
	if current == neon {
		tileF32(c, ldc, a, floats, panel, w.in, rows, cols, accumulate)
		return
	}
	k := perGroup
	if w.all[p] == formQ6K {
		k = perHalf
	}
	tileQuantised(k, c, ldc, a, bytes, scales, n, rows, cols, accumulate)
}
