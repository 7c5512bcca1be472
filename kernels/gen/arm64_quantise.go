package main

// panelsOfBytes are what Go calls once a panel.
func (v neon) panelsOfBytes() {
	v.table("flip", []uint32{0x80808080, 0x0f0f0f0f})

	v.text("signInt8NEON", "(dst, src *float32, n int)", 24)
	v.note("n bytes, a multiple of 64, of weight + 128 become the weight")
	v.args("dst src n", "R0 R1 R2")
	v.constants("flip", "R3", 31, 1)
	v.loop("R2", 64, func() {
		v.load("R1", "+", 0, 4)
		for n := 0; n < 4; n++ {
			v.n("eor", n, n, 31)
		}
		v.store("R0", "+", 0, 4)
	})
	v.ret()

	for _, flip := range []bool{true, false} {
		name := "zipBF16MM"
		if flip {
			name = "zipInt8MM"
		}
		v.text(name, "(dst, src *float32, steps int)", 24)
		v.note("each step zips two rows of 32 words: dst gets [16 pairs of columns][2 columns][2 rows]")
		v.args("dst src steps", "R0 R1 R2")
		v.i("ADD", 128, "R1", "R5")
		if flip {
			v.constants("flip", "R3", 31, 1)
		}
		v.loop("R2", 1, func() {
			for half := 0; half < 2; half++ {
				v.load("R1", "+", 0, 4)
				v.load("R5", "+", 4, 4)
				if flip {
					for n := 0; n < 8; n++ {
						v.n("eor", n, n, 31)
					}
				}
				v.zips()
			}
			v.i("ADD", 128, "R1")
			v.i("ADD", 128, "R5")
		})
		v.ret()
	}
}

// zips interleaves the words of V0-V3 and V4-V7, stored at R0.
func (v neon) zips() {
	for n := 0; n < 4; n++ {
		v.n("zip1", 8+2*n, n, 4+n)
		v.n("zip2", 9+2*n, n, 4+n)
	}
	v.store("R0", "+", 8, 4)
	v.store("R0", "+", 12, 4)
}

// quantise brings activations to 8 bits with a scale per 32 values, as requantiseGeneric says.
func (v neon) quantise() {
	v.table("quantised", []uint32{0x7fffffff, floatBits(1e-30), floatBits(127), 0x01010101})

	for _, twice := range []bool{false, true} {
		name := "quantiseDOT"
		if twice {
			name = "quantiseMM"
		}
		v.text(name, "(q, aux, x *float32, n int)", 32)
		v.note("n is a multiple of 32; q gets n bytes, aux for each group the scale, and the scale times the sum of the bytes")
		if twice {
			v.note("(each of the two twice)")
		}
		v.args("q aux x n", "R0 R1 R2 R3")
		v.constants("quantised", "R4", 28, 4)
		v.loop("R3", 32, func() {
			v.groupScale()
			for n := 0; n < 8; n++ {
				v.lane("fmul", n, n, 27, 0)
				v.n("fcvtns", n, n)
			}
			for n := 0; n < 4; n++ {
				v.n("sqxtn", 16+n, 2*n)
				v.n("sqxtn2", 16+n, 2*n+1)
			}
			for n := 0; n < 2; n++ {
				v.n("sqxtnb", n, 16+2*n)
				v.n("sqxtnb2", n, 17+2*n)
			}
			v.store("R0", "+", 0, 2)
			v.zero(2)
			v.n("sdot", 2, 0, 31)
			v.n("sdot", 2, 1, 31)
			v.n("addv", 2, 2)
			v.n("scvtf", 2, 2)
			v.i("FMULS", "F2", "F26", "F2")
			if !twice {
				v.i("FSTPS.P", "(F26, F2)", "8(R1)")
				return
			}
			v.n("zip1", 2, 26, 2)
			v.n("zip1", 2, 2, 2)
			v.store("R1", "+", 2, 1)
		})
		v.ret()
	}

	v.text("requantiseNEON", "(dst, x *float32, n int)", 24)
	v.note("dst = scale * q, for products in float32 that round as the 8-bit ones do")
	v.args("dst x n", "R0 R2 R3")
	v.constants("quantised", "R4", 28, 4)
	v.loop("R3", 32, func() {
		v.groupScale()
		for n := 0; n < 8; n++ {
			v.lane("fmul", n, n, 27, 0)
			v.n("frintn", n, n)
			v.lane("fmul", n, n, 26, 0)
		}
		v.store("R0", "+", 0, 4)
		v.store("R0", "+", 4, 4)
	})
	v.ret()
}

// groupScale loads 32 values into V0-V7 and leaves their scale in V26 and its inverse in V27. Magnitudes are compared as integers,
// so that a NaN or an infinity is the largest.
func (v neon) groupScale() {
	v.load("R2", "+", 0, 4)
	v.load("R2", "+", 4, 4)
	for n := 0; n < 8; n++ {
		v.n("and", 16+n, n, 28)
	}
	for w := 4; w > 0; w /= 2 {
		for n := 0; n < w; n++ {
			v.n("umax", 16+n, 16+n, 16+n+w)
		}
	}
	v.n("umax", 16, 16, 29)
	v.n("umaxv", 16, 16)
	v.i("FDIVS", "F30", "F16", "F26")
	v.i("FDIVS", "F16", "F30", "F27")
}
