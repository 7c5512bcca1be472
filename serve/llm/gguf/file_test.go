package gguf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

// sample is a writer with metadata of every kind and tensors of several types.
func sample(t testing.TB) *Writer {
	t.Helper()
	w := &Writer{}
	for _, kv := range []struct {
		key string
		v   any
	}{
		{"general.architecture", "llama"},
		{"u8", uint8(200)},
		{"i8", int8(-3)},
		{"u16", uint16(60000)},
		{"i16", int16(-300)},
		{"u32", uint32(1 << 31)},
		{"i32", int32(-5)},
		{"u64", uint64(math.MaxUint64)},
		{"i64", int64(7)},
		{"f32", float32(0.5)},
		{"f64", 1e-5},
		{"yes", true},
		{"no", false},
		{"words", []string{"", "ä", "long word"}},
		{"floats", []float32{1, -2}},
		{"doubles", []float64{3}},
		{"ints", []int32{-1, 2}},
		{"bytes", []uint8{1, 255}},
		{"flags", []bool{true, false}},
		{"empty", []string{}},
		{"big", []uint64{math.MaxUint64}},
		{"nan", float32(math.NaN())},
	} {
		if err := w.Set(kv.key, kv.v); err != nil {
			t.Fatal(err)
		}
	}
	ramp := make([]float32, 64)
	for i := range ramp {
		ramp[i] = float32(i) - 20
	}
	for _, a := range []struct {
		name string
		typ  Type
		dims []int
	}{{"a", F32, []int{3}}, {"b", Q4_1, []int{32, 2}}, {"c", F16, []int{2, 2, 2, 2}}, {"d", Q8_0, []int{64}}, {"e", BF16, []int{1}}} {
		n := 1
		for _, d := range a.dims {
			n *= d
		}
		if err := w.Add(a.name, a.typ, a.dims, ramp[:n]); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestWriteThenOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	w := sample(t)
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for key, want := range map[string]uint64{"u8": 200, "u16": 60000, "u32": 1 << 31, "u64": math.MaxUint64, "i64": 7} {
		if got := must[uint64](t)(f.Uint(key)); got != want {
			t.Errorf("%s = %d, want %d", key, got, want)
		}
	}
	if got := must[float64](t)(f.Float("f32")); got != 0.5 {
		t.Errorf("f32 = %v", got)
	}
	if got := must[float64](t)(f.Float("f64")); got != 1e-5 {
		t.Errorf("f64 = %v", got)
	}
	if !must[bool](t)(f.Bool("yes")) || must[bool](t)(f.Bool("no")) {
		t.Error("bools are wrong")
	}
	for _, c := range []struct{ got, want any }{
		{must[string](t)(f.String("general.architecture")), "llama"},
		{must[[]string](t)(f.Strings("words")), []string{"", "ä", "long word"}},
		{must[[]string](t)(f.Strings("empty")), []string{}},
		{must[[]float32](t)(f.Floats("floats")), []float32{1, -2}},
		{must[[]float32](t)(f.Floats("doubles")), []float32{3}},
		{must[[]int64](t)(f.Ints("ints")), []int64{-1, 2}},
		{must[[]int64](t)(f.Ints("bytes")), []int64{1, 255}},
		{must[uint64](t)(f.Uint("gone", 42)), uint64(42)},
		{must[string](t)(f.String("gone", "x")), "x"},
		{must[[]string](t)(f.Strings("gone", nil)), []string(nil)},
		{len(f.Keys()), 22},
		{f.HasKey("u8"), true},
		{f.HasKey("gone"), false},
		{f.Has("a"), true},
		{f.Has("z"), false},
	} {
		if !reflect.DeepEqual(c.got, c.want) {
			t.Errorf("got %v, want %v", c.got, c.want)
		}
	}
	var names []string
	for _, x := range f.Tensors() {
		names = append(names, x.Name)
	}
	if got := strings.Join(names, ""); got != "abcde" {
		t.Errorf("tensors come as %q, not in file order", got)
	}
	b := must[*Tensor](t)(f.Tensor("b"))
	if b.RowLen() != 32 || b.Rows() != 2 || b.Type != Q4_1 {
		t.Errorf("tensor b is %+v", b.Dims)
	}
	values := make([]float32, 3)
	if err := must[*Tensor](t)(f.Tensor("a")).Float32(values); err != nil || !reflect.DeepEqual(values, []float32{-20, -19, -18}) {
		t.Errorf("tensor a is %v, %v", values, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	if f.Digest() != hex.EncodeToString(sum[:]) || f.Size() != int64(len(data)) || f.ModTime().IsZero() {
		t.Error("digest, size or time are not the file's")
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
}

// A getter asked for the wrong thing names the file and the key, and is the user's to mend (exit code 2).
func TestGettersNameTheKey(t *testing.T) {
	f, err := Parse("model.gguf", sample(t).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	fail := func(err error, key string) {
		t.Helper()
		var usage *corastream.UsageError
		if err == nil || !errors.As(err, &usage) || !strings.Contains(err.Error(), "model.gguf") || !strings.Contains(err.Error(), key) || usage.Fix == "" {
			t.Errorf("error for %q is %v", key, err)
		}
	}
	for _, key := range []string{"gone", "i32", "f32", "words", "yes"} {
		_, err := f.Uint(key)
		fail(err, key)
	}
	for _, key := range []string{"gone", "nan", "u8", "floats"} {
		_, err := f.Float(key)
		fail(err, key)
	}
	_, err = f.String("u8")
	fail(err, "u8")
	_, err = f.Bool("u8")
	fail(err, "u8")
	_, err = f.Strings("ints")
	fail(err, "ints")
	_, err = f.Floats("ints")
	fail(err, "ints")
	_, err = f.Ints("floats")
	fail(err, "floats")
	_, err = f.Ints("big")
	fail(err, "big")
	_, err = f.Tensor("gone")
	fail(err, "gone")
}

func TestOpenRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.gguf")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "gone.gguf"), dir, empty} {
		var usage *corastream.UsageError
		if _, err := Open(path); !errors.As(err, &usage) || !strings.Contains(err.Error(), path) {
			t.Errorf("Open(%s): %v", path, err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	w := &Writer{}
	nan := float32(math.NaN())
	ok := make([]float32, 32)
	if err := errors.Join(w.Set("k", uint32(1)), w.Add("t", F32, []int{32}, ok)); err != nil {
		t.Fatal(err)
	}
	bad := append([]float32{nan}, ok[1:]...)
	for what, err := range map[string]error{
		"double key":     w.Set("k", uint32(1)),
		"empty key":      w.Set("", uint32(1)),
		"plain int":      w.Set("i", 1),
		"bad alignment":  w.Set("general.alignment", uint32(12)),
		"double tensor":  w.Add("t", F32, []int{32}, ok),
		"long name":      w.Add(strings.Repeat("n", 65), F32, []int{32}, ok),
		"no dims":        w.Add("x", F32, nil, ok),
		"five dims":      w.Add("x", F32, []int{1, 1, 1, 1, 32}, ok),
		"overflow":       w.Add("x", F32, []int{math.MaxInt / 2, 3}, ok),
		"too few values": w.Add("x", F32, []int{33}, ok),
		"half a block":   w.Add("x", Q8_0, []int{16, 2}, ok),
		"NaN in blocks":  w.Add("x", Q4_1, []int{32}, bad),
		"no encoder":     w.Add("x", Q6_K, []int{256}, make([]float32, 256)),
		"unknown type":   w.AddRaw("x", 99, []int{32}, nil),
		"wrong bytes":    w.AddRaw("x", Q6_K, []int{256}, make([]byte, 209)),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if err := w.WriteFile(filepath.Join(t.TempDir(), "no", "such", "folder.gguf")); err == nil {
		t.Error("writing into no folder gave no error")
	}
}

func TestAlignmentIsKept(t *testing.T) {
	for _, align := range []uint32{8, 64, 4096} {
		w := &Writer{}
		if err := errors.Join(w.Set("general.alignment", align), w.Add("a", F32, []int{1}, []float32{1}), w.Add("b", F32, []int{1}, []float32{2})); err != nil {
			t.Fatal(err)
		}
		f, err := Parse("aligned", w.Bytes())
		if err != nil {
			t.Fatalf("alignment %d: %v", align, err)
		}
		x := []float32{0}
		if err := must[*Tensor](t)(f.Tensor("b")).Float32(x); err != nil || x[0] != 2 {
			t.Errorf("alignment %d: b is %v, %v", align, x, err)
		}
	}
}

// What was released is read again, whole pages and parts of them; bytes that are not of a mapped file are left alone.
func TestReleasedTensorsAreReadAgain(t *testing.T) {
	values := make([]float32, 64*1024)
	for i := range values {
		values[i] = float32(i)
	}
	w := &Writer{}
	for _, name := range []string{"small", "large"} {
		n := map[string]int{"small": 3, "large": len(values)}[name]
		if err := w.Add(name, F32, []int{n}, values[:n]); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "f.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	mapped, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := Parse("in memory", w.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*File{mapped, parsed} {
		digest := f.Digest()
		for _, tensor := range f.Tensors() {
			f.Release(tensor.Raw)
			f.Release(tensor.Raw[:0])
			got := make([]float32, tensor.Elements())
			if err := tensor.Float32(got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, values[:len(got)]) {
				t.Errorf("%s of %s changed", tensor.Name, f.Name())
			}
		}
		sum := sha256.Sum256(w.Bytes())
		if digest != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: digest %s", f.Name(), digest)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
