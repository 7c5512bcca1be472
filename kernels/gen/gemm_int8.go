package main

import "fmt"

// Products of unsigned weights and signed activations, whose scales change every 32 values of k (a group): integer sums within
// a group by VPDPBUSD, float32 sums across groups. The activations come as A [k/4][rows] dwords of four bytes, and aux [group][2][rows]
// with what a group needs beside its sum.
//
// A tile is up to 7 x 32: 14 registers of integer sums, 14 of float sums, 4 for weights.

const int8Params = "(c *float32, ldc uintptr, a, aux, b, scales *float32, groups, rows int, mask uint32, accumulate bool)"

// loadInt8Args: DI c, DX ldc, SI a, R8 aux, BX b, R11 scales, R9 groups, CX rows.
func loadInt8Args(f *file) {
	for n, s := range []string{"c DI", "ldc DX", "a SI", "aux R8", "b BX", "scales R11", "groups R9", "rows CX"} {
		var name, reg string
		fmt.Sscan(s, &name, &reg)
		f.i("MOVQ", fmt.Sprintf("%s+%d(FP)", name, 8*n), reg)
	}
	f.i("MOVL", "mask+64(FP)", "AX")
	f.i("KMOVW", "AX", "K1")
	f.i("SHRL", 16, "AX")
	f.i("KMOVW", "AX", "K2")
}

// integer and float accumulators of row r, vector v.
func iacc(r, v int) string { return z(2*r + v) }
func facc(r, v int) string { return z(14 + 2*r + v) }

func gemmInt8() *file {
	f := newFile("gemm_int8_amd64.s", "C (+)= A B with unsigned 8- and 4-bit weights and signed 8-bit activations, one tile of rows x 32.")

	f.text("gemmInt8AVX512", int8Params, 69)
	f.note("b [group][8][32] dwords of four weights + 128; aux: -128 times the sum of the activations, and their scale; scales [32]")
	loadInt8Args(f)
	dispatch(f, 7, func(rows int) {
		zeroFloats(f, rows)
		group := f.label("group")
		f.at(group)
		for r := 0; r < rows; r++ {
			f.i("VPBROADCASTD", mem("R8", 4*r), iacc(r, 0))
			f.i("VMOVDQA64", iacc(r, 0), iacc(r, 1))
		}
		for q := 0; q < 8; q++ {
			f.i("VMOVDQU32", mem("BX", 128*q), "Z28")
			f.i("VMOVDQU32", mem("BX", 128*q+64), "Z29")
			for r := 0; r < rows; r++ {
				for v := 0; v < 2; v++ {
					f.i("VPDPBUSD.BCST", mem("SI", 4*(q*rows+r)), z(28+v), iacc(r, v))
				}
			}
		}
		for r := 0; r < rows; r++ {
			for v := 0; v < 2; v++ {
				f.i("VCVTDQ2PS", iacc(r, v), iacc(r, v))
				f.i("VFMADD231PS.BCST", mem("R8", 4*(rows+r)), iacc(r, v), facc(r, v))
			}
		}
		nextGroup(f, rows, 1024, group)
		for v := 0; v < 2; v++ {
			f.i("VMOVUPS", mem("R11", 64*v), z(28+v))
		}
		for r := 0; r < rows; r++ {
			for v := 0; v < 2; v++ {
				f.i("VMULPS", z(28+v), facc(r, v), facc(r, v))
			}
		}
		storeFloats(f, rows)
	})

	f.text("gemmQ4AVX512", int8Params, 69)
	f.note("b [group]: [4][32] dwords of eight weights (low halves k, high halves k+16), then [32] scales and [32] minima in float16;")
	f.note("aux: the activations' scale, and scale times their sum; scales is not used")
	loadInt8Args(f)
	dispatch(f, 7, func(rows int) {
		zeroFloats(f, rows)
		group := f.label("group")
		f.at(group)
		nibbles512(f, rows)
		for v := 0; v < 2; v++ {
			f.i("VCVTPH2PS", mem("BX", 512+32*v), z(28+v))
			f.i("VCVTPH2PS", mem("BX", 576+32*v), z(30+v))
		}
		scaled512(f, rows)
		nextGroup(f, rows, 640, group)
		storeFloats(f, rows)
	})
	return f
}

func zeroFloats(f *file, rows int) {
	for r := 0; r < rows; r++ {
		for v := 0; v < 2; v++ {
			f.i("VPXORD", facc(r, v), facc(r, v), facc(r, v))
		}
	}
}

func nextGroup(f *file, rows, bytes int, group string) { nextGroupOf(f, rows, bytes, 2, group) }

// nextGroupOf does so where a group has `aux` words beside it.
func nextGroupOf(f *file, rows, bytes, aux int, group string) {
	f.i("ADDQ", 32*rows, "SI")
	f.i("ADDQ", 4*aux*rows, "R8")
	f.i("ADDQ", bytes, "BX")
	f.i("DECQ", "R9")
	f.i("JNE", group)
}

func storeFloats(f *file, rows int) {
	plain := f.label("plain")
	f.i("MOVBLZX", "accumulate+68(FP)", "AX")
	f.i("TESTL", "AX", "AX")
	f.i("JEQ", plain)
	f.i("MOVQ", "DI", "R10")
	for r := 0; r < rows; r++ {
		for v := 0; v < 2; v++ {
			f.i("VADDPS", mem("R10", 64*v), facc(r, v), k(v+1), facc(r, v))
		}
		f.i("ADDQ", "DX", "R10")
	}
	f.at(plain)
	for r := 0; r < rows; r++ {
		for v := 0; v < 2; v++ {
			f.i("VMOVUPS", facc(r, v), k(v+1), mem("DI", 64*v))
		}
		f.i("ADDQ", "DX", "DI")
	}
	f.ret()
}
