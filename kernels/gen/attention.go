package main

// attention are the two halves of one head's look at its cache, for head dimensions that are a multiple of 16.
func attention() *file {
	f := newFile("attention_amd64.s", "One query head against n cached positions, stride bytes apart; d is a multiple of 16.")
	for _, v := range isas(f) {
		v.attendScores()
		v.attendSum()
		v.attendOuter()
	}
	return f
}

// attendScores takes four positions at a time; what is past the last one repeats it and is not stored, so that a score does
// not depend on how many others there are.
func (v isa) attendScores() {
	v.text("attendScores"+v.suffix(), "(scores, q, keys *float32, stride uintptr, n, d int, scale float32)", 52)
	v.note("scores[t] = scale * q.k_t")
	v.args([]string{"scores", "q", "keys", "stride", "n", "d"}, []string{"DI", "SI", "R10", "DX", "CX", "R9"})
	v.i("VBROADCASTSS", "scale+48(FP)", "X7")
	group, chunk, single, end := v.label("group"), v.label("chunk"), v.label("single"), v.label("end")
	v.i("TESTQ", "CX", "CX")
	v.i("JLE", end)
	v.at(group)
	rows := []string{"R10", "R11", "R12", "R13"}
	for n := 1; n < 4; n++ {
		v.i("LEAQ", "("+rows[n-1]+")(DX*1)", rows[n])
		v.i("CMPQ", "CX", n+1)
		v.i("CMOVQLT", rows[n-1], rows[n])
	}
	for n := 0; n < 4; n++ {
		v.zero(v.r(n))
	}
	v.i("XORQ", "AX", "AX")
	v.at(chunk)
	for part := 0; part < 16/v.lanes(); part++ {
		disp := mem("", 4*v.lanes()*part)
		disp = disp[:len(disp)-2]
		v.i("VMOVUPS", disp+"(SI)(AX*4)", v.r(4))
		for n := 0; n < 4; n++ {
			v.i("VFMADD231PS", disp+"("+rows[n]+")(AX*4)", v.r(4), v.r(n))
		}
	}
	v.i("ADDQ", 16, "AX")
	v.i("CMPQ", "AX", "R9")
	v.i("JLT", chunk)
	for n := 0; n < 4 && v.wide; n++ {
		v.i("VEXTRACTF64X4", 1, z(n), "Y5")
		v.i("VADDPS", "Y5", y(n), y(n))
	}
	v.i("VHADDPS", "Y1", "Y0", "Y0")
	v.i("VHADDPS", "Y3", "Y2", "Y2")
	v.i("VHADDPS", "Y2", "Y0", "Y0")
	v.i("VEXTRACTF128", 1, "Y0", "X1")
	v.i("VADDPS", "X1", "X0", "X0")
	v.i("VMULPS", "X7", "X0", "X0")
	v.i("CMPQ", "CX", 4)
	v.i("JLT", single)
	v.i("VMOVUPS", "X0", "(DI)")
	v.i("ADDQ", 16, "DI")
	v.i("LEAQ", "(R13)(DX*1)", "R10")
	v.i("SUBQ", 4, "CX")
	v.i("JNE", group)
	v.i("JMP", end)
	v.at(single)
	v.i("VMOVSS", "X0", "(DI)")
	v.i("VPSRLDQ", 4, "X0", "X0")
	v.i("ADDQ", 4, "DI")
	v.i("DECQ", "CX")
	v.i("JNE", single)
	v.at(end)
	v.ret()
}

// attendSum keeps 64 columns of the result in registers, then 16.
func (v isa) attendSum() {
	v.text("attendSum"+v.suffix(), "(dst, p, values *float32, stride uintptr, n, d int)", 48)
	v.note("dst += p[t] v_t for t in order")
	v.args([]string{"dst", "p", "values", "stride", "n", "d"}, []string{"DI", "SI", "BX", "DX", "CX", "R9"})
	for _, cols := range []int{64, 16} {
		count := cols / v.lanes()
		next, pass, loop := v.label("next"), v.label("pass"), v.label("loop")
		v.at(pass)
		v.i("CMPQ", "R9", cols)
		v.i("JLT", next)
		for n := 0; n < count; n++ {
			v.i("VMOVUPS", mem("DI", 4*v.lanes()*n), v.r(n))
		}
		v.i("MOVQ", "SI", "R10")
		v.i("MOVQ", "BX", "R11")
		v.i("MOVQ", "CX", "R12")
		v.at(loop)
		v.i("VBROADCASTSS", "(R10)", v.r(9))
		for n := 0; n < count; n++ {
			v.i("VFMADD231PS", mem("R11", 4*v.lanes()*n), v.r(9), v.r(n))
		}
		v.i("ADDQ", 4, "R10")
		v.i("ADDQ", "DX", "R11")
		v.i("DECQ", "R12")
		v.i("JNE", loop)
		for n := 0; n < count; n++ {
			v.i("VMOVUPS", v.r(n), mem("DI", 4*v.lanes()*n))
		}
		v.i("ADDQ", 4*cols, "DI")
		v.i("ADDQ", 4*cols, "BX")
		v.i("SUBQ", cols, "R9")
		v.i("JMP", pass)
		v.at(next)
	}
	v.ret()
}

// attendOuter adds multiples of one row, 64 columns of it in registers, then 16.
func (v isa) attendOuter() {
	v.text("attendOuter"+v.suffix(), "(dst, c, x *float32, stride uintptr, n, d int)", 48)
	v.note("row t of dst += c[t] x")
	v.args([]string{"dst", "c", "x", "stride", "n", "d"}, []string{"DI", "SI", "BX", "DX", "CX", "R9"})
	for _, cols := range []int{64, 16} {
		count := cols / v.lanes()
		next, pass, loop := v.label("next"), v.label("pass"), v.label("loop")
		v.at(pass)
		v.i("CMPQ", "R9", cols)
		v.i("JLT", next)
		for n := 0; n < count; n++ {
			v.i("VMOVUPS", mem("BX", 4*v.lanes()*n), v.r(n))
		}
		v.i("MOVQ", "SI", "R10")
		v.i("MOVQ", "DI", "R11")
		v.i("MOVQ", "CX", "R12")
		v.at(loop)
		v.i("VBROADCASTSS", "(R10)", v.r(9))
		for n := 0; n < count; n++ {
			v.i("VMOVUPS", mem("R11", 4*v.lanes()*n), v.r(10))
			v.i("VFMADD231PS", v.r(n), v.r(9), v.r(10))
			v.i("VMOVUPS", v.r(10), mem("R11", 4*v.lanes()*n))
		}
		v.i("ADDQ", 4, "R10")
		v.i("ADDQ", "DX", "R11")
		v.i("DECQ", "R12")
		v.i("JNE", loop)
		v.i("ADDQ", 4*cols, "DI")
		v.i("ADDQ", 4*cols, "BX")
		v.i("SUBQ", cols, "R9")
		v.i("JMP", pass)
		v.at(next)
	}
	v.ret()
}
