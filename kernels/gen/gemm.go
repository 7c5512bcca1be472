package main

import "fmt"

// The products all have one shape: a tile of `rows` rows of C by some columns is kept in registers; for each k the columns of B
// are loaded and every row adds B times one element of A. A is packed [k][rows], B has rows of columns ldb bytes apart. Each
// element of C is one chain of fused multiply-adds over k in order, whatever the number of rows, begun from C to accumulate: that
// makes a row's result independent of the batch, and of the parts in which k is taken.

// gemmF32 is C (+)= A B in float32: AVX-512 with tiles of up to 14 x 32, AVX2 with up to 6 x 16.
func gemmF32() *file {
	f := newFile("gemm_f32_amd64.s", "C (+)= A B in float32, one tile of rows x 32 or x 16 (AVX-512) or x 16 (AVX2).\n"+
		"A is packed [k][rows]; rows of B are ldb bytes apart, rows of C ldc bytes. mask has a bit for each column: nothing is\n"+
		"read or written outside it.")
	const params = "(c *float32, ldc uintptr, a, b *float32, ldb uintptr, k, rows int, mask uint32, accumulate bool)"
	for _, vectors := range []int{2, 1} {
		f.text(fmt.Sprintf("gemmF32x%dAVX512", 16*vectors), params, 61)
		loadTileArgs(f)
		loadMasks(f)
		dispatch(f, 14, func(rows int) {
			startTile512(f, rows, vectors)
			loopK(f, "R9", unroll(rows), func(step int) {
				for v := 0; v < vectors; v++ {
					f.i("VMOVUPS.Z", mem("BX", 64*v), k(v+1), z(28+v))
				}
				f.i("ADDQ", "R8", "BX")
				for r := 0; r < rows; r++ {
					for v := 0; v < vectors; v++ {
						f.i("VFMADD231PS.BCST", mem("SI", 4*(step*rows+r)), z(28+v), z(vectors*r+v))
					}
				}
			}, func(steps int) { f.i("ADDQ", 4*rows*steps, "SI") })
			storeTile512(f, rows, vectors)
		})
	}

	f.text("gemmF32AVX2", "(c *float32, ldc uintptr, a, b *float32, ldb uintptr, k, rows int, accumulate bool)", 57)
	loadTileArgs(f)
	dispatch(f, 6, func(rows int) {
		start(f, "accumulate+56(FP)", func() {
			for n := 0; n < 2*rows; n++ {
				f.i("VXORPS", y(n), y(n), y(n))
			}
		}, func() {
			for r := 0; r < rows; r++ {
				f.i("VMOVUPS", "(R10)", y(2*r))
				f.i("VMOVUPS", "32(R10)", y(2*r+1))
				f.i("ADDQ", "DX", "R10")
			}
		})
		loopK(f, "R9", unroll(rows), func(step int) {
			f.i("VMOVUPS", "(BX)", "Y12")
			f.i("VMOVUPS", "32(BX)", "Y13")
			f.i("ADDQ", "R8", "BX")
			for r := 0; r < rows; r++ {
				t := y(14 + r%2)
				f.i("VBROADCASTSS", mem("SI", 4*(step*rows+r)), t)
				f.i("VFMADD231PS", "Y12", t, y(2*r))
				f.i("VFMADD231PS", "Y13", t, y(2*r+1))
			}
		}, func(steps int) { f.i("ADDQ", 4*rows*steps, "SI") })
		for r := 0; r < rows; r++ {
			f.i("VMOVUPS", y(2*r), "(DI)")
			f.i("VMOVUPS", y(2*r+1), "32(DI)")
			f.i("ADDQ", "DX", "DI")
		}
		f.ret()
	})
	return f
}

// loadTileArgs: DI c, DX ldc, SI a, BX b, R8 ldb, R9 k, CX rows.
func loadTileArgs(f *file) {
	for _, s := range [][2]string{
		{"c+0(FP)", "DI"},
		{"ldc+8(FP)", "DX"},
		{"a+16(FP)", "SI"},
		{"b+24(FP)", "BX"},
		{"ldb+32(FP)", "R8"},
		{"k+40(FP)", "R9"},
		{"rows+48(FP)", "CX"},
	} {
		f.i("MOVQ", s[0], s[1])
	}
}

// loadMasks splits mask into K1 (columns 0-15) and K2 (16-31).
func loadMasks(f *file) {
	f.i("MOVL", "mask+56(FP)", "AX")
	f.i("KMOVW", "AX", "K1")
	f.i("SHRL", 16, "AX")
	f.i("KMOVW", "AX", "K2")
}

// dispatch writes one body for each number of rows in CX, the largest first, as full tiles are the most common.
func dispatch(f *file, most int, body func(rows int)) {
	labels := make([]string, most+1)
	for r := most; r >= 1; r-- {
		labels[r] = f.label(fmt.Sprintf("rows%d_", r))
		f.i("CMPQ", "CX", r)
		f.i("JEQ", labels[r])
	}
	f.i("VZEROUPPER")
	f.i("RET")
	for r := most; r >= 1; r-- {
		f.i("PCALIGN", 64)
		f.at(labels[r])
		body(r)
	}
}

// unroll is how many k steps one turn of the loop takes: narrow tiles need more to hide the loop itself.
func unroll(rows int) int {
	if rows >= 4 {
		return 2
	}
	return 4
}

// loopK writes a loop over the count in reg, `turns` steps at a time, then one by one. advance moves the pointers that
// step addresses by displacement.
func loopK(f *file, reg string, turns int, step func(step int), advance func(steps int)) {
	main, tail, one, end := f.label("main"), f.label("tail"), f.label("one"), f.label("end")
	f.i("SUBQ", turns, reg)
	f.i("JLT", tail)
	f.i("PCALIGN", 32)
	f.at(main)
	for s := 0; s < turns; s++ {
		step(s)
	}
	advance(turns)
	f.i("SUBQ", turns, reg)
	f.i("JGE", main)
	f.at(tail)
	f.i("ADDQ", turns, reg)
	f.i("JEQ", end)
	f.at(one)
	step(0)
	advance(1)
	f.i("DECQ", reg)
	f.i("JNE", one)
	f.at(end)
}

// start begins the sums with zero, or with what is in C (at R10) when accumulate is set: then a product in several parts of k
// gives the same chain as one.
func start(f *file, accumulate string, zero, load func()) {
	plain, end := f.label("plain"), f.label("loaded")
	f.i("MOVBLZX", accumulate, "AX")
	f.i("TESTL", "AX", "AX")
	f.i("JEQ", plain)
	f.i("MOVQ", "DI", "R10")
	load()
	f.i("JMP", end)
	f.at(plain)
	zero()
	f.at(end)
}

// startTile512 does so for rows of one or two vectors, under the masks.
func startTile512(f *file, rows, vectors int) {
	start(f, "accumulate+60(FP)", func() {
		for n := 0; n < vectors*rows; n++ {
			f.i("VPXORD", z(n), z(n), z(n))
		}
	}, func() {
		for r := 0; r < rows; r++ {
			for v := 0; v < vectors; v++ {
				f.i("VMOVUPS.Z", mem("R10", 64*v), k(v+1), z(vectors*r+v))
			}
			f.i("ADDQ", "DX", "R10")
		}
	})
}

// storeTile512 writes rows of one or two vectors under the masks.
func storeTile512(f *file, rows, vectors int) {
	for r := 0; r < rows; r++ {
		for v := 0; v < vectors; v++ {
			f.i("VMOVUPS", z(vectors*r+v), k(v+1), mem("DI", 64*v))
		}
		f.i("ADDQ", "DX", "DI")
	}
	f.ret()
}
