package kernels

import "math"

// ToBF16 rounds to bfloat16, ties to even; NaN stays NaN (quiet).
func ToBF16(f float32) uint16 {
	b := math.Float32bits(f)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromBF16 is exact.
func FromBF16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// FromF16 widens an IEEE 754 half; exact, subnormals included.
func FromF16(h uint16) float32 {
	sign, exp, frac := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&0x3ff)
	switch exp {
	case 0: // zero and subnormals: frac * 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*0x1p-24))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// BF16FromF32 rounds len(src) values to bfloat16, ties to even.
func BF16FromF32(dst []uint16, src []float32) {
	need("BF16FromF32", "dst", len(dst), len(src))
	for i := bf16FromF32(dst, src); i < len(src); i++ {
		dst[i] = ToBF16(src[i])
	}
}

// F32FromBF16 widens len(src) values.
func F32FromBF16(dst []float32, src []uint16) {
	need("F32FromBF16", "dst", len(dst), len(src))
	for i := f32FromBF16(dst, src); i < len(src); i++ {
		dst[i] = FromBF16(src[i])
	}
}

// F32FromF16 widens len(src) IEEE 754 halves.
func F32FromF16(dst []float32, src []uint16) {
	need("F32FromF16", "dst", len(dst), len(src))
	for i := f32FromF16(dst, src); i < len(src); i++ {
		dst[i] = FromF16(src[i])
	}
}
