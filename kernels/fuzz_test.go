package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"
)

// Each target holds every level to generic Go. Values are raw bits, so that NaN, infinities and subnormals come up.

func rawFloats(b []byte) []float32 {
	x := make([]float32, len(b)/4)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return x
}

func rawBytes(x []float32) []byte {
	var b []byte
	for _, v := range x {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// levelsAgree runs f on each level with a fresh copy of x and holds its result to the first, generic one.
func levelsAgree(t *testing.T, x []float32, f func(x []float32) []float32, same func(got, want []float32) error) {
	t.Helper()
	defer setLevel(t, Level())
	var want []float32
	for _, name := range Levels() {
		setLevel(t, name)
		got := f(append([]float32(nil), x...))
		if name == levelNames[generic] {
			want = got
		} else if err := same(got, want); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
}

// near allows an error of most relative to the larger of the value and floor; NaN must be NaN, an infinity the same one.
func near(most, floor float64) func(got, want []float32) error {
	return func(got, want []float32) error {
		for i := range want {
			g, w := float64(got[i]), float64(want[i])
			if g == w || g != g && w != w {
				continue
			}
			if e := math.Abs(g-w) / max(math.Abs(w), floor); !(e <= most) {
				return fmt.Errorf("value %d is %v, not %v", i, g, w)
			}
		}
		return nil
	}
}

func FuzzVector(f *testing.F) {
	f.Add(rawBytes(specials), uint8(1))
	f.Add(rawBytes(append(specials, specials...)), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, offset uint8) {
		x := rawFloats(b)
		n := len(x) / 2
		if n == 0 {
			return
		}
		for _, op := range vectorOps {
			levelsAgree(t, x, func(x []float32) []float32 {
				y := make([]float32, n+16)[offset%16:][:n]
				copy(y, x[n:])
				op.run(x[:n], y)
				return y
			}, sameBits)
		}
	})
}

func FuzzNonlinear(f *testing.F) {
	f.Add(rawBytes(specials))
	f.Add(rawBytes([]float32{-3, .5, 20, -100, 7, 1e-3, 2, -1, 4, 0, 3, -2.5, 1, 8, -9, 1, 2, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := rawFloats(b)
		n := len(x) / 2
		for i, v := range x { // products that overflow in one order and not in another are no error
			if v-v == 0 {
				x[i] = float32(math.Mod(float64(v), 1e4))
			}
		}
		for _, op := range nonlinearOps {
			levelsAgree(t, x, func(x []float32) []float32 {
				dst := make([]float32, n)
				op.run(dst, x[:n], x[n:2*n])
				return dst
			}, near(4e-4, 1e-30)) // exp(-1e4) and the like: rounding of the argument, and subnormal results
		}
	})
}

func FuzzMul(f *testing.F) {
	f.Add(uint8(14), uint8(32), uint8(64), uint64(1), float32(1))
	f.Add(uint8(1), uint8(1), uint8(1), uint64(2), inf)
	f.Fuzz(func(t *testing.T, m8, out8, in8 uint8, seed uint64, special float32) {
		m, out := int(m8%40)+1, int(out8)+1
		for _, form := range forms {
			in := wholeBlocks(int(in8)+1, form.step)
			r := newRand(seed)
			w := packed(form.pack, form.flipped, random(r, make([]float32, out*in)), out, in)
			a := random(r, make([]float32, m*in+1))
			a[seed%uint64(len(a))] = special
			levelsAgree(t, a, func(a []float32) []float32 {
				var s Scratch
				c := make([]float32, m*out)
				w.Mul(c, out, a[1:], in, m, false, &s)
				return c
			}, func(got, want []float32) error {
				for i := range want {
					// Relative to the size of the row of A: sums cancel.
					size := 1e-30
					for _, v := range a[1:][i/out*in:][:in] {
						size += 4 * math.Abs(float64(v))
					}
					g, w := float64(got[i]), float64(want[i])
					if g-g != 0 && w-w != 0 || size > 1e36 {
						continue
					}
					if !(math.Abs(g-w) <= 1e-5*size) {
						return fmt.Errorf("%s %d x %d x %d: value %d is %v, not %v (row of size %g)", form.name, m, out, in, i, g, w, size)
					}
				}
				return nil
			})
		}
	})
}

func FuzzGemm(f *testing.F) {
	f.Add(uint8(14), uint8(32), uint8(64), uint8(3), uint64(1))
	f.Fuzz(func(t *testing.T, m8, n8, k8, bits uint8, seed uint64) {
		m, n, k := int(m8)+1, int(n8)+1, int(k8)
		transA, transB, accumulate := bits&1 != 0, bits&2 != 0, bits&4 != 0
		lda, ldb := k, n
		if transA {
			lda = m
		}
		if transB {
			ldb = k
		}
		r := newRand(seed)
		x := random(r, make([]float32, m*n+m*k+k*n))
		levelsAgree(t, x, func(x []float32) []float32 {
			c, a, b := x[:m*n], x[m*n:m*n+m*k], x[m*n+m*k:]
			Gemm(c, n, a, lda, b, ldb, m, n, k, transA, transB, accumulate)
			return c
		}, near(1e-4, float64(k+1))) // sums of up to 255 normal products
	})
}

func FuzzAttention(f *testing.F) {
	f.Add(uint8(7), uint8(3), uint8(1), uint64(1))
	f.Add(uint8(109), uint8(15), uint8(2), uint64(4013))
	f.Fuzz(func(t *testing.T, n8, d8, group8 uint8, seed uint64) {
		n, d, group := int(n8)+1, int(d8%24)*4+4, int(group8%3)+1
		stride := 2*d + int(seed%3)
		x := random(newRand(seed), make([]float32, 2*n*stride))
		q := random(newRand(seed+1), make([]float32, 2*group*d))
		levelsAgree(t, x, func(x []float32) []float32 {
			dst, scores := make([]float32, len(q)), make([]float32, n)
			Attention(dst, q, x[:n*stride], x[n*stride:], n, 2*group, 2, d, stride, float32(1/math.Sqrt(float64(d))), scores)
			RoPE(dst, 2*group, d, int(n8), q, seed%2 == 0)
			// The same cache in two stretches, under a block of queries.
			m := min(n, int(seed%20)+1)
			cut := int(seed>>8) % (n - m + 1)
			var s Scratch
			block, queries := make([]float32, m*len(q)), random(newRand(seed+2), make([]float32, m*len(q)))
			AttendBlock(block, len(q), queries, len(q), m, []Stretch{
				{x[:n*stride], x[n*stride:], cut, stride},
				{x[cut*stride : n*stride], x[(n+cut)*stride:], n - cut, stride},
			}, 2*group, 2, d, float32(1/math.Sqrt(float64(d))), &s)
			dst = append(dst, block...)
			return dst
		}, near(1e-4, 1))
	})
}
