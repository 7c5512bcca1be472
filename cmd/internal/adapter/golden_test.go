package adapter

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/testkit"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// goldenExports were loaded by transformers with PEFT and by llama.cpp (.ci/reference/export.py --golden), which gave the
// logits in export.json. Models and adapters come from a formula, so that their bytes are the same everywhere.
var goldenExports = []struct {
	name, arch string
	adapt      corastream.Adapt
	lowest     int // layer
}{
	{"llama-all", "llama", corastream.AdaptAll, 0},
	{"qwen2-all", "qwen2", corastream.AdaptAll, 0},
	{"llama-last", "llama", corastream.AdaptLast, 1},
	{"llama-suffix", "llama", corastream.AdaptSuffix, 1},
}

// The shape of the golden models. Heads of 8, and fewer of k than of q, show a wrong order of rows.
const (
	goldenLayers, goldenHidden, goldenHeads, goldenKV, goldenDim, goldenFF = 3, 32, 4, 2, 8, 40
	goldenRank                                                             = 3
)

// lcg gives exact float32 values in (-scale, scale), scale a power of two: .ci/reference/tiny.py has the same formula.
func lcg(seed uint32, n int, mean, scale float32) []float32 {
	v, s := make([]float32, n), seed
	for i := range v {
		s = 1664525*s + 1013904223
		v[i] = scale*(float32(s>>8)/(1<<23)-1) + mean
	}
	return v
}

// goldenModel writes the model of a case.
func goldenModel(t *testing.T, arch, path string) {
	t.Helper()
	w := &gguf.Writer{}
	set := func(key string, v any) {
		t.Helper()
		if err := w.Set(key, v); err != nil {
			t.Fatal(err)
		}
	}
	set("general.architecture", arch)
	for _, k := range []struct {
		name  string
		value uint32
	}{
		{"block_count", goldenLayers},
		{"context_length", 256},
		{"embedding_length", goldenHidden},
		{"feed_forward_length", goldenFF},
		{"attention.head_count", goldenHeads},
		{"attention.head_count_kv", goldenKV},
		{"rope.dimension_count", goldenDim},
	} {
		set(arch+"."+k.name, k.value)
	}
	set(arch+".attention.layer_norm_rms_epsilon", float32(1e-5))
	set(arch+".rope.freq_base", float32(500))
	words := testkit.ByteVocabulary()
	types := make([]int32, len(words))
	for i := range types {
		types[i] = 1
	}
	types[len(types)-1] = 3
	set("tokenizer.ggml.model", "gpt2")
	set("tokenizer.ggml.pre", "gpt-2")
	set("tokenizer.ggml.tokens", words)
	set("tokenizer.ggml.token_type", types)
	set("tokenizer.ggml.merges", []string{"Y e", "Ye s", "\u0120 Yes", "N o", "\u0120 No"})
	set("tokenizer.ggml.bos_token_id", uint32(len(words)-1))
	set("tokenizer.ggml.eos_token_id", uint32(len(words)-1))
	seed := uint32(0)
	add := func(name string, mean, scale float32, dims ...int) {
		t.Helper()
		seed++
		n := 1
		for _, d := range dims {
			n *= d
		}
		if err := w.Add(name, gguf.F32, dims, lcg(seed, n, mean, scale)); err != nil {
			t.Fatal(err)
		}
	}
	q, k, h, f := goldenHeads*goldenDim, goldenKV*goldenDim, goldenHidden, goldenFF
	add("token_embd.weight", 0, 1, h, len(words))
	add("output_norm.weight", 1, .25, h)
	for l := range goldenLayers {
		b := "blk." + string(rune('0'+l)) + "."
		add(b+"attn_norm.weight", 1, .25, h)
		add(b+"attn_q.weight", 0, .5, h, q)
		add(b+"attn_k.weight", 0, .5, h, k)
		add(b+"attn_v.weight", 0, .5, h, k)
		add(b+"attn_output.weight", 0, .25, q, h)
		if arch == "qwen2" {
			add(b+"attn_q.bias", 0, .5, q)
			add(b+"attn_k.bias", 0, .5, k)
			add(b+"attn_v.bias", 0, .5, k)
		}
		add(b+"ffn_norm.weight", 1, .25, h)
		add(b+"ffn_gate.weight", 0, .5, h, f)
		add(b+"ffn_up.weight", 0, .5, h, f)
		add(b+"ffn_down.weight", 0, .25, f, h)
	}
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
}

// goldenWeights are the pair's W_A, with an item's column, and P of all six targets.
func goldenWeights(m *llm.Model, adapt corastream.Adapt, lowest int) (corastream.Weights, *corastream.Projection) {
	n := goldenHidden * goldenRank
	w := corastream.Weights{Hidden: goldenHidden, Rank: goldenRank, User: lcg(101, n, 0, .25), Item: lcg(102, n, 0, .25), ItemScale: .5, Generator: "golden"}
	p := &corastream.Projection{Rank: goldenRank, Alpha: 2 * goldenRank, Adapt: adapt, P: map[corastream.Slot][]float32{}}
	seed := uint32(200)
	for l := lowest; l < goldenLayers; l++ {
		for _, t := range []corastream.Target{"q", "k", "v", "o", "gate", "up"} {
			seed++
			p.P[corastream.Slot{Layer: l, Target: t}] = lcg(seed, goldenRank*m.TargetWidths()[t][1], 0, .125)
		}
	}
	return w, p
}

// goldenExport is a line of export.json.
type goldenExport struct {
	Files   map[string]string     // name -> SHA-256
	Logits  map[string][2]float64 // "peft", "llama.cpp" -> [Yes, No] as they found them
	Spread  float64               // standard deviation of the row of logits
	Without float64               `json:"without_adapter"` // Yes - No of the base model
}

// TestExportsScoreElsewhereAsHere holds files and score to what two independent implementations made of these very
// files. CORASTREAM_EXPORT_OUT=DIR writes the cases there for them.
func TestExportsScoreElsewhereAsHere(t *testing.T) {
	var golden map[string]goldenExport
	out := os.Getenv("CORASTREAM_EXPORT_OUT")
	if b, err := os.ReadFile(filepath.Join("testdata", "export.json")); err == nil {
		if err := json.Unmarshal(b, &golden); err != nil {
			t.Fatal(err)
		}
	} else if out == "" {
		t.Fatal(err)
	}
	for _, c := range goldenExports {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if out != "" {
				dir = filepath.Join(out, c.name)
				if err := os.MkdirAll(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			model := filepath.Join(dir, "model.gguf")
			goldenModel(t, c.arch, model)
			o := llm.Default()
			o.Numerics, o.Threads, o.TopLayers, o.ReadLayer, o.ContextTokens = "f32", 1, 1, 1, 200
			m, err := llm.Open(model, o)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			w, p := goldenWeights(m, c.adapt, c.lowest)
			prompt := corastream.Prompt{Title: "The Heron: a Comedy (1974)"} // a colon before the answer mark's
			reading, err := m.Render(prompt)
			if err != nil {
				t.Fatal(err)
			}
			logits, err := m.Score(t.Context(), []corastream.Prompt{prompt}, []corastream.Weights{w}, p)
			if err != nil {
				t.Fatal(err)
			}
			n := Note{
				User: "u", Item: "i", Part: "pair", Adapt: c.adapt, Rank: p.Rank, Alpha: p.Alpha, Activate: invocation(c.adapt, "pair", reading),
				Check: &reference{Prompt: reading.Text, Tokens: reading.Tokens, YesID: reading.Yes, NoID: reading.No, Yes: logits[0].Yes, No: logits[0].No, P: logits[0].P(), Numbers: "f32"},
			}
			files, err := n.files(&generator.Adapter{Weights: w, Projection: p, Base: "golden", Invocation: n.Activate}, m.Info(), true)
			if err != nil {
				t.Fatal(err)
			}
			if out != "" {
				for name, b := range files {
					if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
						t.Fatal(err)
					}
				}
				return
			}
			want, ok := golden[c.name]
			if !ok || len(want.Logits) != 2 || len(want.Files) != 3 || want.Spread <= 0 {
				t.Fatalf("the golden file has %+v", want)
			}
			for name, sum := range want.Files {
				if got := sha256.Sum256(files[name]); hex.EncodeToString(got[:]) != sum {
					t.Errorf("%s is not the file that the references loaded", name)
				}
			}
			// Measured: 5e-6 of the spread at most.
			own := float64(logits[0].Yes) - float64(logits[0].No)
			for who, l := range want.Logits {
				if off := math.Abs(own - (l[0] - l[1])); !(off <= 1e-4*want.Spread) {
					t.Errorf("%s finds Yes - No = %v, here is %v: off by %.1e of the spread %v", who, l[0]-l[1], own, off/want.Spread, want.Spread)
				}
			}
			if math.Abs(own-want.Without) < .01*want.Spread {
				t.Errorf("the adapter changes nothing: %v with it, %v without", own, want.Without)
			}
		})
	}
}
