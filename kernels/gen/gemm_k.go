package main

// Products with the weights of K-quants. The activations come as A [k/4][rows] dwords of four signed bytes, and aux [group][4][rows]: their
// scale; scale times their sum; -32 times the sum of the first 16 and of the last 16, as integers. Weights are a panel of 32 outputs
// as matrix_k.go keeps it; their scales come in float32 [group][2][32]:
//
//	Q4_K and Q5_K: a scale and a minimum for each group of 32
//	Q6_K: a scale for each half of it, where 32 stands for zero
//
// While a tile multiplies, it asks for the memory at ahead, step bytes for each group: the next panel, which is then in the cache when its
// scales are made. Weights of a few rows would else wait for memory.
func gemmK() *file {
	f := newFile("gemm_k_amd64.s", "C (+)= A B with K-quants and signed 8-bit activations, one tile of rows x 32 (AVX-512).")
	f.text("gemmQ4KAVX512", gemmKParams, 88)
	f.note("b [group][4][32] dwords of eight weights (low halves k, high halves k+16)")
	groupsOfK(f, 512, func(rows int) {
		nibbles512(f, rows)
		loadScales512(f)
		scaled512(f, rows)
	})

	f.text("gemmQ5KAVX512", gemmKParams, 88)
	f.note("as gemmQ4KAVX512, and in a group [1][32] dwords with the fifth bits: bit q of step q of four k")
	groupsOfK(f, 640, func(rows int) {
		for r := 0; r < 2*rows; r++ {
			f.i("VPXORD", z(r), z(r), z(r))
		}
		for q := 0; q < 8; q++ {
			join512(f, q%4, q/4, 512, 4-q, cFifths)
			for r := 0; r < rows; r++ {
				for v := 0; v < 2; v++ {
					f.i("VPDPBUSD.BCST", mem("SI", 4*(q*rows+r)), z(28+v), iacc(r, v))
				}
			}
		}
		loadScales512(f)
		scaled512(f, rows)
	})

	f.text("gemmQ6KAVX512", gemmKParams, 88)
	f.note("b [group]: [4][32] dwords with the lower four bits (low halves k, high halves k+16), [2][32] with the upper two (of k, of k+16: those of")
	f.note("step q of four k are pair q)")
	groupsOfK(f, 768, func(rows int) {
		for half := 0; half < 2; half++ {
			for r := 0; r < rows; r++ {
				f.i("VPBROADCASTD", mem("R8", 4*((2+half)*rows+r)), iacc(r, 0))
				f.i("VMOVDQA64", iacc(r, 0), iacc(r, 1))
			}
			for q := 0; q < 4; q++ {
				join512(f, q, half, 512+128*half, 4-2*q, cPairs)
				for r := 0; r < rows; r++ {
					for v := 0; v < 2; v++ {
						f.i("VPDPBUSD.BCST", mem("SI", 4*((4*half+q)*rows+r)), z(28+v), iacc(r, v))
					}
				}
			}
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
	})
	return f
}

// groupsOfK is the frame of a tile: body takes a group of `bytes` bytes of the panel into the sums, while the next panel's are asked for.
func groupsOfK(f *file, bytes int, body func(rows int)) {
	loadInt8Args(f)
	loadAhead(f)
	dispatch(f, 7, func(rows int) {
		zeroFloats(f, rows)
		group := f.label("group")
		f.at(group)
		askAhead(f, (bytes+128)/64)
		body(rows)
		f.i("ADDQ", 256, "R11")
		nextGroupOf(f, rows, bytes, 4, group)
		storeFloats(f, rows)
	})
}

// join512 makes the bytes of step q of a half in Z28 and Z29: four bits of row q, and those under the mask of what is at `high`, shifted
// left by that many.
func join512(f *file, q, half, high, left, mask int) {
	for v := 0; v < 2; v++ {
		low, up := mem("BX", 128*q+64*v), mem("BX", high+64*v)
		if half == 0 {
			f.i("VMOVDQU32", low, z(28+v))
		} else {
			f.i("VPSRLD", 4, low, z(28+v))
		}
		switch {
		case left > 0:
			f.i("VPSLLD", left, up, z(30+v))
		case left == 0:
			f.i("VMOVDQU32", up, z(30+v))
		default:
			f.i("VPSRLD", -left, up, z(30+v))
		}
		f.i("VPANDD.BCST", constantAt(cNibbles), z(28+v), z(28+v))
		f.i("VPTERNLOGD.BCST", 0xf8, constantAt(mask), z(30+v), z(28+v)) // low | up & mask
	}
}

// loadScales512 loads a group's scales (Z28, Z29) and minima (Z30, Z31).
func loadScales512(f *file) {
	for v := 0; v < 2; v++ {
		f.i("VMOVUPS", mem("R11", 64*v), z(28+v))
		f.i("VMOVUPS", mem("R11", 128+64*v), z(30+v))
	}
}

const gemmKParams = "(c *float32, ldc uintptr, a, aux, b, scales *float32, groups, rows int, mask uint32, accumulate bool, ahead, step uintptr)"

func loadAhead(f *file) {
	f.i("MOVQ", "ahead+72(FP)", "R12")
	f.i("MOVQ", "step+80(FP)", "R13")
}

func askAhead(f *file, lines int) {
	for n := 0; n < lines; n++ {
		f.i("PREFETCHT1", mem("R12", 64*n))
	}
	f.i("ADDQ", "R13", "R12")
}

// nibbles512 sums the products of a group of 4-bit weights as integers.
func nibbles512(f *file, rows int) {
	for r := 0; r < 2*rows; r++ {
		f.i("VPXORD", z(r), z(r), z(r))
	}
	for q := 0; q < 4; q++ {
		for v := 0; v < 2; v++ {
			f.i("VMOVDQU32", mem("BX", 128*q+64*v), z(28+2*v))
			f.i("VPSRLD", 4, z(28+2*v), z(29+2*v))
			f.i("VPANDD.BCST", constantAt(cNibbles), z(28+2*v), z(28+2*v))
			f.i("VPANDD.BCST", constantAt(cNibbles), z(29+2*v), z(29+2*v))
		}
		for half := 0; half < 2; half++ {
			for r := 0; r < rows; r++ {
				for v := 0; v < 2; v++ {
					f.i("VPDPBUSD.BCST", mem("SI", 4*((q+4*half)*rows+r)), z(28+2*v+half), iacc(r, v))
				}
			}
		}
	}
}

// scaled512 adds a group's integer sums to those in float32, by the weights' scales (Z28, Z29) and minima (Z30, Z31).
func scaled512(f *file, rows int) {
	for r := 0; r < rows; r++ {
		for v := 0; v < 2; v++ {
			f.i("VCVTDQ2PS", iacc(r, v), iacc(r, v))
			f.i("VMULPS", z(28+v), iacc(r, v), iacc(r, v))
			f.i("VFMADD231PS.BCST", mem("R8", 4*r), iacc(r, v), facc(r, v))
			f.i("VFMADD231PS.BCST", mem("R8", 4*(rows+r)), z(30+v), facc(r, v))
		}
	}
}
