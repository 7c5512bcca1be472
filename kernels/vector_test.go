package kernels

import (
	"fmt"
	"hash/fnv"
	"math"
	"testing"
)

// oddLengths has every tail of both vector widths, and lengths past the unrolled loops.
func oddLengths() []int {
	var n []int
	for i := 0; i <= 67; i++ {
		n = append(n, i)
	}
	return append(n, 128, 576, 1000)
}

var inf, nan = float32(math.Inf(1)), float32(math.NaN())

// specials are values that kernels must pass on as IEEE 754 says.
var specials = []float32{0, float32(math.Copysign(0, -1)), 1, -1, inf, -inf, nan, math.MaxFloat32, -math.MaxFloat32, 1e-45, -1e-45, 1e-38, 88.7, -88, 104, -104}

// vectorOps are the operations whose bytes are promised, each on slices of n.
var vectorOps = []struct {
	name    string
	run     func(x, y []float32) // changes y
	generic func(x, y []float32)
}{
	{"Dot", func(x, y []float32) { y[0] = Dot(x, y) }, func(x, y []float32) { y[0] = dotGeneric(x, y) }},
	{"Axpy", func(x, y []float32) { Axpy(1.7, x, y) }, func(x, y []float32) { axpyGeneric(1.7, x, y) }},
	{"AXPBY", func(x, y []float32) { AXPBY(1.7, x, -.3, y) }, func(x, y []float32) { axpbyGeneric(1.7, x, -.3, y) }},
	{"Scale", func(_, y []float32) { Scale(1.7, y) }, func(_, y []float32) { scaleGeneric(1.7, y) }},
	{"Add", func(x, y []float32) { Add(y, x) }, func(x, y []float32) { addGeneric(y, x) }},
}

func TestVectorsGiveTheBytesOfGenericGo(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		for _, op := range vectorOps {
			for _, n := range oddLengths() {
				if n == 0 {
					op.run(nil, []float32{0}[:min(1, n+1)])
					continue
				}
				for _, special := range []bool{false, true} {
					r := newRand(uint64(n))
					x, y := newGuarded(n, n%13), newGuarded(n, n%5)
					random(r, x.x)
					random(r, y.x)
					if special {
						for i := 0; i < n; i += 3 {
							x.x[i], y.x[n-1-i] = specials[r.IntN(len(specials))], specials[r.IntN(len(specials))]
						}
					}
					want := append([]float32(nil), y.x...)
					op.generic(x.x, want)
					op.run(x.x, y.x)
					name := fmt.Sprintf("%s of %d", op.name, n)
					x.check(t, name)
					y.check(t, name)
					if err := sameBits(y.x, want); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
			}
		}
	})
}

// TestVectorBytesAreTheSameOnEveryMachine holds the bytes to a stored digest, for machines that only have generic Go: a
// compiler that fuses a product with a sum changes it.
func TestVectorBytesAreTheSameOnEveryMachine(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		h := fnv.New64a()
		x, y := make([]float32, 203), make([]float32, 203)
		state := uint32(1)
		for i := range x { // integers scaled: no library function whose bytes could differ
			state = state*1664525 + 1013904223
			x[i] = float32(int32(state)>>8) * 0x1p-20
			state = state*1664525 + 1013904223
			y[i] = float32(int32(state)>>8) * 0x1p-22
		}
		for n := 1; n <= len(x); n++ {
			for _, op := range vectorOps {
				op.run(x[:n], y[:n])
				if op.name == "Dot" {
					y[0] *= 0x1p-10
				}
			}
		}
		for _, v := range y {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				t.Fatal("the digest should be of finite values")
			}
			b := math.Float32bits(v)
			h.Write([]byte{byte(b), byte(b >> 8), byte(b >> 16), byte(b >> 24)})
		}
		if got, want := h.Sum64(), uint64(0x4bca79861ddbb619); got != want {
			t.Errorf("digest %#x, not %#x", got, want)
		}
	})
}

func TestShortSlicesPanic(t *testing.T) {
	three, two := make([]float32, 3), make([]float32, 2)
	m := PackF32(make([]float32, 6), 2, 3)
	var s Scratch
	for name, f := range map[string]func(){
		"Axpy":         func() { Axpy(1, three, two) },
		"AXPBY":        func() { AXPBY(1, three, 1, two) },
		"Add":          func() { Add(two, three) },
		"RMSNorm dst":  func() { RMSNorm(two, three, three, 1) },
		"RMSNorm w":    func() { RMSNorm(three, three, two, 1) },
		"SiLUMul dst":  func() { SiLUMul(two, three, three) },
		"SiLUMul up":   func() { SiLUMul(three, three, two) },
		"GELU":         func() { GELU(two, three) },
		"RoPE x":       func() { RoPE(three, 2, 2, 1, two, true) },
		"RoPE freqs":   func() { RoPE(make([]float32, 6), 1, 6, 1, two, true) },
		"Rotate":       func() { Rotate(three, 1, 3, two, two, true) },
		"Attention":    func() { Attention(three, three, three, three, 2, 1, 1, 3, 3, 1, three) },
		"scores":       func() { Attention(three, three, make([]float32, 9), make([]float32, 9), 3, 1, 1, 3, 3, 1, two) },
		"AttendScores": func() { AttendScores(two, three, three, 3, 1, 1, 1) },
		"AttendSum":    func() { AttendSum(two, three, make([]float32, 9), 3, 3, 3) },
		"AttendOuter":  func() { AttendOuter(three, three, three, 2, 3, 2) },
		"Mul a":        func() { m.Mul(three, 2, two, 3, 1, false, &s) },
		"Mul c":        func() { m.Mul(two, 2, make([]float32, 6), 3, 2, false, &s) },
		"Mul ldc":      func() { m.Mul(three, 1, make([]float32, 6), 3, 2, false, &s) },
		"PackF32":      func() { PackF32(three, 2, 2) },
		"PackF32T":     func() { PackF32T(three, 0, 2) },
		"Gemm a":       func() { Gemm(three, 1, two, 1, three, 1, 3, 1, 1, false, false, false) },
		"Gemm b":       func() { Gemm(three, 1, three, 3, two, 1, 1, 1, 3, false, false, false) },
		"Gemm c":       func() { Gemm(two, 1, three, 1, three, 1, 3, 1, 1, false, false, false) },
		"Gemm ld":      func() { Gemm(three, 1, three, 1, three, 1, 1, 3, 1, false, false, false) },
		"BF16FromF32":  func() { BF16FromF32(make([]uint16, 2), three) },
		"F32FromBF16":  func() { F32FromBF16(two, make([]uint16, 3)) },
		"F32FromF16":   func() { F32FromF16(two, make([]uint16, 3)) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if _, ok := recover().(string); !ok {
					t.Error("no panic with a message")
				}
			}()
			f()
		})
	}
}

func BenchmarkVector(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		for _, op := range vectorOps {
			for _, n := range []int{64, 576} {
				b.Run(fmt.Sprintf("%s/n=%d", op.name, n), func(b *testing.B) {
					x, y := make([]float32, n), make([]float32, n)
					rate(b, "elem", float64(n), func() { op.run(x, y) })
				})
			}
		}
	})
}
