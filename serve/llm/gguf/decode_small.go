package gguf

import (
	"math"
)

// This file holds the types below four bits and those whose codes stand for a table of values. The rounding rule is that of decode.go.

// Q2_K: 16 bytes of scales (low nibble) and minima (high nibble) for groups of 16 values, 64 bytes of pairs, f16 d, f16 dmin;
// (d*scale)*q - dmin*min. Each half of 128 values uses 32 bytes of pairs: quarter k of it takes pair k of byte i.
func decodeQ2_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[84:] {
		scales, qs, d, dmin := src[:16], src[16:80], half(u16(src[80:])), half(u16(src[82:]))
		for g, s := range scales {
			ds, dm := float32(d*float32(s&15)), float32(dmin*float32(s>>4))
			shift := 2 * (g / 2 & 3)
			for i, q := range qs[g/8*32+g%2*16:][:16] {
				dst[g*16+i] = float32(ds*float32(q>>shift&3)) - dm
			}
		}
	}
}

// scale3K unpacks the 6-bit scale of the g-th group of 16 from a Q3_K block's 12 bytes: low nibbles in the first 8, high pairs in
// the last 4. Its value is scale-32.
func scale3K(g int, s []byte) int {
	low := s[g&7] >> (4 * (g >> 3)) & 15
	high := s[8+g&3] >> (2 * (g >> 2)) & 3
	return int(low|high<<4) - 32
}

// Q3_K: 32 bytes of third bits, 64 bytes of pairs, 12 bytes of 6-bit scales for groups of 16 values, f16 d; (d*scale)*q, where q is the
// pair, less 4 when the third bit is 0. Pairs lie as in Q2_K; bit k of byte i belongs to value i of the k-th run of 32.
func decodeQ3_K(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[110:] {
		high, qs, scales, d := src[:32], src[32:96], src[96:108], half(u16(src[108:]))
		for g := range 16 {
			ds := float32(d * float32(scale3K(g, scales)))
			shift, at := 2*(g/2&3), g%2*16
			for i, q := range qs[g/8*32+at:][:16] {
				dst[g*16+i] = ds * float32(int(q>>shift&3)+4*int(high[at+i]>>(g/2)&1)-4)
			}
		}
	}
}

// levels are the values of IQ4 codes: denser around zero, where weights are.
var levels = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// IQ4_NL: f16 d, 16 bytes of nibbles (low: values 0-15, high: 16-31); d*levels[q].
func decodeIQ4_NL(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[18:] {
		decodeCodes(dst, src[2:18], half(u16(src)), &levels)
	}
}

// IQ4_XS: f16 d, u16 of the scales' high pairs, 4 bytes of their low nibbles, 128 bytes of nibbles, 16 for each group of 32 as in
// IQ4_NL; (d*(scale-32))*levels[q].
func decodeIQ4_XS(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[256:], src[136:] {
		d, high := half(u16(src)), u16(src[2:])
		for g := range 8 {
			scale := int(src[4+g/2]>>(4*(g&1))&15) | int(high>>(2*g)&3)<<4
			decodeCodes(dst[g*32:], src[8+16*g:24+16*g], float32(d*float32(scale-32)), &levels)
		}
	}
}

// mxLevels are the values of E2M1, the 4-bit float of the OCP Microscaling specification 1.0, times 2.
var mxLevels = [16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// MXFP4: E8M0 exponent e, 16 bytes of nibbles as in IQ4_NL; 2^(e-128)*mxLevels[q]. The specification's NaN, e = 255, is 2^127 here and in
// the reference implementation.
func decodeMXFP4(dst []float32, src []byte) {
	for ; len(dst) > 0; dst, src = dst[32:], src[17:] {
		decodeCodes(dst, src[1:17], halfPower(src[0]), &mxLevels)
	}
}

// halfPower is 2^(e-128); the two lowest are subnormal.
func halfPower(e byte) float32 {
	if e < 2 {
		return math.Float32frombits(0x200000 << e)
	}
	return math.Float32frombits(uint32(e-1) << 23)
}

// decodeCodes looks up 32 codes: low nibbles, then high ones. The reference multiplies zeros too, so that -0 stays -0.
func decodeCodes(dst []float32, codes []byte, scale float32, table *[16]float32) {
	dst = dst[:32]
	for i, q := range codes {
		dst[i], dst[i+16] = scale*table[q&15], scale*table[q>>4]
	}
}
