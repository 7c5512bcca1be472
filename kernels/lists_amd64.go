//go:build amd64 && !purego

package kernels

func axpys(alpha, x []float32, stride int, y []float32) {
	switch {
	case current == generic:
		axpysGeneric(alpha, x, stride, y)
	case current >= avx512:
		axpysAVX512(&x[0], &y[0], len(y), &alpha[0], len(alpha), 4*uintptr(stride))
	default:
		axpysAVX2(&x[0], &y[0], len(y), &alpha[0], len(alpha), 4*uintptr(stride))
	}
}

func logScaled(v []float32, scale, add float32) {
	switch {
	case len(v) == 0 || current == generic:
		logScaledGeneric(v, scale, add)
	case current >= avx512:
		logScaledAVX512(&v[0], len(v), scale, add)
	default:
		logScaledAVX2(&v[0], len(v), scale, add)
	}
}

func index32(v []int32, x int32) int {
	switch {
	case len(v) == 0 || current == generic:
		return index32Generic(v, x)
	case current >= avx512:
		return index32AVX512(&v[0], len(v), x)
	default:
		return index32AVX2(&v[0], len(v), x)
	}
}

func minIndex(v []float32) int {
	switch {
	case current == generic:
		return minIndexGeneric(v)
	case current >= avx512:
		return minIndexAVX512(&v[0], len(v))
	default:
		return minIndexAVX2(&v[0], len(v))
	}
}
