package main

// expandK are the conversions of packed panels, 32 outputs wide, to what the products read: the scales of K-quants in float32 [group][2][32],
// and for AVX2 weights in bytes [group][8][32] dwords, or in 16 bits.
func expandK() *file {
	f := newFile("expand_k_amd64.s", "Panels of K-quants, Q4_1 and int8 to scales in float32 and, for AVX2, to bytes or 16 bits.")
	for _, v := range isas(f) {
		v.scalesQ4K()
		v.scalesQ6K()
		if !v.wide {
			v.nibblesToBytes()
			v.sixBitsToBytes()
			v.fiveBitsToBytes()
			v.scalesQ4()
			v.bytesToWords()
		}
	}
	return f
}

// parts is how many vectors a row of 32 dwords takes.
func (v isa) parts() int { return 32 / v.lanes() }

// vector is the bytes of one.
func (v isa) vector() int { return 4 * v.lanes() }

func (v isa) scalesQ4K() {
	v.text("scalesQ4K"+v.suffix(), "(scales, src *float32, n int)", 24)
	v.note("n blocks of 256 inputs: [32] d and [32] dmin in float16, [8][32] scales and [8][32] minima in bytes")
	v.args([]string{"scales", "src", "n"}, []string{"DI", "SI", "CX"})
	block := v.label("block")
	v.at(block)
	for p := 0; p < v.parts(); p++ {
		v.i("VCVTPH2PS", mem("SI", v.vector()/2*p), v.r(0))
		v.i("VCVTPH2PS", mem("SI", 64+v.vector()/2*p), v.r(1))
		v.constant(v.logical("VPXOR"), cSign, v.r(1), v.r(1))
		for g := 0; g < 8; g++ {
			for n := 0; n < 2; n++ {
				v.i("VPMOVZXBD", mem("SI", 128+256*n+32*g+v.lanes()*p), v.r(2+n))
				v.i("VCVTDQ2PS", v.r(2+n), v.r(2+n))
				v.i("VMULPS", v.r(n), v.r(2+n), v.r(2+n))
				v.i("VMOVUPS", v.r(2+n), mem("DI", 256*g+128*n+v.vector()*p))
			}
		}
	}
	v.i("ADDQ", 640, "SI")
	v.i("ADDQ", 2048, "DI")
	v.i("DECQ", "CX")
	v.i("JNE", block)
	v.ret()
}

func (v isa) scalesQ6K() {
	v.text("scalesQ6K"+v.suffix(), "(scales, src *float32, n int)", 24)
	v.note("n blocks of 256 inputs: [32] d in float16, [16][32] scales in signed bytes")
	v.args([]string{"scales", "src", "n"}, []string{"DI", "SI", "CX"})
	block := v.label("block")
	v.at(block)
	for p := 0; p < v.parts(); p++ {
		v.i("VCVTPH2PS", mem("SI", v.vector()/2*p), v.r(0))
		for g := 0; g < 16; g++ {
			v.i("VPMOVSXBD", mem("SI", 64+32*g+v.lanes()*p), v.r(2))
			v.i("VCVTDQ2PS", v.r(2), v.r(2))
			v.i("VMULPS", v.r(0), v.r(2), v.r(2))
			v.i("VMOVUPS", v.r(2), mem("DI", 128*g+v.vector()*p))
		}
	}
	v.i("ADDQ", 576, "SI")
	v.i("ADDQ", 2048, "DI")
	v.i("DECQ", "CX")
	v.i("JNE", block)
	v.ret()
}

// eachGroup runs body for CX groups; src moves on by the bytes in R8, dst by a group of bytes.
func (v isa) eachGroup(name, note string, body func()) {
	v.text(name+v.suffix(), "(dst, src *float32, stride uintptr, n int)", 32)
	v.note("%s", note)
	v.args([]string{"dst", "src", "stride", "n"}, []string{"DI", "SI", "R8", "CX"})
	group := v.label("group")
	v.at(group)
	body()
	v.i("ADDQ", "R8", "SI")
	v.i("ADDQ", 1024, "DI")
	v.i("DECQ", "CX")
	v.i("JNE", group)
	v.ret()
}

func (v isa) nibblesToBytes() {
	v.eachGroup("nibblesToBytes", "n groups, stride bytes apart, of [4][32] dwords of eight weights (low halves k, high halves k+16)", func() {
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
	})
}

func (v isa) sixBitsToBytes() {
	v.eachGroup("sixBitsToBytes", "n groups, stride bytes apart, as gemmQ6KAVX512 reads them", func() {
		for p := 0; p < v.parts(); p++ {
			for q := 0; q < 8; q++ {
				v.joinBits(p, q, 512+q/4*128, 4-2*(q%4), cPairs)
			}
		}
	})
}

func (v isa) fiveBitsToBytes() {
	v.eachGroup("fiveBitsToBytes", "n groups, stride bytes apart, as gemmQ5KAVX512 reads them", func() {
		for p := 0; p < v.parts(); p++ {
			for q := 0; q < 8; q++ {
				v.joinBits(p, q, 512, 4-q, cFifths)
			}
		}
	})
}

// joinBits makes part p of the bytes of step q: four bits, and those under the mask of what is at `high`, shifted left by that many.
func (v isa) joinBits(p, q, high, left, mask int) {
	at := v.vector() * p
	v.i("VMOVUPS", mem("SI", 128*(q%4)+at), v.r(0))
	v.i("VMOVUPS", mem("SI", high+at), v.r(1))
	if q >= 4 {
		v.i("VPSRLD", 4, v.r(0), v.r(0))
	}
	if left > 0 {
		v.i("VPSLLD", left, v.r(1), v.r(1))
	} else if left < 0 {
		v.i("VPSRLD", -left, v.r(1), v.r(1))
	}
	v.constant("VPAND", cNibbles, v.r(0), v.r(0))
	v.constant("VPAND", mask, v.r(1), v.r(1))
	v.i("VPOR", v.r(1), v.r(0), v.r(0))
	v.i("VMOVUPS", v.r(0), mem("DI", 128*q+at))
}

// scalesQ4 are those of Q4_1.
func (v isa) scalesQ4() {
	v.text("scalesQ4"+v.suffix(), "(scales, src *float32, n int)", 24)
	v.note("n groups as gemmQ4AVX512 reads them")
	v.args([]string{"scales", "src", "n"}, []string{"DI", "SI", "CX"})
	group := v.label("group")
	v.at(group)
	for n := 0; n < 2*v.parts(); n++ {
		v.i("VCVTPH2PS", mem("SI", 512+v.vector()/2*n), v.r(0))
		v.i("VMOVUPS", v.r(0), mem("DI", v.vector()*n))
	}
	v.i("ADDQ", 640, "SI")
	v.i("ADDQ", 256, "DI")
	v.i("DECQ", "CX")
	v.i("JNE", group)
	v.ret()
}

// bytesToWords makes 16-bit weights of bytes + 128: of each four, the even ones and then the odd ones.
func (v isa) bytesToWords() {
	v.text("bytesToWords"+v.suffix(), "(dst, src *float32, n int)", 24)
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
