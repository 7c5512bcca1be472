package kernels

import (
	"fmt"
	"math"
	"testing"
)

// TestAttendBlockAgreesWithFloat64 checks blocks of queries against the definition row by row, and that neither the cut of the
// cache nor the height of the block changes a byte.
func TestAttendBlockAgreesWithFloat64(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		worst := 0.0
		for _, c := range []struct{ m, n, heads, kv, d, pad int }{
			{1, 1, 1, 1, 16, 0},
			{1, 14, 9, 3, 64, 0},
			{5, 5, 2, 1, 48, 3},
			{14, 47, 4, 4, 16, 0},
			{30, 110, 9, 3, 64, 192},
			{37, 37, 6, 3, 20, 1},
			{43, 75, 2, 2, 80, 0},
		} {
			r := newRand(uint64(c.n))
			width := c.kv * c.d
			stride, ldq, ldd := width+c.pad, c.heads*c.d+3, c.heads*c.d+5
			q, k, v := newGuarded(span(c.m, c.heads*c.d, ldq), 1), newGuarded(span(c.n, width, stride), 2), newGuarded(span(c.n, width, stride), 3)
			for _, g := range []*guarded{q, k, v} {
				random(r, g.x)
			}
			for i := 0; i < c.n; i++ {
				poison(k.x, i*stride+width, c.pad)
				poison(v.x, i*stride+width, c.pad)
			}
			scale := float32(1 / math.Sqrt(float64(c.d)))
			run := func(m int, cuts ...int) []float32 {
				var cache []Stretch
				from := 0
				for _, to := range append(cuts, c.n) {
					cache = append(cache, Stretch{k.x[min(len(k.x), from*stride):], v.x[min(len(v.x), from*stride):], to - from, stride})
					from = to
				}
				dst := newGuarded(span(m, c.heads*c.d, ldd), 4)
				var s Scratch
				AttendBlock(dst.x, ldd, q.x[(c.m-m)*ldq:], ldq, m, cache, c.heads, c.kv, c.d, scale, &s)
				for _, g := range []*guarded{q, k, v, dst} {
					g.check(t, fmt.Sprintf("%+v", c))
				}
				out := make([]float32, 0, m*c.heads*c.d)
				for i := 0; i < m; i++ {
					out = append(out, dst.x[i*ldd:][:c.heads*c.d]...)
				}
				return out
			}
			got := run(c.m)
			for i := 0; i < c.m; i++ {
				row := got[i*c.heads*c.d:][:c.heads*c.d]
				worst = max(worst, compare(row, attention64(q.x[i*ldq:], k.x, v.x, c.n-c.m+i+1, c.heads, c.kv, c.d, stride, scale), .1))
			}
			for _, cut := range []int{0, 1, 7, 16, 32, 33} {
				if cut > c.n-c.m {
					break
				}
				for _, second := range []int{cut, c.n - c.m} {
					if err := sameBits(run(c.m, cut, second), got); err != nil {
						t.Fatalf("%+v, cut at %d and %d: %v", c, cut, second, err)
					}
				}
			}
			for m := 1; m < c.m; m += 4 {
				if err := sameBits(run(m), got[(c.m-m)*c.heads*c.d:]); err != nil {
					t.Fatalf("%+v, the last %d rows: %v", c, m, err)
				}
			}
		}
		t.Logf("largest error, relative to the larger of .1 and the value: %.3g", worst)
		// Measured:
		if !(worst < 6e-6) {
			t.Errorf("largest error %.3g", worst)
		}
	})
}

func TestAttendBlockRefusesABadCache(t *testing.T) {
	x := make([]float32, 64)
	for name, cache := range map[string][]Stretch{
		"none": nil, "too few of its own": {{x, x, 4, 16}, {x, x, 1, 16}}, "short keys": {{x[:20], x, 2, 16}}, "short values": {{x, x[:20], 2, 16}},
		"stride": {{x, x, 2, 8}},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if _, ok := recover().(string); !ok {
					t.Error("no panic with a message")
				}
			}()
			var s Scratch
			AttendBlock(make([]float32, 32), 16, x, 16, 2, cache, 1, 1, 16, 1, &s)
		})
	}
}

func TestAttendBlockAllocatesNothing(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		q, kv, dst := make([]float32, 30*576), make([]float32, 110*192), make([]float32, 30*576)
		var s Scratch
		cache := []Stretch{{kv, kv, 80, 192}, {kv, kv, 30, 192}}
		if n := testing.AllocsPerRun(5, func() { AttendBlock(dst, 576, q, 576, 30, cache, 9, 3, 64, .125, &s) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkAttendBlock(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, c := range []struct{ m, n int }{{14, 14}, {30, 110}, {110, 110}} {
			b.Run(fmt.Sprintf("m=%d/n=%d", c.m, c.n), func(b *testing.B) {
				q, kv, dst := random(newRand(1), make([]float32, c.m*576)), random(newRand(2), make([]float32, c.n*192)), make([]float32, c.m*576)
				var s Scratch
				cache := []Stretch{{kv, kv, c.n, 192}}
				seen := float64(c.m*c.n - c.m*(c.m-1)/2)
				rate(b, "FLOP", 4*576*seen, func() { AttendBlock(dst, 576, q, 576, c.m, cache, 9, 3, 64, .125, &s) })
			})
		}
	})
}
