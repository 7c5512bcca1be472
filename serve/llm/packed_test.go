package llm

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// tinyFile writes a tiny model whose linears are of the given type; Q4_K and Q5_K with Q6_K among them. Its sizes are multiples of what blocks ask for.
func tinyFile(t testing.TB, typ gguf.Type) string {
	t.Helper()
	s := shape{"llama", 3, 64, 4, 2, 16, 96, true, false}
	if typ == gguf.Q4_K || typ == gguf.Q5_K { // blocks of 256
		s = shape{"llama", 3, 256, 4, 2, 64, 256, true, false}
	}
	w := s.writeAs(3, typ)
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour) // a file of this very moment is not remembered
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	return path
}

func openFile(t testing.TB, path string, o Options) *Model {
	t.Helper()
	m, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func someScores(t testing.TB, m *Model) []corastream.Logits {
	t.Helper()
	ps, ws := pairs(m, 3, 2, 3, true, 5)
	got, err := m.Score(context.Background(), ps, ws, project(m, 3, corastream.AdaptAll, 0, attention, 5))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func glob(t testing.TB, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestPackedWeightsAreMappedAndScoreTheSameBytes(t *testing.T) {
	for _, typ := range []gguf.Type{gguf.Q4_1, gguf.Q4_K} {
		t.Run(typ.String(), func(t *testing.T) { mappedScoresTheSame(t, tinyFile(t, typ)) })
	}
}

func mappedScoresTheSame(t *testing.T, path string) {
	dir := t.TempDir()
	for i, n := range []string{"f32", "bf16", "int8"} {
		o := tinyOptions()
		o.Numerics, o.CacheDir = n, dir
		first := openFile(t, path, o)
		want := someScores(t, first)
		if first.Info().Mapped || first.CacheStats().DiskError != nil {
			t.Fatalf("%s: %+v, %v", n, first.Info(), first.CacheStats().DiskError)
		}
		second := openFile(t, path, o)
		if !second.Info().Mapped {
			t.Errorf("%s: the second start packs again", n)
		}
		if got := someScores(t, second); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: mapped %v, packed %v", n, got, want)
		}
		if got := glob(t, dir, "packed-*"); len(got) != i+1 {
			t.Errorf("%s: files %v; numerics must lie apart", n, got)
		}
		if got := glob(t, dir, "items-*"); len(got) != i+1 {
			t.Errorf("%s: item files %v; numerics must lie apart", n, got)
		}
	}
}

func TestDamagedPackedWeightsAreMadeAnew(t *testing.T) {
	path := tinyFile(t, gguf.F32)
	o := tinyOptions()
	o.CacheDir = t.TempDir()
	want := someScores(t, openFile(t, path, o))
	file := glob(t, o.CacheDir, "packed-*")[0]
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	damage := func(at int) []byte {
		b := append([]byte(nil), whole...)
		b[at] ^= 0x10
		return b
	}
	for name, b := range map[string][]byte{
		"empty": nil, "head only": whole[:60], "cut": whole[:len(whole)-100], "magic": damage(0), "layout": damage(12), "model": damage(20),
		"table": damage(64 + 16), "an image's last byte": damage(len(whole) - 1), "an image": damage(len(whole) / 2),
	} {
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		m := openFile(t, path, o)
		if m.Info().Mapped {
			t.Errorf("%s: trusted", name)
		}
		if got := someScores(t, m); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: scores differ", name)
		}
		if again, err := os.ReadFile(file); err != nil || !reflect.DeepEqual(again, whole) {
			t.Errorf("%s: not written again (%v)", name, err)
		}
	}
	if left := glob(t, o.CacheDir, "*.part"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Whatever lies in a file of packed weights, opening does not fail, and what scores is right.
func FuzzPacked(f *testing.F) {
	path := tinyFile(f, gguf.F32)
	o := tinyOptions()
	o.CacheDir = f.TempDir()
	want := someScores(f, openFile(f, path, o))
	file := glob(f, o.CacheDir, "packed-*")[0]
	whole, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), uint32(1), uint32(0))
	f.Add(uint32(64+16), uint32(0x80), uint32(0))
	f.Add(uint32(70), uint32(0), uint32(5000))
	f.Fuzz(func(t *testing.T, at, flip, cut uint32) {
		b := append([]byte(nil), whole[:len(whole)-int(cut)%len(whole)]...)
		if len(b) > 0 {
			b[int(at)%len(b)] ^= byte(flip)
		}
		if err := os.WriteFile(file, b, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := Open(path, o)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		if !reflect.DeepEqual(someScores(t, m), want) {
			t.Fatal("damaged weights are trusted")
		}
	})
}

func TestDigestIsRememberedForThisVeryFile(t *testing.T) {
	path := tinyFile(t, gguf.F32)
	dir := t.TempDir()
	digest := func() string {
		f, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return fileDigest(f, dir)
	}
	want := digest()
	notes := glob(t, dir, "digest-*")
	if len(notes) != 1 {
		t.Fatalf("%v", notes)
	}
	line, err := os.ReadFile(notes[0])
	if err != nil || !strings.Contains(string(line), want) {
		t.Fatalf("%q, %v", line, err)
	}
	// A sound note of another digest shows whether it is asked.
	lie := strings.Repeat("0", 64)
	head, _, _ := strings.Cut(string(line), want)
	if err := os.WriteFile(notes[0], []byte(digestLine(head, lie)), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := digest(); got != lie {
		t.Errorf("not remembered: %s", got)
	}
	later := time.Now().Add(-time.Minute)
	if err := os.Chtimes(path, later, later); err != nil {
		t.Fatal(err)
	}
	if got := digest(); got != want {
		t.Errorf("a changed file keeps its digest")
	}
	if err := os.WriteFile(notes[0], []byte(strings.Replace(digestLine(head, want), want[:4], "beef", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := digest(); got != want {
		t.Errorf("a damaged note is trusted")
	}
	now := time.Now().Add(time.Second)
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	if digest(); string(must1(os.ReadFile(notes[0]))) == digestLine(head, want) {
		t.Error("the note was of the older time")
	}
}

func must1(b []byte, err error) []byte {
	must(err)
	return b
}

// TestAutoNumericsFollowTheMachineAndTheFile holds the choice for every level of both architectures, of which this machine has some.
func TestAutoNumericsFollowTheMachineAndTheFile(t *testing.T) {
	for level, want := range map[string]string{
		"generic": "f32", "avx2": "f32", "avx512": "f32", "avx512bf16": "bf16", "neon": "f32", "dotprod": "f32", "i8mmbf16": "bf16",
	} {
		if got := automatic(level, false); got != want {
			t.Errorf("%s, a file of Q4_1: %s, want %s", level, got, want)
		}
		if got := automatic(level, true); got != "int8" {
			t.Errorf("%s, a file of K-quants: %s, want int8", level, got)
		}
	}
	before := kernels.Level()
	defer func() { must(kernels.SetLevel(before)) }()
	for _, level := range kernels.Levels() {
		must(kernels.SetLevel(level))
		for typ, want := range map[gguf.Type]string{
			gguf.F32: automatic(level, false), gguf.Q4_1: automatic(level, false), gguf.Q8_0: automatic(level, false),
			gguf.Q4_K: "int8", gguf.Q5_K: "int8",
		} {
			o := tinyOptions()
			o.Numerics = "auto"
			if got := openFile(t, tinyFile(t, typ), o).Info().Numerics; got != want {
				t.Errorf("%s, %s: %s, want %s", level, typ, got, want)
			}
		}
	}
}

// 8-bit products, on the file's own weights where they are Q4_1, Q4_K, Q5_K and Q6_K, stay near float32. Measured: off by .024 of the scores' size.
func TestInt8TakesTheFilesOwnBlocks(t *testing.T) {
	for typ, form := range map[gguf.Type]string{gguf.Q4_1: "q4_1", gguf.Q4_K: "k", gguf.Q5_K: "k", gguf.Q8_0: "int8", gguf.F32: "int8"} {
		path := tinyFile(t, typ)
		o := tinyOptions()
		want := someScores(t, openFile(t, path, o))
		o.Numerics = "int8"
		m := openFile(t, path, o)
		if got, _ := kernels.Image(m.weights.layers[0].qkv); got != form {
			t.Errorf("%s is packed as %s, want %s", typ, got, form)
		}
		var off, spread float64
		for i, l := range someScores(t, m) {
			score := float64(want[i].Yes - want[i].No)
			d := float64(l.Yes-l.No) - score
			off, spread = off+d*d, spread+score*score
		}
		if ratio := math.Sqrt(off / spread); !(ratio < .075) {
			t.Errorf("%s: scores are off by %v of their size", typ, ratio)
		} else {
			t.Logf("%s: scores are off by %v of their size", typ, ratio)
		}
	}
}
