package main

// Products of unsigned bytes that were expanded from a packed form, one panel at a time: b [group][8][32] dwords of four weights, and
// scales [group][2][32] in float32 beside them. The activations come as A [k/4][rows] dwords of four signed bytes, and aux
// [group][4][rows]: their scale; scale times their sum; -32 times the sum of the first 16 and of the last 16, as integers.
//
//	gemmK4: a scale and a minimum for each group of 32: scales are these.
//	gemmK6: a scale for each 16, and 32 stands for zero: scales are those of the two halves.
//
// gemmK4AVX2 takes weights of up to 15 and gemmK6AVX2 of up to 63: more would not fit the 16 bits in which it adds products.
func gemmK() *file {
	f := newFile("gemm_k_amd64.s", "C (+)= A B with expanded weights of up to 8 bits and signed 8-bit activations, one tile of rows x 32 (AVX-512) or x 16 (AVX2).")
	data(f)
	f.text("gemmK4AVX512", int8Params, 69)
	loadInt8Args(f)
	dispatch(f, 7, func(rows int) {
		zeroFloats(f, rows)
		group := f.label("group")
		f.at(group)
		for r := 0; r < 2*rows; r++ {
			f.i("VPXORD", z(r), z(r), z(r))
		}
		bytes512(f, rows, 0, 8)
		for v := 0; v < 2; v++ {
			f.i("VMOVUPS", mem("R11", 64*v), z(28+v))
			f.i("VMOVUPS", mem("R11", 128+64*v), z(30+v))
		}
		for r := 0; r < rows; r++ {
			for v := 0; v < 2; v++ {
				f.i("VCVTDQ2PS", iacc(r, v), iacc(r, v))
				f.i("VMULPS", z(28+v), iacc(r, v), iacc(r, v))
				f.i("VFMADD231PS.BCST", mem("R8", 4*r), iacc(r, v), facc(r, v))
				f.i("VFMADD231PS.BCST", mem("R8", 4*(rows+r)), z(30+v), facc(r, v))
			}
		}
		f.i("ADDQ", 256, "R11")
		nextGroupOf(f, rows, 1024, 4, group)
		storeFloats(f, rows)
	})

	f.text("gemmK6AVX512", int8Params, 69)
	loadInt8Args(f)
	dispatch(f, 7, func(rows int) {
		zeroFloats(f, rows)
		group := f.label("group")
		f.at(group)
		for half := 0; half < 2; half++ {
			for r := 0; r < rows; r++ {
				f.i("VPBROADCASTD", mem("R8", 4*((2+half)*rows+r)), iacc(r, 0))
				f.i("VMOVDQA64", iacc(r, 0), iacc(r, 1))
			}
			bytes512(f, rows, 4*half, 4)
			for v := 0; v < 2; v++ {
				f.i("VMOVUPS", mem("R11", 128*half+64*v), z(30+v))
			}
			for r := 0; r < rows; r++ {
				for v := 0; v < 2; v++ {
					f.i("VCVTDQ2PS", iacc(r, v), iacc(r, v))
					f.i("VMULPS", z(30+v), iacc(r, v), iacc(r, v))
					f.i("VFMADD231PS.BCST", mem("R8", 4*r), iacc(r, v), facc(r, v))
				}
			}
		}
		f.i("ADDQ", 256, "R11")
		nextGroupOf(f, rows, 1024, 4, group)
		storeFloats(f, rows)
	})
	gemmBytesAVX2(f)
	return f
}

// bytes512 adds the products of steps [from, from+n) of four k to the integer sums.
func bytes512(f *file, rows, from, n int) {
	for q := from; q < from+n; q++ {
		f.i("VMOVDQU32", mem("BX", 128*q), "Z28")
		f.i("VMOVDQU32", mem("BX", 128*q+64), "Z29")
		for r := 0; r < rows; r++ {
			for v := 0; v < 2; v++ {
				f.i("VPDPBUSD.BCST", mem("SI", 4*(q*rows+r)), z(28+v), iacc(r, v))
			}
		}
	}
}
