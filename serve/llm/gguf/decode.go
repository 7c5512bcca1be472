package gguf

import (
	"encoding/binary"
	"math"
)

// The decoders take whole blocks. Products are rounded to float32 before they are added (the explicit conversions forbid
// a fused multiply-add), so every machine gives the bits of the reference implementation.

func u16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }

// half widens an IEEE 754 binary16. Shifted into place its exponent is 112 too low; the product by 2^112 is exact and
// makes subnormals right as well. Inf and NaN keep their bits.
func half(h uint16) float32 {
	sign, mag := uint32(h&0x8000)<<16, uint32(h&0x7fff)<<13
	if h&0x7c00 == 0x7c00 {
		return math.Float32frombits(sign | 0xff<<23 | mag)
	}
	return math.Float32frombits(sign | math.Float32bits(math.Float32frombits(mag)*0x1p112))
}

func bfloat(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

func decodeF32(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

func decodeF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = half(u16(src[2*i:]))
	}
}

func decodeBF16(dst []float32, src []byte) {
	for i := range dst {
		dst[i] = bfloat(u16(src[2*i:]))
	}
}

// Q8_0: f16 d, 32 int8 q; d*q.
func decodeQ8_0(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[34:] {
		d := half(u16(src))
		for i, q := range src[2:34] {
			dst[i] = d * float32(int8(q))
		}
	}
}

// Q4_0: f16 d, 16 bytes of nibbles (low: values 0-15, high: 16-31); d*(q-8).
func decodeQ4_0(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[18:] {
		d := half(u16(src))
		for i, q := range src[2:18] {
			dst[i] = d * float32(int(q&15)-8)
			dst[i+16] = d * float32(int(q>>4)-8)
		}
	}
}

// Q4_1: f16 d, f16 m, 16 bytes of nibbles; d*q + m.
func decodeQ4_1(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[20:] {
		d, m := half(u16(src)), half(u16(src[2:]))
		for i, q := range src[4:20] {
			dst[i] = float32(d*float32(q&15)) + m
			dst[i+16] = float32(d*float32(q>>4)) + m
		}
	}
}

// Q5_0: f16 d, 32 fifth bits, 16 bytes of nibbles; d*(q-16).
func decodeQ5_0(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[22:] {
		d, high := half(u16(src)), binary.LittleEndian.Uint32(src[2:])
		for i, q := range src[6:22] {
			dst[i] = d * float32(int(uint32(q&15)|high>>i&1<<4)-16)
			dst[i+16] = d * float32(int(uint32(q>>4)|high>>(i+16)&1<<4)-16)
		}
	}
}

// Q5_1: f16 d, f16 m, 32 fifth bits, 16 bytes of nibbles; d*q + m.
func decodeQ5_1(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[24:] {
		d, m, high := half(u16(src)), half(u16(src[2:])), binary.LittleEndian.Uint32(src[4:])
		for i, q := range src[8:24] {
			dst[i] = float32(d*float32(uint32(q&15)|high>>i&1<<4)) + m
			dst[i+16] = float32(d*float32(uint32(q>>4)|high>>(i+16)&1<<4)) + m
		}
	}
}

// scaleMin unpacks the 6-bit scale and minimum of the j-th group of 32 from a K block's 12 bytes.
func scaleMin(j int, s []byte) (scale, minimum uint8) {
	if j < 4 {
		return s[j] & 63, s[j+4] & 63
	}
	return s[j+4]&15 | s[j-4]>>6<<4, s[j+4]>>4 | s[j]>>6<<4
}

// Q4_K: f16 d, f16 dmin, 12 bytes of 6-bit scales and minima, 128 bytes of nibbles; groups 2k (low) and 2k+1 (high)
// share 32 bytes; (d*scale)*q - dmin*min.
func decodeQ4_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[144:] {
		d, dmin, scales, qs := half(u16(src)), half(u16(src[2:])), src[4:16], src[16:144]
		for g := range 8 {
			s, m := scaleMin(g, scales)
			ds, dm := float32(d*float32(s)), float32(dmin*float32(m))
			shift := 4 * (g & 1)
			for i, q := range qs[g/2*32 : g/2*32+32] {
				dst[g*32+i] = float32(ds*float32(q>>shift&15)) - dm
			}
		}
	}
}

// Q5_K: as Q4_K, with 32 bytes of fifth bits (bit g of byte i belongs to value i of group g) before the nibbles.
func decodeQ5_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[176:] {
		d, dmin, scales, high, qs := half(u16(src)), half(u16(src[2:])), src[4:16], src[16:48], src[48:176]
		for g := range 8 {
			s, m := scaleMin(g, scales)
			ds, dm := float32(d*float32(s)), float32(dmin*float32(m))
			shift := 4 * (g & 1)
			for i, q := range qs[g/2*32 : g/2*32+32] {
				dst[g*32+i] = float32(ds*float32(q>>shift&15|high[i]>>g&1<<4)) - dm
			}
		}
	}
}

// Q6_K: 128 bytes of low nibbles, 64 bytes of high pairs, 16 int8 scales, f16 d; (d*scale)*(q-32). Each half of 128
// values uses 64 low and 32 high bytes: quarter k of it takes nibble k/2 of low[32*(k%2)+i] and pair k of high[i].
func decodeQ6_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[210:] {
		d := half(u16(src[208:]))
		for h := range 2 {
			low, high, scales := src[h*64:h*64+64], src[128+h*32:160+h*32], src[192+h*8:200+h*8]
			for k := range 4 {
				for i := range 32 {
					ds := float32(d * float32(int8(scales[2*k+i/16])))
					q := low[32*(k&1)+i]>>(4*(k>>1))&15 | high[i]>>(2*k)&3<<4
					dst[h*128+k*32+i] = ds * float32(int(q)-32)
				}
			}
		}
	}
}
