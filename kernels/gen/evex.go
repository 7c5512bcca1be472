package main

import (
	"fmt"
	"strings"
)

// evex encodes instructions that the Go assembler does not know: AVX512_BF16, 512 bits wide, opcode map 0F38, W0. See the
// Intel SDM, volume 2, section 2.7 (EVEX prefix).
type evex struct {
	name   string
	opcode byte
	prefix byte // pp: 2 is F3, 3 is F2
}

var (
	vdpbf16ps      = evex{"VDPBF16PS", 0x52, 2}      // dst += a.lo*b.lo + a.hi*b.hi for each pair of bfloat16
	vcvtne2ps2bf16 = evex{"VCVTNE2PS2BF16", 0x72, 3} // high half from the first source, low half from the second
)

// regSI is the only base register used.
const regSI = 6

func (e evex) head(dst, src1 int, x, b, broadcast int) []byte {
	bit := func(v, n int) byte { return byte(^v>>n) & 1 }
	p0 := bit(dst, 3)<<7 | byte(^x&1)<<6 | byte(^b&1)<<5 | bit(dst, 4)<<4 | 2
	p1 := byte(^src1&15)<<3 | 4 | e.prefix
	p2 := byte(2<<5) | byte(broadcast)<<4 | bit(src1, 4)<<3
	return []byte{0x62, p0, p1, p2, e.opcode}
}

// broadcast writes dst, src1, dword at disp(SI) broadcast.
func (e evex) broadcast(f *file, disp, src1, dst int) {
	b := e.head(dst, src1, 0, 0, 1)
	if disp%4 != 0 || disp/4 > 127 || disp < 0 {
		panic(fmt.Sprintf("displacement %d does not fit", disp))
	}
	b = append(b, 1<<6|byte(dst&7)<<3|regSI, byte(disp/4))
	e.bytes(f, b, fmt.Sprintf("%s.BCST %s, %s, %s", e.name, mem("SI", disp), z(src1), z(dst)))
}

// registers writes dst, src1, src2.
func (e evex) registers(f *file, src2, src1, dst int) {
	b := e.head(dst, src1, src2>>4, src2>>3, 0)
	b = append(b, 3<<6|byte(dst&7)<<3|byte(src2&7))
	e.bytes(f, b, fmt.Sprintf("%s %s, %s, %s", e.name, z(src2), z(src1), z(dst)))
}

func (e evex) bytes(f *file, b []byte, comment string) {
	s := make([]string, len(b))
	for i, v := range b {
		s[i] = fmt.Sprintf("BYTE $0x%02x", v)
	}
	fmt.Fprintf(&f.buf, "\t%s // %s\n", strings.Join(s, "; "), comment)
}
