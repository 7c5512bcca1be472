package main

// nonlinear are the kernels around the exponential.
func nonlinear() *file {
	f := newFile("nonlinear_amd64.s", "Softmax, SiLU and GELU; exp as in exp32 of nonlinear.go, with fused multiply-adds.")
	for _, v := range isas(f) {
		v.text("max"+v.suffix(), "(x *float32, n int) float32", 20)
		v.args([]string{"x", "n"}, []string{"SI", "CX"})
		v.constant2("VBROADCASTSS", cInfMinus, v.r(0))
		v.constant2("VBROADCASTSS", cInfMinus, v.r(2))
		v.each(func(tail bool) {
			switch {
			case !tail:
				v.i("VMAXPS", "(SI)", v.r(0), v.r(0))
			case v.wide:
				v.i("VMAXPS", "(SI)", "Z0", "K1", "Z0")
			default:
				v.load("(SI)", "Y1", true)
				v.i("VBLENDVPS", maskReg, "Y1", "Y2", "Y1")
				v.i("VMAXPS", "Y1", "Y0", "Y0")
			}
		}, "SI")
		v.fold("VMAXPS", 0, 1)
		v.i("VMOVSS", "X0", "ret+16(FP)")
		v.ret()

		v.text("expSum"+v.suffix(), "(x *float32, n int, top float32) float32", 28)
		v.note("x = exp(x - top); returns the sum")
		v.args([]string{"x", "n"}, []string{"DI", "CX"})
		v.broadcast("top", 16, v.r(6))
		v.zero(v.r(7))
		v.each(func(tail bool) {
			v.load("(DI)", v.r(0), tail)
			v.i("VSUBPS", v.r(6), v.r(0), v.r(0))
			v.exp(0, 1, 2)
			v.store(v.r(0), "(DI)", tail)
			switch {
			case !tail:
				v.i("VADDPS", v.r(0), v.r(7), v.r(7))
			case v.wide:
				v.i("VADDPS", "Z0", "Z7", "K1", "Z7")
			default:
				v.i("VANDPS", maskReg, "Y0", "Y0")
				v.i("VADDPS", "Y0", "Y7", "Y7")
			}
		}, "DI")
		v.fold("VADDPS", 7, 0)
		v.i("VMOVSS", "X7", "ret+24(FP)")
		v.ret()

		v.text("siluMul"+v.suffix(), "(dst, gate, up *float32, n int)", 32)
		v.note("dst = gate / (1 + exp(-gate)) * up")
		v.args([]string{"dst", "gate", "up", "n"}, []string{"DI", "SI", "DX", "CX"})
		v.each(func(tail bool) {
			v.load("(SI)", v.r(6), tail)
			v.load("(DX)", v.r(7), tail)
			v.constant("VXORPS", cSign, v.r(6), v.r(0))
			v.exp(0, 1, 2)
			v.constant("VADDPS", cOne, v.r(0), v.r(0))
			v.i("VDIVPS", v.r(0), v.r(6), v.r(0))
			v.i("VMULPS", v.r(7), v.r(0), v.r(0))
			v.store(v.r(0), "(DI)", tail)
		}, "DI", "SI", "DX")
		v.ret()

		v.text("gelu"+v.suffix(), "(dst, x *float32, n int)", 24)
		v.note("dst = x / (1 + exp(-x (a + b x^2)))")
		v.args([]string{"dst", "x", "n"}, []string{"DI", "SI", "CX"})
		v.each(func(tail bool) {
			v.load("(SI)", v.r(6), tail)
			v.i("VMULPS", v.r(6), v.r(6), v.r(0))
			v.constant("VMULPS", cGeluB, v.r(0), v.r(0))
			v.constant("VADDPS", cGeluA, v.r(0), v.r(0))
			v.i("VMULPS", v.r(6), v.r(0), v.r(0))
			v.constant("VXORPS", cSign, v.r(0), v.r(0))
			v.exp(0, 1, 2)
			v.constant("VADDPS", cOne, v.r(0), v.r(0))
			v.i("VDIVPS", v.r(0), v.r(6), v.r(0))
			v.store(v.r(0), "(DI)", tail)
		}, "DI", "SI")
		v.ret()
	}
	return f
}

// constant2 reads a constant without broadcast, for instructions that broadcast themselves.
func (v isa) constant2(op string, c int, dst string) { v.i(op, constantAt(c), dst) }

// exp replaces register a by its exponential, using n and p. The limits keep NaN (minps and maxps give their second source
// when one is NaN, and that is a), and lie where the result is 0 or infinite already.
func (v isa) exp(a, n, p int) {
	x, nn, pp := v.r(a), v.r(n), v.r(p)
	v.constant2("VBROADCASTSS", cHigh, nn)
	v.i("VMINPS", x, nn, x)
	v.constant2("VBROADCASTSS", cLow, nn)
	v.i("VMAXPS", x, nn, x)
	v.constant("VMULPS", cLog2e, x, nn)
	if v.wide {
		v.i("VRNDSCALEPS", 0, nn, nn)
	} else {
		v.i("VROUNDPS", 0, nn, nn)
	}
	v.constant("VFNMADD231PS", cLn2Hi, nn, x)
	v.constant("VFNMADD231PS", cLn2Lo, nn, x)
	v.constant2("VBROADCASTSS", cPoly, pp)
	for c := 1; c < 6; c++ {
		v.constant("VFMADD213PS", cPoly+c, x, pp)
	}
	v.i("VMULPS", x, pp, pp)
	v.i("VFMADD213PS", x, x, pp)
	v.constant("VADDPS", cOne, pp, pp)
	if v.wide {
		v.i("VSCALEFPS", nn, pp, x)
		return
	}
	// 2^n in two halves, as n leaves the range of one exponent. x is free now.
	v.i("VCVTPS2DQ", nn, nn)
	v.i("VPSRAD", 1, nn, x)
	v.i("VPSUBD", x, nn, nn)
	v.constant("VPADDD", cBias, x, x)
	v.constant("VPADDD", cBias, nn, nn)
	v.i("VPSLLD", 23, x, x)
	v.i("VPSLLD", 23, nn, nn)
	v.i("VMULPS", x, pp, x)
	v.i("VMULPS", nn, x, x)
}
