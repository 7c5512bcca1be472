package main

import (
	"fmt"
	"math"
)

func floatBits(f float32) uint32 { return math.Float32bits(f) }

// each applies body to the values that the pointers show, four vectors at a time, then one, then value by value in the first lane.
// body is given the number of vectors, 0 for a single value; it moves the pointers itself.
func (v neon) each(count string, most int, body func(vectors int)) {
	if most > 1 {
		v.loop(count, 4*most, func() { body(most) })
	}
	v.loop(count, 4, func() { body(1) })
	v.loop(count, 1, func() { body(0) })
}

// read fills registers from `first` on with vectors, or the first lane of one with a value (its other lanes become zero), and moves
// the pointer on where `on` says so.
func (v neon) read(ptr string, first, vectors int, on bool) {
	step := ""
	if on {
		step = "+"
	}
	switch {
	case vectors > 0:
		v.load(ptr, step, first, vectors)
	case on:
		v.i("FMOVS.P", "4("+ptr+")", fr(first))
	default:
		v.i("FMOVS", "("+ptr+")", fr(first))
	}
}

// write stores them and moves the pointer on.
func (v neon) write(ptr string, first, vectors int) {
	if vectors > 0 {
		v.store(ptr, "+", first, vectors)
	} else {
		v.i("FMOVS.P", fr(first), "4("+ptr+")")
	}
}

// times repeats f for each vector, once for a single value.
func times(vectors int, f func(n int)) {
	for n := 0; n < max(1, vectors); n++ {
		f(n)
	}
}

// parameter fills all lanes of a register with a float32 argument.
func (v neon) parameter(arg string, r int) {
	v.i("FMOVS", arg, fr(r))
	v.i("VDUP", fmt.Sprintf("V%d.S[0]", r), fmt.Sprintf("V%d.S4", r))
}

// vectorsARM are the element-wise kernels. Products and sums are rounded one by one: their bytes are promised.
func vectorsARM() neon {
	v := newNeon("vector_arm64.s", "Element-wise kernels; products and sums are rounded one by one.")
	v.dot()

	v.text("axpyNEON", "(x, y *float32, n int, alpha float32)", 28)
	v.note("y += alpha x")
	v.args("x y n", "R0 R1 R2")
	v.parameter("alpha+24(FP)", 31)
	v.each("R2", 4, func(k int) {
		v.read("R0", 0, k, true)
		v.read("R1", 4, k, false)
		times(k, func(n int) { v.n("fmul", n, n, 31) })
		times(k, func(n int) { v.n("fadd", n, n, 4+n) })
		v.write("R1", 0, k)
	})
	v.ret()

	v.text("axpbyNEON", "(x, y *float32, n int, alpha, beta float32)", 32)
	v.note("y = alpha x + beta y")
	v.args("x y n", "R0 R1 R2")
	v.parameter("alpha+24(FP)", 31)
	v.parameter("beta+28(FP)", 30)
	v.each("R2", 4, func(k int) {
		v.read("R0", 0, k, true)
		v.read("R1", 4, k, false)
		times(k, func(n int) { v.n("fmul", n, n, 31); v.n("fmul", 4+n, 4+n, 30) })
		times(k, func(n int) { v.n("fadd", n, n, 4+n) })
		v.write("R1", 0, k)
	})
	v.ret()

	v.text("scaleNEON", "(x *float32, n int, alpha float32)", 20)
	v.args("x n", "R0 R2")
	v.parameter("alpha+16(FP)", 31)
	v.each("R2", 4, func(k int) {
		v.read("R0", 0, k, false)
		times(k, func(n int) { v.n("fmul", n, n, 31) })
		v.write("R0", 0, k)
	})
	v.ret()

	v.text("addNEON", "(dst, x *float32, n int)", 24)
	v.args("dst x n", "R0 R1 R2")
	v.each("R2", 4, func(k int) {
		v.read("R0", 0, k, false)
		v.read("R1", 4, k, true)
		times(k, func(n int) { v.n("fadd", n, n, 4+n) })
		v.write("R0", 0, k)
	})
	v.ret()

	v.text("mulScaledNEON", "(dst, x, w *float32, n int, r float32)", 36)
	v.note("dst = (x r) w")
	v.args("dst x w n", "R0 R1 R3 R2")
	v.parameter("r+32(FP)", 31)
	v.each("R2", 4, func(k int) {
		v.read("R1", 0, k, true)
		v.read("R3", 4, k, true)
		times(k, func(n int) { v.n("fmul", n, n, 31) })
		times(k, func(n int) { v.n("fmul", n, n, 4+n) })
		v.write("R0", 0, k)
	})
	v.ret()

	v.text("rotateHalvesNEON", "(a, b, cos, sin *float32, n int)", 40)
	v.note("(a, b) = (a cos - b sin, a sin + b cos)")
	v.args("a b cos sin n", "R0 R1 R3 R4 R2")
	v.each("R2", 4, func(k int) {
		v.read("R0", 0, k, false)
		v.read("R1", 4, k, false)
		v.read("R3", 16, k, true)
		v.read("R4", 20, k, true)
		times(k, func(n int) { v.rotate(n, 4+n, 16+n, 20+n, 24+n, 28+n) })
		v.write("R0", 24, k)
		v.write("R1", 28, k)
	})
	v.ret()

	v.text("rotatePairsNEON", "(v, cos, sin *float32, n int)", 32)
	v.note("n, a multiple of 8, values of v are pairs")
	v.args("v cos sin n", "R0 R3 R4 R2")
	v.loop("R2", 8, func() {
		v.i("VLD2", "(R0)", "[V0.S4, V1.S4]")
		v.load("R3", "+", 16, 1)
		v.load("R4", "+", 20, 1)
		v.rotate(0, 1, 16, 20, 24, 25)
		v.i("VST2.P", "[V24.S4, V25.S4]", "32(R0)")
	})
	v.ret()
	return v
}

// rotate sets c to a cos - b sin and d to a sin + b cos.
func (v neon) rotate(a, b, cos, sin, c, d int) {
	v.n("fmul", c, a, cos)
	v.n("fmul", d, a, sin)
	v.n("fmls", c, b, sin)
	v.n("fmla", d, b, cos)
}

// dot sums in 16 lanes, V0-V3. In a tail the lanes past the end add zero times zero, which changes no sum: none is -0.
func (v neon) dot() {
	v.text("dotNEON", "(a, b *float32, n int) float32", 28)
	v.args("a b n", "R0 R1 R2")
	for n := 0; n < 4; n++ {
		v.zero(n)
	}
	v.loop("R2", 16, func() {
		v.load("R0", "+", 4, 4)
		v.load("R1", "+", 16, 4)
		for n := 0; n < 4; n++ {
			v.n("fmul", 4+n, 4+n, 16+n)
		}
		for n := 0; n < 4; n++ {
			v.n("fadd", n, n, 4+n)
		}
	})
	fold := v.label("fold")
	for n := 0; n < 4; n++ {
		part, one, add, next := v.label("part"), v.label("one"), v.label("add"), v.label("next")
		if n < 3 {
			v.i("CMP", 4, "R2")
			v.i("BLT", part)
			v.load("R0", "+", 4, 1)
			v.load("R1", "+", 16, 1)
			v.n("fmul", 4, 4, 16)
			v.n("fadd", n, n, 4)
			v.i("SUB", 4, "R2")
			v.i("B", next)
			v.at(part)
		}
		v.i("CBZ", "R2", fold)
		v.i("TBZ", 1, "R2", one)
		v.i("FMOVD.P", "8(R0)", "F4")
		v.i("FMOVD.P", "8(R1)", "F16")
		v.i("TBZ", 0, "R2", add)
		v.i("VLD1", "(R0)", "V4.S[2]")
		v.i("VLD1", "(R1)", "V16.S[2]")
		v.i("B", add)
		v.at(one)
		v.i("FMOVS", "(R0)", "F4")
		v.i("FMOVS", "(R1)", "F16")
		v.at(add)
		v.n("fmul", 4, 4, 16)
		v.n("fadd", n, n, 4)
		if n < 3 {
			v.i("B", fold)
			v.at(next)
		}
	}
	v.at(fold)
	v.n("fadd", 0, 0, 2)
	v.n("fadd", 1, 1, 3)
	v.n("fadd", 0, 0, 1)
	v.foldLanes("fadd", 0, 4)
	v.i("FMOVS", "F0", "ret+24(FP)")
	v.ret()
}

// foldLanes brings lanes 2 and 3 of r to 0 and 1, then 1 to 0, by way of t.
func (v neon) foldLanes(op string, r, t int) {
	v.n("zip2d", t, r, r)
	v.n(op, r, r, t)
	v.n("trn2", t, r, r)
	v.n(op, r, r, t)
}
