package llm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// realModel is SmolLM2-135M-Instruct, from CORASTREAM_LLM or where `make fetch` puts it.
func realModel(t testing.TB, change ...func(*Options)) *Model {
	t.Helper()
	path := os.Getenv("CORASTREAM_LLM")
	if path == "" {
		path = filepath.Join("..", "..", ".cache", "smollm2-135m-instruct-q4_1.gguf")
	}
	return openReal(t, path, "run `make fetch`, or set CORASTREAM_LLM", change...)
}

// openReal opens a model file, or skips and says how to get it.
func openReal(t testing.TB, path, get string, change ...func(*Options)) *Model {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no LLM file (%s): %v", get, err)
	}
	o := Default()
	o.Numerics = "f32"
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
	numbers(t)
	checkLogits(t, realModel(t), "reference-logits.json")
}

// Gemma's are those of transformers (made by .ci/reference/gemma.py --golden). Measured: 2e-5.
func TestGemmaLogitsEqualTransformers(t *testing.T) {
	numbers(t)
	path := os.Getenv("CORASTREAM_GEMMA")
	if path == "" {
		path = filepath.Join("..", "..", ".cache", "gemma-3-270m-q4_k_m.gguf")
	}
	checkLogits(t, openReal(t, path, "run `make fetch-gemma`, or set CORASTREAM_GEMMA"), "reference-gemma.json")
}

func checkLogits(t *testing.T, m *Model, file string) {
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Model   string `json:"model_sha256"`
		Prompts []struct {
			Prompt string
			Tokens []int32
			BOS    int32 // 0: none
			Spread float64
			Argmax int
			IDs    []int
			Logits []float64
		}
	}
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
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
		if p.BOS != 0 {
			p.Tokens = append([]int32{p.BOS}, p.Tokens...)
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
	numbers(t)
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

// The real model with `adapt: all` in its top layers equals the model with (alpha/r) P^T W_A^T merged into the weights of those
// layers, for 20 pairs; and `adapt: last` from the item cache equals reading the whole prompt. Measured: largest difference
// 3e-5 and 2e-5 on logits that the delta moves by units.
func TestRealDeltaEqualsDenseMerge(t *testing.T) {
	numbers(t)
	m := realModel(t)
	ps, ws := shortPairs(m, 4, 5, 16)
	p := project(m, 16, corastream.AdaptAll, 28, allTargets, 1)
	ctx := context.Background()
	got, err := m.Score(ctx, ps, ws, p)
	if err != nil {
		t.Fatal(err)
	}
	base, err := m.Score(ctx, ps, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	frozen := slices.Clone(m.weights.layers)
	var worst, moved float64
	for i := range ps {
		m.weights.layers = mergedLayers(t, m, frozen, ws[i], p)
		ts, err := m.prompts.render(ps[i])
		if err != nil {
			t.Fatal(err)
		}
		out := make([]corastream.Logits, 1)
		if err := m.scoreWhole(ctx, []tokens{ts}, []int{0}, nil, out); err != nil {
			t.Fatal(err)
		}
		m.weights.layers = frozen
		worst = max(worst, math.Abs(float64(got[i].Yes-out[0].Yes)), math.Abs(float64(got[i].No-out[0].No)))
		moved = max(moved, math.Abs(float64(base[i].Yes-out[0].Yes)))
	}
	t.Logf("all: largest difference %.2g, the delta moves logits by up to %.2g", worst, moved)
	if worst > 1e-4 || moved < .1 {
		t.Errorf("adapt all: largest difference %g, moved %g", worst, moved)
	}

	p.Adapt = corastream.AdaptLast
	got, err = m.Score(ctx, ps, ws, p)
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.newDelta(len(ps), ws, p, false)
	if err != nil {
		t.Fatal(err)
	}
	ts, err := m.render(ps)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]corastream.Logits, len(ps))
	if err := m.scoreWhole(ctx, ts, ascending(len(ps)), d, out); err != nil {
		t.Fatal(err)
	}
	worst = 0
	for i := range out {
		worst = max(worst, math.Abs(float64(got[i].Yes-out[i].Yes)), math.Abs(float64(got[i].No-out[i].No)))
	}
	t.Logf("last: largest difference between cache and whole prompt %.2g", worst)
	if worst > 1e-4 {
		t.Errorf("adapt last: largest difference %g", worst)
	}
}

// shortPairs has n short titles for each user, the same ones for all: the generic kernels have to read them too.
func shortPairs(m *Model, n, users, rank int) ([]corastream.Prompt, []corastream.Weights) {
	ps, ws := realPairs(m, n, users, rank)
	titles := []string{"Rain", "Winter Light", "Silver", "The Captain", "Letters", "Whale Street", "Daughters", "Clockwork"}
	for i := range ps {
		ps[i].Title = titles[i%n%len(titles)]
	}
	return ps, ws
}

// mergedLayers adds (alpha/r) P^T W_A^T to the dense weights.
func mergedLayers(t *testing.T, m *Model, frozen []layer, w corastream.Weights, p *corastream.Projection) []layer {
	a := m.arch
	layers := slices.Clone(frozen)
	wa := make([]float32, len(w.User))
	w.Dense(wa)
	for l := p.LowestLayer(); l < a.layers; l++ {
		var d struct{ qkv, o, gateUp []float32 }
		for i, v := range []*[]float32{&d.qkv, &d.o, &d.gateUp} {
			var err error
			if *v, err = m.weights.dense(a.linears(l)[i]); err != nil {
				t.Fatal(err)
			}
		}
		add := func(target corastream.Target, dst []float32, first, out int) {
			v := p.P[corastream.Slot{Layer: l, Target: target}]
			col := make([]float32, p.Rank)
			for i := range out {
				for r := range col {
					col[r] = p.Scale() * v[r*out+i]
				}
				for k, row := range dst[(first+i)*a.hidden : (first+i+1)*a.hidden] {
					for r, x := range wa[k*p.Rank : (k+1)*p.Rank] {
						row += col[r] * x
					}
					dst[(first+i)*a.hidden+k] = row
				}
			}
		}
		add(corastream.TargetQ, d.qkv, 0, a.qWidth())
		add(corastream.TargetK, d.qkv, a.qWidth(), a.kvWidth())
		add(corastream.TargetV, d.qkv, a.qWidth()+a.kvWidth(), a.kvWidth())
		add(corastream.TargetO, d.o, 0, a.hidden)
		add(corastream.TargetGate, d.gateUp, 0, a.ffn)
		add(corastream.TargetUp, d.gateUp, a.ffn, a.ffn)
		layers[l].qkv = kernels.PackF32(d.qkv, a.qkvWidth(), a.hidden)
		layers[l].o = kernels.PackF32(d.o, a.hidden, a.qWidth())
		layers[l].gateUp = kernels.PackF32(d.gateUp, 2*a.ffn, a.hidden)
	}
	return layers
}

// bf16 shifts and scatters the score of a real prompt by little. Measured: mean .003, standard deviation .012 on scores that
// spread over 1.1.
func TestBF16StaysNearF32(t *testing.T) {
	numbers(t)
	exact, fast := realModel(t), realModel(t, func(o *Options) { o.Numerics = "bf16" })
	ps, ws := shortPairs(exact, 8, 5, 16)
	p := project(exact, 16, corastream.AdaptLast, 26, attention, 1)
	a, err1 := exact.Score(context.Background(), ps, ws, p)
	b, err2 := fast.Score(context.Background(), ps, ws, p)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	var sum, sum2, lo, hi float64
	for i := range a {
		z := float64(a[i].Yes - a[i].No)
		lo, hi = min(lo, z), max(hi, z)
		e := float64(b[i].Yes-b[i].No) - z
		sum, sum2 = sum+e, sum2+e*e
	}
	n := float64(len(a))
	mean := sum / n
	sd := math.Sqrt(sum2/n - mean*mean)
	t.Logf("bf16 - f32: mean %.4f, standard deviation %.4f; scores from %.2f to %.2f", mean, sd, lo, hi)
	if math.Abs(mean) > .03 || sd > .03 {
		t.Errorf("bf16 - f32: mean %g, standard deviation %g", mean, sd)
	}
	if f, g := exact.Info(), fast.Info(); g.WeightsMiB*2 > f.WeightsMiB+2 {
		t.Errorf("bf16 weights take %d MiB, f32 %d", g.WeightsMiB, f.WeightsMiB)
	}
}

// What is stored of an item must not depend on what it is read with, on the real model and on every kernel level as on tiny ones.
func TestRealEncodeAloneEqualsEncodeTogether(t *testing.T) {
	numbers(t)
	together, alone := realModel(t), realModel(t, func(o *Options) { o.Threads = 1 })
	var items []corastream.Item
	for _, title := range []string{"The Rain", "The Rains of Winter", "The", "Silver", "The Rain"} {
		items = append(items, corastream.Item{Title: title})
	}
	want := encode(t, together, items)
	for i := range items {
		if got := encode(t, alone, items[i:i+1])[0]; !reflect.DeepEqual(got, want[i]) {
			t.Errorf("states of %q differ", items[i].Title)
		}
	}
	a, b := together.CacheStats().ForwardTokens, alone.CacheStats().ForwardTokens
	if a >= b {
		t.Errorf("%d tokens together, %d alone: nothing was shared", a, b)
	}
}
