package main

import (
	"fmt"
	"math"
)

// Constants of the exponential and what is built on it, by their place in the table.
const (
	cLow = iota
	cHigh
	cLog2e
	cLn2Hi
	cLn2Lo
	cPoly  // six of them
	cOne   = cPoly + 6
	cGeluA = iota + 5
	cGeluB
	cInfMinus
	cSign
	cBias
	cHighHalf
	cIntOne
	cHalfLess
	cQuiet
	cNibbles
	cOnes
	cMagnitude
	cTiny
	c127
	cWordOnes
	cPairs
	cFifths
	cByteSigns
	cMantissa // of the logarithm, from here on
	cRoot2
	cOneBits
	cLn2
	cTwo
	cLog9
	cLog7
	cLog5
	cLog3
	cPosInf
	cCount
)

// The values are those of nonlinear.go; a test compares the kernels with it.
var constantBits = map[int]uint32{
	cLow: math.Float32bits(-104), cHigh: math.Float32bits(89), cLog2e: math.Float32bits(1.4426950408889634),
	cLn2Hi: math.Float32bits(0.693359375), cLn2Lo: math.Float32bits(-2.12194440054690583e-04),
	cPoly: math.Float32bits(1.9875691500e-4), cPoly + 1: math.Float32bits(1.3981999507e-3),
	cPoly + 2: math.Float32bits(8.3334519073e-3), cPoly + 3: math.Float32bits(4.1665795894e-2),
	cPoly + 4: math.Float32bits(1.6666665459e-1), cPoly + 5: math.Float32bits(5.0000001201e-1),
	cOne:   math.Float32bits(1),
	cGeluA: math.Float32bits(1.5957691216057308), cGeluB: math.Float32bits(0.044715 * 1.5957691216057308),
	cInfMinus: 0xff800000, cSign: 0x80000000, cBias: 127,
	cHighHalf: 0xffff0000, cIntOne: 1, cHalfLess: 0x7fff, cQuiet: 0x400000,
	cNibbles: 0x0f0f0f0f, cOnes: 0x01010101, cMagnitude: 0x7fffffff,
	cTiny: math.Float32bits(1e-30), c127: math.Float32bits(127),
	cWordOnes: 0x00010001, cPairs: 0x30303030, cFifths: 0x10101010, cByteSigns: 0x80808080,
	cMantissa: 0x7fffff, cRoot2: 0x3fb504f3, cOneBits: 127 << 23, cLn2: math.Float32bits(0.69314718), cTwo: math.Float32bits(2),
	cLog9: math.Float32bits(0.2222222222), cLog7: math.Float32bits(0.2857142857), cLog5: math.Float32bits(0.4), cLog3: math.Float32bits(0.6666666667),
	cPosInf: math.Float32bits(float32(math.Inf(1))),
}

// constants is the table, each constant 8 times (AVX2 reads vectors, AVX-512 broadcasts the first), and the tail masks. All files read this one.
func constants() *file {
	f := newFile("constants_amd64.s", "What the kernels share: numbers in eight lanes each, and the masks of a vector's end.")
	for c := 0; c < cCount; c++ {
		bits, ok := constantBits[c]
		if !ok {
			panic(fmt.Sprintf("constant %d has no value", c))
		}
		for n := 0; n < 4; n++ {
			fmt.Fprintf(&f.buf, "DATA ·constants+%d(SB)/8, $0x%08x%08x\n", 32*c+8*n, bits, bits)
		}
	}
	fmt.Fprintf(&f.buf, "GLOBL ·constants(SB), RODATA|NOPTR, $%d\n", 32*cCount)
	f.note("eight lanes on, eight off: read from 32 bytes less 4 a value")
	for n := 0; n < 8; n++ {
		bits := uint64(math.MaxUint64)
		if n >= 4 {
			bits = 0
		}
		fmt.Fprintf(&f.buf, "DATA ·tailMasks+%d(SB)/8, $0x%016x\n", 8*n, bits)
	}
	fmt.Fprintf(&f.buf, "GLOBL ·tailMasks(SB), RODATA|NOPTR, $64\n")
	return f
}

func constantAt(c int) string { return fmt.Sprintf("·constants+%d(SB)", 32*c) }
