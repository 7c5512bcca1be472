package kernels

import (
	"fmt"
	"math"
	"testing"
)

// compare holds got to want; the error of each value is relative to max(|want|, floor).
func compare(got []float32, want []float64, floor float64) (worst float64) {
	for i, w := range want {
		g := float64(got[i])
		if g == w || g != g && w != w {
			continue
		}
		e := math.Abs(g-w) / max(math.Abs(w), floor)
		if !(e <= worst) { // a NaN that should not be is kept
			worst = e
		}
	}
	return worst
}

// nonlinearOps has each element-wise kernel with its definition in float64.
var nonlinearOps = []struct {
	name  string
	run   func(dst, x, y []float32)
	want  func(x, y []float32) []float64
	floor float64
	most  float64 // measured noise x3, over all levels
}{
	// Measured 1.6e-7.
	{"SiLUMul", func(dst, x, y []float32) { SiLUMul(dst, x, y) }, func(x, y []float32) []float64 {
		return each(x, y, func(x, y float64) float64 { return x / (1 + math.Exp(-x)) * y })
	}, 1e-30, 5e-7},
	// Measured 6.2e-7.
	{"GELU", func(dst, x, y []float32) { GELU(dst, x) }, func(x, y []float32) []float64 {
		return each(x, y, func(x, _ float64) float64 {
			return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		})
	}, 1e-2, 1.9e-6},
	// Measured 1.9e-7.
	{"RMSNorm", func(dst, x, y []float32) { RMSNorm(dst, x, y, 1e-5) }, func(x, y []float32) []float64 {
		s := 0.0
		for _, v := range x {
			s += float64(v) * float64(v)
		}
		s = math.Sqrt(s/float64(len(x)) + 1e-5)
		return each(x, y, func(x, y float64) float64 { return x / s * y })
	}, 1e-30, 6e-7},
	// Measured 4.0e-6: x - max(x) alone is rounded by 6e-8 of up to 70.
	{"Softmax", func(dst, x, y []float32) { copy(dst, x); Softmax(dst) }, func(x, y []float32) []float64 {
		top, s := math.Inf(-1), 0.0
		for _, v := range x {
			top = max(top, float64(v))
		}
		for _, v := range x {
			s += math.Exp(float64(v) - top)
		}
		return each(x, y, func(x, _ float64) float64 { return math.Exp(x-top) / s })
	}, 1e-30, 1.2e-5},
}

func each(x, y []float32, f func(x, y float64) float64) []float64 {
	out := make([]float64, len(x))
	for i := range x {
		out[i] = f(float64(x[i]), float64(y[i]))
	}
	return out
}

func TestNonlinearAgreesWithFloat64(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		for _, op := range nonlinearOps {
			worst := 0.0
			for _, n := range oddLengths() {
				for _, spread := range []float32{.1, 3, 20} {
					r := newRand(uint64(n))
					x, y, dst := newGuarded(n, n%13), newGuarded(n, n%5), newGuarded(n, n%7)
					random(r, x.x)
					random(r, y.x)
					Scale(spread, x.x)
					op.run(dst.x, x.x, y.x)
					name := fmt.Sprintf("%s of %d", op.name, n)
					for _, g := range []*guarded{x, y, dst} {
						g.check(t, name)
					}
					if n > 0 {
						worst = max(worst, compare(dst.x, op.want(x.x, y.x), op.floor))
					}
				}
			}
			t.Logf("%s: largest relative error %.3g", op.name, worst)
			if !(worst <= op.most) {
				t.Errorf("%s: largest relative error %.3g is over %.3g", op.name, worst, op.most)
			}
		}
	})
}

func TestNonlinearAtTheLimits(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		const n = 37
		for at := 0; at < n; at++ {
			row := func(v float32) []float32 {
				x := make([]float32, n)
				x[at] = v
				return x
			}
			ones := make([]float32, n)
			for i := range ones {
				ones[i] = 1
			}
			for _, c := range []struct{ in, silu, gelu float32 }{
				{inf, inf, inf}, {-200, 0, 0}, {200, 200, 200}, {nan, nan, nan}, {-1e30, 0, 0}, {1e30, 1e30, inf}, {0, 0, 0},
			} {
				x := row(c.in)
				SiLUMul(x, x, ones)
				if err := sameBits(abs(x), abs(row(c.silu))); err != nil && !(c.silu == 0 && x[at] > -1e-30) {
					t.Fatalf("SiLU of %v at %d: %v", c.in, at, err)
				}
				x = row(c.in)
				GELU(x, x)
				if x[at] != c.gelu && !(c.gelu != c.gelu && x[at] != x[at]) && !(c.gelu == inf && x[at] == c.in) && !(c.gelu == 0 && x[at] > -1e-30) {
					t.Fatalf("GELU of %v at %d is %v", c.in, at, x[at])
				}
			}
			x := row(-inf)
			Softmax(x)
			if x[at] != 0 || math.Abs(float64(x[(at+1)%n])-1./(n-1)) > 1e-7 {
				t.Fatalf("softmax with -Inf at %d: %v", at, x)
			}
			x = row(1000)
			Softmax(x)
			if x[at] != 1 || x[(at+1)%n] != 0 {
				t.Fatalf("softmax with 1000 at %d: %v", at, x)
			}
			for _, v := range []float32{nan, inf} {
				x = row(v)
				Softmax(x)
				for i := range x {
					if x[i] == x[i] {
						t.Fatalf("softmax with %v at %d gives %v at %d", v, at, x[i], i)
					}
				}
			}
		}
		x := []float32{-inf, -inf}
		if Softmax(x); x[0] == x[0] {
			t.Errorf("softmax of nothing but -Inf is %v", x)
		}
		Softmax(nil)
		GELU(nil, nil)
	})
}

func abs(x []float32) []float32 {
	for i := range x {
		x[i] = float32(math.Abs(float64(x[i])))
	}
	return x
}

func TestExpOverItsRange(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		var x []float32
		for v := float32(-110); v < 0; v += .0037 {
			x = append(x, v)
		}
		got := append(append([]float32(nil), x...), 0)
		expSum(got, 0)
		worst := 0.0
		for i, v := range x {
			want := math.Exp(float64(v))
			// Below the normal numbers the unit in the last place stays 2^-149.
			worst = max(worst, math.Abs(float64(got[i])-want)/max(want, 0x1p-126))
		}
		t.Logf("largest relative error %.3g", worst)
		// Measured: 8.5e-8, of results down to 2^-149.
		if !(worst < 2.6e-7) {
			t.Errorf("largest relative error %.3g", worst)
		}
	})
}

func BenchmarkNonlinear(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, op := range nonlinearOps {
			for _, n := range []int{110, 576, 1536} {
				b.Run(fmt.Sprintf("%s/n=%d", op.name, n), func(b *testing.B) {
					x, y, dst := random(newRand(1), make([]float32, n)), random(newRand(2), make([]float32, n)), make([]float32, n)
					rate(b, "elem", float64(n), func() { op.run(dst, x, y) })
				})
			}
		}
	})
}
