package main

// panelsARM make of a panel of 4- and 6-bit weights what the tiles read: bytes, and float32 scales. They run once a panel, which many
// rows then use. DOT functions write what tileDOT reads, MM functions what tileMM reads (arm64_int8.go has both orders).
func panelsARM() neon {
	v := newNeon("panels_arm64.s", "Panels of 4- and 6-bit weights as bytes and float32 scales.")
	v.table("masks", []uint32{0x0f0f0f0f, 0x30303030, 0x20202020, 0x10101010})
	for _, pairs := range []bool{false, true} {
		v.nibbles(pairs)
		v.fiveBits(pairs)
		v.sixBits(pairs)
		v.scalesQ4(pairs)
		v.scalesQ4K(pairs)
		v.scalesQ6K(pairs)
	}
	v.floats()
	return v
}

func named(name string, pairs bool) string {
	if pairs {
		return name + "MM"
	}
	return name + "DOT"
}

// The registers of the masks.
const (
	maskNibble = 29 + iota
	maskUpper
	thirtyTwo
)

// nibbles: lower halves of bytes are inputs 0 to 15 of a group, upper ones 16 to 31.
func (v neon) nibbles(pairs bool) {
	v.text(named("nibbles", pairs), "(dst, src *float32, step uintptr, groups int)", 32)
	v.note("src: groups of [4][32] words of eight weights, step bytes apart; dst: 32 rows of 32 bytes for each")
	v.args("dst src step groups", "R0 R1 R6 R2")
	v.constants("masks", "R3", maskNibble, 3)
	v.i("SUB", 512, "R6")
	v.loop("R2", 1, func() {
		v.eachWords(pairs, func(r, half, first, from, high int) {
			for n := range 4 {
				v.nibble(first+n, from+n, high)
			}
		})
		v.i("ADD", "R6", "R1")
	})
	v.ret()
}

// nibble takes the lower or upper halves of bytes.
func (v neon) nibble(d, n, high int) {
	if high == 1 {
		v.shift("ushr", d, n, 4)
		n = d
	}
	v.n("and", d, n, maskNibble)
}

// eachWords goes through the [4][32] words of a group at R1: make brings four registers of words of row r, half a row of columns,
// beginning at `from`, to bytes of the lower (high 0) or upper halves in registers from `first` on. The bytes go to R0.
func (v neon) eachWords(pairs bool, make func(r, half, first, from, high int)) {
	v.i("ADD", 512, "R0", "R9")
	if !pairs {
		for n := range 8 {
			v.load("R1", "+", 16, 4)
			make(n/2, n%2, 0, 16, 0)
			v.store("R0", "+", 0, 4)
			make(n/2, n%2, 0, 16, 1)
			v.store("R9", "+", 0, 4)
		}
	} else {
		for r := 0; r < 4; r += 2 {
			v.i("ADD", 128, "R1", "R5")
			for half := range 2 {
				v.load("R1", "+", 16, 4)
				v.load("R5", "+", 20, 4)
				make(r, half, 0, 16, 0)
				make(r+1, half, 4, 20, 0)
				v.zips()
				make(r, half, 0, 16, 1)
				make(r+1, half, 4, 20, 1)
				v.i("MOVD", "R0", "R10")
				v.i("MOVD", "R9", "R0")
				v.zips()
				v.i("MOVD", "R0", "R9")
				v.i("MOVD", "R10", "R0")
			}
			v.i("ADD", 128, "R1")
		}
	}
	v.i("MOVD", "R9", "R0")
}

// fiveBits: beside the nibbles, a row of words with one bit for each input.
func (v neon) fiveBits(pairs bool) {
	v.text(named("fiveBits", pairs), "(dst, src *float32, groups int)", 24)
	v.note("src: groups of [4][32] words of lower bits and [32] words of fifth ones; dst: 32 rows of 32 bytes for each")
	v.args("dst src groups", "R0 R1 R2")
	v.constants("masks", "R3", maskNibble-1, 4)
	v.mov(maskUpper, maskNibble+2) // the fourth constant
	v.mov(maskNibble, maskNibble-1)
	v.loop("R2", 1, func() {
		v.i("ADD", 512, "R1", "R11")
		v.eachWords(pairs, func(r, half, first, from, high int) {
			for n := range 4 {
				v.nibble(first+n, from+n, high)
				v.i("FMOVQ", mem("R11", 64*half+16*n), "F28")
				switch bit := 4*high + r; {
				case bit < 4:
					v.shift("shl", 28, 28, 4-bit)
				case bit > 4:
					v.shift("ushr", 28, 28, bit-4)
				}
				v.n("and", 28, 28, maskUpper)
				v.n("orr", first+n, first+n, 28)
			}
		})
		v.i("ADD", 128, "R1")
	})
	v.ret()
}

// sixBits: beside the nibbles, two rows of words with two bits for each input, by fours.
func (v neon) sixBits(pairs bool) {
	v.text(named("sixBits", pairs), "(dst, src *float32, groups int)", 24)
	v.note("src: groups of [4][32] words of lower bits and [2][32] words of upper ones; dst: 32 rows of 32 bytes for each, less 32")
	v.args("dst src groups", "R0 R1 R2")
	v.constants("masks", "R3", maskNibble, 3)
	v.loop("R2", 1, func() {
		v.i("ADD", 512, "R1", "R11")
		v.eachWords(pairs, func(r, half, first, from, high int) {
			for n := range 4 {
				v.nibble(first+n, from+n, high)
				v.i("FMOVQ", mem("R11", 128*high+64*half+16*n), "F28")
				switch { // the two bits of row r, to where 16 and 32 are
				case r < 2:
					v.shift("shl", 28, 28, 4-2*r)
				case r == 3:
					v.shift("ushr", 28, 28, 2)
				}
				v.n("and", 28, 28, maskUpper)
				v.n("orr", first+n, first+n, 28)
				v.n("subb", first+n, first+n, thirtyTwo)
			}
		})
		v.i("ADD", 256, "R1")
	})
	v.ret()
}

// twice brings each pair of the eight columns in two registers into a register of its own, two times.
func (v neon) twice(to, from int) {
	for m := range 2 {
		v.n("zip1d", to+2*m, from+m, from+m)
		v.n("zip2d", to+2*m+1, from+m, from+m)
	}
}

// putScaleMin stores scales V4, V5 and minima V6, V7 of eight columns, the n-th of a group.
func (v neon) putScaleMin(pairs bool, n int) {
	if !pairs {
		v.i("FSTPQ", "(F4, F5)", mem("R0", 32*n))
		v.i("FSTPQ", "(F6, F7)", mem("R0", 128+32*n))
		return
	}
	v.twice(16, 4)
	v.twice(20, 6)
	for m := range 4 {
		v.i("FSTPQ.P", "("+fr(16+m)+", "+fr(20+m)+")", "32(R0)")
	}
}

func (v neon) scalesQ4(pairs bool) {
	v.text(named("scalesQ4", pairs), "(dst, src *float32, groups int)", 24)
	v.note("src: groups of 640 bytes, of which the last 128 are [32] scales and [32] minima in float16")
	v.args("dst src groups", "R0 R1 R2")
	v.loop("R2", 1, func() {
		v.i("ADD", 512, "R1")
		v.i("ADD", 64, "R1", "R5")
		for n := range 4 {
			v.i("FMOVQ.P", "16(R1)", "F0")
			v.i("FMOVQ.P", "16(R5)", "F1")
			v.n("fcvtl", 4, 0)
			v.n("fcvtl2", 5, 0)
			v.n("fcvtl", 6, 1)
			v.n("fcvtl2", 7, 1)
			v.putScaleMin(pairs, n)
		}
		if !pairs {
			v.i("ADD", 256, "R0")
		}
		v.i("ADD", 64, "R1")
	})
	v.ret()
}

// scalesQ4K: d and dmin of a block in float16, and the scales and minima of its groups in bytes.
func (v neon) scalesQ4K(pairs bool) {
	v.text(named("scalesQ4K", pairs), "(dst, src *float32, blocks int)", 24)
	v.note("src: blocks of [32] d and [32] dmin in float16, [8][32] scales and [8][32] minima in bytes; minima are stored negative")
	v.args("dst src blocks", "R0 R1 R2")
	v.zero(31)
	v.loop("R2", 1, func() {
		v.i("ADD", 128, "R1", "R5")
		v.i("MOVD", 8, "R6")
		v.loop("R6", 1, func() {
			for n := range 4 {
				v.i("FMOVQ", mem("R1", 16*n), "F0")
				v.i("FMOVQ", mem("R1", 64+16*n), "F1")
				v.i("FMOVD", mem("R5", 8*n), "F2")
				v.i("FMOVD", mem("R5", 256+8*n), "F3")
				for m := range 2 { // scales, minima
					v.n("zip1b", 2+m, 2+m, 31)
					v.n("zip1h", 20, 2+m, 31)
					v.n("zip2h", 21, 2+m, 31)
					v.n("scvtf", 20, 20)
					v.n("scvtf", 21, 21)
					v.n("fcvtl", 22, m)
					v.n("fcvtl2", 23, m)
					v.n("fmul", 4+2*m, 20, 22)
					v.n("fmul", 5+2*m, 21, 23)
				}
				v.n("fneg", 6, 6)
				v.n("fneg", 7, 7)
				v.putScaleMin(pairs, n)
			}
			if !pairs {
				v.i("ADD", 256, "R0")
			}
			v.i("ADD", 32, "R5")
		})
		v.i("ADD", 640, "R1")
	})
	v.ret()
}

// scalesQ6K: d of a block in float16, and a scale for each 16 inputs in signed bytes.
func (v neon) scalesQ6K(pairs bool) {
	v.text(named("scalesQ6K", pairs), "(dst, src *float32, blocks int)", 24)
	v.note("src: blocks of [32] d in float16 and [16][32] scales in signed bytes")
	v.args("dst src blocks", "R0 R1 R2")
	v.loop("R2", 1, func() {
		v.i("ADD", 64, "R1", "R5")
		v.i("MOVD", 16, "R6")
		v.loop("R6", 1, func() {
			for n := range 4 {
				v.i("FMOVQ", mem("R1", 16*n), "F0")
				v.i("FMOVD", mem("R5", 8*n), "F2")
				v.n("sxtlb", 2, 2)
				v.n("sxtlh", 20, 2)
				v.n("sxtl2h", 21, 2)
				v.n("scvtf", 20, 20)
				v.n("scvtf", 21, 21)
				v.n("fcvtl", 22, 0)
				v.n("fcvtl2", 23, 0)
				v.n("fmul", 4, 20, 22)
				v.n("fmul", 5, 21, 23)
				if pairs {
					v.twice(16, 4)
					v.store("R0", "+", 16, 4)
				} else {
					v.i("FSTPQ.P", "(F4, F5)", "32(R0)")
				}
			}
			v.i("ADD", 32, "R5")
		})
		v.i("ADD", 576, "R1")
	})
	v.ret()
}

// floats make float32 panels of what the DOT functions wrote, for processors without SDOT.
func (v neon) floats() {
	for _, six := range []bool{false, true} {
		name := "floatsOf4NEON"
		if six {
			name = "floatsOf6NEON"
		}
		v.text(name, "(dst, bytes, scales *float32, groups int)", 32)
		v.note("bytes: [group][8][32] words; scales: [group][2][32], scale and minimum, or the scales of each 16 inputs")
		v.args("dst bytes scales groups", "R0 R1 R3 R2")
		v.i("MOVD", 128, "R6")
		v.loop("R2", 1, func() {
			v.i("MOVD", 8, "R7")
			v.i("MOVD", "R0", "R8")
			v.loop("R7", 1, func() { // four columns
				v.i("FMOVQ", mem("R3", 128), "F21")
				v.i("FMOVQ.P", "16(R3)", "F20")
				v.i("MOVD", "R1", "R4")
				v.i("MOVD", "R8", "R5")
				for q := range 8 {
					v.load("R4", "R6", 0, 1)
					v.n("sxtlb", 1, 0)
					v.n("sxtl2b", 2, 0)
					v.n("sxtlh", 16, 1)
					v.n("sxtl2h", 17, 1)
					v.n("sxtlh", 18, 2)
					v.n("sxtl2h", 19, 2)
					// A register has four inputs of one column: turn.
					v.n("trn1", 4, 16, 17)
					v.n("trn2", 5, 16, 17)
					v.n("trn1", 6, 18, 19)
					v.n("trn2", 7, 18, 19)
					v.n("zip1d", 16, 4, 6)
					v.n("zip1d", 17, 5, 7)
					v.n("zip2d", 18, 4, 6)
					v.n("zip2d", 19, 5, 7)
					for b := range 4 {
						v.n("scvtf", 16+b, 16+b)
						if six {
							v.n("fmul", 16+b, 16+b, 20+q/4)
							v.store("R5", "R6", 16+b, 1)
							continue
						}
						v.mov(22, 21)
						v.n("fmla", 22, 16+b, 20)
						v.store("R5", "R6", 22, 1)
					}
				}
				v.i("ADD", 16, "R1")
				v.i("ADD", 16, "R8")
			})
			v.i("ADD", 1024-128, "R1")
			v.i("ADD", 256-128, "R3")
			v.i("ADD", 4096, "R0")
		})
		v.ret()
	}
}
