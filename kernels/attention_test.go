package kernels

import (
	"fmt"
	"math"
	"testing"
)

func TestAttentionAgreesWithFloat64(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		worst := 0.0
		for _, s := range []struct{ n, heads, kv, dim, pad int }{
			{1, 1, 1, 16, 0},
			{2, 9, 3, 64, 0},
			{3, 4, 2, 20, 5},
			{5, 2, 1, 80, 3},
			{7, 4, 4, 48, 1},
			{110, 9, 3, 64, 0},
			{33, 2, 2, 128, 16},
			{64, 6, 2, 7, 2},
		} {
			for n := max(1, s.n-4); n <= s.n; n++ {
				name := fmt.Sprintf("%+v n=%d", s, n)
				r := newRand(uint64(n))
				width := s.kv * s.dim
				stride := width + s.pad
				q, dst, scores := newGuarded(s.heads*s.dim, 3), newGuarded(s.heads*s.dim, 1), newGuarded(n, 2)
				k, v := newGuarded(span(n, width, stride), 5), newGuarded(span(n, width, stride), 6)
				for _, g := range []*guarded{q, k, v} {
					random(r, g.x)
				}
				for i := 0; i < n; i++ {
					poison(k.x, i*stride+width, s.pad)
					poison(v.x, i*stride+width, s.pad)
				}
				scale := float32(1 / math.Sqrt(float64(s.dim)))
				Attention(dst.x, q.x, k.x, v.x, n, s.heads, s.kv, s.dim, stride, scale, scores.x)
				for _, g := range []*guarded{q, dst, scores, k, v} {
					g.check(t, name)
				}
				worst = max(worst, compare(dst.x, attention64(q.x, k.x, v.x, n, s.heads, s.kv, s.dim, stride, scale), .1))
			}
		}
		t.Logf("largest error, relative to the larger of .1 and the value: %.3g", worst)
		// Measured: 2.0e-6.
		if !(worst < 6e-6) {
			t.Errorf("largest error %.3g", worst)
		}
	})
}

// attention64 is the definition, in float64.
func attention64(q, k, v []float32, n, heads, kv, dim, stride int, scale float32) []float64 {
	out := make([]float64, heads*dim)
	for h := 0; h < heads; h++ {
		off := h / (heads / kv) * dim
		e, sum := make([]float64, n), 0.0
		for t := range e {
			s := 0.0
			for i := 0; i < dim; i++ {
				s += float64(q[h*dim+i]) * float64(k[t*stride+off+i])
			}
			e[t] = math.Exp(s * float64(scale))
			sum += e[t]
		}
		for t := range e {
			for i := 0; i < dim; i++ {
				out[h*dim+i] += e[t] / sum * float64(v[t*stride+off+i])
			}
		}
	}
	return out
}

// TestAttentionInPiecesGivesTheSameBytes cuts a cache in two everywhere; AttendOuter is held to its definition.
func TestAttentionInPiecesGivesTheSameBytes(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		for _, d := range []int{16, 20, 48, 64, 80} {
			const n = 23
			stride := d + 7
			r := newRand(uint64(d))
			q, p := random(r, make([]float32, d)), random(r, make([]float32, n))
			rows := newGuarded(span(n, d, stride), 3)
			random(r, rows.x)
			scores, sum := make([]float32, n), make([]float32, d)
			AttendScores(scores, q, rows.x, n, d, stride, .3)
			AttendSum(sum, p, rows.x, n, d, stride)
			for cut := 0; cut <= n; cut++ {
				s, a := make([]float32, n), make([]float32, d)
				rest := rows.x[min(len(rows.x), cut*stride):]
				AttendScores(s, q, rows.x, cut, d, stride, .3)
				AttendScores(s[cut:], q, rest, n-cut, d, stride, .3)
				AttendSum(a, p, rows.x, cut, d, stride)
				AttendSum(a, p[cut:], rest, n-cut, d, stride)
				if err := sameBits(s, scores); err != nil {
					t.Fatalf("scores of %d, cut at %d: %v", d, cut, err)
				}
				if err := sameBits(a, sum); err != nil {
					t.Fatalf("sum of %d, cut at %d: %v", d, cut, err)
				}
			}
			before := append([]float32(nil), rows.x...)
			AttendOuter(rows.x, p, q, n, d, stride)
			rows.check(t, "AttendOuter")
			for i, v := range rows.x {
				want := float64(before[i])
				if i%stride < d {
					want += float64(p[i/stride]) * float64(q[i%stride])
				}
				// Measured: 2.4e-7 of values up to 10.
				if e := math.Abs(float64(v) - want); !(e < 7e-7) {
					t.Fatalf("AttendOuter of %d: value %d is %v, not %v", d, i, v, want)
				}
			}
		}
	})
}

func TestAttentionOverNothingIsZero(t *testing.T) {
	dst := []float32{1, 2}
	Attention(dst, []float32{1, 2}, nil, nil, 0, 1, 1, 2, 2, 1, nil)
	if dst[0] != 0 || dst[1] != 0 {
		t.Errorf("%v", dst)
	}
}

func TestRoPEAgreesWithFloat64(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		worst := 0.0
		for _, dim := range []int{2, 6, 16, 20, 32, 64, 96, 128, 256} {
			for _, neox := range []bool{false, true} {
				for _, pos := range []int{0, 1, 109, 2047} {
					heads := 3
					freqs := make([]float32, dim/2)
					for i := range freqs {
						freqs[i] = float32(math.Pow(1e4, -2*float64(i)/float64(dim)))
					}
					x := newGuarded(heads*dim, dim%16)
					random(newRand(1), x.x)
					want := make([]float64, len(x.x))
					for h := 0; h < heads; h++ {
						for i, f := range freqs {
							a, b := h*dim+2*i, h*dim+2*i+1
							if neox {
								a, b = h*dim+i, h*dim+i+dim/2
							}
							s, c := math.Sincos(float64(pos) * float64(f))
							want[a] = float64(x.x[a])*c - float64(x.x[b])*s
							want[b] = float64(x.x[a])*s + float64(x.x[b])*c
						}
					}
					RoPE(x.x, heads, dim, pos, freqs, neox)
					x.check(t, "RoPE")
					worst = max(worst, compare(x.x, want, 1))
				}
			}
		}
		t.Logf("largest error %.3g", worst)
		// Measured: 2.2e-7.
		if !(worst < 7e-7) {
			t.Errorf("largest error %.3g", worst)
		}
	})
}

func TestAttentionAllocatesNothing(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		x, kv, scores, freqs := make([]float32, 9*64), make([]float32, 110*192), make([]float32, 110), make([]float32, 32)
		dst := make([]float32, 9*64)
		if n := testing.AllocsPerRun(20, func() {
			RoPE(x, 9, 64, 7, freqs, true)
			Attention(dst, x, kv, kv, 110, 9, 3, 64, 192, .125, scores)
			RMSNorm(dst, dst, x, 1e-5)
			SiLUMul(dst, dst, x)
			GELU(dst, dst)
		}); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkAttention(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, n := range []int{14, 110, 512} {
			b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
				x, dst, kv, scores := make([]float32, 9*64), make([]float32, 9*64), random(newRand(1), make([]float32, n*192)), make([]float32, n)
				rate(b, "FLOP", 4*float64(n*9*64), func() { Attention(dst, x, kv, kv, n, 9, 3, 64, 192, .125, scores) })
			})
		}
		for _, n := range []int{14, 110} {
			x, kv, scores := make([]float32, 64), make([]float32, n*192), make([]float32, n)
			b.Run(fmt.Sprintf("AttendScores/n=%d", n), func(b *testing.B) {
				rate(b, "FLOP", 2*float64(n*64), func() { AttendScores(scores, x, kv, n, 64, 192, .125) })
			})
			b.Run(fmt.Sprintf("AttendSum/n=%d", n), func(b *testing.B) {
				rate(b, "FLOP", 2*float64(n*64), func() { AttendSum(x, scores, kv, n, 64, 192) })
			})
			b.Run(fmt.Sprintf("AttendOuter/n=%d", n), func(b *testing.B) {
				rate(b, "FLOP", 2*float64(n*64), func() { AttendOuter(kv, scores, x, n, 64, 192) })
			})
		}
		for _, neox := range []bool{false, true} {
			b.Run(fmt.Sprintf("Rotate/neox=%v", neox), func(b *testing.B) {
				x, angles := make([]float32, 9*64), make([]float32, 32)
				rate(b, "elem", 9*64, func() { Rotate(x, 9, 64, angles, angles, neox) })
			})
		}
		b.Run("RoPEAngles", func(b *testing.B) {
			freqs, angles := make([]float32, 32), make([]float32, 32)
			rate(b, "elem", 32, func() { RoPEAngles(angles, angles, 99, freqs) })
		})
	})
}
