package main

// Expansion of a packed panel, 32 outputs wide, to what the products of gemm_k.go read: dst [group][8][32] dwords of four bytes, scales
// [group][2][32] in float32. The packed forms are those of matrix_k.go and matrix_q4.go.
func expandK() *file {
	f := newFile("expand_k_amd64.s", "Panels of K-quants, Q4_1 and int8 to bytes (int8: 16 bits) and scales in float32.")
	data(f)
	for _, v := range isas(f) {
		v.expandQ4K()
		v.expandQ6K()
		if !v.wide {
			v.expandQ4Bytes()
			v.expandInt8Words()
		}
	}
	return f
}

// parts is how many vectors a row of 32 dwords takes.
func (v isa) parts() int { return 32 / v.lanes() }

// vector is the bytes of one.
func (v isa) vector() int { return 4 * v.lanes() }

const expandKParams = "(dst, scales, src *float32, n int)"

func (v isa) expandArgs() {
	v.args([]string{"dst", "scales", "src", "n"}, []string{"DI", "DX", "SI", "CX"})
}

func (v isa) expandQ4K() {
	v.text("expandQ4K"+v.suffix(), expandKParams, 32)
	v.note("n blocks of 256 inputs: [4][8][32] dwords of halves, [32] d and [32] dmin in float16, [8][32] scales and [8][32] minima in bytes")
	v.expandArgs()
	block, pair, row := v.label("block"), v.label("pair"), v.label("row")
	v.at(block)
	v.i("MOVQ", 4, "R8")
	v.at(pair)
	v.i("MOVQ", 8, "R9")
	v.at(row)
	for p := 0; p < v.parts(); p++ {
		at := v.vector() * p
		v.i("VMOVUPS", mem("SI", at), v.r(0))
		v.i("VPSRLD", 4, v.r(0), v.r(1))
		v.constant(v.logical("VPAND"), cNibbles, v.r(0), v.r(0))
		v.constant(v.logical("VPAND"), cNibbles, v.r(1), v.r(1))
		v.i("VMOVUPS", v.r(0), mem("DI", at))
		v.i("VMOVUPS", v.r(1), mem("DI", 1024+at))
	}
	v.i("ADDQ", 128, "SI")
	v.i("ADDQ", 128, "DI")
	v.i("DECQ", "R9")
	v.i("JNE", row)
	v.i("ADDQ", 1024, "DI")
	v.i("DECQ", "R8")
	v.i("JNE", pair)
	for p := 0; p < v.parts(); p++ {
		v.i("VCVTPH2PS", mem("SI", v.vector()/2*p), v.r(0))
		v.i("VCVTPH2PS", mem("SI", 64+v.vector()/2*p), v.r(1))
		v.constant(v.logical("VPXOR"), cSign, v.r(1), v.r(1))
		for g := 0; g < 8; g++ {
			for n := 0; n < 2; n++ {
				v.i("VPMOVZXBD", mem("SI", 128+256*n+32*g+v.lanes()*p), v.r(2+n))
				v.i("VCVTDQ2PS", v.r(2+n), v.r(2+n))
				v.i("VMULPS", v.r(n), v.r(2+n), v.r(2+n))
				v.i("VMOVUPS", v.r(2+n), mem("DX", 256*g+128*n+v.vector()*p))
			}
		}
	}
	v.i("ADDQ", 640, "SI")
	v.i("ADDQ", 2048, "DX")
	v.i("DECQ", "CX")
	v.i("JNE", block)
	v.ret()
}

func (v isa) expandQ6K() {
	v.text("expandQ6K"+v.suffix(), expandKParams, 32)
	v.note("n blocks of 256 inputs: two halves of [16][32] dwords with the lower four bits and [8][32] with the upper two, [16][32] scales in signed bytes,")
	v.note("[32] d in float16")
	v.expandArgs()
	block, half, row := v.label("block"), v.label("half"), v.label("row")
	v.at(block)
	v.i("MOVQ", 2, "R8")
	v.at(half)
	v.i("MOVQ", 8, "R9")
	v.at(row)
	for p := 0; p < v.parts(); p++ {
		at := v.vector() * p
		v.i("VMOVUPS", mem("SI", 2048+at), v.r(4))
		for low := 0; low < 2; low++ {
			v.i("VMOVUPS", mem("SI", 1024*low+at), v.r(0))
			v.i("VPSRLD", 4, v.r(0), v.r(1))
			for n := 0; n < 2; n++ { // quarter 2n+low
				switch quarter := 2*n + low; quarter {
				case 0:
					v.i("VPSLLD", 4, v.r(4), v.r(2))
				case 1:
					v.i("VPSLLD", 2, v.r(4), v.r(2))
				case 2:
					v.i("VMOVUPS", v.r(4), v.r(2))
				case 3:
					v.i("VPSRLD", 2, v.r(4), v.r(2))
				}
				v.constant(v.logical("VPAND"), cNibbles, v.r(n), v.r(n))
				v.constant(v.logical("VPAND"), cPairs, v.r(2), v.r(2))
				v.i(v.logical("VPOR"), v.r(2), v.r(n), v.r(n))
				v.i("VMOVUPS", v.r(n), mem("DI", 1024*(2*n+low)+at))
			}
		}
	}
	v.i("ADDQ", 128, "SI")
	v.i("ADDQ", 128, "DI")
	v.i("DECQ", "R9")
	v.i("JNE", row)
	v.i("ADDQ", 2048, "SI")
	v.i("ADDQ", 3072, "DI")
	v.i("DECQ", "R8")
	v.i("JNE", half)
	for p := 0; p < v.parts(); p++ {
		v.i("VCVTPH2PS", mem("SI", 512+v.vector()/2*p), v.r(0))
		for g := 0; g < 16; g++ {
			v.i("VPMOVSXBD", mem("SI", 32*g+v.lanes()*p), v.r(2))
			v.i("VCVTDQ2PS", v.r(2), v.r(2))
			v.i("VMULPS", v.r(0), v.r(2), v.r(2))
			v.i("VMOVUPS", v.r(2), mem("DX", 128*g+v.vector()*p))
		}
	}
	v.i("ADDQ", 576, "SI")
	v.i("ADDQ", 2048, "DX")
	v.i("DECQ", "CX")
	v.i("JNE", block)
	v.ret()
}

// expandQ4Bytes does so for Q4_1, which AVX-512 multiplies as it is.
func (v isa) expandQ4Bytes() {
	v.text("expandQ4Bytes"+v.suffix(), expandKParams, 32)
	v.note("n groups as gemmQ4AVX512 reads them")
	v.expandArgs()
	group := v.label("group")
	v.at(group)
	for q := 0; q < 4; q++ {
		for p := 0; p < v.parts(); p++ {
			at := 128*q + v.vector()*p
			v.i("VMOVUPS", mem("SI", at), v.r(0))
			v.i("VPSRLD", 4, v.r(0), v.r(1))
			v.constant("VPAND", cNibbles, v.r(0), v.r(0))
			v.constant("VPAND", cNibbles, v.r(1), v.r(1))
			v.i("VMOVUPS", v.r(0), mem("DI", at))
			v.i("VMOVUPS", v.r(1), mem("DI", 512+at))
		}
	}
	for n := 0; n < 2*v.parts(); n++ {
		v.i("VCVTPH2PS", mem("SI", 512+v.vector()/2*n), v.r(0))
		v.i("VMOVUPS", v.r(0), mem("DX", v.vector()*n))
	}
	v.i("ADDQ", 640, "SI")
	v.i("ADDQ", 1024, "DI")
	v.i("ADDQ", 256, "DX")
	v.i("DECQ", "CX")
	v.i("JNE", group)
	v.ret()
}

// expandInt8Words makes 16-bit weights of bytes + 128: of each four, the even ones and then the odd ones.
func (v isa) expandInt8Words() {
	v.text("expandInt8Words"+v.suffix(), "(dst, src *float32, n int)", 24)
	v.note("n rows of 32 dwords of four weights + 128, two rows of dst each")
	v.args([]string{"dst", "src", "n"}, []string{"DI", "SI", "CX"})
	row := v.label("row")
	v.at(row)
	for p := 0; p < v.parts(); p++ {
		v.i("VMOVUPS", mem("SI", v.vector()*p), v.r(0))
		v.constant("VPXOR", cByteSigns, v.r(0), v.r(0))
		v.i("VPSLLW", 8, v.r(0), v.r(1))
		v.i("VPSRAW", 8, v.r(1), v.r(1))
		v.i("VPSRAW", 8, v.r(0), v.r(0))
		v.i("VMOVUPS", v.r(1), mem("DI", v.vector()*p))
		v.i("VMOVUPS", v.r(0), mem("DI", 128+v.vector()*p))
	}
	v.i("ADDQ", 128, "SI")
	v.i("ADDQ", 256, "DI")
	v.i("DECQ", "CX")
	v.i("JNE", row)
	v.ret()
}
