package main

import "fmt"

// quantiseK are the kernels that bring activations to 8 bits for the products of gemm_k.go.
func quantiseK() *file {
	f := newFile("quantise_k_amd64.s", "Activations to 8 bits with a scale per 32 values; n is a multiple of 32.")
	f.note("of the dwords of two packed vectors, in the order of the values")
	for n, bits := range []uint64{0x4<<32 | 0, 0x5<<32 | 1, 0x6<<32 | 2, 0x7<<32 | 3} {
		fmt.Fprintf(&f.buf, "DATA packedOrder<>+%d(SB)/8, $0x%016x\n", 8*n, bits)
	}
	fmt.Fprintf(&f.buf, "GLOBL packedOrder<>(SB), RODATA|NOPTR, $32\n")

	const note = "q gets n bytes; aux four words a group: the scale, scale times the sum, -32 times the sums of both halves as integers"
	wide := isa{f, true}
	f.text("quantiseKAVX512", "(q, aux, x *float32, n int)", 32)
	f.note(note)
	wide.constant2("VPBROADCASTD", cOnes, "Y9")
	quantiseLoop(wide, 32, 16, func() {
		wide.groupBytes()
		f.i("VPXORD", "Y2", "Y2", "Y2")
		f.i("VPDPBUSD", "Y0", "Y9", "Y2")
		sums(f)
	})

	narrow := isa{f, false}
	magnitudes := func() {
		narrow.constant2("VBROADCASTSS", cMagnitude, "Y5")
		for n := 0; n < 4; n++ {
			f.i("VMOVUPS", mem("SI", 32*n), y(6+n))
			f.i("VPAND", y(6+n), "Y5", y(n))
		}
		f.i("VPMAXSD", "Y1", "Y0", "Y0")
		f.i("VPMAXSD", "Y3", "Y2", "Y2")
		f.i("VPMAXSD", "Y2", "Y0", "Y2")
		narrow.scaleOf()
		for n := 0; n < 4; n++ {
			f.i("VMULPS", "Y4", y(6+n), y(6+n))
			f.i("VCVTPS2DQ", y(6+n), y(6+n))
		}
		f.i("VPACKSSDW", "Y7", "Y6", "Y6")
		f.i("VPACKSSDW", "Y9", "Y8", "Y8")
	}
	f.text("quantiseKAVX2", "(q, aux, x *float32, n int)", 32)
	f.note(note)
	narrow.constant2("VBROADCASTSS", cOnes, "Y12")
	f.i("VMOVDQU", "packedOrder<>(SB)", "Y13")
	quantiseLoop(narrow, 32, 16, func() {
		magnitudes()
		f.i("VPACKSSWB", "Y8", "Y6", "Y6")
		f.i("VPERMD", "Y6", "Y13", "Y0")
		f.i("VMOVDQU", "Y0", "(DI)")
		f.i("VPMADDUBSW", "Y0", "Y12", "Y2")
		narrow.constant("VPMADDWD", cWordOnes, "Y2", "Y2")
		sums(f)
	})

	f.text("quantiseWordsAVX2", "(q, aux, x *float32, n int)", 32)
	f.note("q gets n 16-bit values, of each four the even ones and then the odd ones; aux the scale")
	quantiseLoop(narrow, 64, 4, func() {
		magnitudes()
		for n := 0; n < 2; n++ {
			f.i("VPERMQ", 0xd8, y(6+2*n), y(6+2*n))
			f.i("VPSHUFLW", 0xd8, y(6+2*n), y(6+2*n))
			f.i("VPSHUFHW", 0xd8, y(6+2*n), y(6+2*n))
			f.i("VMOVDQU", y(6+2*n), mem("DI", 32*n))
		}
		f.i("VMOVSS", "X3", "(DX)")
	})
	return f
}

// quantiseLoop takes CX values at SI in groups of 32, each of which makes q bytes at DI and aux bytes at DX.
func quantiseLoop(v isa, q, aux int, body func()) {
	v.args([]string{"q", "aux", "x", "n"}, []string{"DI", "DX", "SI", "CX"})
	loop, end := v.label("loop"), v.label("end")
	v.i("SUBQ", 32, "CX")
	v.i("JLT", end)
	v.at(loop)
	body()
	v.i("ADDQ", 128, "SI")
	v.i("ADDQ", q, "DI")
	v.i("ADDQ", aux, "DX")
	v.i("SUBQ", 32, "CX")
	v.i("JGE", loop)
	v.at(end)
	v.ret()
}

// sums writes a group's four words from its scale (X3) and the sums of its bytes by fours (Y2).
func sums(f *file) {
	f.i("VEXTRACTI128", 1, "Y2", "X1")
	f.i("VPHADDD", "X1", "X2", "X2")
	f.i("VPHADDD", "X2", "X2", "X2") // the first half's, the second's, and again
	f.i("VPSHUFD", 1, "X2", "X1")
	f.i("VPADDD", "X1", "X2", "X1")
	f.i("VCVTDQ2PS", "X1", "X1")
	f.i("VMULSS", "X1", "X3", "X1")
	f.i("VMOVSS", "X3", "(DX)")
	f.i("VMOVSS", "X1", "4(DX)")
	f.i("VPSLLD", 5, "X2", "X2")
	f.i("VPXOR", "X1", "X1", "X1")
	f.i("VPSUBD", "X2", "X1", "X2")
	f.i("VMOVQ", "X2", "8(DX)")
}
