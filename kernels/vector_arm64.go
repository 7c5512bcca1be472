//go:build !purego

package kernels

// Each function hands its slices to the assembly, or to generic Go when that level is chosen; the caller has checked that they are of
// equal lengths. An empty slice has no first element, so it ends here.

func dot(a, b []float32) float32 {
	if len(a) == 0 || current == generic {
		return dotGeneric(a, b)
	}
	return dotNEON(&a[0], &b[0], len(a))
}

func axpy(alpha float32, x, y []float32) {
	if len(x) == 0 || current == generic {
		axpyGeneric(alpha, x, y)
		return
	}
	axpyNEON(&x[0], &y[0], len(x), alpha)
}

func axpby(alpha float32, x []float32, beta float32, y []float32) {
	if len(x) == 0 || current == generic {
		axpbyGeneric(alpha, x, beta, y)
		return
	}
	axpbyNEON(&x[0], &y[0], len(x), alpha, beta)
}

func scale(alpha float32, x []float32) {
	if len(x) == 0 || current == generic {
		scaleGeneric(alpha, x)
		return
	}
	scaleNEON(&x[0], len(x), alpha)
}

func add(dst, x []float32) {
	if len(x) == 0 || current == generic {
		addGeneric(dst, x)
		return
	}
	addNEON(&dst[0], &x[0], len(x))
}

func mulScaled(dst, x, w []float32, r float32) {
	if len(x) == 0 || current == generic {
		mulScaledGeneric(dst, x, w, r)
		return
	}
	mulScaledNEON(&dst[0], &x[0], &w[0], len(x), r)
}

func maxOf(x []float32) float32 {
	if len(x) == 0 || current == generic {
		return maxGeneric(x)
	}
	return maxNEON(&x[0], len(x))
}

func expSum(x []float32, top float32) float32 {
	if len(x) == 0 || current == generic {
		return expSumGeneric(x, top)
	}
	return expSumNEON(&x[0], len(x), top)
}

func siluMul(dst, gate, up []float32) {
	if len(gate) == 0 || current == generic {
		siluMulGeneric(dst, gate, up)
		return
	}
	siluMulNEON(&dst[0], &gate[0], &up[0], len(gate))
}

func gelu(dst, x []float32) {
	if len(x) == 0 || current == generic {
		geluGeneric(dst, x)
		return
	}
	geluNEON(&dst[0], &x[0], len(x))
}

func rotateHalves(a, b, cos, sin []float32) {
	if len(a) == 0 || current == generic {
		rotateHalvesGeneric(a, b, cos, sin)
		return
	}
	rotateHalvesNEON(&a[0], &b[0], &cos[0], &sin[0], len(a))
}

// rotatePairs leaves pairs that do not fill two vectors to Go.
func rotatePairs(v, cos, sin []float32) {
	whole := len(v) &^ 7
	if current == generic {
		whole = 0
	}
	if whole > 0 {
		rotatePairsNEON(&v[0], &cos[0], &sin[0], whole)
	}
	rotatePairsGeneric(v[whole:], cos[whole/2:], sin[whole/2:])
}

// Attention has assembly for heads of a multiple of 16; n > 0.

func attendScores(scores, q, keys []float32, n, d, stride int, scale float32) {
	if current == generic || d%16 != 0 {
		attendScoresGeneric(scores, q, keys, n, d, stride, scale)
		return
	}
	attendScoresNEON(&scores[0], &q[0], &keys[0], 4*uintptr(stride), n, d, scale)
}

func attendSum(dst, p, values []float32, n, d, stride int) {
	if current == generic || d%16 != 0 {
		attendSumGeneric(dst, p, values, n, d, stride)
		return
	}
	attendSumNEON(&dst[0], &p[0], &values[0], 4*uintptr(stride), n, d)
}

func attendOuter(dst, c, x []float32, n, d, stride int) {
	if current == generic || d%16 != 0 {
		attendOuterGeneric(dst, c, x, n, d, stride)
		return
	}
	attendOuterNEON(&dst[0], &c[0], &x[0], 4*uintptr(stride), n, d)
}

// The conversions do whole vectors and return how many values that was.

func bf16FromF32(dst []uint16, src []float32) int {
	n := len(src) &^ 7
	switch {
	case n == 0 || current == generic:
		return 0
	case current == i8mmbf16:
		bf16FromF32MM(&dst[0], &src[0], n)
	default:
		bf16FromF32NEON(&dst[0], &src[0], n)
	}
	return n
}

func f32FromBF16(dst []float32, src []uint16) int {
	n := len(src) &^ 7
	if n == 0 || current == generic {
		return 0
	}
	f32FromBF16NEON(&dst[0], &src[0], n)
	return n
}

func f32FromF16(dst []float32, src []uint16) int {
	n := len(src) &^ 7
	if n == 0 || current == generic {
		return 0
	}
	f32FromF16NEON(&dst[0], &src[0], n)
	return n
}

// pairBF16 sets dst[i] to low[i] and high[i] rounded to bfloat16, in its lower and upper half, and returns how many it did.
func pairBF16(dst []uint32, low, high []float32) int {
	n := len(dst) &^ 3
	if n == 0 || current == generic {
		return 0
	}
	pairBF16NEON(&dst[0], &low[0], &high[0], n)
	return n
}
