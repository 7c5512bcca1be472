package generator

import (
	"bytes"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/corastream/corastream/cmd/bounded"
)

// raw builds a file from a header and a body.
func raw(header string, body []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), body...)
}

var hostile = map[string][]byte{
	"too few":            {1, 2, 3},
	"header of":          binary.LittleEndian.AppendUint64(nil, math.MaxUint64),
	"at most 1048576":    append(binary.LittleEndian.AppendUint64(nil, 1<<21), make([]byte, 1<<21)...),
	"header: ":           raw("{", nil),
	"__metadata__":       raw(`{"__metadata__":{"a":1}}`, nil),
	"unknown field":      raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}`, make([]byte, 4)),
	"dtype":              raw(`{"a":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`, make([]byte, 8)),
	"shape [-1 -1]":      raw(`{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}`, make([]byte, 4)),
	"do not hold":        raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, make([]byte, 4)),
	"holds more than":    raw(`{"a":{"dtype":"F32","shape":[1000000,1000000,1000000],"data_offsets":[0,4]}}`, make([]byte, 4)),
	"dimensions":         raw(`{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}`, make([]byte, 4)),
	"bytes 4 to 0":       raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, make([]byte, 4)),
	"has a tail":         raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, make([]byte, 5)),
	"cut short":          raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, make([]byte, 7)),
	"overlap":            raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, make([]byte, 8)),
	"leave a gap":        raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, make([]byte, 8)),
	"not finite":         raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, []byte{0, 0, 0xc0, 0x7f}),
	"value 1 is not":     raw(`{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}`, []byte{0, 0, 0x80, 0xff}),
	"cannot unmarshal":   raw(`{"a":{"dtype":"F32","shape":"x","data_offsets":[0,4]}}`, make([]byte, 4)),
	"number 99999999999": raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]}}`, make([]byte, 4)),
}

func TestHostileTensorFilesAreRefused(t *testing.T) {
	for want, file := range hostile {
		if _, _, err := ReadTensors(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error naming %q, got %v", want, err)
		}
	}
}

func TestTensorsComeBackBitForBit(t *testing.T) {
	odd := []float32{0, float32(math.Copysign(0, -1)), 1e-45, math.MaxFloat32, -1.5}
	in := map[string]Tensor{
		"odd":   {Shape: []int{5, 1}, Data: odd},
		"half":  {Shape: []int{1, 3}, Data: []float32{1, -0.5, 3.140625}, BF16: true},
		"empty": {Shape: []int{0, 4}, Data: []float32{}},
	}
	meta := map[string]string{"b": "2", "a": "ä\"\n"}
	var file bytes.Buffer
	if err := WriteTensors(&file, in, meta); err != nil {
		t.Fatal(err)
	}
	out, gotMeta, err := ReadTensors(file.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(meta, gotMeta) || len(out) != len(in) {
		t.Fatalf("metadata %v, %d tensors", gotMeta, len(out))
	}
	for name, want := range in {
		if got := out[name]; !slices.Equal(got.Shape, want.Shape) || !equalBits(got.Data, want.Data) || got.BF16 != want.BF16 {
			t.Errorf("%s: %+v came back as %+v", name, want, got)
		}
	}
	var again bytes.Buffer
	if err := WriteTensors(&again, out, gotMeta); err != nil || !bytes.Equal(again.Bytes(), file.Bytes()) {
		t.Errorf("written again, the file differs (%v)", err)
	}
}

func TestRoundingToBF16(t *testing.T) {
	v := []float32{1, 1.00390625, 1.01171875, -3.14159274, 1e-40, 0}
	if err := roundBF16(v); err != nil {
		t.Fatal(err)
	}
	// 1 + 2^-8 is a tie and goes to even, 1 + 3*2^-8 up to 1 + 2^-6; by hand.
	want := []float32{1, 1, 1.015625, -3.140625, math.Float32frombits(0x00010000), 0}
	if !equalBits(v, want) {
		t.Errorf("rounded to %v, want %v", v, want)
	}
	if err := roundBF16([]float32{math.MaxFloat32}); err == nil {
		t.Error("a value beyond bfloat16 is rounded to infinity in silence")
	}
}

// FuzzReadTensors: no file makes the reader panic or allocate beyond what it holds, and what it accepts it can write.
func FuzzReadTensors(f *testing.F) {
	for _, file := range hostile {
		if len(file) < 1<<12 {
			f.Add(file)
		}
	}
	for _, header := range []string{ // one for each class of hole published for loaders: twice a name, sizes that overflow, offsets beyond the file, depth
		`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`,
		`{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}`,
		`{"a":{"dtype":"F32","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}}`,
		`{"a":{"dtype":"F32","shape":[0,9223372036854775807],"data_offsets":[0,0]}}`,
		`{"a":{"dtype":"F32","shape":[1],"data_offsets":[9223372036854775804,9223372036854775807]}}`,
		`{"a":{"dtype":"F32","shape":` + strings.Repeat("[", 5000) + `,"data_offsets":[0,4]}}`,
		`{"__metadata__":{"a":"b","a":"c"},"a":{"dtype":"BF16","shape":[],"data_offsets":[0,2]}}`,
	} {
		f.Add(raw(header, make([]byte, 4)))
	}
	f.Add(raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"BF16","shape":[2,1],"data_offsets":[4,8]}}  `, make([]byte, 8)))
	f.Fuzz(func(t *testing.T, file []byte) {
		var tensors map[string]Tensor
		var meta map[string]string
		var err error
		bounded.Parse(t, len(file), func() { tensors, meta, err = ReadTensors(file) })
		if err != nil {
			return
		}
		values := 0
		for name, x := range tensors {
			values += len(x.Data)
			for _, v := range x.Data {
				if v != v {
					t.Fatalf("%s holds a NaN", name)
				}
			}
		}
		if values > len(file) {
			t.Fatalf("%d values from %d bytes", values, len(file))
		}
		var b bytes.Buffer
		if err := WriteTensors(&b, tensors, meta); err != nil {
			t.Fatal(err)
		}
		if _, _, err := ReadTensors(b.Bytes()); err != nil {
			t.Fatalf("what was read and written can not be read: %v", err)
		}
	})
}
