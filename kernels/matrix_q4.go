package kernels

import (
	"encoding/binary"
	"fmt"
)

// matrixQ4 keeps the 4-bit blocks of ggml's Q4_1 as they are, in the order in which a tile reads them: for each panel and group of
// 32 inputs 160 words: [4][32] with eight weights each, then [32] scales and [32] minima in float16.
type matrixQ4 struct {
	out, in int
	data    []uint32
}

const (
	q4Group = 160 // words of a panel's group
	q4Block = 20  // bytes of ggml's block: scale d and minimum m in float16, then 32 halves of a byte: W = d*q + m
)

// PackQ4_1 packs a weight from ggml's Q4_1 blocks, row-major [out][in/32] of 20 bytes, without loss. Mul brings A to 8 bits with a
// scale for each 32 values of a row. in must be a multiple of 32.
func PackQ4_1(blocks []byte, out, in int) Matrix {
	if out <= 0 || in <= 0 || in%group != 0 {
		panic(fmt.Sprintf("kernels.PackQ4_1: shape %d x %d (inputs come in blocks of 32)", out, in))
	}
	groups := in / group
	need("PackQ4_1", "blocks", len(blocks), out*groups*q4Block)
	m := &matrixQ4{out: out, in: in, data: make([]uint32, panels(out)*groups*q4Group)}
	for o := 0; o < out; o++ {
		for g := 0; g < groups; g++ {
			b := blocks[(o*groups+g)*q4Block:][:q4Block]
			to, j := m.data[(o/panel*groups+g)*q4Group:][:q4Group], o%panel
			// ggml's byte i holds weight i in its lower and i+16 in its upper half, and that is the order wanted.
			for q := 0; q < 4; q++ {
				to[q*panel+j] = binary.LittleEndian.Uint32(b[4+4*q:])
			}
			d, low := uint32(binary.LittleEndian.Uint16(b)), uint32(binary.LittleEndian.Uint16(b[2:]))
			to[4*panel+j/2] |= d << (j % 2 * 16)
			to[4*panel+panel/2+j/2] |= low << (j % 2 * 16)
		}
	}
	return m
}

func (w *matrixQ4) groups() int { return w.in / group }

func (w *matrixQ4) Out() int   { return w.out }
func (w *matrixQ4) In() int    { return w.in }
func (w *matrixQ4) Bytes() int { return 4 * len(w.data) }

func (w *matrixQ4) Mul(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	multiply(w, c, ldc, a, lda, m, accumulate, s)
}

func (w *matrixQ4) mulGeneric(c []float32, ldc int, a []float32, lda int, m int, accumulate bool, s *Scratch) {
	mulExpanded(c, ldc, a, lda, m, w.out, w.in, accumulate, s, func(b []float32, p int) {
		n := w.groups() * q4Group
		expandQ4Generic(b, w.data[p*n:(p+1)*n])
	})
}

// expandQ4Generic makes a panel float32, [k][32].
func expandQ4Generic(dst []float32, src []uint32) {
	for ; len(src) > 0; src, dst = src[q4Group:], dst[group*panel:] {
		for j := 0; j < panel; j++ {
			shift := j % 2 * 16
			d, low := FromF16(uint16(src[4*panel+j/2]>>shift)), FromF16(uint16(src[4*panel+panel/2+j/2]>>shift))
			for k := 0; k < group; k++ {
				q := src[k%16/4*panel+j] >> (k%4*8 + k/16*4) & 15
				dst[k*panel+j] = float32(q)*d + low
			}
		}
	}
}
