package main

// gemmBF16 is C (+)= A B with both in bfloat16 and sums in float32, by VDPBF16PS, which takes k in pairs.
func gemmBF16() *file {
	f := newFile("gemm_bf16_amd64.s", "C (+)= A B in bfloat16, one tile of rows x 32, k in pairs. A is packed [k][rows][2], B [k][32][2];\n"+
		"rows of C are ldc bytes apart; mask has a bit for each column.")
	f.text("gemmBF16AVX512BF16", "(c *float32, ldc uintptr, a, b *float32, ldb uintptr, k, rows int, mask uint32, accumulate bool)", 61)
	loadTileArgs(f)
	loadMasks(f)
	dispatch(f, 14, func(rows int) {
		startTile512(f, rows, 2)
		loopK(f, "R9", unroll(rows), func(step int) {
			f.i("VMOVUPS", "(BX)", "Z28")
			f.i("VMOVUPS", "64(BX)", "Z29")
			f.i("ADDQ", "R8", "BX")
			for r := 0; r < rows; r++ {
				vdpbf16ps.broadcast(f, 4*(step*rows+r), 28, 2*r)
				vdpbf16ps.broadcast(f, 4*(step*rows+r), 29, 2*r+1)
			}
		}, func(steps int) { f.i("ADDQ", 4*rows*steps, "SI") })
		storeTile512(f, rows, 2)
	})

	f.text("packBF16AVX512BF16", "(dst *float32, step uintptr, a *float32, lda uintptr, pairs, rows int)", 48)
	f.note("as packAVX512, of pairs of values rounded to bfloat16; pairs is a multiple of 16")
	packBody(f, 16, "pairs", func(addr string, r int) {
		f.i("VMOVUPS", "("+addr+")", "Z16")
		f.i("VMOVUPS", "64("+addr+")", "Z17")
		vcvtne2ps2bf16.registers(f, 16, 17, r)
	}, 128)
	return f
}
