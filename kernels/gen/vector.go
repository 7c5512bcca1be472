package main

import "fmt"

// isa is one width of vector, so that a kernel is written once for both: Y registers and VMASKMOVPS tails on AVX2, Z
// registers and mask registers on AVX-512.
type isa struct {
	*file
	wide bool
}

func isas(f *file) []isa { return []isa{{f, true}, {f, false}} }

func (v isa) suffix() string {
	if v.wide {
		return "AVX512"
	}
	return "AVX2"
}

// r names vector register n.
func (v isa) r(n int) string {
	if v.wide {
		return z(n)
	}
	return y(n)
}

func (v isa) lanes() int {
	if v.wide {
		return 16
	}
	return 8
}

// maskReg holds the tail's mask on AVX2; kernels keep off it. On AVX-512 it is K1.
const maskReg = "Y15"

// load reads a vector, or a tail whose other lanes become zero.
func (v isa) load(addr, dst string, tail bool) {
	switch {
	case !tail:
		v.i("VMOVUPS", addr, dst)
	case v.wide:
		v.i("VMOVUPS.Z", addr, "K1", dst)
	default:
		v.i("VMASKMOVPS", addr, maskReg, dst)
	}
}

func (v isa) store(src, addr string, tail bool) {
	switch {
	case !tail:
		v.i("VMOVUPS", src, addr)
	case v.wide:
		v.i("VMOVUPS", src, "K1", addr)
	default:
		v.i("VMASKMOVPS", src, maskReg, addr)
	}
}

func (v isa) zero(r string) {
	if v.wide {
		v.i("VPXORD", r, r, r)
	} else {
		v.i("VXORPS", r, r, r)
	}
}

// constant is an operation with one of the constants of constants.go as its first operand.
func (v isa) constant(op string, c int, rest ...string) {
	args := []any{constantAt(c)}
	for _, r := range rest {
		args = append(args, r)
	}
	if v.wide {
		op += ".BCST"
	}
	v.i(op, args...)
}

// each runs body over CX values, a vector at a time, then once for the tail; the pointers move along.
func (v isa) each(body func(tail bool), pointers ...string) {
	loop, tail, end := v.label("loop"), v.label("tail"), v.label("end")
	v.i("SUBQ", v.lanes(), "CX")
	v.i("JLT", tail)
	v.i("PCALIGN", 32)
	v.at(loop)
	body(false)
	for _, p := range pointers {
		v.i("ADDQ", 4*v.lanes(), p)
	}
	v.i("SUBQ", v.lanes(), "CX")
	v.i("JGE", loop)
	v.at(tail)
	v.i("ADDQ", v.lanes(), "CX")
	v.i("JEQ", end)
	v.tailMask()
	body(true)
	v.at(end)
}

// tailMask sets the mask for the CX values that are left.
func (v isa) tailMask() {
	if v.wide {
		v.i("MOVL", 1, "AX")
		v.i("SHLL", "CX", "AX")
		v.i("DECL", "AX")
		v.i("KMOVW", "AX", "K1")
		return
	}
	v.i("NEGQ", "CX")
	v.i("LEAQ", "·tailMasks+32(SB)", "AX")
	v.i("VMOVUPS", "(AX)(CX*4)", maskReg)
	v.i("NEGQ", "CX")
}

// args loads arguments of 8 bytes each into registers, in order.
func (v isa) args(names []string, regs []string) {
	for n, name := range names {
		v.i("MOVQ", fmt.Sprintf("%s+%d(FP)", name, 8*n), regs[n])
	}
}

// broadcast loads a float32 argument into all lanes.
func (v isa) broadcast(name string, offset int, dst string) {
	v.i("VBROADCASTSS", fmt.Sprintf("%s+%d(FP)", name, offset), dst)
}

// fold turns register n into the sum (or what op says) of its lanes, in lane 0: j with j+8, +4, +2, +1. It uses t.
func (v isa) fold(op string, n, t int) {
	if v.wide {
		v.i("VEXTRACTF64X4", 1, z(n), y(t))
		v.i(op, y(t), y(n), y(n))
	}
	v.foldY(op, n, t)
}

func (v isa) foldY(op string, n, t int) {
	v.i("VEXTRACTF128", 1, y(n), x(t))
	v.i(op, x(t), x(n), x(n))
	v.i("VPERMILPD", 1, x(n), x(t))
	v.i(op, x(t), x(n), x(n))
	v.i("VMOVSHDUP", x(n), x(t))
	v.i(op, x(t), x(n), x(n))
}

// vectors are the simple element-wise kernels. Products and sums stay apart where equal bytes are promised.
func vectors() *file {
	f := newFile("vector_amd64.s", "Element-wise kernels. Dot, Axpy, AXPBY, Scale and Add never fuse a product with a sum: all levels give equal bytes.")
	for _, v := range isas(f) {
		v.dot()

		v.text("axpy"+v.suffix(), "(x, y *float32, n int, alpha float32)", 28)
		v.args([]string{"x", "y", "n"}, []string{"SI", "DI", "CX"})
		v.broadcast("alpha", 24, v.r(2))
		v.each(func(tail bool) {
			v.load("(SI)", v.r(0), tail)
			v.load("(DI)", v.r(1), tail)
			v.i("VMULPS", v.r(0), v.r(2), v.r(0))
			v.i("VADDPS", v.r(0), v.r(1), v.r(1))
			v.store(v.r(1), "(DI)", tail)
		}, "SI", "DI")
		v.ret()

		v.text("axpby"+v.suffix(), "(x, y *float32, n int, alpha, beta float32)", 32)
		v.args([]string{"x", "y", "n"}, []string{"SI", "DI", "CX"})
		v.broadcast("alpha", 24, v.r(2))
		v.broadcast("beta", 28, v.r(3))
		v.each(func(tail bool) {
			v.load("(SI)", v.r(0), tail)
			v.load("(DI)", v.r(1), tail)
			v.i("VMULPS", v.r(0), v.r(2), v.r(0))
			v.i("VMULPS", v.r(1), v.r(3), v.r(1))
			v.i("VADDPS", v.r(1), v.r(0), v.r(1))
			v.store(v.r(1), "(DI)", tail)
		}, "SI", "DI")
		v.ret()

		v.text("scale"+v.suffix(), "(x *float32, n int, alpha float32)", 20)
		v.args([]string{"x", "n"}, []string{"DI", "CX"})
		v.broadcast("alpha", 16, v.r(2))
		v.each(func(tail bool) {
			v.load("(DI)", v.r(0), tail)
			v.i("VMULPS", v.r(2), v.r(0), v.r(0))
			v.store(v.r(0), "(DI)", tail)
		}, "DI")
		v.ret()

		v.text("add"+v.suffix(), "(dst, x *float32, n int)", 24)
		v.args([]string{"dst", "x", "n"}, []string{"DI", "SI", "CX"})
		v.each(func(tail bool) {
			v.load("(DI)", v.r(0), tail)
			v.load("(SI)", v.r(1), tail)
			v.i("VADDPS", v.r(1), v.r(0), v.r(0))
			v.store(v.r(0), "(DI)", tail)
		}, "DI", "SI")
		v.ret()

		v.text("mulScaled"+v.suffix(), "(dst, x, w *float32, n int, r float32)", 36)
		v.note("dst = (x*r)*w")
		v.args([]string{"dst", "x", "w", "n"}, []string{"DI", "SI", "DX", "CX"})
		v.broadcast("r", 32, v.r(2))
		v.each(func(tail bool) {
			v.load("(SI)", v.r(0), tail)
			v.load("(DX)", v.r(1), tail)
			v.i("VMULPS", v.r(2), v.r(0), v.r(0))
			v.i("VMULPS", v.r(1), v.r(0), v.r(0))
			v.store(v.r(0), "(DI)", tail)
		}, "DI", "SI", "DX")
		v.ret()
		v.rotate()
	}
	return f
}

// dot sums in 16 lanes on both widths, products and sums apart: see kernels.Dot.
func (v isa) dot() {
	v.text("dot"+v.suffix(), "(a, b *float32, n int) float32", 28)
	v.args([]string{"a", "b", "n"}, []string{"SI", "DI", "CX"})
	v.zero(v.r(0))
	if v.wide {
		v.each(func(tail bool) {
			v.load("(SI)", "Z2", tail)
			v.load("(DI)", "Z3", tail)
			v.i("VMULPS", "Z3", "Z2", "Z2")
			v.i("VADDPS", "Z2", "Z0", "Z0")
		}, "SI", "DI")
		v.i("VEXTRACTF64X4", 1, "Z0", "Y1")
	} else {
		v.zero("Y1")
		loop, tail, high, end := v.label("loop"), v.label("tail"), v.label("high"), v.label("end")
		step := func(disp int, acc string, masked bool) {
			v.load(mem("SI", disp), "Y2", masked)
			v.load(mem("DI", disp), "Y3", masked)
			v.i("VMULPS", "Y3", "Y2", "Y2")
			v.i("VADDPS", "Y2", acc, acc)
		}
		v.i("SUBQ", 16, "CX")
		v.i("JLT", tail)
		v.at(loop)
		step(0, "Y0", false)
		step(32, "Y1", false)
		v.i("ADDQ", 64, "SI")
		v.i("ADDQ", 64, "DI")
		v.i("SUBQ", 16, "CX")
		v.i("JGE", loop)
		v.at(tail)
		v.i("ADDQ", 16, "CX")
		v.i("CMPQ", "CX", 8)
		v.i("JLT", high)
		step(0, "Y0", false)
		v.i("SUBQ", 8, "CX")
		v.tailMask()
		step(32, "Y1", true)
		v.i("JMP", end)
		v.at(high)
		v.tailMask()
		step(0, "Y0", true)
		v.at(end)
	}
	v.i("VADDPS", "Y1", "Y0", "Y0")
	v.foldY("VADDPS", 0, 1)
	v.i("VMOVSS", "X0", "ret+24(FP)")
	v.ret()
}

// rotate turns pairs; pairs are counted in whole vectors of v (rotatePairs) and the rest is left to Go.
func (v isa) rotate() {
	v.text("rotateHalves"+v.suffix(), "(a, b, cos, sin *float32, n int)", 40)
	v.args([]string{"a", "b", "cos", "sin", "n"}, []string{"SI", "DI", "R8", "R9", "CX"})
	v.each(func(tail bool) {
		v.load("(SI)", v.r(0), tail)
		v.load("(DI)", v.r(1), tail)
		v.load("(R8)", v.r(2), tail)
		v.load("(R9)", v.r(3), tail)
		v.note("a cos - b sin, a sin + b cos")
		v.i("VMULPS", v.r(1), v.r(3), v.r(4))
		v.i("VMULPS", v.r(1), v.r(2), v.r(5))
		v.i("VFMSUB231PS", v.r(0), v.r(2), v.r(4))
		v.i("VFMADD231PS", v.r(0), v.r(3), v.r(5))
		v.store(v.r(4), "(SI)", tail)
		v.store(v.r(5), "(DI)", tail)
	}, "SI", "DI", "R8", "R9")
	v.ret()

	v.text("rotatePairs"+v.suffix(), "(v, cos, sin *float32, n int)", 32)
	v.note("n values, a multiple of the vector")
	v.args([]string{"v", "cos", "sin", "n"}, []string{"SI", "R8", "R9", "CX"})
	loop, end := v.label("loop"), v.label("end")
	v.i("SUBQ", v.lanes(), "CX")
	v.i("JLT", end)
	v.at(loop)
	v.i("VMOVUPS", "(SI)", v.r(0))
	v.note("each cosine and sine twice, for both values of its pair")
	v.i("VPMOVZXDQ", "(R8)", v.r(2))
	v.i("VPMOVZXDQ", "(R9)", v.r(3))
	v.i("VMOVSLDUP", v.r(2), v.r(2))
	v.i("VMOVSLDUP", v.r(3), v.r(3))
	v.i("VPERMILPS", 0xb1, v.r(0), v.r(1))
	v.i("VMULPS", v.r(1), v.r(3), v.r(3))
	v.note("even: x cos - y sin; odd: y cos + x sin")
	v.i("VFMADDSUB213PS", v.r(3), v.r(2), v.r(0))
	v.i("VMOVUPS", v.r(0), "(SI)")
	v.i("ADDQ", 4*v.lanes(), "SI")
	v.i("ADDQ", 2*v.lanes(), "R8")
	v.i("ADDQ", 2*v.lanes(), "R9")
	v.i("SUBQ", v.lanes(), "CX")
	v.i("JGE", loop)
	v.at(end)
	v.ret()
}
