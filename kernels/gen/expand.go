package main

// expand are the conversions: bfloat16 weights to panels of float32 for the levels that can not multiply them as they are, and
// activations to what those products take.
func expand() *file {
	f := newFile("expand_amd64.s", "Conversions between float32 and the packed forms of weights and activations.")
	for _, v := range isas(f) {
		v.text("expandBF16"+v.suffix(), "(dst, src *float32, n int)", 24)
		v.note("src holds n/32 rows of 32 pairs; dst gets a row of 32 first halves, then a row of 32 second halves")
		v.args([]string{"dst", "src", "n"}, []string{"DI", "SI", "CX"})
		loop, end := v.label("loop"), v.label("end")
		v.i("SUBQ", 32, "CX")
		v.i("JLT", end)
		v.at(loop)
		for part := 0; part < 32/v.lanes(); part++ {
			disp := 4 * v.lanes() * part
			v.i("VMOVUPS", mem("SI", disp), v.r(0))
			v.i("VPSLLD", 16, v.r(0), v.r(1))
			v.constant(v.logical("VPAND"), cHighHalf, v.r(0), v.r(0))
			v.i("VMOVUPS", v.r(1), mem("DI", disp))
			v.i("VMOVUPS", v.r(0), mem("DI", 128+disp))
		}
		v.i("ADDQ", 128, "SI")
		v.i("ADDQ", 256, "DI")
		v.i("SUBQ", 32, "CX")
		v.i("JGE", loop)
		v.at(end)
		v.ret()

		v.text("roundBF16"+v.suffix(), "(dst, x *float32, n int)", 24)
		v.note("dst = x rounded to bfloat16, ties to even; NaN stays NaN")
		v.args([]string{"dst", "x", "n"}, []string{"DI", "SI", "CX"})
		v.each(func(tail bool) {
			v.load("(SI)", v.r(0), tail)
			v.roundBF16(0, 1)
			v.store(v.r(0), "(DI)", tail)
		}, "DI", "SI")
		v.ret()
		v.conversions()
	}
	return f
}

// logical names a bitwise operation: AVX-512 has it by the size of its elements.
func (v isa) logical(op string) string {
	if v.wide {
		return op + "D"
	}
	return op
}

// roundBF16 rounds register a to bfloat16 in its upper half, using t: add half a unit, less one when the last bit kept is even,
// and cut. A NaN could be carried to infinity, so it is made quiet and kept.
func (v isa) roundBF16(a, t int) {
	x, s := v.r(a), v.r(t)
	v.i("VPSRLD", 16, x, s)
	v.constant(v.logical("VPAND"), cIntOne, s, s)
	v.constant("VPADDD", cHalfLess, s, s)
	v.i("VPADDD", x, s, s)
	if v.wide {
		v.i("VCMPPS", 3, x, x, "K2")
		v.i("VPORD.BCST", constantAt(cQuiet), x, "K2", s)
	} else {
		v.i("VCMPPS", 3, x, x, v.r(t+1))
		v.constant("VPOR", cQuiet, x, x)
		v.i("VBLENDVPS", v.r(t+1), x, s, s)
	}
	v.constant(v.logical("VPAND"), cHighHalf, s, x)
}

// conversions between float32 and 16 bits, n a multiple of 16; and pairBF16, which packs two rows of a transposed weight.
func (v isa) conversions() {
	each16 := func(body func(), step map[string]int, order ...string) {
		loop, end := v.label("loop"), v.label("end")
		v.i("SUBQ", 16, "CX")
		v.i("JLT", end)
		v.at(loop)
		body()
		for _, p := range order {
			v.i("ADDQ", step[p], p)
		}
		v.i("SUBQ", 16, "CX")
		v.i("JGE", loop)
		v.at(end)
		v.ret()
	}
	v.text("bf16FromF32"+v.suffix(), "(dst *uint16, src *float32, n int)", 24)
	v.args([]string{"dst", "src", "n"}, []string{"DI", "SI", "CX"})
	each16(func() {
		v.i("VMOVUPS", "(SI)", v.r(0))
		v.roundBF16(0, 1)
		v.i("VPSRLD", 16, v.r(0), v.r(0))
		if v.wide {
			v.i("VPMOVDW", "Z0", "(DI)")
			return
		}
		v.i("VMOVUPS", "32(SI)", "Y4")
		v.roundBF16(4, 1)
		v.i("VPSRLD", 16, "Y4", "Y4")
		v.i("VPACKUSDW", "Y4", "Y0", "Y0")
		v.i("VPERMQ", 0xd8, "Y0", "Y0")
		v.i("VMOVUPS", "Y0", "(DI)")
	}, map[string]int{"SI": 64, "DI": 32}, "SI", "DI")

	v.text("f32FromBF16"+v.suffix(), "(dst *float32, src *uint16, n int)", 24)
	v.args([]string{"dst", "src", "n"}, []string{"DI", "SI", "CX"})
	each16(func() {
		for part := 0; part < 16/v.lanes(); part++ {
			v.i("VPMOVZXWD", mem("SI", 16*part), v.r(0))
			v.i("VPSLLD", 16, v.r(0), v.r(0))
			v.i("VMOVUPS", v.r(0), mem("DI", 32*part))
		}
	}, map[string]int{"SI": 32, "DI": 64}, "SI", "DI")

	v.text("f32FromF16"+v.suffix(), "(dst *float32, src *uint16, n int)", 24)
	v.args([]string{"dst", "src", "n"}, []string{"DI", "SI", "CX"})
	each16(func() {
		for part := 0; part < 16/v.lanes(); part++ {
			v.i("VCVTPH2PS", mem("SI", 16*part), v.r(0))
			v.i("VMOVUPS", v.r(0), mem("DI", 32*part))
		}
	}, map[string]int{"SI": 32, "DI": 64}, "SI", "DI")

	v.text("pairBF16"+v.suffix(), "(dst *uint32, low, high *float32, n int)", 32)
	v.args([]string{"dst", "low", "high", "n"}, []string{"DI", "SI", "DX", "CX"})
	each16(func() {
		for part := 0; part < 16/v.lanes(); part++ {
			v.i("VMOVUPS", mem("SI", 32*part), v.r(0))
			v.i("VMOVUPS", mem("DX", 32*part), v.r(4))
			v.roundBF16(0, 1)
			v.roundBF16(4, 1)
			v.i("VPSRLD", 16, v.r(0), v.r(0))
			v.i(v.logical("VPOR"), v.r(0), v.r(4), v.r(0))
			v.i("VMOVUPS", v.r(0), mem("DI", 32*part))
		}
	}, map[string]int{"SI": 64, "DX": 64, "DI": 64}, "SI", "DX", "DI")
}
