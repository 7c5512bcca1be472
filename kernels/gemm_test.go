package kernels

import (
	"fmt"
	"math"
	"testing"
)

// TestGemmAgreesWithFloat64 checks every combination of transposes at odd shapes, depths past one round and slices of NaN all
// around.
func TestGemmAgreesWithFloat64(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		worst := 0.0
		for _, s := range []struct{ m, n, k int }{
			{1, 1, 1},
			{1, 33, 5},
			{2, 16, 31},
			{3, 8, 16},
			{6, 47, 9},
			{14, 64, 64},
			{15, 16, 17},
			{29, 7, 40},
			{40, 65, 3},
			{5, 19, gemmDepthOfTest + 13},
			{700, 3, 9},
			{2, 3, 0},
		} {
			for bits := 0; bits < 8; bits++ {
				transA, transB, accumulate := bits&1 != 0, bits&2 != 0, bits&4 != 0
				name := fmt.Sprintf("m=%d n=%d k=%d transA=%v transB=%v accumulate=%v", s.m, s.n, s.k, transA, transB, accumulate)
				r := newRand(uint64(s.m*1000 + s.n))
				am, ak, bk, bn := s.m, s.k, s.k, s.n
				if transA {
					am, ak = ak, am
				}
				if transB {
					bk, bn = bn, bk
				}
				lda, ldb, ldc := ak+1, bn+2, s.n+3
				a, b, c := newGuarded(span(am, ak, lda), s.m%7), newGuarded(span(bk, bn, ldb), s.n%5), newGuarded(span(s.m, s.n, ldc), 3)
				random(r, a.x)
				random(r, b.x)
				for i := 0; i < am; i++ {
					poison(a.x, i*lda+ak, 1)
				}
				for i := 0; i < bk; i++ {
					poison(b.x, i*ldb+bn, 2)
				}
				for i := 0; i < s.m; i++ {
					random(r, c.x[i*ldc:][:s.n])
				}
				before := append([]float32(nil), c.x...)
				Gemm(c.x, ldc, a.x, lda, b.x, ldb, s.m, s.n, s.k, transA, transB, accumulate)
				a.check(t, name)
				b.check(t, name)
				c.check(t, name)
				for i := 0; i < s.m; i++ {
					for j := 0; j < s.n; j++ {
						want, size := 0.0, 1e-30
						for p := 0; p < s.k; p++ {
							x, y := i*lda+p, p*ldb+j
							if transA {
								x = p*lda + i
							}
							if transB {
								y = j*ldb + p
							}
							v := float64(a.x[x]) * float64(b.x[y])
							want, size = want+v, size+math.Abs(v)
						}
						if accumulate {
							want, size = want+float64(before[i*ldc+j]), size+math.Abs(float64(before[i*ldc+j]))
						}
						worst = max(worst, math.Abs(float64(c.x[i*ldc+j])-want)/size)
					}
					for q := i*ldc + s.n; q < min((i+1)*ldc, len(c.x)); q++ {
						if math.Float32bits(c.x[q]) != guardWord {
							t.Fatalf("%s: a value between rows %d and %d was written", name, i, i+1)
						}
					}
				}
			}
		}
		t.Logf("largest error, relative to the sum of magnitudes: %.3g", worst)
		// Measured: 2.2e-7 in generic Go, 2.0e-7 elsewhere.
		if !(worst < 7e-7) {
			t.Errorf("largest error %.3g is over 7e-7", worst)
		}
	})
}

// TestGemmInPartsGivesTheSameBytes accumulates over k cut in two: each value is one chain, wherever it is cut.
func TestGemmInPartsGivesTheSameBytes(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		const m, n, k = 17, 37, 90
		a, b := random(newRand(1), make([]float32, m*k)), random(newRand(2), make([]float32, k*n))
		whole := make([]float32, m*n)
		Gemm(whole, n, a, k, b, n, m, n, k, false, false, false)
		for cut := 1; cut < k; cut++ {
			c := make([]float32, m*n)
			Gemm(c, n, a, k, b, n, m, n, cut, false, false, false)
			Gemm(c, n, a[cut:], k, b[cut*n:], n, m, n, k-cut, false, false, true)
			if err := sameBits(c, whole); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
	})
}

// gemmDepthOfTest is past one round of the assembly (gemmDepth, which purego lacks).
const gemmDepthOfTest = 512

func TestGemmAllocatesNothing(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		a, b, c := make([]float32, 20*64), make([]float32, 16*64), make([]float32, 20*16)
		if n := testing.AllocsPerRun(100, func() { Gemm(c, 16, a, 64, b, 64, 20, 16, 64, false, true, false) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// BenchmarkGemm times the two thin products of a low-rank delta, and a generator's.
func BenchmarkGemm(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, s := range []struct{ m, n, k int }{{20, 16, 576}, {110, 16, 576}, {20, 576, 16}, {110, 576, 16}, {64, 256, 256}} {
			for _, transB := range []bool{false, true} {
				b.Run(fmt.Sprintf("m=%d/n=%d/k=%d/transB=%v", s.m, s.n, s.k, transB), func(b *testing.B) {
					x, y := random(newRand(1), make([]float32, s.m*s.k)), random(newRand(2), make([]float32, s.n*s.k))
					c, ldb := make([]float32, s.m*s.n), s.n
					if transB {
						ldb = s.k
					}
					rate(b, "FLOP", 2*float64(s.m*s.n*s.k), func() { Gemm(c, s.n, x, s.k, y, ldb, s.m, s.n, s.k, false, transB, false) })
				})
			}
		}
	})
}
