package main

// quantise are the kernels that bring activations to 8 bits with one scale per group of 32: scale = max|x|/127, q =
// round(x * (127/max|x|)).
func quantise() *file {
	f := newFile("quantise_amd64.s", "Activations to 8 bits with a scale per 32 values; n is a multiple of 32.")
	f.text("quantiseAVX512", "(q, aux, x *float32, n int, sums bool)", 33)
	f.note("q gets n bytes; aux two words a group: -128 times the sum and the scale, or with sums the scale and scale times the sum")
	v := isa{f, true}
	v.args([]string{"q", "aux", "x", "n"}, []string{"DI", "DX", "SI", "CX"})
	f.i("MOVBLZX", "sums+32(FP)", "BX")
	loop, scaled, next, end := f.label("loop"), f.label("scaled"), f.label("next"), f.label("end")
	v.constant2("VPBROADCASTD", cOnes, "Y9")
	f.i("SUBQ", 32, "CX")
	f.i("JLT", end)
	f.at(loop)
	v.groupBytes()
	f.note("the sum of the bytes: products with ones")
	f.i("VPXORD", "Y2", "Y2", "Y2")
	f.i("VPDPBUSD", "Y0", "Y9", "Y2")
	v.foldY("VPADDD", 2, 1)
	f.i("TESTL", "BX", "BX")
	f.i("JNE", scaled)
	f.i("VPSLLD", 7, "X2", "X2")
	f.i("VPXORD", "X1", "X1", "X1")
	f.i("VPSUBD", "X2", "X1", "X2")
	f.i("VMOVSS", "X2", "(DX)")
	f.i("VMOVSS", "X3", "4(DX)")
	f.i("JMP", next)
	f.at(scaled)
	f.i("VCVTDQ2PS", "X2", "X2")
	f.i("VMULSS", "X2", "X3", "X2")
	f.i("VMOVSS", "X3", "(DX)")
	f.i("VMOVSS", "X2", "4(DX)")
	f.at(next)
	f.i("ADDQ", 128, "SI")
	f.i("ADDQ", 32, "DI")
	f.i("ADDQ", 8, "DX")
	f.i("SUBQ", 32, "CX")
	f.i("JGE", loop)
	f.at(end)
	f.ret()

	return f
}

// groupBytes writes the 32 values at SI as bytes (Y0) to DI, with their scale in X3.
func (v isa) groupBytes() {
	v.i("VMOVUPS", "(SI)", "Z0")
	v.i("VMOVUPS", "64(SI)", "Z1")
	v.groupScale()
	for n := 0; n < 2; n++ {
		v.i("VMULPS", "Z4", z(n), z(n))
		v.i("VCVTPS2DQ", z(n), z(n))
		v.i("VPMOVSDB", z(n), x(n))
	}
	v.i("VINSERTI128", 1, "X1", "Y0", "Y0")
	v.i("VMOVDQU", "Y0", "(DI)")
}

// groupScale finds the scale of the 32 values in Z0 and Z1.
func (v isa) groupScale() {
	v.constant("VPANDD", cMagnitude, "Z0", "Z2")
	v.constant("VPANDD", cMagnitude, "Z1", "Z3")
	v.i("VPMAXSD", "Z3", "Z2", "Z2")
	v.i("VEXTRACTI64X4", 1, "Z2", "Y3")
	v.i("VPMAXSD", "Y3", "Y2", "Y2")
	v.scaleOf()
}

// scaleOf turns the magnitudes in Y2, compared as integers so that a NaN or an infinity is the largest, into the scale (X3)
// and its inverse (register 4, all lanes). Magnitudes under 1e-30 count as that, so that the inverse is finite.
func (v isa) scaleOf() {
	v.foldY("VPMAXSD", 2, 3)
	v.constant2("VMOVSS", cTiny, "X4")
	v.i("VPMAXSD", "X4", "X2", "X2")
	v.constant2("VMOVSS", c127, "X4")
	v.i("VDIVSS", "X4", "X2", "X3")
	v.i("VDIVSS", "X2", "X4", "X4")
	v.i("VBROADCASTSS", "X4", v.r(4))
}
