package kernels

import (
	"fmt"
	"testing"
)

// BenchmarkMul times whole products, packing of A included, on the shapes of a 135M-parameter model.
func BenchmarkMul(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, s := range []struct{ in, out int }{{576, 576}, {576, 1536}, {1536, 576}} {
			for _, f := range forms {
				if f.flipped {
					continue
				}
				s := s
				s.in = wholeBlocks(s.in, f.step)
				w := f.pack(random(newRand(1), make([]float32, s.in*s.out)), s.out, s.in)
				for _, m := range []int{1, 4, 14, 20, 110} {
					b.Run(fmt.Sprintf("%s/in=%d/out=%d/m=%d", f.name, s.in, s.out, m), func(b *testing.B) {
						a := random(newRand(2), make([]float32, m*s.in))
						c := make([]float32, m*s.out)
						var scratch Scratch
						rate(b, "FLOP", 2*float64(m*s.in*s.out), func() { w.Mul(c, s.out, a, s.in, m, false, &scratch) })
					})
				}
			}
		}
	})
}
