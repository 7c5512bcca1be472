package main

// lists are the kernels of the list model: searches in short tables, logarithms, and sums of several rows.
func lists() *file {
	f := newFile("lists_amd64.s", "Kernels of the list model. No product is fused with a sum, and sums have one order: all levels give equal bytes.")
	for _, v := range isas(f) {
		v.axpys()
		v.logScaled()
		v.index32()
		v.minIndex()
	}
	return f
}

// axpys keeps up to four vectors of y in registers while it goes through the rows of x.
func (v isa) axpys() {
	v.text("axpys"+v.suffix(), "(x, y *float32, n int, alpha *float32, rows int, stride uintptr)", 48)
	v.note("stride is in bytes")
	v.args([]string{"x", "y", "n", "alpha", "rows", "stride"}, []string{"SI", "DI", "CX", "R9", "R10", "R8"})
	rows := func(vectors int, tail bool) {
		for n := range vectors {
			v.load(mem("DI", 4*v.lanes()*n), v.r(n), tail)
		}
		v.i("MOVQ", "SI", "R11")
		v.i("MOVQ", "R9", "R12")
		v.i("MOVQ", "R10", "R13")
		row := v.label("row")
		v.i("PCALIGN", 32)
		v.at(row)
		v.i("VBROADCASTSS", "(R12)", v.r(8))
		for n := range vectors {
			v.load(mem("R11", 4*v.lanes()*n), v.r(4+n), tail)
			v.i("VMULPS", v.r(4+n), v.r(8), v.r(4+n))
			v.i("VADDPS", v.r(4+n), v.r(n), v.r(n))
		}
		v.i("ADDQ", "R8", "R11")
		v.i("ADDQ", 4, "R12")
		v.i("DECQ", "R13")
		v.i("JNZ", row)
		for n := range vectors {
			v.store(v.r(n), mem("DI", 4*v.lanes()*n), tail)
		}
	}
	four, one := v.label("four"), v.label("one")
	v.i("SUBQ", 4*v.lanes(), "CX")
	v.i("JLT", one)
	v.at(four)
	rows(4, false)
	v.i("ADDQ", 16*v.lanes(), "DI")
	v.i("ADDQ", 16*v.lanes(), "SI")
	v.i("SUBQ", 4*v.lanes(), "CX")
	v.i("JGE", four)
	v.at(one)
	v.i("ADDQ", 4*v.lanes(), "CX")
	v.each(func(tail bool) { rows(1, tail) }, "DI", "SI")
	v.ret()
}

// logScaled is kernels.Ln of scale*x+add.
func (v isa) logScaled() {
	v.text("logScaled"+v.suffix(), "(x *float32, n int, scale, add float32)", 24)
	v.args([]string{"x", "n"}, []string{"DI", "CX"})
	v.broadcast("scale", 16, v.r(2))
	v.broadcast("add", 20, v.r(3))
	and, or := "VPAND", "VPOR"
	if v.wide {
		and, or = "VPANDD", "VPORD"
	}
	v.each(func(tail bool) {
		x, k, t, p := v.r(0), v.r(1), v.r(4), v.r(5)
		v.load("(DI)", x, tail)
		v.i("VMULPS", x, v.r(2), x)
		v.i("VADDPS", v.r(3), x, x)
		v.note("x = m 2^k, m in [1, 2); above the root of 2, m is halved and k grows")
		v.i("VPSRLD", 23, x, k)
		v.constant(and, cMantissa, x, x)
		v.constant(or, cOneBits, x, x)
		v.i("VBROADCASTSS", constantAt(cRoot2), t)
		v.i("VPSUBD", x, t, t)
		v.i("VPSRLD", 31, t, t)
		v.constant("VPSUBD", cBias, k, k)
		v.i("VPADDD", t, k, k)
		v.i("VPSLLD", 23, t, t)
		v.i("VPSUBD", t, x, x)
		v.i("VCVTDQ2PS", k, k)
		v.constant("VMULPS", cLn2, k, k)
		v.note("the series in s = (m-1)/(m+1)")
		v.constant("VSUBPS", cOne, x, t)
		v.constant("VADDPS", cOne, x, x)
		v.i("VDIVPS", x, t, t)
		v.i("VMULPS", t, t, x)
		v.constant("VMULPS", cLog9, x, p)
		for _, c := range []int{cLog7, cLog5, cLog3} {
			v.constant("VADDPS", c, p, p)
			v.i("VMULPS", x, p, p)
		}
		v.constant("VADDPS", cTwo, p, p)
		v.i("VMULPS", p, t, p)
		v.i("VADDPS", k, p, p)
		v.store(p, "(DI)", tail)
	}, "DI")
	v.ret()
}

// equal leaves in AX a bit for each of the values at (SI) that equals those of register 1.
func (v isa) equal(tail, floats bool) {
	switch {
	case v.wide && floats && tail:
		v.i("VCMPPS", 0, "(SI)", "Z1", "K1", "K2")
	case v.wide && floats:
		v.i("VCMPPS", 0, "(SI)", "Z1", "K2")
	case v.wide && tail:
		v.i("VPCMPEQD", "(SI)", "Z1", "K1", "K2")
	case v.wide:
		v.i("VPCMPEQD", "(SI)", "Z1", "K2")
	default:
		v.load("(SI)", "Y2", tail)
		if floats {
			v.i("VCMPPS", 0, "Y2", "Y1", "Y2")
		} else {
			v.i("VPCMPEQD", "Y2", "Y1", "Y2")
		}
		if tail {
			v.i("VPAND", maskReg, "Y2", "Y2")
		}
		v.i("VMOVMSKPS", "Y2", "AX")
		return
	}
	v.i("KMOVW", "K2", "AX")
}

// first returns the place of the first of the CX values from SI on that equals those of register 1, -1 when none does. R8 is where the
// values begin.
func (v isa) first(floats bool, result string) {
	found, end := v.label("found"), v.label("none")
	v.each(func(tail bool) {
		v.equal(tail, floats)
		v.i("TESTL", "AX", "AX")
		v.i("JNZ", found)
	}, "SI")
	v.i("MOVQ", -1, "AX")
	v.i("JMP", end)
	v.at(found)
	v.i("BSFL", "AX", "AX")
	v.i("SUBQ", "R8", "SI")
	v.i("SHRQ", 2, "SI")
	v.i("ADDQ", "SI", "AX")
	v.at(end)
	v.i("MOVQ", "AX", result)
	v.ret()
}

func (v isa) index32() {
	v.text("index32"+v.suffix(), "(v *int32, n int, x int32) int", 32)
	v.args([]string{"v", "n"}, []string{"SI", "CX"})
	v.i("MOVQ", "SI", "R8")
	v.i("VBROADCASTSS", "x+16(FP)", v.r(1))
	v.first(false, "ret+24(FP)")
}

func (v isa) minIndex() {
	v.text("minIndex"+v.suffix(), "(v *float32, n int) int", 24)
	v.args([]string{"v", "n"}, []string{"SI", "CX"})
	v.i("MOVQ", "SI", "R8")
	v.i("MOVQ", "CX", "R9")
	v.i("VBROADCASTSS", constantAt(cPosInf), v.r(1))
	v.each(func(tail bool) {
		switch {
		case !tail:
			v.i("VMINPS", "(SI)", v.r(1), v.r(1))
		case v.wide:
			v.i("VMINPS", "(SI)", "Z1", "K1", "Z1")
		default:
			v.load("(SI)", "Y2", true)
			v.i("VMINPS", "Y2", "Y1", "Y2")
			v.i("VBLENDVPS", maskReg, "Y2", "Y1", "Y1")
		}
	}, "SI")
	v.fold("VMINPS", 1, 2)
	v.i("VBROADCASTSS", "X1", v.r(1))
	v.i("MOVQ", "R8", "SI")
	v.i("MOVQ", "R9", "CX")
	v.first(true, "ret+16(FP)")
}
