package kernels

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// TestConversionsOfEveryValue takes all 65,536 halves each way, and float32 values around every bfloat16.
func TestConversionsOfEveryValue(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		half := make([]uint16, 1<<16+5) // an odd length: a tail after the vectors
		for i := range half {
			half[i] = uint16(i)
		}
		wide := make([]float32, len(half))
		F32FromBF16(wide, half)
		for i, v := range wide {
			if math.Float32bits(v) != uint32(half[i])<<16 {
				t.Fatalf("bfloat16 %04x became %08x", half[i], math.Float32bits(v))
			}
		}
		back := make([]uint16, len(half))
		for _, delta := range []int32{0, 1, -1, 0x7fff, 0x8000, 0x8001, 0xffff} {
			src := make([]float32, len(half))
			for i, v := range wide {
				src[i] = math.Float32frombits(math.Float32bits(v) + uint32(delta))
			}
			BF16FromF32(back, src)
			for i, v := range src {
				if want := nearestBF16(v); back[i] != want && !(v != v && FromBF16(back[i]) != FromBF16(back[i])) {
					t.Fatalf("%v (%08x) became bfloat16 %04x, not %04x", v, math.Float32bits(v), back[i], want)
				}
			}
		}
		F32FromF16(wide, half)
		for i, v := range wide {
			if want := float16(half[i]); float64(v) != want && !(v != v && want != want) || v == v && math.Signbit(float64(v)) != (half[i]>>15 == 1) {
				t.Fatalf("half %04x became %v, not %v", half[i], v, want)
			}
		}
	})
}

// nearestBF16 rounds by comparing distances, ties to the even one.
func nearestBF16(v float32) uint16 {
	down := uint16(math.Float32bits(v) >> 16)
	if v-v != 0 || FromBF16(down) == v {
		return down
	}
	up := down + 1
	value := func(h uint16) float64 {
		if h&0x7fff == 0x7f80 { // infinity, at the place that the next value would have
			return math.Copysign(0x1p128, float64(FromBF16(h)))
		}
		return float64(FromBF16(h))
	}
	a, b := math.Abs(float64(v)-value(down)), math.Abs(float64(v)-value(up))
	if a < b || a == b && down%2 == 0 {
		return down
	}
	return up
}

// float16 is the definition of IEEE 754's binary16.
func float16(h uint16) float64 {
	sign, exp, frac := 1-2*float64(h>>15), int(h>>10&31), float64(h&0x3ff)
	switch {
	case exp == 31 && frac != 0:
		return math.NaN()
	case exp == 31:
		return sign * math.Inf(1)
	case exp == 0:
		return sign * math.Ldexp(frac, -24)
	}
	return sign * math.Ldexp(1024+frac, exp-25)
}

// TestPackingIsTheSameOnEveryLevel lets a packed form be kept on disk, whatever made it.
func TestPackingIsTheSameOnEveryLevel(t *testing.T) {
	for _, s := range []struct{ out, in int }{{1, 1}, {31, 32}, {33, 7}, {64, 33}, {70, 100}, {96, 64}, {32, 48}} {
		for _, f := range forms {
			in := wholeBlocks(s.in, f.step)
			w := random(newRand(9), make([]float32, s.out*in))
			copy(w, specialsFor(f.name))
			var want []byte
			atLevels(t, func(t *testing.T) {
				_, image := Image(packed(f.pack, f.flipped, w, s.out, in))
				if Level() == levelNames[generic] {
					want = append([]byte(nil), image...)
				}
				if string(image) != string(want) {
					t.Errorf("%s %d x %d differs from the generic one", f.name, s.out, in)
				}
			})
		}
	}
}

// specialsFor are weights that rounding must treat alike; 8 bits refuse what is not finite.
func specialsFor(form string) []float32 {
	if form == "int8" || strings.HasPrefix(form, "q") {
		return nil
	}
	return []float32{inf, -inf, 1e-45, -1e-45, math.MaxFloat32, 0x1.01p0, 0x1.03p0, float32(math.Copysign(0, -1))}
}

func TestAnImageMakesTheSameMatrix(t *testing.T) {
	atLevels(t, func(t *testing.T) {
		const m, out = 5, 70
		for _, f := range forms {
			in := wholeBlocks(64, f.step)
			w := packed(f.pack, f.flipped, random(newRand(1), make([]float32, out*in)), out, in)
			form, image := Image(w)
			if len(image) != w.Bytes() {
				t.Errorf("%s: an image of %d bytes, of a matrix that holds %d", f.name, len(image), w.Bytes())
			}
			again, err := FromImage(form, out, in, append([]byte(nil), image...))
			if err != nil {
				t.Fatal(err)
			}
			a := random(newRand(2), make([]float32, m*in))
			c, d := make([]float32, m*out), make([]float32, m*out)
			var s Scratch
			w.Mul(c, out, a, in, m, false, &s)
			again.Mul(d, out, a, in, m, false, &s)
			if err := sameBits(d, c); err != nil {
				t.Errorf("%s: %v", f.name, err)
			}
		}
	})
}

func TestABadImageIsRefused(t *testing.T) {
	_, image := Image(PackInt8(make([]float32, 64*64), 64, 64))
	for name, c := range map[string]struct {
		form    string
		out, in int
		image   []byte
	}{
		"form": {"f64", 64, 64, image}, "short": {"int8", 64, 64, image[:len(image)-4]}, "long": {"int8", 64, 32, image},
		"shape": {"int8", 0, 64, image}, "huge": {"f32", math.MaxInt, math.MaxInt, image}, "negative": {"bf16", -64, 64, image},
		"unaligned": {"int8", 64, 64, append(make([]byte, 1), image...)[1:]}, "blocks": {"q4_1", 64, 33, image},
	} {
		if _, err := FromImage(c.form, c.out, c.in, c.image); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		const out = 1536
		for _, f := range forms {
			in := wholeBlocks(576, f.step)
			w := random(newRand(1), make([]float32, out*in))
			b.Run(f.name, func(b *testing.B) { rate(b, "weight", float64(out*in), func() { f.pack(w, out, in) }) })
		}
	})
}

func BenchmarkConvert(b *testing.B) {
	benchLevels(b, func(b *testing.B) {
		const n = 576
		x, h := random(newRand(1), make([]float32, n)), make([]uint16, n)
		for name, f := range map[string]func(){
			"BF16FromF32": func() { BF16FromF32(h, x) }, "F32FromBF16": func() { F32FromBF16(x, h) }, "F32FromF16": func() { F32FromF16(x, h) },
		} {
			b.Run(fmt.Sprintf("%s/n=%d", name, n), func(b *testing.B) { rate(b, "elem", n, f) })
		}
	})
}
