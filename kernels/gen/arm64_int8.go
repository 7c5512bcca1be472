package main

import "fmt"

// The products of 8-bit activations sum the 32 values of a group as integers, in V0-V11, and the groups as float32, in V12-V23.
// Beside A there is aux with each group's scale of each row, and the scale times the sum of the group's bytes, for Q4_1's minima.
// The weights are bytes too, signed, which Go made of a panel before (signInt8, zipInt8, bytesQ4 and pairsQ4 below): beside the
// many rows that use them this costs little, and all tiles share it.

const int8ParamsARM = "(c *float32, ldc uintptr, a, aux, b, scales *float32, groups, rows int, accumulate bool)"

// firstFloat is the first register of float sums.
const firstFloat = 12

func (v neon) int8Args() {
	v.args("c ldc a aux b scales groups rows", "R0 R1 R2 R12 R3 R13 R5 R6")
	v.i("MOVBU", "accumulate+64(FP)", "R7")
}

func gemmInt8ARM() neon {
	v := newNeon("gemm_int8_arm64.s", "C (+)= A B with signed bytes, a scale for each row and 32 values of k, and the weights' scales: one for each column (Int8)\n"+
		"or for each column and group, with a minimum (Q4). DOT: SDOT, tiles of up to 6 rows x 8 or 3 x 16; MM: SMMLA, 6 x 8 or 2 x 16.")
	for _, kind := range []string{"Int8", "Q4", "Q6"} {
		for _, s := range []struct{ cols, rows int }{{16, 3}, {8, 6}} {
			v.tileDOT(kind, s.cols, s.rows)
		}
		for _, s := range []struct{ cols, pairs int }{{16, 1}, {8, 3}} {
			v.tileMM(kind, s.cols, s.pairs)
		}
	}
	v.panelsOfBytes()
	v.quantise()
	return v
}

// tileDOT multiplies A [k/4][rows] by B [k/4][32], both in words of four bytes, with SDOT. aux is [group][2][rows]. scales is [32] for
// Int8, [group][2][32] with the minima for Q4, and [group][2][32] with the scales of each 16 inputs for Q6.
func (v neon) tileDOT(kind string, cols, most int) {
	nv, parts := cols/4, partsOf(kind)
	v.text(fmt.Sprintf("gemm%sx%dDOT", kind, cols), int8ParamsARM, 65)
	v.int8Args()
	v.i("MOVD", 128, "R4")
	v.dispatch(most, func(rows int) {
		for n := 0; n < rows*nv; n++ {
			v.zero(firstFloat + n)
		}
		v.loop("R5", 1, func() {
			for part := range parts {
				for n := 0; n < rows*nv; n++ {
					v.zero(n)
				}
				a := &stream{v: v, total: 2 * rows / parts}
				for q := 0; q < 8/parts; q++ {
					b := 24 + nv*(q%2)*(4-nv)/2
					v.load("R3", "R4", b, nv)
					for r := 0; r < rows; r++ {
						e := q*rows + r
						reg := a.use(e / 4)
						for n := 0; n < nv; n++ {
							v.lane("sdot", nv*r+n, b+n, reg, e%4)
						}
					}
				}
				v.scaleDOT(kind, rows, nv, part == parts-1)
			}
		})
		if kind == "Int8" {
			v.load("R13", "", 24, nv)
			for r := 0; r < rows; r++ {
				for n := 0; n < nv; n++ {
					v.n("fmul", firstFloat+nv*r+n, firstFloat+nv*r+n, 24+n)
				}
			}
		}
		plain := v.label("plain")
		v.i("CBZ", "R7", plain)
		v.i("MOVD", "R0", "R8")
		v.eachRow(rows, nv, "R8", v.load)
		for n := 0; n < rows*nv; n++ {
			v.n("fadd", firstFloat+n, n, firstFloat+n)
		}
		v.at(plain)
		v.eachRow(rows, nv, "R0", func(ptr, step string, first, count int) { v.store(ptr, step, firstFloat+first, count) })
		v.ret()
	})
}

// partsOf is how many scales the 32 values of a group have in a weight.
func partsOf(kind string) int {
	if kind == "Q6" {
		return 2
	}
	return 1
}

// scaleDOT adds the integer sums, times their scales, to the float ones; after the last part of a group aux goes on to the next.
func (v neon) scaleDOT(kind string, rows, nv int, last bool) {
	scale := v.lanesOf("R12", rows, 28)
	var sum func(r int) int
	switch {
	case kind == "Q4":
		sum = v.lanesOf("R12", rows, 30)
	case last:
		v.i("ADD", 4*rows, "R12")
	default:
		v.i("SUB", 4*rows, "R12")
	}
	for n := 0; n < rows*nv; n++ {
		v.n("scvtf", n, n)
	}
	for first := 0; first < nv; first += 2 {
		each := func(f func(r, n int)) {
			for r := 0; r < rows; r++ {
				f(r, first)
				f(r, first+1)
			}
		}
		if kind != "Int8" {
			v.i("FLDPQ", mem("R13", 16*first), "(F24, F25)")
			each(func(r, n int) { v.n("fmul", nv*r+n, nv*r+n, 24+n-first) })
		}
		each(func(r, n int) { v.lane("fmla", firstFloat+nv*r+n, nv*r+n, 28+scale(r)/4, scale(r)%4) })
		if kind == "Q4" {
			v.i("FLDPQ", mem("R13", 128+16*first), "(F26, F27)")
			each(func(r, n int) { v.lane("fmla", firstFloat+nv*r+n, 26+n-first, 30+sum(r)/4, sum(r)%4) })
		}
	}
	switch kind {
	case "Q4":
		v.i("ADD", 256, "R13")
	case "Q6":
		v.i("ADD", 128, "R13")
	}
}

// lanesOf loads so many words from ptr, which moves past them, into one or two registers; the function it returns gives the place of
// each, in words from the first register on.
func (v neon) lanesOf(ptr string, rows, reg int) func(r int) int {
	place, at := make([]int, rows), 0
	for r := 0; r < rows; {
		op, words := "FMOVS.P", 1
		switch {
		case rows-r >= 4:
			op, words = "FMOVQ.P", 4
		case rows-r >= 2:
			op, words = "FMOVD.P", 2
		}
		v.i(op, fmt.Sprintf("%d(%s)", 4*words, ptr), fr(reg+at))
		for n := 0; n < words; n++ {
			place[r] = 4*at + n
			r++
		}
		at++
	}
	return func(r int) int { return place[r] }
}

// tileMM: A [k/8][pairs of rows][2][8] and B [k/8][16 pairs of columns][2][8] bytes; aux [group][2][pairs] vectors of {row 0, row 0,
// row 1, row 1}; scales [32] for Int8, else vectors of {column 0, column 1, column 0, column 1}: [group][16 pairs of columns][2], with
// the minima, for Q4, and [group][2][16] with those of each 16 inputs for Q6.
func (v neon) tileMM(kind string, cols, most int) {
	nv, parts := cols/2, partsOf(kind)
	v.text(fmt.Sprintf("gemm%sx%dMM", kind, cols), int8ParamsARM, 65)
	v.int8Args()
	v.i("MOVD", "R6", "R11")
	v.i("ADD", 1, "R6")
	v.i("LSR", 1, "R6")
	v.i("MOVD", 256-16*(nv-4), "R4")
	v.dispatch(most, func(pairs int) {
		for n := 0; n < pairs*nv; n++ {
			v.zero(firstFloat + n)
		}
		v.loop("R5", 1, func() {
			for part := range parts {
				for n := 0; n < pairs*nv; n++ {
					v.zero(n)
				}
				a := &stream{v: v, total: 4 * pairs / parts}
				for q := 0; q < 4/parts; q++ {
					for first := 0; first < nv; first += 4 {
						next := "+"
						if first+4 == nv {
							next = "R4"
						}
						v.load("R3", next, 24, 4)
						for p := 0; p < pairs; p++ {
							reg := a.use(q*pairs + p)
							for n := 0; n < 4; n++ {
								v.n("smmla", nv*p+first+n, reg, 24+n)
							}
						}
					}
				}
				v.scaleMM(kind, pairs, nv, part == parts-1)
			}
		})
		if kind == "Int8" {
			v.load("R13", "", 0, nv/2)
		}
		v.storePairsFrom(firstFloat, pairs, nv, func(n int) {
			if kind == "Int8" {
				v.n("fmul", 28, 28, n)
				v.n("fmul", 29, 29, n)
			}
			plain := v.label("plain")
			v.i("CBZ", "R7", plain)
			v.load("R0", "", 30, 1)
			v.load("R9", "", 31, 1)
			v.n("fadd", 28, 30, 28)
			v.n("fadd", 29, 31, 29)
			v.at(plain)
		})
	})
}

// scaleMM is scaleDOT for sums of pairs.
func (v neon) scaleMM(kind string, pairs, nv int, last bool) {
	const scale, sum = 26, 29
	if last {
		v.load("R12", "+", scale, pairs)
	} else {
		v.load("R12", "", scale, pairs)
	}
	switch {
	case kind == "Q4":
		v.load("R12", "+", sum, pairs)
	case last:
		v.i("ADD", 16*pairs, "R12")
	}
	for n := 0; n < pairs*nv; n++ {
		v.n("scvtf", n, n)
	}
	for n := 0; n < nv; n++ {
		switch kind {
		case "Q4":
			v.i("FLDPQ", mem("R13", 32*n), "(F24, F25)")
		case "Q6":
			v.i("FMOVQ", mem("R13", 16*n), "F24")
		}
		for p := 0; p < pairs && kind != "Int8"; p++ {
			v.n("fmul", nv*p+n, nv*p+n, 24)
		}
		for p := 0; p < pairs; p++ {
			v.n("fmla", firstFloat+nv*p+n, nv*p+n, scale+p)
		}
		for p := 0; p < pairs && kind == "Q4"; p++ {
			v.n("fmla", firstFloat+nv*p+n, 25, sum+p)
		}
	}
	switch kind {
	case "Q4":
		v.i("ADD", 512, "R13")
	case "Q6":
		v.i("ADD", 256, "R13")
	}
}
