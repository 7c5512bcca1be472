//go:build amd64 && !purego

package kernels

// What follows hands each kernel to the level in use; slices of equal lengths, checked by the caller. An empty slice has no
// first element, so it ends here.

func dot(a, b []float32) float32 {
	switch {
	case len(a) == 0 || current == generic:
		return dotGeneric(a, b)
	case current >= avx512:
		return dotAVX512(&a[0], &b[0], len(a))
	default:
		return dotAVX2(&a[0], &b[0], len(a))
	}
}

func axpy(alpha float32, x, y []float32) {
	switch {
	case len(x) == 0 || current == generic:
		axpyGeneric(alpha, x, y)
	case current >= avx512:
		axpyAVX512(&x[0], &y[0], len(x), alpha)
	default:
		axpyAVX2(&x[0], &y[0], len(x), alpha)
	}
}

func axpby(alpha float32, x []float32, beta float32, y []float32) {
	switch {
	case len(x) == 0 || current == generic:
		axpbyGeneric(alpha, x, beta, y)
	case current >= avx512:
		axpbyAVX512(&x[0], &y[0], len(x), alpha, beta)
	default:
		axpbyAVX2(&x[0], &y[0], len(x), alpha, beta)
	}
}

func scale(alpha float32, x []float32) {
	switch {
	case len(x) == 0 || current == generic:
		scaleGeneric(alpha, x)
	case current >= avx512:
		scaleAVX512(&x[0], len(x), alpha)
	default:
		scaleAVX2(&x[0], len(x), alpha)
	}
}

func add(dst, x []float32) {
	switch {
	case len(x) == 0 || current == generic:
		addGeneric(dst, x)
	case current >= avx512:
		addAVX512(&dst[0], &x[0], len(x))
	default:
		addAVX2(&dst[0], &x[0], len(x))
	}
}

func mulScaled(dst, x, w []float32, r float32) {
	switch {
	case len(x) == 0 || current == generic:
		mulScaledGeneric(dst, x, w, r)
	case current >= avx512:
		mulScaledAVX512(&dst[0], &x[0], &w[0], len(x), r)
	default:
		mulScaledAVX2(&dst[0], &x[0], &w[0], len(x), r)
	}
}

func maxOf(x []float32) float32 {
	switch {
	case len(x) == 0 || current == generic:
		return maxGeneric(x)
	case current >= avx512:
		return maxAVX512(&x[0], len(x))
	default:
		return maxAVX2(&x[0], len(x))
	}
}

func expSum(x []float32, top float32) float32 {
	switch {
	case len(x) == 0 || current == generic:
		return expSumGeneric(x, top)
	case current >= avx512:
		return expSumAVX512(&x[0], len(x), top)
	default:
		return expSumAVX2(&x[0], len(x), top)
	}
}

func siluMul(dst, gate, up []float32) {
	switch {
	case len(gate) == 0 || current == generic:
		siluMulGeneric(dst, gate, up)
	case current >= avx512:
		siluMulAVX512(&dst[0], &gate[0], &up[0], len(gate))
	default:
		siluMulAVX2(&dst[0], &gate[0], &up[0], len(gate))
	}
}

func gelu(dst, x []float32) {
	switch {
	case len(x) == 0 || current == generic:
		geluGeneric(dst, x)
	case current >= avx512:
		geluAVX512(&dst[0], &x[0], len(x))
	default:
		geluAVX2(&dst[0], &x[0], len(x))
	}
}

func rotateHalves(a, b, cos, sin []float32) {
	switch {
	case len(a) == 0 || current == generic:
		rotateHalvesGeneric(a, b, cos, sin)
	case current >= avx512:
		rotateHalvesAVX512(&a[0], &b[0], &cos[0], &sin[0], len(a))
	default:
		rotateHalvesAVX2(&a[0], &b[0], &cos[0], &sin[0], len(a))
	}
}

// rotatePairs leaves pairs that do not fill a vector to Go.
func rotatePairs(v, cos, sin []float32) {
	whole := len(v) &^ 15
	switch {
	case current == generic || whole == 0:
		rotatePairsGeneric(v, cos, sin)
		return
	case current >= avx512:
		rotatePairsAVX512(&v[0], &cos[0], &sin[0], whole)
	default:
		rotatePairsAVX2(&v[0], &cos[0], &sin[0], whole)
	}
	rotatePairsGeneric(v[whole:], cos[whole/2:], sin[whole/2:])
}

// Attention has assembly for heads of a multiple of 16; n > 0.

func attendScores(scores, q, keys []float32, n, d, stride int, scale float32) {
	switch {
	case current == generic || d%16 != 0:
		attendScoresGeneric(scores, q, keys, n, d, stride, scale)
	case current >= avx512:
		attendScoresAVX512(&scores[0], &q[0], &keys[0], 4*uintptr(stride), n, d, scale)
	default:
		attendScoresAVX2(&scores[0], &q[0], &keys[0], 4*uintptr(stride), n, d, scale)
	}
}

func attendSum(dst, p, values []float32, n, d, stride int) {
	switch {
	case current == generic || d%16 != 0:
		attendSumGeneric(dst, p, values, n, d, stride)
	case current >= avx512:
		attendSumAVX512(&dst[0], &p[0], &values[0], 4*uintptr(stride), n, d)
	default:
		attendSumAVX2(&dst[0], &p[0], &values[0], 4*uintptr(stride), n, d)
	}
}

func attendOuter(dst, c, x []float32, n, d, stride int) {
	switch {
	case current == generic || d%16 != 0:
		attendOuterGeneric(dst, c, x, n, d, stride)
	case current >= avx512:
		attendOuterAVX512(&dst[0], &c[0], &x[0], 4*uintptr(stride), n, d)
	default:
		attendOuterAVX2(&dst[0], &c[0], &x[0], 4*uintptr(stride), n, d)
	}
}
