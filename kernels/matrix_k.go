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

// kForm is how one K type is kept: what a block of 256 inputs takes in the file, and in 32-bit words for a panel of 32 outputs.
type kForm struct {
	name  string
	bytes int
	words int
}

// The numbers of kForms are kept on disk: they must not change.
const (
	formQ4K = 1
	formQ6K = 2
)

// Words of a panel's block, each row of 32 words one for every output:
//
//	Q4_K: [4][8][32] words of halves (pair p of groups of 32 inputs: lower halves group 2p, upper ones 2p+1), [32] d and [32] dmin in
//	      float16, [8][32] scales and [8][32] minima in bytes
//	Q6_K: twice, for 128 inputs each: [16][32] words with the lower four bits, [8][32] with the upper two, as ggml has them;
//	      [16][32] scales in signed bytes, [32] d in float16
var kForms = [...]kForm{formQ4K: {"Q4_K", 144, 1184}, formQ6K: {"Q6_K", 210, 1680}}

// KTypes names the types that PackK takes.
func KTypes() []string { return []string{kForms[formQ4K].name, kForms[formQ6K].name} }

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
			to := m.all[m.at[o/panel]:]
			for b := 0; b < m.blocks(); b++ {
				src := p.Blocks[(r*m.blocks()+b)*f.bytes:][:f.bytes]
				if f.name == "Q4_K" {
					putQ4K(to[b*f.words:][:f.words], src, o%panel)
				} else {
					putQ6K(to[b*f.words:][:f.words], src, o%panel)
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
		n += kForms[f].words * w.blocks()
	}
	return n, nil
}

func (w *matrixK) blocks() int { return w.in / kBlock }

// panel is the form of panel p and its words.
func (w *matrixK) panel(p int) (form uint32, words []uint32) {
	form = w.all[p]
	return form, w.all[w.at[p]:][:kForms[form].words*w.blocks()]
}

// putQ4K puts a block of ggml's Q4_K at output j of a panel's block.
func putQ4K(to []uint32, b []byte, j int) {
	d, low, packed, q := binary.LittleEndian.Uint16(b), binary.LittleEndian.Uint16(b[2:]), b[4:16], b[16:144]
	for i := 0; i < 32; i++ {
		to[i*panel+j] = binary.LittleEndian.Uint32(q[4*i:])
	}
	putHalf(to[1024:], j, d)
	putHalf(to[1024+panel/2:], j, low)
	for g := 0; g < 8; g++ {
		scale, minimum := scaleMin(g, packed)
		putByte(to[1056:], g*panel+j, scale)
		putByte(to[1056+64:], g*panel+j, minimum)
	}
}

// scaleMin unpacks the 6-bit scale and minimum of group g from the 12 bytes of a Q4_K block.
func scaleMin(g int, s []byte) (scale, minimum byte) {
	if g < 4 {
		return s[g] & 63, s[g+4] & 63
	}
	return s[g+4]&15 | s[g-4]>>6<<4, s[g+4]>>4 | s[g]>>6<<4
}

// putQ6K puts a block of ggml's Q6_K at output j of a panel's block.
func putQ6K(to []uint32, b []byte, j int) {
	for half := 0; half < 2; half++ {
		h := to[half*24*panel:]
		for i := 0; i < 16; i++ {
			h[i*panel+j] = binary.LittleEndian.Uint32(b[64*half+4*i:])
		}
		for i := 0; i < 8; i++ {
			h[(16+i)*panel+j] = binary.LittleEndian.Uint32(b[128+32*half+4*i:])
		}
	}
	for g := 0; g < 16; g++ {
		putByte(to[1536:], g*panel+j, b[192+g])
	}
	putHalf(to[1664:], j, binary.LittleEndian.Uint16(b[208:]))
}

func putHalf(to []uint32, i int, v uint16) { to[i/2] |= uint32(v) << (i % 2 * 16) }

func putByte(to []uint32, i int, v byte) { to[i/4] |= uint32(v) << (i % 4 * 8) }

func halfAt(x []uint32, i int) float32 { return FromF16(uint16(x[i/2] >> (i % 2 * 16))) }

func byteAt(x []uint32, i int) byte { return byte(x[i/4] >> (i % 4 * 8)) }

func (w *matrixK) Out() int   { return w.out }
func (w *matrixK) In() int    { return w.in }
func (w *matrixK) Bytes() int { return 4 * len(w.all) }

func (w *matrixK) Mul(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	if checkMul("Mul", c, ldc, a, lda, m, w.out, w.in) {
		w.mul(c, ldc, a, lda, m, accumulate, s)
	}
}

func (w *matrixK) mulGeneric(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	mulExpanded(c, ldc, a, lda, m, w.out, w.in, accumulate, s, func(b []float32, p int) {
		form, words := w.panel(p)
		for n := kForms[form].words; len(words) > 0; words, b = words[n:], b[kBlock*panel:] {
			if form == formQ4K {
				expandQ4KGeneric(b, words)
			} else {
				expandQ6KGeneric(b, words)
			}
		}
	})
}

// expandQ4KGeneric makes a panel's block float32, [256][32].
func expandQ4KGeneric(dst []float32, src []uint32) {
	for j := 0; j < panel; j++ {
		d, low := halfAt(src[1024:], j), halfAt(src[1024+panel/2:], j)
		for k := 0; k < kBlock; k++ {
			g := k / group
			scale, minimum := d*float32(byteAt(src[1056:], g*panel+j)), low*float32(byteAt(src[1056+64:], g*panel+j))
			q := byteAt(src[(g/2*8+k%group/4)*panel+j:], k%4) >> (g % 2 * 4) & 15
			dst[k*panel+j] = float32(scale*float32(q)) - minimum
		}
	}
}

// expandQ6KGeneric does so for Q6_K.
func expandQ6KGeneric(dst []float32, src []uint32) {
	for j := 0; j < panel; j++ {
		d := halfAt(src[1664:], j)
		for k := 0; k < kBlock; k++ {
			quarter, i := k%128/group, k%group
			h := src[k/128*24*panel:]
			low := byteAt(h[(quarter%2*8+i/4)*panel+j:], i%4) >> (quarter / 2 * 4) & 15
			high := byteAt(h[(16+i/4)*panel+j:], i%4) >> (2 * quarter) & 3
			scale := d * float32(int8(byteAt(src[1536:], k/16*panel+j)))
			dst[k*panel+j] = scale * float32(int(low|high<<4)-32)
		}
	}
}
