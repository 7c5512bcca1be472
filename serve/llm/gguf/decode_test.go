package gguf

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"testing"
)

// golden is testdata/quants.json, made by .ci/reference/quants.py with the PyPI package gguf.
type golden struct {
	Decode, Encode []struct{ Type, Raw, Values string }
}

func readGolden(t *testing.T) golden {
	t.Helper()
	b, err := os.ReadFile("testdata/quants.json")
	if err != nil {
		t.Fatal(err)
	}
	var g golden
	if err := json.Unmarshal(b, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func typeNamed(t *testing.T, name string) Type {
	t.Helper()
	for typ, l := range layouts {
		if l.name == name {
			return typ
		}
	}
	t.Fatalf("no type %s", name)
	return 0
}

func raw64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func floats(b []byte) []float32 {
	list := make([]float32, len(b)/4)
	for i := range list {
		list[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return list
}

func TestDecodingGivesTheReferencesBits(t *testing.T) {
	seen := map[Type]bool{}
	for _, c := range readGolden(t).Decode {
		typ, raw, want := typeNamed(t, c.Type), raw64(t, c.Raw), floats(raw64(t, c.Values))
		seen[typ] = true
		x := &Tensor{Name: c.Type, Type: typ, Dims: []int{typ.BlockSize(), len(want) / typ.BlockSize()}, Raw: raw}
		got := make([]float32, x.Elements())
		if err := x.Float32(got); err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Errorf("%s: value %d is %v, want %v", c.Type, i, got[i], want[i])
				break
			}
		}
		row := make([]float32, x.RowLen())
		for r := range x.Rows() {
			if err := x.Row(row, r); err != nil {
				t.Fatal(err)
			}
			for i, v := range row {
				if math.Float32bits(v) != math.Float32bits(want[r*len(row)+i]) {
					t.Fatalf("%s: row %d differs from Float32 at %d", c.Type, r, i)
				}
			}
		}
	}
	if len(seen) != len(layouts) {
		t.Errorf("the golden file holds %d types, %d are supported", len(seen), len(layouts))
	}
}

func TestEncodingGivesTheReferencesBytes(t *testing.T) {
	seen := 0
	for _, c := range readGolden(t).Encode {
		typ, want, values := typeNamed(t, c.Type), raw64(t, c.Raw), floats(raw64(t, c.Values))
		got := make([]byte, len(want))
		encoders[typ](got, values)
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: byte %d (block %d) is %d, want %d", c.Type, i, i/typ.BlockBytes(), got[i], want[i])
				break
			}
		}
		seen++
	}
	if seen != len(encoders) {
		t.Errorf("the golden file holds %d types, %d can be written", seen, len(encoders))
	}
}

// Every binary16 goes to float32 and back unchanged, and rounding is to the nearest, ties to even.
func TestHalfRoundTrip(t *testing.T) {
	for h := range 1 << 16 {
		x := half(uint16(h))
		if x != x {
			continue
		}
		if got := toHalf(x); got != uint16(h) {
			t.Fatalf("%#04x -> %v -> %#04x", h, x, got)
		}
		if h&0x7fff < 0x7bff { // the midpoint to the next one in magnitude
			mid := float32((float64(x) + float64(half(uint16(h)+1))) / 2)
			if got, want := toHalf(mid), uint16(h)+uint16(h&1); got != want {
				t.Fatalf("midpoint above %#04x rounds to %#04x, want %#04x", h, got, want)
			}
		}
	}
	for _, x := range []float32{65520, 1e30, float32(math.Inf(1))} {
		if toHalf(x) != 0x7c00 || toHalf(-x) != 0xfc00 {
			t.Errorf("%v does not become Inf", x)
		}
	}
	if nan := half(toHalf(float32(math.NaN()))); nan == nan {
		t.Error("NaN is lost in binary16")
	}
	if nan := bfloat(toBfloat(math.Float32frombits(0x7f800001))); nan == nan {
		t.Error("NaN is lost in bfloat16")
	}
}

func TestDecodeRefusesWrongSizes(t *testing.T) {
	x := &Tensor{Name: "w", Type: Q4_0, Dims: []int{32, 2}, Raw: make([]byte, 36)}
	for what, err := range map[string]error{
		"short dst":   x.Float32(make([]float32, 63)),
		"short row":   x.Row(make([]float32, 31), 0),
		"row too far": x.Row(make([]float32, 32), 2),
		"row below 0": x.Row(make([]float32, 32), -1),
		"short raw":   (&Tensor{Name: "w", Type: Q4_0, Dims: []int{32, 2}, Raw: make([]byte, 35)}).Float32(make([]float32, 64)),
		"no decoder":  (&Tensor{Name: "w", Type: 16, Dims: []int{256}, Raw: make([]byte, 66)}).Float32(make([]float32, 256)),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for typ, l := range layouts {
		b.Run(l.name, func(b *testing.B) {
			n := 1 << 16
			src, dst := make([]byte, n/l.block*l.bytes), make([]float32, n)
			b.SetBytes(int64(4 * n))
			for b.Loop() {
				layouts[typ].decode(dst, src)
			}
		})
	}
}
