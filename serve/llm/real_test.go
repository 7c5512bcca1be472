package llm

import (
	"context"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
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
