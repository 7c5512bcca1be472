package main

import "fmt"

// The arm64 tiles keep 24 registers of sums: 12 rows by 8 columns, 6 by 16 or 3 by 32 in float32. V24-V27 hold B, V28-V31 hold A.
// A is packed [k][rows], so four steps of k are as many whole vectors as there are rows; each product takes one lane of them.
// The chain of an element of C is the same in every shape, as on amd64.

// widthOf is the most columns that a tile of so many rows (or pairs of rows, with half the columns) may have.
var shapesARM = []struct{ cols, rows int }{{32, 3}, {16, 6}, {8, 12}}

const tileParams = "(c *float32, ldc uintptr, a, b *float32, ldb uintptr, k, rows int, accumulate bool)"

// stream gives the vectors of packed A in order: by pairs, each as soon as the registers of the pair before last are free.
type stream struct {
	v           neon
	total, done int // vectors of this turn of the loop, and those loaded
}

// use makes vector j ready and returns its register.
func (s *stream) use(j int) int {
	for s.done < s.total && s.done < j+4-j%2 {
		r := 28 + s.done%4
		if s.done+1 < s.total {
			s.v.i("FLDPQ.P", "32(R2)", fmt.Sprintf("(%s, %s)", fr(r), fr(r+1)))
			s.done += 2
		} else {
			s.v.i("FMOVQ.P", "16(R2)", fr(r))
			s.done++
		}
	}
	return 28 + j%4
}

// tileArgs: R0 c, R1 ldc, R2 a, R3 b, R4 ldb, R5 k, R6 rows; R7 accumulate.
func (v neon) tileArgs() {
	v.args("c ldc a b ldb k rows", "R0 R1 R2 R3 R4 R5 R6")
	v.i("MOVBU", "accumulate+56(FP)", "R7")
}

func gemmF32ARM() neon {
	v := newNeon("gemm_f32_arm64.s", "C (+)= A B in float32, tiles of up to 12 rows x 8, 6 x 16 or 3 x 32.\n"+
		"A is packed [k][rows]; rows of B are ldb bytes apart, rows of C ldc bytes.")
	for _, s := range shapesARM {
		v.text(fmt.Sprintf("gemmF32x%dNEON", s.cols), tileParams, 57)
		v.tileArgs()
		if s.cols == 32 {
			v.i("SUB", 64, "R4", "R9")
		}
		v.dispatch(s.rows, func(rows int) {
			nv := s.cols / 4
			v.startRows(rows, nv)
			v.loop("R5", 4, func() {
				a := &stream{v: v, total: rows}
				for step := 0; step < 4; step++ {
					v.stepF32(rows, nv, step, func(r int, _ bool) (int, int) { e := step*rows + r; return a.use(e / 4), e % 4 })
				}
			})
			v.loop("R5", 1, func() {
				v.stepF32(rows, nv, 0, func(r int, again bool) (int, int) {
					if !again {
						v.broadcast("R2", 28+r%4)
					}
					return 28 + r%4, 0
				})
			})
			v.finishRows(rows, nv)
		})
	}
	return v
}

// stepF32 adds one step of k; element gives the register and lane that hold A of a row, again if it was asked for in this step.
func (v neon) stepF32(rows, nv, step int, element func(r int, again bool) (int, int)) {
	for first := 0; first < nv; first += 4 {
		b, count := 24, min(4, nv)
		switch {
		case nv == 2:
			b += 2 * (step % 2)
			v.load("R3", "R4", b, 2)
		case nv == 8 && first == 0:
			v.load("R3", "+", b, 4)
		case nv == 8:
			v.load("R3", "R9", b, 4)
		default:
			v.load("R3", "R4", b, 4)
		}
		for r := 0; r < rows; r++ {
			reg, lane := element(r, first > 0)
			for n := 0; n < count; n++ {
				v.lane("fmla", nv*r+first+n, b+n, reg, lane)
			}
		}
	}
}

// startRows begins the sums with zero, or with C.
func (v neon) startRows(rows, nv int) {
	plain, ready := v.label("plain"), v.label("ready")
	v.i("CBZ", "R7", plain)
	v.i("MOVD", "R0", "R8")
	v.eachRow(rows, nv, "R8", v.load)
	v.i("B", ready)
	v.at(plain)
	for n := 0; n < rows*nv; n++ {
		v.zero(n)
	}
	v.at(ready)
}

func (v neon) finishRows(rows, nv int) {
	v.eachRow(rows, nv, "R0", v.store)
	v.ret()
}

// eachRow loads or stores rows of nv vectors, ldc apart.
func (v neon) eachRow(rows, nv int, ptr string, access func(ptr, step string, first, count int)) {
	if nv == 8 {
		v.i("SUB", 64, "R1", "R10")
	}
	for r := 0; r < rows; r++ {
		switch nv {
		case 8:
			access(ptr, "+", 8*r, 4)
			access(ptr, "R10", 8*r+4, 4)
		default:
			access(ptr, "R1", nv*r, nv)
		}
	}
}

// The matrix instructions multiply two rows by two columns at a time: a register of sums holds {row 0 column 0, row 0 column 1, row 1
// column 0, row 1 column 1}. A is packed [k/4 or k/8][pairs of rows][2][8 bytes], B [k/4 or k/8][pairs of columns][2][8 bytes]. A
// tile of an odd number of rows computes one more and leaves it out.

// gemmBF16ARM multiplies pairs of rows of bfloat16 by pairs of columns, four values of k an instruction.
func gemmBF16ARM() neon {
	v := newNeon("gemm_bf16_arm64.s", "C (+)= A B in bfloat16 by BFMMLA, tiles of up to 12 rows x 8, 6 x 16 or 2 x 32; k counts steps of four.\n"+
		"A is packed [k][pairs of rows][2][4] bfloat16, B [k][16 pairs of columns][2][4], rows of C are ldc bytes apart.")
	for _, s := range []struct{ cols, pairs int }{{32, 1}, {16, 3}, {8, 6}} {
		v.text(fmt.Sprintf("gemmBF16x%dMM", s.cols), "(c *float32, ldc uintptr, a, b *float32, k, rows int, accumulate bool)", 49)
		v.args("c ldc a b k rows", "R0 R1 R2 R3 R5 R6")
		v.i("MOVBU", "accumulate+48(FP)", "R7")
		v.i("MOVD", "R6", "R11")
		v.i("ADD", 1, "R6")
		v.i("LSR", 1, "R6")
		v.i("MOVD", 256-16*(s.cols/2-4), "R4")
		v.dispatch(s.pairs, func(pairs int) {
			nv := s.cols / 2
			v.startPairs(pairs, nv)
			step := func(a func(p int) int) {
				for first := 0; first < nv; first += 4 {
					next := "+"
					if first+4 == nv {
						next = "R4"
					}
					v.load("R3", next, 24, 4)
					for p := 0; p < pairs; p++ {
						reg := a(p)
						for n := 0; n < 4; n++ {
							v.n("bfmmla", nv*p+first+n, reg, 24+n)
						}
					}
				}
			}
			v.loop("R5", 2, func() {
				a := &stream{v: v, total: 2 * pairs}
				for s := 0; s < 2; s++ {
					if nv > 4 { // the columns take A more than once: it must stay for a step
						step((&stream{v: v, total: pairs}).use)
						continue
					}
					step(func(p int) int { return a.use(s*pairs + p) })
				}
			})
			v.loop("R5", 1, func() {
				a := &stream{v: v, total: pairs}
				step(a.use)
			})
			v.storePairs(pairs, nv, func(int) {})
		})
	}
	return v
}

// startPairs begins sums of pairs with zero, or with C: V28-V31 turn two rows of four columns into two pairs.
func (v neon) startPairs(pairs, nv int) {
	plain, ready := v.label("plain"), v.label("ready")
	v.i("CBZ", "R7", plain)
	v.i("MOVD", "R0", "R8")
	v.i("ADD", "R1", "R0", "R9")
	v.i("ADD", "R1", "R1", "R10")
	v.i("SUB", 8*nv, "R10", "R10")
	for p := 0; p < pairs; p++ {
		if p == pairs-1 {
			v.note("an odd last row stands for the one that is not there")
			v.i("TST", 1, "R11")
			v.i("CSEL", "NE", "R8", "R9", "R9")
		}
		for n := 0; n < nv; n += 2 {
			v.load("R8", "+", 28, 1)
			v.load("R9", "+", 29, 1)
			v.n("zip1d", nv*p+n, 28, 29)
			v.n("zip2d", nv*p+n+1, 28, 29)
		}
		v.i("ADD", "R10", "R8")
		v.i("ADD", "R10", "R9")
	}
	v.i("B", ready)
	v.at(plain)
	for n := 0; n < pairs*nv; n++ {
		v.zero(n)
	}
	v.at(ready)
}

// storePairs writes sums of pairs of rows; add, given the vector of four columns, may change the rows in V28 and V29.
func (v neon) storePairs(pairs, nv int, add func(n int)) {
	v.storePairsFrom(0, pairs, nv, add)
}

func (v neon) storePairsFrom(base, pairs, nv int, add func(n int)) {
	v.i("ADD", "R1", "R0", "R9")
	v.i("ADD", "R1", "R1", "R10")
	v.i("SUB", 8*nv, "R10", "R10")
	for p := 0; p < pairs; p++ {
		if p == pairs-1 {
			v.note("of an odd last row and the one that is not there, the last is written first, to the same place")
			v.i("TST", 1, "R11")
			v.i("CSEL", "NE", "R0", "R9", "R9")
		}
		for n := 0; n < nv; n += 2 {
			v.n("zip1d", 28, base+nv*p+n, base+nv*p+n+1)
			v.n("zip2d", 29, base+nv*p+n, base+nv*p+n+1)
			add(n / 2)
			v.store("R9", "+", 29, 1)
			v.store("R0", "+", 28, 1)
		}
		v.i("ADD", "R10", "R0")
		v.i("ADD", "R10", "R9")
	}
	v.ret()
}
