package main

// Constants of the roundings, V28-V31.
const (
	armIntOne = iota + 28
	armHalfLess
	armQuiet
	armHighHalf
)

func expandARM() neon {
	v := newNeon("expand_arm64.s", "Conversions between float32 and the packed forms of weights and activations.")
	v.table("roundings", []uint32{1, 0x7fff, 0x400000, 0xffff0000})
	v.table("bytes", []uint32{255, floatBits(128)})

	v.text("expandBF16NEON", "(dst, src *float32, n int)", 24)
	v.note("src holds n/32 rows of 32 pairs; dst gets a row of 32 first halves, then a row of 32 second halves")
	v.args("dst src n", "R0 R1 R2")
	v.i("ADD", 128, "R0", "R5")
	v.constants("roundings", "R3", armIntOne, 4)
	v.loop("R2", 32, func() {
		for half := 0; half < 2; half++ {
			v.load("R1", "+", 0, 4)
			for n := 0; n < 4; n++ {
				v.shift("shl", 4+n, n, 16)
				v.n("and", n, n, armHighHalf)
			}
			v.store("R0", "+", 4, 4)
			v.store("R5", "+", 0, 4)
		}
		v.i("ADD", 128, "R0")
		v.i("ADD", 128, "R5")
	})
	v.ret()

	v.text("roundBF16NEON", "(dst, x *float32, n int)", 24)
	v.note("dst = x rounded to bfloat16, ties to even; NaN stays NaN")
	v.args("dst x n", "R0 R1 R2")
	v.constants("roundings", "R3", armIntOne, 4)
	v.each("R2", 4, func(k int) {
		v.read("R1", 0, k, true)
		times(k, func(n int) { v.roundBF16(n, 4+n); v.n("and", n, n, armHighHalf) })
		v.write("R0", 0, k)
	})
	v.ret()

	v.text("bf16FromF32NEON", "(dst *uint16, src *float32, n int)", 24)
	v.note("n is a multiple of 8")
	v.args("dst src n", "R0 R1 R2")
	v.constants("roundings", "R3", armIntOne, 4)
	v.loop("R2", 8, func() {
		v.load("R1", "+", 0, 2)
		v.roundBF16(0, 2)
		v.roundBF16(1, 3)
		v.n("uzp2h", 0, 0, 1)
		v.store("R0", "+", 0, 1)
	})
	v.ret()

	v.text("bf16FromF32MM", "(dst *uint16, src *float32, n int)", 24)
	v.note("the same by the processor's own rounding; n is a multiple of 8")
	v.args("dst src n", "R0 R1 R2")
	v.loop("R2", 8, func() {
		v.load("R1", "+", 0, 2)
		v.n("bfcvtn", 2, 0)
		v.n("bfcvtn2", 2, 1)
		v.store("R0", "+", 2, 1)
	})
	v.ret()

	v.text("f32FromBF16NEON", "(dst *float32, src *uint16, n int)", 24)
	v.note("n is a multiple of 8")
	v.args("dst src n", "R0 R1 R2")
	v.zero(3)
	v.loop("R2", 8, func() {
		v.load("R1", "+", 2, 1)
		v.n("zip1h", 0, 3, 2)
		v.n("zip2h", 1, 3, 2)
		v.store("R0", "+", 0, 2)
	})
	v.ret()

	v.text("f32FromF16NEON", "(dst *float32, src *uint16, n int)", 24)
	v.note("n is a multiple of 8")
	v.args("dst src n", "R0 R1 R2")
	v.loop("R2", 8, func() {
		v.load("R1", "+", 2, 1)
		v.n("fcvtl", 0, 2)
		v.n("fcvtl2", 1, 2)
		v.store("R0", "+", 0, 2)
	})
	v.ret()

	v.text("pairBF16NEON", "(dst *uint32, low, high *float32, n int)", 32)
	v.note("dst has low and high, rounded, in its lower and upper half; n is a multiple of 4")
	v.args("dst low high n", "R0 R1 R4 R2")
	v.constants("roundings", "R3", armIntOne, 4)
	v.loop("R2", 4, func() {
		v.load("R1", "+", 0, 1)
		v.load("R4", "+", 1, 1)
		v.roundBF16(0, 2)
		v.roundBF16(1, 3)
		v.shift("ushr", 0, 0, 16)
		v.n("and", 1, 1, armHighHalf)
		v.n("orr", 0, 0, 1)
		v.store("R0", "+", 0, 1)
	})
	v.ret()
	v.expandWeights()
	return v
}

// roundBF16 rounds register a to bfloat16 in its upper half, using t: add half a unit, less one when the last bit kept is even. A
// NaN could be carried to infinity, so it is made quiet and kept.
func (v neon) roundBF16(a, t int) {
	v.shift("ushr", t, a, 16)
	v.n("and", t, t, armIntOne)
	v.n("add", t, t, armHalfLess)
	v.n("add", t, t, a)
	v.n("fcmeq", 27, a, a)
	v.n("orr", a, a, armQuiet)
	// Where a equals itself, it is t.
	v.n("bit", a, t, 27)
}

// expandWeights makes panels of float32 of 8-bit weights, for processors without SDOT.
func (v neon) expandWeights() {
	v.text("expandInt8NEON", "(dst, src, scales *float32, n int)", 32)
	v.note("src holds n/32 rows of 32 words of four weights + 128; dst gets four rows of 32 for each")
	v.args("dst src scales n", "R0 R1 R3 R2")
	v.constants("bytes", "R4", 29, 2)
	v.i("MOVD", 128, "R6")
	v.loop("R2", 32, func() {
		v.i("MOVD", "R3", "R4")
		for part := 0; part < 8; part++ {
			v.load("R1", "+", 0, 1)
			v.load("R4", "+", 1, 1)
			if part > 0 {
				v.i("ADD", 16, "R0")
			}
			v.i("MOVD", "R0", "R5")
			for b := 0; b < 4; b++ {
				v.byteOf(2+b, 0, 8*b, 29)
				v.n("fsub", 2+b, 2+b, 30)
				v.n("fmul", 2+b, 2+b, 1)
				v.store("R5", "R6", 2+b, 1)
			}
		}
		v.i("ADD", 512-112, "R0")
	})
	v.ret()
}

// byteOf sets d to the value of n's bits from `by` on that mask keeps.
func (v neon) byteOf(d, n, by, mask int) {
	if by > 0 {
		v.shift("ushr", d, n, by)
		n = d
	}
	v.n("and", d, n, mask)
	v.n("scvtf", d, d)
}
