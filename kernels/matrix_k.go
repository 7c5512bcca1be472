package kernels

import (
	"encoding/binary"
	"fmt"
)

// KRows are rows of a weight in blocks of one of ggml's K types, as they are in a GGUF file.
type KRows struct {
	Type   string // one of KTypes
	Out    int    // rows
	Blocks []byte // [Out][in/256] blocks
}

// kBlock is how many inputs share a block of a K type.
const kBlock = 256

// kForm is how one K type is kept: the bytes of a block of 256 inputs in the file, and in a panel of 32 outputs the 32-bit words of a group
// of 32 inputs and what a block has beside its groups.
type kForm struct {
	name   string
	bytes  int
	group  int
	beside int
}

// The numbers of kForms are kept on disk: they must not change.
const (
	formQ4K = 1
	formQ6K = 2
	formQ5K = 3
)

// A panel holds all groups and then, for each block, what is beside them. Every row of 32 words, halves or bytes has one for every output:
//
//	Q4_K: a group is [4][32] words of eight weights. Byte b of word q holds input 4q+b in its lower half and input 16+4q+b in its upper
//	      half. A block has [32] d and [32] dmin in float16, then [8][32] scales and [8][32] minima in bytes.
//	Q6_K: a group is the same with the lower four bits, then [2][32] words with the upper two. Byte b of the first word holds those of
//	      inputs b, 4+b, 8+b and 12+b, from the lowest bit on, and the second word those of the inputs 16 further on. A block has [32] d in
//	      float16, then [16][32] scales in signed bytes.
//	Q5_K: a group is as of Q4_K, then [1][32] words with the fifth bits. Bit i of byte b is that of input 4i+b. A block is as of Q4_K.
var kForms = [...]kForm{
	formQ4K: {"Q4_K", 144, 4 * panel, 5 * panel}, formQ6K: {"Q6_K", 210, 6 * panel, 9 * panel / 2}, formQ5K: {"Q5_K", 176, 5 * panel, 5 * panel},
}

// block is the words of a panel's block.
func (f kForm) block() int { return kBlock/group*f.group + f.beside }

// KTypes names the types that PackK takes.
func KTypes() []string { return []string{"Q4_K", "Q5_K", "Q6_K"} }

// matrixK keeps the blocks of ggml's K types as they are, in the order in which they are expanded: a word for each panel with its form,
// padded to a multiple of 16 words, then the panels.
type matrixK struct {
	out, in int
	all     []uint32
	at      []int // where each panel begins in all
}

// KStacks says whether PackK can make one matrix of parts that follow each other: their types are known, inputs come in blocks of
// 256, and a panel of 32 outputs never has two types.
func KStacks(parts []KRows, in int) bool {
	if in <= 0 || in%kBlock != 0 {
		return false
	}
	out := 0
	for i, p := range parts {
		if kFormOf(p.Type) == 0 || i > 0 && out%panel != 0 && p.Type != parts[i-1].Type {
			return false
		}
		out += p.Out
	}
	return out > 0
}

func kFormOf(name string) int {
	for i, f := range kForms {
		if i > 0 && f.name == name {
			return i
		}
	}
	return 0
}

// PackK packs the rows of all parts, one below the other, without loss; KStacks must hold. Mul brings A to 8 bits with a scale for each
// 32 values of a row, and sums products within a weight's scale as integers.
func PackK(parts []KRows, in int) Matrix {
	if !KStacks(parts, in) {
		panic(fmt.Sprintf("kernels.PackK: %d inputs of %d parts (known types: %v; inputs come in blocks of 256, types change at multiples of 32 outputs)", in, len(parts), KTypes()))
	}
	out := 0
	var forms []uint32
	for _, p := range parts {
		need("PackK", "blocks of "+p.Type, len(p.Blocks), p.Out*(in/kBlock)*kForms[kFormOf(p.Type)].bytes)
		out += p.Out
		for len(forms) < panels(out) {
			forms = append(forms, uint32(kFormOf(p.Type)))
		}
	}
	m := &matrixK{out: out, in: in}
	words, err := m.layout(forms)
	if err != nil {
		panic("kernels.PackK: " + err.Error())
	}
	m.all = make([]uint32, words)
	copy(m.all, forms)
	o := 0
	for _, p := range parts {
		f := kForms[kFormOf(p.Type)]
		for r := 0; r < p.Out; r++ {
			groups, beside := m.panel(o / panel)
			for b := 0; b < m.blocks(); b++ {
				src := p.Blocks[(r*m.blocks()+b)*f.bytes:][:f.bytes]
				g, s := groups[b*kBlock/group*f.group:], beside[b*f.beside:]
				switch p.Type {
				case "Q4_K":
					putQ4K(g, s, src[:16], src[16:], f.group, o%panel)
				case "Q5_K":
					putQ4K(g, s, src[:16], src[48:], f.group, o%panel)
					putFifths(g, src[16:48], f.group, o%panel)
				case "Q6_K":
					putQ6K(g, s, src, o%panel)
				}
			}
			o++
		}
	}
	return m
}

// layout finds where the panels begin, and the words of all.
func (w *matrixK) layout(forms []uint32) (int, error) {
	n := (panels(w.out) + 15) / 16 * 16
	w.at = make([]int, panels(w.out))
	for p := range w.at {
		f := forms[p]
		if f == 0 || int(f) >= len(kForms) {
			return 0, fmt.Errorf("panel %d has form %d, which is not known", p, f)
		}
		w.at[p] = n
		n += kForms[f].block() * w.blocks()
	}
	return n, nil
}

func (w *matrixK) blocks() int { return w.in / kBlock }

// panel gives the words of panel p: its groups, and what is beside them.
func (w *matrixK) panel(p int) (groups, beside []uint32) {
	f := kForms[w.all[p]]
	n := w.in / group * f.group
	words := w.all[w.at[p]:][:f.block()*w.blocks()]
	return words[:n], words[n:]
}

// putQ4K puts a block of ggml's Q4_K, its 16 bytes of scales and q with halves of bytes, at output j of a panel's groups, `words` apart, and of
// what is beside them. In the file, groups 2i (lower halves) and 2i+1 (upper halves) share 32 bytes.
func putQ4K(groups, beside []uint32, b, q []byte, words, j int) {
	scales := b[4:16]
	for g := 0; g < 8; g++ {
		x, shift := q[g/2*32:], g%2*4
		for i := 0; i < 16; i++ {
			putByte(groups[g*words:], (i/4*panel+j)*4+i%4, x[i]>>shift&15|x[i+16]>>shift<<4)
		}
		scale, minimum := scaleMin(g, scales)
		putByte(beside[panel:], g*panel+j, scale)
		putByte(beside[3*panel:], g*panel+j, minimum)
	}
	putHalf(beside, j, binary.LittleEndian.Uint16(b))
	putHalf(beside[panel/2:], j, binary.LittleEndian.Uint16(b[2:]))
}

// scaleMin unpacks the 6-bit scale and minimum of group g from the 12 bytes of a Q4_K block.
func scaleMin(g int, s []byte) (scale, minimum byte) {
	if g < 4 {
		return s[g] & 63, s[g+4] & 63
	}
	return s[g+4]&15 | s[g-4]>>6<<4, s[g+4]>>4 | s[g]>>6<<4
}

// putFifths puts the fifth bits of a block of Q5_K: in the file bit g of byte i belongs to input i of group g.
func putFifths(groups []uint32, high []byte, words, j int) {
	for g := 0; g < 8; g++ {
		for i, b := range high {
			putByte(groups[g*words:], (4*panel+j)*4+i%4, b>>g&1<<(i/4))
		}
	}
}

// putQ6K does so for Q6_K. In the file, a half of 128 inputs has 64 bytes of lower four bits and 32 of upper two: quarter k of it takes half
// k/2 of bytes 32(k%2) on, and pair k.
func putQ6K(groups, beside []uint32, b []byte, j int) {
	for g := 0; g < 8; g++ {
		k := g % 4
		low, high := b[g/4*64+k%2*32:], b[128+g/4*32:]
		to := groups[g*6*panel:]
		for i := 0; i < 16; i++ {
			shift := k / 2 * 4
			putByte(to, (i/4*panel+j)*4+i%4, low[i]>>shift&15|low[i+16]>>shift<<4)
			for half := 0; half < 2; half++ {
				putByte(to, ((4+half)*panel+j)*4+i%4, high[16*half+i]>>(2*k)&3<<(i/4*2))
			}
		}
	}
	putHalf(beside, j, binary.LittleEndian.Uint16(b[208:]))
	for g := 0; g < 16; g++ {
		putByte(beside[panel/2:], g*panel+j, b[192+g])
	}
}

func putHalf(to []uint32, i int, v uint16) { to[i/2] |= uint32(v) << (i % 2 * 16) }

func putByte(to []uint32, i int, v byte) { to[i/4] |= uint32(v) << (i % 4 * 8) }

func halfAt(x []uint32, i int) float32 { return FromF16(uint16(x[i/2] >> (i % 2 * 16))) }

func byteAt(x []uint32, i int) byte { return byte(x[i/4] >> (i % 4 * 8)) }

func (w *matrixK) Out() int   { return w.out }
func (w *matrixK) In() int    { return w.in }
func (w *matrixK) Bytes() int { return 4 * len(w.all) }

func (w *matrixK) Mul(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	multiply(w, c, ldc, a, lda, m, accumulate, s)
}

func (w *matrixK) mulGeneric(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	mulExpanded(c, ldc, a, lda, m, w.out, w.in, accumulate, s, func(b []float32, p int) {
		groups, beside := w.panel(p)
		f := kForms[w.all[p]]
		for g := 0; g < w.in/group; g++ {
			x, s := groups[g*f.group:], beside[g*group/kBlock*f.beside:]
			switch w.all[p] {
			case formQ4K:
				expandQ4KGeneric(b[g*group*panel:], x, nil, s, g%8)
			case formQ5K:
				expandQ4KGeneric(b[g*group*panel:], x, x[4*panel:], s, g%8)
			case formQ6K:
				expandQ6KGeneric(b[g*group*panel:], x, s, g%8)
			}
		}
	})
}

// expandQ4KGeneric makes group g of a block float32, [32][32]; fifths are nil for Q4_K.
func expandQ4KGeneric(dst []float32, x, fifths, beside []uint32, g int) {
	for j := 0; j < panel; j++ {
		scale := halfAt(beside, j) * float32(byteAt(beside[panel:], g*panel+j))
		minimum := halfAt(beside[panel/2:], j) * float32(byteAt(beside[3*panel:], g*panel+j))
		for k := 0; k < group; k++ {
			q := byteAt(x, (k%16/4*panel+j)*4+k%4) >> (k / 16 * 4) & 15
			if fifths != nil {
				q |= byteAt(fifths, j*4+k%4) >> (k / 4) & 1 << 4
			}
			dst[k*panel+j] = float32(scale*float32(q)) - minimum
		}
	}
}

// expandQ6KGeneric does so for Q6_K.
func expandQ6KGeneric(dst []float32, x, beside []uint32, g int) {
	for j := 0; j < panel; j++ {
		d := halfAt(beside, j)
		for k := 0; k < group; k++ {
			low := byteAt(x, (k%16/4*panel+j)*4+k%4) >> (k / 16 * 4) & 15
			high := byteAt(x, ((4+k/16)*panel+j)*4+k%4) >> (k % 16 / 4 * 2) & 3
			scale := d * float32(int8(byteAt(beside[panel/2:], (2*g+k/16)*panel+j)))
			dst[k*panel+j] = scale * float32(int(low|high<<4)-32)
		}
	}
}
