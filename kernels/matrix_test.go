package kernels

import (
	"fmt"
	"math"
	"testing"
)

// TestMulAgreesWithFloat64 checks each packed form against sums in float64 at odd shapes, strides and offsets.
func TestMulAgreesWithFloat64(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		worst := 0.0
		for _, s := range []struct{ m, out, in int }{{1, 1, 1}, {2, 33, 7}, {3, 31, 16}, {5, 64, 17}, {6, 16, 15}, {7, 40, 33}, {13, 65, 24},
			{14, 32, 64}, {15, 96, 40}, {20, 17, 100}, {29, 70, 31}, {31, 100, 129}, {300, 33, 3}} {
			for _, accumulate := range []bool{false, true} {
				for _, transposed := range []bool{false, true} {
					name := fmt.Sprintf("m=%d out=%d in=%d accumulate=%v transposed=%v", s.m, s.out, s.in, accumulate, transposed)
					r := newRand(uint64(s.m*1000 + s.out))
					w := random(r, make([]float32, s.out*s.in))
					lda, ldc := s.in+3, s.out+5
					a, c := newGuarded(span(s.m, s.in, lda), s.m%16), newGuarded(span(s.m, s.out, ldc), s.out%16)
					random(r, a.x)
					for i := 0; i < s.m; i++ { // what lies between the rows must neither be read nor written
						poison(a.x, i*lda+s.in, lda-s.in)
						random(r, c.x[i*ldc:][:s.out])
					}
					before := append([]float32(nil), c.x...)
					var p Matrix
					if transposed {
						wt := make([]float32, len(w))
						for o := 0; o < s.out; o++ {
							for k := 0; k < s.in; k++ {
								wt[k*s.out+o] = w[o*s.in+k]
							}
						}
						p = PackF32T(wt, s.in, s.out)
					} else {
						p = PackF32(w, s.out, s.in)
					}
					if p.Out() != s.out || p.In() != s.in {
						t.Fatalf("%s: shape %d x %d", name, p.Out(), p.In())
					}
					var scratch Scratch
					p.Mul(c.x, ldc, a.x, lda, s.m, accumulate, &scratch)
					a.check(t, name)
					c.check(t, name)
					for i := 0; i < s.m; i++ {
						for o := 0; o < s.out; o++ {
							want, size := 0.0, 0.0
							for k := 0; k < s.in; k++ {
								v := float64(a.x[i*lda+k]) * float64(w[o*s.in+k])
								want, size = want+v, size+math.Abs(v)
							}
							if accumulate {
								want, size = want+float64(before[i*ldc+o]), size+math.Abs(float64(before[i*ldc+o]))
							}
							worst = max(worst, math.Abs(float64(c.x[i*ldc+o])-want)/size)
						}
						for q := i*ldc + s.out; q < min((i+1)*ldc, len(c.x)); q++ {
							if math.Float32bits(c.x[q]) != guardWord {
								t.Fatalf("%s: a value between rows %d and %d was written", name, i, i+1)
							}
						}
					}
				}
			}
		}
		t.Logf("largest error, relative to the sum of magnitudes: %.3g", worst)
		// Measured: 2.3e-7 in generic Go, 2.0e-7 with fused multiply-add.
		if !(worst < 7e-7) {
			t.Errorf("largest error %.3g is over 7e-7", worst)
		}
	})
}

func poison(x []float32, at, n int) {
	for i := at; i < min(at+n, len(x)); i++ {
		x[i] = math.Float32frombits(guardWord)
	}
}
