package kernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// formsOf gives every panel of 32 outputs its type: those of types by turns.
func formsOf(types []int, out int) (forms []int) {
	for p := range panels(out) {
		forms = append(forms, types[p%len(types)])
	}
	return forms
}

// packK makes blocks of w (any weights will do to test the product) and packs them, a panel of each type by turns.
func packK(types ...int) func(w []float32, out, in int) Matrix {
	return func(w []float32, out, in int) Matrix {
		var parts []KRows
		for p, form := range formsOf(types, out) {
			rows := w[p*panel*in : min((p+1)*panel, out)*in]
			part := KRows{Type: kForms[form].name, Out: len(rows) / in}
			for ; len(rows) > 0; rows = rows[kBlock:] {
				part.Blocks = append(part.Blocks, blockK(form, rows[:kBlock])...)
			}
			parts = append(parts, part)
		}
		return PackK(parts, in)
	}
}

// roundK is what the blocks of packK hold.
func roundK(types ...int) func(w []float32, out, in int) {
	return func(w []float32, out, in int) {
		for p, form := range formsOf(types, out) {
			for rows := w[p*panel*in : min((p+1)*panel, out)*in]; len(rows) > 0; rows = rows[kBlock:] {
				decodeK(form, rows[:kBlock], blockK(form, rows[:kBlock]))
			}
		}
	}
}

// blockK makes a block whose codes, scales and minima are drawn by the weights' bits, so that all values of each occur.
func blockK(form int, w []float32) []byte {
	seed := uint64(0)
	for _, v := range w {
		seed = seed*31 + uint64(math.Float32bits(v))
	}
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, kForms[form].bytes)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	half := func(at int, exponent uint16) {
		b[at], b[at+1] = byte(r.Uint32()), byte(exponent<<2)|b[at+1]&3
	}
	if form != formQ6K {
		half(0, 8) // d and dmin of .008 to .016
		half(2, 8)
	} else {
		half(208, 6)
	}
	return b
}

// decodeK reads a block by the format's definition (ggml-quants.c, dequantize_row_q4_K, _q5_K and _q6_K), value by value.
func decodeK(form int, dst []float32, b []byte) {
	u16 := func(at int) float32 { return FromF16(uint16(b[at]) | uint16(b[at+1])<<8) }
	for k := range dst {
		if form != formQ6K {
			g, s := k/32, b[4:16]
			scale, low := s[g]&63, s[(g+4)%12]&63
			if g >= 4 {
				scale, low = s[g+4]&15|s[g-4]>>6<<4, s[g+4]>>4|s[g]>>6<<4
			}
			q := b[len(b)-128+k/64*32+k%32] >> (k / 32 % 2 * 4) & 15
			if form == formQ5K {
				q |= b[16+k%32] >> g & 1 << 4
			}
			dst[k] = u16(0)*float32(scale)*float32(q) - u16(2)*float32(low)
			continue
		}
		half, i := k/128, k%128
		low := b[half*64+i%64] >> (i / 64 * 4) & 15
		high := b[128+half*32+i%32] >> (i / 32 * 2) & 3
		dst[k] = u16(208) * float32(int8(b[192+k/16])) * float32(int(low|high<<4)-32)
	}
}

// TestKQuantsAreKeptWithoutLoss expands packed panels on the generic level and compares them with the format's definition, bit for bit.
func TestKQuantsAreKeptWithoutLoss(t *testing.T) {
	const out, in = 70, 768
	for _, types := range [][]int{{formQ4K}, {formQ5K}, {formQ6K}, {formQ6K, formQ4K, formQ5K}} {
		w := random(newRand(3), make([]float32, out*in))
		m := packK(types...)(w, out, in).(*matrixK)
		roundK(types...)(w, out, in)
		// One-hot rows of A, 127 times a power of two: what comes out is the weight itself.
		var s Scratch
		a, c := make([]float32, in), make([]float32, out)
		before := Level()
		setLevel(t, "generic")
		for k := range in {
			a[k] = 1
			m.Mul(c, out, a, in, 1, false, &s)
			a[k] = 0
			for o, v := range c {
				if want := w[o*in+k]; math.Abs(float64(v-want)) > 2e-7*math.Abs(float64(want))+1e-12 {
					t.Fatalf("types %v: weight %d of output %d is %v, want %v", types, k, o, v, want)
				}
			}
		}
		setLevel(t, before)
	}
}

// A linear whose parts change their type within a panel, or whose inputs are not whole blocks, is not taken.
func TestKStacks(t *testing.T) {
	for _, c := range []struct {
		name  string
		parts []KRows
		in    int
		want  bool
	}{
		{"one", []KRows{{Type: "Q4_K", Out: 5}}, 256, true},
		{"same type at any row", []KRows{{Type: "Q6_K", Out: 5}, {Type: "Q6_K", Out: 7}}, 512, true},
		{"types at a panel", []KRows{{Type: "Q4_K", Out: 64}, {Type: "Q6_K", Out: 7}}, 512, true},
		{"types within a panel", []KRows{{Type: "Q4_K", Out: 40}, {Type: "Q6_K", Out: 24}}, 512, false},
		{"another type", []KRows{{Type: "Q4_0", Out: 64}}, 256, false},
		{"inputs", []KRows{{Type: "Q4_K", Out: 64}}, 288, false},
		{"none", nil, 256, false},
	} {
		if got := KStacks(c.parts, c.in); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	defer func() {
		if p, _ := recover().(string); !strings.Contains(p, "Q4_K") || !strings.Contains(p, "288 are needed") {
			t.Errorf("blocks too short: panic %q", p)
		}
	}()
	PackK([]KRows{{Type: "Q4_K", Out: 2, Blocks: make([]byte, 287)}}, 256)
}

// An image whose panels have no known form, or whose length is not that of its forms, is refused.
func TestABadImageOfKQuantsIsRefused(t *testing.T) {
	const out, in = 70, 512
	form, image := Image(packK(formQ4K, formQ6K)(random(newRand(4), make([]float32, out*in)), out, in))
	for i := range panels(out) {
		for _, f := range []byte{0, 9, 255} {
			bad := slices.Clone(image)
			bad[4*i] = f
			if _, err := FromImage(form, out, in, bad); err == nil {
				t.Errorf("panel %d of form %d is taken", i, f)
			}
		}
	}
	for _, n := range []int{0, 4, 64, 67, len(image) - 4} {
		if _, err := FromImage(form, out, in, image[:n]); err == nil {
			t.Errorf("an image of %d bytes is taken", n)
		}
	}
	for _, s := range [][2]int{{out, in + 1}, {out, 2 * in}, {out + 32, in}, {math.MaxInt, in}, {out, math.MaxInt &^ 255}} {
		if _, err := FromImage(form, s[0], s[1], image); err == nil {
			t.Errorf("%v: taken", s)
		}
	}
}

// The largest codes and activations, all of one sign: where 16 bits sum them, nothing may saturate. Also with zero codes, which are -32 for Q6_K.
func TestTheLargestSumsAreExact(t *testing.T) {
	const out, in, m = 40, 512, 5
	blocks := func(form int, code byte) []byte {
		b := make([]byte, kForms[form].bytes)
		for i := range b {
			b[i] = code
		}
		if form == formQ6K {
			for i := range 16 {
				b[192+i] = 127
			}
			b[208], b[209] = 0, 0x14 // d = 2^-10
			return b
		}
		for i := range 12 {
			b[4+i] = 0xff // scales and minima of 63
		}
		b[0], b[1], b[2], b[3] = 0, 0x14, 0, 0x10
		return b
	}
	matrices := map[string]Matrix{}
	for _, code := range []byte{0, 0xff} {
		for _, form := range []int{formQ4K, formQ5K, formQ6K} {
			row := slices.Repeat(blocks(form, code), out*in/kBlock)
			matrices[kForms[form].name+string('0'+code&1)] = PackK([]KRows{{Type: kForms[form].name, Out: out, Blocks: row}}, in)
		}
		q4 := slices.Repeat([]byte{code}, q4Block)
		q4[0], q4[1], q4[2], q4[3] = 0, 0x14, 0, 0x10
		matrices["Q4_1"+string('0'+code&1)] = PackQ4_1(slices.Repeat(q4, out*in/group), out, in)
	}
	for _, w := range []float32{1, -1} {
		matrices["int8"+map[bool]string{true: "+", false: "-"}[w > 0]] = PackInt8(slices.Repeat([]float32{w}, out*in), out, in)
	}
	before := Level()
	defer setLevel(t, before)
	for name, w := range matrices {
		for _, x := range []float32{1, -1} {
			a := slices.Repeat([]float32{x}, m*in)
			setLevel(t, "generic")
			var s Scratch
			want := make([]float32, m*out)
			w.Mul(want, out, a, in, m, false, &s)
			for _, level := range Levels() {
				setLevel(t, level)
				got := make([]float32, m*out)
				w.Mul(got, out, a, in, m, false, &s)
				for i := range got {
					if math.Abs(float64(got[i]-want[i])) > 1e-5*math.Abs(float64(want[i]))+1e-6 {
						t.Fatalf("%s times %v at level %s: value %d is %v, want %v", name, x, level, i, got[i], want[i])
					}
				}
			}
		}
	}
}
