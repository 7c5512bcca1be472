//go:build amd64 && !purego

package kernels

// The conversions do whole vectors and return how many values that was.

func bf16FromF32(dst []uint16, src []float32) int {
	n := len(src) &^ 15
	switch {
	case n == 0 || current == generic:
		return 0
	case current >= avx512:
		bf16FromF32AVX512(&dst[0], &src[0], n)
	default:
		bf16FromF32AVX2(&dst[0], &src[0], n)
	}
	return n
}

func f32FromBF16(dst []float32, src []uint16) int {
	n := len(src) &^ 15
	switch {
	case n == 0 || current == generic:
		return 0
	case current >= avx512:
		f32FromBF16AVX512(&dst[0], &src[0], n)
	default:
		f32FromBF16AVX2(&dst[0], &src[0], n)
	}
	return n
}

func f32FromF16(dst []float32, src []uint16) int {
	n := len(src) &^ 15
	switch {
	case n == 0 || current == generic:
		return 0
	case current >= avx512:
		f32FromF16AVX512(&dst[0], &src[0], n)
	default:
		f32FromF16AVX2(&dst[0], &src[0], n)
	}
	return n
}

// pairBF16 sets dst[i] to low[i] and high[i] rounded to bfloat16, in its lower and upper half, and returns how many it did.
func pairBF16(dst []uint32, low, high []float32) int {
	n := len(dst) &^ 15
	switch {
	case n == 0 || current == generic:
		return 0
	case current >= avx512:
		pairBF16AVX512(&dst[0], &low[0], &high[0], n)
	default:
		pairBF16AVX2(&dst[0], &low[0], &high[0], n)
	}
	return n
}
