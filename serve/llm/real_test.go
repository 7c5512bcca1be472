package llm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// realModel is SmolLM2-135M-Instruct, from CORASTREAM_LLM or where `make fetch` puts it.
func realModel(t testing.TB, change ...func(*Options)) *Model {
	t.Helper()
	path := os.Getenv("CORASTREAM_LLM")
	if path == "" {
		path = filepath.Join("..", "..", ".cache", "smollm2-135m-instruct-q4_1.gguf")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no LLM file (run `make fetch`, or set CORASTREAM_LLM): %v", err)
	}
	o := Default()
	for _, c := range change {
		c(&o)
	}
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

// The last-position logits are those of llama.cpp, from five prompts of our own (made by .ci/reference/logits.py --golden).
// Measured: largest difference 2e-5 of the row's standard deviation.
func TestLogitsEqualLlamaCpp(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "reference-logits.json"))
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Model   string `json:"model_sha256"`
		Prompts []struct {
			Prompt string
			Tokens []int32
			Spread float64
			Argmax int
			IDs    []int
			Logits []float64
		}
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	m := realModel(t)
	if m.Digest() != golden.Model {
		t.Skipf("the golden logits are of another model file (%s)", golden.Model)
	}
	if len(golden.Prompts) < 5 {
		t.Fatalf("%d golden prompts", len(golden.Prompts))
	}
	worst := 0.0
	for _, p := range golden.Prompts {
		if ids := m.prompts.tok.Encode(p.Prompt); !slices.Equal(ids, p.Tokens) {
			t.Errorf("%q is tokenised as %v, want %v", p.Prompt, ids, p.Tokens)
		}
		got, err := m.Logits(context.Background(), p.Tokens)
		if err != nil {
			t.Fatal(err)
		}
		top := 0
		for i, v := range got {
			if v > got[top] {
				top = i
			}
		}
		if top != p.Argmax || len(p.IDs) < 50 {
			t.Errorf("%q: the best of %d is %d, want %d", p.Prompt, len(p.IDs), top, p.Argmax)
		}
		for i, id := range p.IDs {
			worst = max(worst, math.Abs(float64(got[id])-p.Logits[i])/p.Spread)
		}
	}
	t.Logf("largest difference %.2g of the spread", worst)
	if worst > 1e-4 {
		t.Errorf("largest difference %g of the spread", worst)
	}
}

// CORASTREAM_REFERENCE names a folder with logits-f32.bin, made by .ci/reference/logits.py from llama.cpp: 50 real prompts.
func TestRealLogitsEqualLlamaCpp(t *testing.T) {
	dir := os.Getenv("CORASTREAM_REFERENCE")
	if dir == "" {
		t.Skip("set CORASTREAM_REFERENCE to the folder made by .ci/reference/logits.py")
	}
	b, err := os.ReadFile(filepath.Join(dir, "logits-f32.bin"))
	if err != nil {
		t.Fatal(err)
	}
	m := realModel(t)
	u32 := func() uint32 { v := binary.LittleEndian.Uint32(b); b = b[4:]; return v }
	b = b[8:]
	worst := 0.0
	n, vocab := int(u32()), int(u32())
	for range n {
		ids := make([]int32, u32())
		for i := range ids {
			ids[i] = int32(u32())
		}
		got, err := m.Logits(context.Background(), ids)
		if err != nil {
			t.Fatal(err)
		}
		var diff, sum, sum2 float64
		for _, g := range got {
			w := float64(math.Float32frombits(u32()))
			diff = max(diff, math.Abs(float64(g)-w))
			sum, sum2 = sum+w, sum2+w*w
		}
		mean := sum / float64(vocab)
		worst = max(worst, diff/math.Sqrt(sum2/float64(vocab)-mean*mean))
	}
	t.Logf("%d prompts: largest difference %.2g standard deviations of the row", n, worst)
	if n < 50 || worst > 1e-3 {
		t.Errorf("%d prompts, largest difference %g of the spread", n, worst)
	}
}
