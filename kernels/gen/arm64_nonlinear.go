package main

// The registers that hold constants of the exponential and what is built on it, V16-V31, in the order of the table.
const (
	armLow = iota + 16
	armHigh
	armLog2e
	armLn2Hi
	armLn2Lo
	armPoly  // six of them
	armOne   = armPoly + 6
	armBias  = armPoly + 7
	armGeluA = armPoly + 8
	armGeluB = armPoly + 9
)

var constantsOfExp = []int{cLow, cHigh, cLog2e, cLn2Hi, cLn2Lo, cPoly, cPoly + 1, cPoly + 2, cPoly + 3, cPoly + 4, cPoly + 5, cOne, cBias, cGeluA, cGeluB}

func nonlinearARM() neon {
	v := newNeon("nonlinear_arm64.s", "Softmax, SiLU and GELU; exp as in exp32 of nonlinear.go, with fused multiply-adds.")
	var words []uint32
	for _, c := range constantsOfExp {
		words = append(words, constantBits[c])
	}
	v.table("exponential", words)

	v.text("maxNEON", "(x *float32, n int) float32", 20)
	v.note("n > 0; a NaN stays")
	v.args("x n", "R0 R2")
	v.i("VLD1R", "(R0)", "[V0.S4]")
	for n := 1; n < 4; n++ {
		v.mov(n, 0)
	}
	v.loop("R2", 16, func() {
		v.load("R0", "+", 4, 4)
		for n := 0; n < 4; n++ {
			v.n("fmax", n, n, 4+n)
		}
	})
	v.loop("R2", 4, func() {
		v.load("R0", "+", 4, 1)
		v.n("fmax", 0, 0, 4)
	})
	v.loop("R2", 1, func() {
		v.broadcast("R0", 4)
		v.n("fmax", 0, 0, 4)
	})
	v.n("fmax", 0, 0, 2)
	v.n("fmax", 1, 1, 3)
	v.n("fmax", 0, 0, 1)
	v.n("fmaxv", 0, 0)
	v.i("FMOVS", "F0", "ret+16(FP)")
	v.ret()

	v.text("expSumNEON", "(x *float32, n int, top float32) float32", 28)
	v.note("x = exp(x - top); returns the sum")
	v.args("x n", "R0 R2")
	v.parameter("top+16(FP)", 29)
	v.constants("exponential", "R3", armLow, 13)
	v.zero(14)
	v.zero(15)
	v.each("R2", 2, func(k int) {
		v.read("R0", 0, k, false)
		times(k, func(n int) { v.n("fsub", n, n, 29) })
		v.exp(max(1, k))
		v.write("R0", 0, k)
		if k == 0 {
			v.i("FADDS", "F0", "F15", "F15")
		}
		for n := 0; n < k; n++ {
			v.n("fadd", 14, 14, n)
		}
	})
	v.foldLanes("fadd", 14, 0)
	v.i("FADDS", "F15", "F14", "F14")
	v.i("FMOVS", "F14", "ret+24(FP)")
	v.ret()

	v.text("siluMulNEON", "(dst, gate, up *float32, n int)", 32)
	v.note("dst = gate / (1 + exp(-gate)) * up")
	v.args("dst gate up n", "R0 R1 R3 R2")
	v.constants("exponential", "R4", armLow, 13)
	v.each("R2", 2, func(k int) {
		v.read("R1", 12, k, true)
		v.read("R3", 14, k, true)
		times(k, func(n int) { v.n("fneg", n, 12+n) })
		v.exp(max(1, k))
		times(k, func(n int) { v.n("fadd", n, n, armOne) })
		times(k, func(n int) { v.n("fdiv", n, 12+n, n) })
		times(k, func(n int) { v.n("fmul", n, n, 14+n) })
		v.write("R0", 0, k)
	})
	v.ret()

	v.text("geluNEON", "(dst, x *float32, n int)", 24)
	v.note("dst = x / (1 + exp(-x (a + b x^2)))")
	v.args("dst x n", "R0 R1 R2")
	v.constants("exponential", "R4", armLow, 15)
	v.each("R2", 2, func(k int) {
		v.read("R1", 12, k, true)
		times(k, func(n int) {
			v.n("fmul", n, 12+n, 12+n)
			v.n("fmul", n, n, armGeluB)
			v.n("fadd", n, n, armGeluA)
			v.n("fmul", n, n, 12+n)
			v.n("fneg", n, n)
		})
		v.exp(max(1, k))
		times(k, func(n int) { v.n("fadd", n, n, armOne) })
		times(k, func(n int) { v.n("fdiv", n, 12+n, n) })
		v.write("R0", 0, k)
	})
	v.ret()
	return v
}

// exp replaces V0, or V0 and V1, by their exponentials, using V2-V9; the two are interleaved, as each is one long chain. A NaN
// passes the limits, which lie where the result is 0 or infinite already.
func (v neon) exp(count int) {
	all := func(f func(x, n, p, q int)) {
		for c := 0; c < count; c++ {
			f(c, 2+c, 4+c, 6+c)
		}
	}
	all(func(x, n, p, q int) { v.n("fmin", x, x, armHigh) })
	all(func(x, n, p, q int) { v.n("fmax", x, x, armLow) })
	all(func(x, n, p, q int) { v.n("fmul", n, x, armLog2e) })
	all(func(x, n, p, q int) { v.n("frintn", n, n) })
	all(func(x, n, p, q int) { v.n("fmls", x, n, armLn2Hi) })
	all(func(x, n, p, q int) { v.n("fmls", x, n, armLn2Lo) })
	// A fused multiply-add replaces its addend, so each coefficient is copied first; p and q take turns.
	all(func(x, n, p, q int) { v.mov(p, armPoly+1); v.n("fmla", p, x, armPoly) })
	for c := 2; c < 6; c++ {
		all(func(x, n, p, q int) {
			if c%2 == 1 {
				p, q = q, p
			}
			v.mov(q, armPoly+c)
			v.n("fmla", q, p, x)
		})
	}
	all(func(x, n, p, q int) {
		v.n("fmul", p, p, x)
		v.mov(q, x)
		v.n("fmla", q, p, x)
	})
	all(func(x, n, p, q int) { v.n("fadd", p, q, armOne) })
	// 2^n in two halves, as n leaves the range of one exponent.
	all(func(x, n, p, q int) { v.n("fcvtns", n, n) })
	all(func(x, n, p, q int) { v.shift("sshr", q, n, 1); v.n("sub", n, n, q) })
	all(func(x, n, p, q int) { v.n("add", q, q, armBias); v.n("add", n, n, armBias) })
	all(func(x, n, p, q int) { v.shift("shl", q, q, 23); v.shift("shl", n, n, 23) })
	all(func(x, n, p, q int) { v.n("fmul", x, p, q) })
	all(func(x, n, p, q int) { v.n("fmul", x, x, n) })
}
