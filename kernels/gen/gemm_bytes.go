package main

import "fmt"

// AVX2 has no product of bytes summed in 32 bits. VPMADDUBSW adds two products of an unsigned and a signed byte in 16 bits and
// saturates, so sums stay exact only while they fit: 16 products of weights up to 15 and activations of 127 or -128 do (16 x 15 x 128 =
// 30,720), 8 of weights up to 31 (31,744) and 4 of weights up to 63 (32,256). VPMADDWD then brings pairs of them to 32 bits. Weights of a whole byte go through
// VPMADDWD as 16 bits.
//
// Weights are expanded to bytes [group][8][32] dwords, or 16 bits, a panel at a time: that is little beside the products of a few rows, and
// stays in the cache. A and aux are those of gemm_k.go.
//
// A tile asks for the memory at ahead, as those of gemm_k.go do.
//
// A tile is up to 3 x 16: 6 registers of integer sums, 6 of float sums, 2 for weights, 1 for an activation, 1 for a product.

const rowsBytes256 = 3

const bytes256Params = "(c *float32, ldc uintptr, a, aux, b, scales *float32, groups, rows int, accumulate bool, ahead, step uintptr)"

func iacc256(r, v int) string { return y(2*r + v) }
func facc256(r, v int) string { return y(6 + 2*r + v) }

func gemmBytes() *file {
	f := newFile("gemm_bytes_amd64.s", "C (+)= A B with unsigned 8-bit or signed 16-bit weights and signed activations, one tile of rows x 16 (AVX2).")
	tile := func(name string, lines int, note string, body func(rows int, group string)) {
		f.text(name, bytes256Params, 88)
		f.note("%s", note)
		for n, s := range []string{"c DI", "ldc DX", "a SI", "aux R8", "b BX", "scales R11", "groups R9", "rows CX"} {
			var arg, reg string
			fmt.Sscan(s, &arg, &reg)
			f.i("MOVQ", fmt.Sprintf("%s+%d(FP)", arg, 8*n), reg)
		}
		loadAhead(f)
		dispatch(f, rowsBytes256, func(rows int) {
			for r := 0; r < rows; r++ {
				for v := 0; v < 2; v++ {
					f.i("VXORPS", facc256(r, v), facc256(r, v), facc256(r, v))
				}
			}
			group := f.label("group")
			f.i("PCALIGN", 32)
			f.at(group)
			askAhead(f, lines)
			body(rows, group)
			store256(f, rows)
		})
	}

	// In 16 bits fit 8 steps of weights up to 15, and 4 of weights up to 31.
	for _, t := range []struct {
		name         string
		steps, lines int
	}{{"gemmBytes15AVX2", 8, 6}, {"gemmBytes31AVX2", 4, 7}} {
		tile(t.name, t.lines, "a scale and a minimum a group; rows of b are 32 dwords, of which 16 are used", func(rows int, group string) {
			for from := 0; from < 8; from += t.steps {
				steps256(f, rows, from, t.steps)
				f.i("VMOVUPS", "(R11)", "Y12")
				f.i("VMOVUPS", "32(R11)", "Y13")
				for r := 0; r < rows; r++ {
					f.i("VBROADCASTSS", mem("R8", 4*r), "Y14")
					if from == 0 {
						f.i("VBROADCASTSS", mem("R8", 4*(rows+r)), "Y15")
					}
					for v := 0; v < 2; v++ {
						f.i("VPMADDWD", constantAt(cWordOnes), iacc256(r, v), iacc256(r, v))
						f.i("VCVTDQ2PS", iacc256(r, v), iacc256(r, v))
						f.i("VMULPS", y(12+v), iacc256(r, v), iacc256(r, v))
						f.i("VFMADD231PS", "Y14", iacc256(r, v), facc256(r, v))
						if from == 0 {
							f.i("VFMADD231PS", mem("R11", 128+32*v), "Y15", facc256(r, v))
						}
					}
				}
			}
			f.i("ADDQ", 256, "R11")
			nextGroupOf(f, rows, 1024, 4, group)
		})
	}

	tile("gemmBytes63AVX2", 8, "weights up to 63, of which 32 stands for zero, two scales a group; rows of b are 32 dwords, of which 16 are used", func(rows int, group string) {
		for half := 0; half < 2; half++ {
			for r := 0; r < rows; r++ {
				f.i("VPBROADCASTD", mem("R8", 4*((2+half)*rows+r)), iacc256(r, 0))
				f.i("VMOVDQA", iacc256(r, 0), iacc256(r, 1))
			}
			for q := 4 * half; q < 4*half+4; q += 2 {
				for v := 0; v < 2; v++ {
					f.i("VMOVDQU", mem("BX", 128*q+32*v), "Y12")
					f.i("VMOVDQU", mem("BX", 128*(q+1)+32*v), "Y13")
					for r := 0; r < rows; r++ {
						f.i("VPBROADCASTD", mem("SI", 4*(q*rows+r)), "Y14")
						f.i("VPBROADCASTD", mem("SI", 4*((q+1)*rows+r)), "Y15")
						f.i("VPMADDUBSW", "Y14", "Y12", "Y14")
						f.i("VPMADDUBSW", "Y15", "Y13", "Y15")
						f.i("VPADDW", "Y15", "Y14", "Y14")
						f.i("VPMADDWD", constantAt(cWordOnes), "Y14", "Y14")
						f.i("VPADDD", "Y14", iacc256(r, v), iacc256(r, v))
					}
				}
			}
			f.i("VMOVUPS", mem("R11", 128*half), "Y12")
			f.i("VMOVUPS", mem("R11", 128*half+32), "Y13")
			for r := 0; r < rows; r++ {
				f.i("VBROADCASTSS", mem("R8", 4*r), "Y14")
				for v := 0; v < 2; v++ {
					f.i("VCVTDQ2PS", iacc256(r, v), iacc256(r, v))
					f.i("VMULPS", y(12+v), iacc256(r, v), iacc256(r, v))
					f.i("VFMADD231PS", "Y14", iacc256(r, v), facc256(r, v))
				}
			}
		}
		f.i("ADDQ", 256, "R11")
		nextGroupOf(f, rows, 1024, 4, group)
	})

	tile("gemmWordsAVX2", 9, "a [k/2][rows] and b [k/2][32] dwords of two 16-bit values, of each four the even ones and then the odd ones; aux [group][rows]: the\n"+
		"\t// activations' scale; scales [32]", func(rows int, group string) {
		for q := 0; q < 16; q++ {
			f.i("VMOVDQU", mem("BX", 128*q), "Y12")
			f.i("VMOVDQU", mem("BX", 128*q+32), "Y13")
			for r := 0; r < rows; r++ {
				f.i("VPBROADCASTD", mem("SI", 4*(q*rows+r)), "Y14")
				for v := 0; v < 2; v++ {
					if q == 0 {
						f.i("VPMADDWD", "Y14", y(12+v), iacc256(r, v))
						continue
					}
					f.i("VPMADDWD", "Y14", y(12+v), "Y15")
					f.i("VPADDD", "Y15", iacc256(r, v), iacc256(r, v))
				}
			}
		}
		for r := 0; r < rows; r++ {
			f.i("VBROADCASTSS", mem("R8", 4*r), "Y14")
			for v := 0; v < 2; v++ {
				f.i("VCVTDQ2PS", iacc256(r, v), iacc256(r, v))
				f.i("VFMADD231PS", "Y14", iacc256(r, v), facc256(r, v))
			}
		}
		f.i("ADDQ", 64*rows, "SI")
		f.i("ADDQ", 4*rows, "R8")
		f.i("ADDQ", 2048, "BX")
		f.i("DECQ", "R9")
		f.i("JNE", group)
		for v := 0; v < 2; v++ {
			for r := 0; r < rows; r++ {
				f.i("VMULPS", mem("R11", 32*v), facc256(r, v), facc256(r, v))
			}
		}
	})
	return f
}

// steps256 sums the products of steps [from, from+n) of four k in 16 bits.
func steps256(f *file, rows, from, n int) {
	for q := from; q < from+n; q++ {
		f.i("VMOVDQU", mem("BX", 128*q), "Y12")
		f.i("VMOVDQU", mem("BX", 128*q+32), "Y13")
		for r := 0; r < rows; r++ {
			f.i("VPBROADCASTD", mem("SI", 4*(q*rows+r)), "Y14")
			for v := 0; v < 2; v++ {
				if q == from {
					f.i("VPMADDUBSW", "Y14", y(12+v), iacc256(r, v))
					continue
				}
				f.i("VPMADDUBSW", "Y14", y(12+v), "Y15")
				f.i("VPADDW", "Y15", iacc256(r, v), iacc256(r, v))
			}
		}
	}
}

func store256(f *file, rows int) {
	plain := f.label("plain")
	f.i("MOVBLZX", "accumulate+64(FP)", "AX")
	f.i("TESTL", "AX", "AX")
	f.i("JEQ", plain)
	f.i("MOVQ", "DI", "R10")
	for r := 0; r < rows; r++ {
		for v := 0; v < 2; v++ {
			f.i("VADDPS", mem("R10", 32*v), facc256(r, v), facc256(r, v))
		}
		f.i("ADDQ", "DX", "R10")
	}
	f.at(plain)
	for r := 0; r < rows; r++ {
		for v := 0; v < 2; v++ {
			f.i("VMOVUPS", facc256(r, v), mem("DI", 32*v))
		}
		f.i("ADDQ", "DX", "DI")
	}
	f.ret()
}
