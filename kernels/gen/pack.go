package main

// packing transposes rows of a matrix into [k][rows], the order in which a tile reads them. Blocks of 16 x 16 (AVX-512) or 8 x 8
// (AVX2) are turned in registers; each turned row is stored whole, and the next one overwrites what lies past its `rows`
// values, so the buffer needs a spare vector at its end.
func packing() *file {
	f := newFile("pack_amd64.s", "Packing: dst[q][r] = a[r][q] for q < k, a multiple of the vector, and r < rows, at most the vector. lda and step are the bytes\n"+
		"between rows of a and of dst. Whole vectors are stored in order of q: past a row of dst, up to a vector is overwritten.")
	f.text("packAVX512", "(dst *float32, step uintptr, a *float32, lda uintptr, k, rows int)", 48)
	packBody(f, 16, "k", func(addr string, r int) { f.i("VMOVUPS", "("+addr+")", z(r)) }, 64)
	f.text("packAVX2", "(dst *float32, step uintptr, a *float32, lda uintptr, k, rows int)", 48)
	packBody(f, 8, "k", func(addr string, r int) { f.i("VMOVUPS", "("+addr+")", y(r)) }, 32)
	return f
}

// packBody turns blocks of lanes x lanes 32-bit words; load fills register r with a row's next words from `bytes` bytes at addr.
func packBody(f *file, lanes int, count string, load func(addr string, r int), bytes int) {
	f.i("MOVQ", "dst+0(FP)", "DI")
	f.i("MOVQ", "step+8(FP)", "DX")
	f.i("MOVQ", "a+16(FP)", "SI")
	f.i("MOVQ", "lda+24(FP)", "R8")
	f.i("MOVQ", count+"+32(FP)", "R9")
	f.i("MOVQ", "rows+40(FP)", "CX")
	f.note("R11 = the last row, which stands in for the rows past it")
	f.i("LEAQ", "-1(CX)", "R11")
	f.i("IMULQ", "R8", "R11")
	f.i("ADDQ", "SI", "R11")
	loop, end := f.label("loop"), f.label("end")
	f.i("SUBQ", lanes, "R9")
	f.i("JLT", end)
	f.at(loop)
	f.i("MOVQ", "SI", "AX")
	reg := y
	if lanes == 16 {
		reg = z
	}
	for r := 0; r < lanes; r++ {
		load("AX", r)
		f.i("ADDQ", "R8", "AX")
		f.i("CMPQ", "AX", "R11")
		f.i("CMOVQHI", "R11", "AX")
	}
	var order []int
	if lanes == 16 {
		order = transpose16(f)
	} else {
		order = transpose8(f)
	}
	for _, r := range order {
		f.i("VMOVUPS", reg(r), "(DI)")
		f.i("ADDQ", "DX", "DI")
	}
	f.i("ADDQ", bytes, "SI")
	f.i("ADDQ", bytes, "R11")
	f.i("SUBQ", lanes, "R9")
	f.i("JGE", loop)
	f.at(end)
	f.ret()
}

// transpose16 turns Z0-Z15 into Z16-Z31 and back; it returns the registers that hold the turned rows in order.
func transpose16(f *file) []int {
	// Pairs of rows, then fours, within each 128-bit lane: after it Z(4i+j) holds, in lane l, column 4l+j of rows 4i..4i+3.
	for i := 0; i < 16; i += 2 {
		f.i("VUNPCKLPS", z(i+1), z(i), z(16+i))
		f.i("VUNPCKHPS", z(i+1), z(i), z(16+i+1))
	}
	for i := 0; i < 16; i += 4 {
		f.i("VUNPCKLPD", z(16+i+2), z(16+i), z(i))
		f.i("VUNPCKHPD", z(16+i+2), z(16+i), z(i+1))
		f.i("VUNPCKLPD", z(16+i+3), z(16+i+1), z(i+2))
		f.i("VUNPCKHPD", z(16+i+3), z(16+i+1), z(i+3))
	}
	// Now turn the 4 x 4 grid of lanes, rows by fours against columns by fours.
	order := make([]int, 16)
	for j := 0; j < 4; j++ {
		f.i("VSHUFF32X4", 0x88, z(4+j), z(j), z(16+j))     // lanes 0, 2 of groups 0, 1
		f.i("VSHUFF32X4", 0xdd, z(4+j), z(j), z(20+j))     // lanes 1, 3
		f.i("VSHUFF32X4", 0x88, z(12+j), z(8+j), z(24+j))  // lanes 0, 2 of groups 2, 3
		f.i("VSHUFF32X4", 0xdd, z(12+j), z(8+j), z(28+j))  // lanes 1, 3
		f.i("VSHUFF32X4", 0x88, z(24+j), z(16+j), z(j))    // column j
		f.i("VSHUFF32X4", 0xdd, z(24+j), z(16+j), z(8+j))  // column 8+j
		f.i("VSHUFF32X4", 0x88, z(28+j), z(20+j), z(4+j))  // column 4+j
		f.i("VSHUFF32X4", 0xdd, z(28+j), z(20+j), z(12+j)) // column 12+j
		order[j], order[4+j], order[8+j], order[12+j] = j, 4+j, 8+j, 12+j
	}
	return order
}

// transpose8 turns Y0-Y7 by way of Y8-Y15.
func transpose8(f *file) []int {
	for i := 0; i < 8; i += 2 {
		f.i("VUNPCKLPS", y(i+1), y(i), y(8+i))
		f.i("VUNPCKHPS", y(i+1), y(i), y(8+i+1))
	}
	for i := 0; i < 8; i += 4 {
		f.i("VUNPCKLPD", y(8+i+2), y(8+i), y(i))
		f.i("VUNPCKHPD", y(8+i+2), y(8+i), y(i+1))
		f.i("VUNPCKLPD", y(8+i+3), y(8+i+1), y(i+2))
		f.i("VUNPCKHPD", y(8+i+3), y(8+i+1), y(i+3))
	}
	order := make([]int, 8)
	for j := 0; j < 4; j++ {
		f.i("VPERM2F128", 0x20, y(4+j), y(j), y(8+j))
		f.i("VPERM2F128", 0x31, y(4+j), y(j), y(12+j))
		order[j], order[4+j] = 8+j, 12+j
	}
	return order
}
