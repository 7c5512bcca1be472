package gguf

import (
	"encoding/binary"
	"math"
)

// encoders are the format's reference quantisers for the types a Writer can make; dst has room for all blocks of src.
var encoders = map[Type]func(dst []byte, src []float32){
	F32: func(dst []byte, src []float32) {
		for i, x := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
		}
	},
	F16: func(dst []byte, src []float32) {
		for i, x := range src {
			put16(dst[2*i:], toHalf(x))
		}
	},
	BF16: func(dst []byte, src []float32) {
		for i, x := range src {
			put16(dst[2*i:], toBfloat(x))
		}
	},
	Q8_0: encodeQ8_0,
	Q4_0: func(dst []byte, src []float32) { encodeSigned(dst, src, 4) },
	Q5_0: func(dst []byte, src []float32) { encodeSigned(dst, src, 5) },
	Q4_1: func(dst []byte, src []float32) { encodeAffine(dst, src, 4) },
	Q5_1: func(dst []byte, src []float32) { encodeAffine(dst, src, 5) },
}

func put16(b []byte, v uint16) { binary.LittleEndian.PutUint16(b, v) }

// toHalf rounds to the nearest binary16, ties to even; too large becomes Inf.
func toHalf(x float32) uint16 {
	b := math.Float32bits(x)
	sign, mag := uint16(b>>16&0x8000), b&0x7fffffff
	switch {
	case mag > 0x7f800000:
		return sign | 0x7e00
	case mag >= 0x477ff000: // rounds to 65536 or more
		return sign | 0x7c00
	case mag < 0x38800000: // subnormal: the quotient by 2^-24 is exact before rounding
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(mag))*0x1p24))
	}
	mag -= 112 << 23
	return sign | uint16((mag+0xfff+mag>>13&1)>>13)
}

// toBfloat rounds to the nearest bfloat16, ties to even; a NaN stays one.
func toBfloat(x float32) uint16 {
	b := math.Float32bits(x)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 64
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// inverse is 1/d, or 0 for a block of zeros.
func inverse(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// Q8_0: d = max|x|/127, q = round half away from zero.
func encodeQ8_0(dst []byte, src []float32) {
	for ; len(src) > 0; dst, src = dst[34:], src[32:] {
		var top float32
		for _, x := range src[:32] {
			top = max(top, float32(math.Abs(float64(x))))
		}
		d := top / 127
		id := inverse(d)
		put16(dst, toHalf(d))
		for i, x := range src[:32] {
			dst[2+i] = byte(int8(math.Round(float64(float32(x * id)))))
		}
	}
}

// encodeSigned makes Q4_0 (bits 4) and Q5_0 (bits 5): the value of largest magnitude maps to the most negative code.
func encodeSigned(dst []byte, src []float32, bits int) {
	half, size := float32(int(1)<<(bits-1)), blockBytes(2, bits)
	for ; len(src) > 0; dst, src = dst[size:], src[32:] {
		var top, at float32
		for _, x := range src[:32] {
			if a := float32(math.Abs(float64(x))); a > top {
				top, at = a, x
			}
		}
		d := at / -half
		id := inverse(d)
		put16(dst, toHalf(d))
		var q [32]byte
		for i, x := range src[:32] {
			q[i] = byte(min(int(float32(x*id)+half+0.5), 1<<bits-1))
		}
		putCodes(dst[2:size], &q, bits)
	}
}

// encodeAffine makes Q4_1 (bits 4) and Q5_1 (bits 5): the codes span [min, max].
func encodeAffine(dst []byte, src []float32, bits int) {
	size := blockBytes(4, bits)
	for ; len(src) > 0; dst, src = dst[size:], src[32:] {
		low, high := src[0], src[0]
		for _, x := range src[:32] {
			low, high = min(low, x), max(high, x)
		}
		d := (high - low) / float32(int(1)<<bits-1)
		id := inverse(d)
		put16(dst, toHalf(d))
		put16(dst[2:], toHalf(low))
		var q [32]byte
		for i, x := range src[:32] {
			q[i] = byte(min(int(float32((x-low)*id)+0.5), 1<<bits-1))
		}
		putCodes(dst[4:size], &q, bits)
	}
}

func blockBytes(head, bits int) int { return head + 16 + 4*(bits-4) }

// putCodes stores 32 codes: for 5 bits the fifth bits first, then the nibbles of values i and i+16 in byte i.
func putCodes(dst []byte, q *[32]byte, bits int) {
	if bits == 5 {
		var high uint32
		for i, c := range q {
			high |= uint32(c>>4) << i
		}
		binary.LittleEndian.PutUint32(dst, high)
		dst = dst[4:]
	}
	for i := range 16 {
		dst[i] = q[i]&15 | q[i+16]<<4
	}
}
