package cuda

import (
	"fmt"

	"github.com/corastream/corastream/kernels"
)

// Pad is the multiple that rows of a product's operands are padded to.
const Pad = 32

// Padded rounds up to a multiple of Pad.
func Padded(n int) int { return (n + Pad - 1) / Pad * Pad }

// BF16Rows rounds rows [n][width] to bfloat16, each padded with zeros to Padded(width).
func BF16Rows(v []float32, n, width int) []uint16 {
	if len(v) != n*width {
		panic(fmt.Sprintf("cuda.BF16Rows: %d values for %d x %d", len(v), n, width))
	}
	ld := Padded(width)
	out := make([]uint16, n*ld)
	for i := range n {
		kernels.BF16FromF32(out[i*ld:i*ld+width], v[i*width:(i+1)*width])
	}
	return out
}

// Gemm is one product with its end: Out = end(A W^T + A2 W2^T). Rows of A, W, A2 and W2 are bfloat16, K and K2 (both multiples of
// Pad, K2 may be 0) long and LDA... apart.
type Gemm struct {
	End           string // floats, bf16, gelu, add, rope or swiglu
	M, N, K, K2   int
	A, W, A2, W2  Pointer
	LDA, LDW      int
	LDA2, LDW2    int
	Out           Pointer
	LDO           int
	Bias          Pointer
	Angles, Where Pointer // rope: angles by position, positions; floats, bf16, add: Where may name each row's place
	Turned, Head  int
}

// Gemm launches a product.
func (q *Queue) Gemm(g Gemm) error {
	if g.K%Pad != 0 || g.K2%Pad != 0 || g.K+g.K2 == 0 || g.N%2 != 0 || g.LDO%2 != 0 || g.M <= 0 || g.LDA%8 != 0 || g.LDW%8 != 0 || g.LDA2%8 != 0 || g.LDW2%8 != 0 {
		return fmt.Errorf("cuda: a product of %d x %d x (%d + %d), rows %d, %d, %d, %d apart", g.M, g.N, g.K, g.K2, g.LDA, g.LDW, g.LDA2, g.LDW2)
	}
	name, bm, bn := "gemm_"+g.End+"_large", 128, 128
	// Too few large blocks leave processors idle: take the small ones.
	if blocks := (g.M + 127) / 128 * ((g.N + 127) / 128); blocks < q.d.info.Multiprocessors || g.M <= 32 {
		name, bm, bn = "gemm_"+g.End+"_small", 32, 64
	}
	grid := [3]int{(g.N + bn - 1) / bn, (g.M + bm - 1) / bm, 1}
	return q.Launch(name, grid, [3]int{128, 1, 1}, 3*(bm+bn)*64, g.A, g.LDA, g.W, g.LDW, g.A2, g.LDA2, g.W2, g.LDW2, g.M, g.N, g.K, g.K2,
		g.Out, g.LDO, g.Bias, g.Angles, g.Where, g.Turned, g.Head)
}
