package kernels

import (
	"fmt"
	"math"
	"testing"
)

// forms are the packed forms of a weight, with what each rounds before the product.
var forms = []struct {
	name    string
	pack    func(w []float32, out, in int) Matrix
	weight  func(w []float32, out, in int) // in place
	act     func(a []float32)
	most    float64 // measured noise x3, relative to the sum of magnitudes
	flipped bool    // packs the transpose
	step    int     // the inputs come in multiples of it
}{
	// Measured 2.3e-7 in generic Go, 2.0e-7 with fused multiply-add.
	{"f32", PackF32, nil, nil, 7e-7, false, 1},
	{"f32T", PackF32T, nil, nil, 7e-7, true, 1},
	// Measured 1.2e-7.
	{"bf16", PackBF16, roundWeights, roundRow, 3.6e-7, false, 1},
	{"bf16T", PackBF16T, roundWeights, roundRow, 3.6e-7, true, 1},
	// Measured 2.1e-7 in generic Go, 1.6e-7 where groups are summed as integers.
	{"int8", PackInt8, roundInt8, requantiseRow, 7e-7, false, 1},
	// Measured 2.8e-7 in generic Go, 1.6e-7 where groups are summed as integers.
	{"q4_1", packQ4, roundQ4, requantiseRow, 9e-7, false, 32},
	{"q4_K", packK(formQ4K), roundK(formQ4K), requantiseRow, 9e-7, false, 256},
	{"q5_K", packK(formQ5K), roundK(formQ5K), requantiseRow, 9e-7, false, 256},
	{"q6_K", packK(formQ6K), roundK(formQ6K), requantiseRow, 9e-7, false, 256},
	{"K types", packK(formQ4K, formQ6K, formQ5K), roundK(formQ4K, formQ6K, formQ5K), requantiseRow, 9e-7, false, 256},
}

// wholeBlocks is the least multiple of step that holds in inputs.
func wholeBlocks(in, step int) int { return (in + step - 1) / step * step }

func roundWeights(w []float32, _, _ int) { roundRow(w) }

func roundRow(x []float32) {
	for i, v := range x {
		x[i] = FromBF16(ToBF16(v))
	}
}

func requantiseRow(x []float32) {
	for ; len(x) > 0; x = x[min(group, len(x)):] {
		requantiseGeneric(x, x[:min(group, len(x))])
	}
}

// roundInt8 is what PackInt8 keeps of w.
func roundInt8(w []float32, out, in int) {
	for o := 0; o < out; o++ {
		row := w[o*in : (o+1)*in]
		var top float32
		for _, v := range row {
			top = max(top, v, -v)
		}
		for k, v := range row {
			row[k] = top / 127 * float32(math.RoundToEven(float64(v*(127/top))))
		}
	}
}

// packQ4 makes Q4_1 blocks of w (any weights will do to test the product) and packs them.
func packQ4(w []float32, out, in int) Matrix {
	var b []byte
	for i := 0; i < out*in; i += group {
		b = append(b, blockQ4(w[i:i+group])...)
	}
	return PackQ4_1(b, out, in)
}

// blockQ4 rounds 32 weights to a Q4_1 block: d = .25 or .5 by the first weight, m = -2, q = (w-m)/d.
func blockQ4(w []float32) []byte {
	b := make([]byte, q4Block)
	d, bits := float32(.25), uint16(0x3400)
	if w[0] > 0 {
		d, bits = .5, 0x3800
	}
	b[0], b[1], b[2], b[3] = byte(bits), byte(bits>>8), 0, 0xc0
	for i, v := range w {
		q := max(0, min(15, math.Round(float64((v+2)/d))))
		b[4+i%16] |= byte(q) << (i / 16 * 4)
	}
	return b
}

// roundQ4 is what the blocks of packQ4 hold, by the format's definition.
func roundQ4(w []float32, _, _ int) {
	for ; len(w) > 0; w = w[group:] {
		b := blockQ4(w[:group])
		d := FromF16(uint16(b[0]) | uint16(b[1])<<8)
		for i := range w[:group] {
			w[i] = d*float32(b[4+i%16]>>(i/16*4)&15) - 2
		}
	}
}

// mulShapes cover every height of tile, odd and even depths, part panels, and more rows than one round.
var mulShapes = []struct{ m, out, in int }{
	{1, 1, 1},
	{2, 33, 7},
	{3, 31, 16},
	{4, 8, 32},
	{5, 64, 17},
	{6, 16, 15},
	{7, 40, 33},
	{8, 33, 65},
	{9, 20, 31},
	{10, 32, 64},
	{11, 5, 34},
	{12, 48, 96},
	{13, 65, 24},
	{14, 32, 64},
	{15, 64, 40},
	{20, 17, 100},
	{29, 40, 31},
	{31, 34, 129},
	{300, 33, 3},
	{70, 3, 2600},
}

// TestMulAgreesWithFloat64 checks each packed form against sums in float64 at odd shapes, strides and offsets.
func TestMulAgreesWithFloat64(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		for _, f := range forms {
			worst := 0.0
			for _, s := range mulShapes {
				s.in = wholeBlocks(s.in, f.step)
				for _, accumulate := range []bool{false, true} {
					name := fmt.Sprintf("%s m=%d out=%d in=%d accumulate=%v", f.name, s.m, s.out, s.in, accumulate)
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
					p := packed(f.pack, f.flipped, w, s.out, s.in)
					if p.Out() != s.out || p.In() != s.in {
						t.Fatalf("%s: shape %d x %d", name, p.Out(), p.In())
					}
					var scratch Scratch
					p.Mul(c.x, ldc, a.x, lda, s.m, accumulate, &scratch)
					a.check(t, name)
					c.check(t, name)
					want, size := reference(name, func() (want, size []float64) {
						if f.weight != nil {
							f.weight(w, s.out, s.in)
						}
						for i := 0; i < s.m; i++ {
							row := append([]float32(nil), a.x[i*lda:][:s.in]...)
							if f.act != nil {
								f.act(row)
							}
							for o := 0; o < s.out; o++ {
								x, y := 0.0, 1e-30
								for k, v := range row {
									v := float64(v) * float64(w[o*s.in+k])
									x, y = x+v, y+math.Abs(v)
								}
								if accumulate {
									x, y = x+float64(before[i*ldc+o]), y+math.Abs(float64(before[i*ldc+o]))
								}
								want, size = append(want, x), append(size, y)
							}
						}
						return want, size
					})
					for i := 0; i < s.m; i++ {
						for o := 0; o < s.out; o++ {
							if e := math.Abs(float64(c.x[i*ldc+o])-want[i*s.out+o]) / size[i*s.out+o]; !(e <= worst) {
								worst = e
							}
						}
						for q := i*ldc + s.out; q < min((i+1)*ldc, len(c.x)); q++ {
							if math.Float32bits(c.x[q]) != guardWord {
								t.Fatalf("%s: a value between rows %d and %d was written", name, i, i+1)
							}
						}
					}
				}
			}
			t.Logf("%s: largest error, relative to the sum of magnitudes: %.3g", f.name, worst)
			if !(worst < f.most) {
				t.Errorf("%s: largest error %.3g is over %.3g", f.name, worst, f.most)
			}
		}
	})
}

var references = map[string][2][]float64{}

// reference computes what is the same on every level once: under the race detector it takes longer than all else.
func reference(name string, f func() (want, size []float64)) (want, size []float64) {
	r, ok := references[name]
	if !ok {
		r[0], r[1] = f()
		references[name] = r
	}
	return r[0], r[1]
}

// packed packs w [out][in], by way of its transpose where the form wants that.
func packed(pack func(w []float32, out, in int) Matrix, flipped bool, w []float32, out, in int) Matrix {
	if !flipped {
		return pack(w, out, in)
	}
	wt := make([]float32, len(w))
	for o := 0; o < out; o++ {
		for k := 0; k < in; k++ {
			wt[k*out+o] = w[o*in+k]
		}
	}
	return pack(wt, in, out)
}

// TestARowDoesNotDependOnItsBatch is what makes a score reproducible, however requests were batched.
func TestARowDoesNotDependOnItsBatch(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		const m, out = 29, 33
		for _, f := range forms {
			in := wholeBlocks(96, f.step)
			w := packed(f.pack, f.flipped, random(newRand(1), make([]float32, out*in)), out, in)
			a := random(newRand(2), make([]float32, m*in))
			all, one := make([]float32, m*out), make([]float32, m*out)
			var s Scratch
			w.Mul(all, out, a, in, m, false, &s)
			for n := 1; n <= m; n++ {
				for i := 0; i+n <= m; i += n {
					w.Mul(one[i*out:], out, a[i*in:], in, n, false, &s)
				}
				rows := m / n * n
				if err := sameBits(one[:rows*out], all[:rows*out]); err != nil {
					t.Fatalf("%s, %d rows at a time: %v", f.name, n, err)
				}
			}
		}
	})
}

// TestMulPassesNaNAndInfOn puts one into each input in turn: its row, and no other, is not finite.
func TestMulPassesNaNAndInfOn(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		const m, out = 15, 33
		for _, f := range forms {
			in := wholeBlocks(64, f.step)
			w := packed(f.pack, f.flipped, random(newRand(1), make([]float32, out*in)), out, in)
			var s Scratch
			for k := 0; k < in; k += 3 {
				for _, v := range []float32{nan, inf, -inf} {
					a, c := random(newRand(2), make([]float32, m*in)), make([]float32, m*out)
					bad := k % m
					a[bad*in+k] = v
					w.Mul(c, out, a, in, m, false, &s)
					for i, x := range c {
						if finite := x-x == 0; finite == (i/out == bad) {
							t.Fatalf("%s: %v at row %d input %d gives %v at row %d output %d", f.name, v, bad, k, x, i/out, i%out)
						}
					}
				}
			}
		}
	})
}

func TestMulAllocatesNothing(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		const m, out = 20, 101 // a part of a panel too
		for _, f := range forms {
			in := wholeBlocks(64, f.step)
			w := packed(f.pack, f.flipped, make([]float32, out*in), out, in)
			a, c := make([]float32, m*in), make([]float32, m*out)
			var s Scratch
			if n := testing.AllocsPerRun(20, func() { w.Mul(c, out, a, in, m, false, &s) }); n != 0 {
				t.Errorf("%s: %v allocations", f.name, n)
			}
		}
	})
}

func poison(x []float32, at, n int) {
	for i := at; i < min(at+n, len(x)); i++ {
		x[i] = math.Float32frombits(guardWord)
	}
}
