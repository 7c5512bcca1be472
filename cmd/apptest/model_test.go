//go:build app

package apptest

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/cmd/internal/testkit"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// A tiny random LLM stands where a test is about the wiring around an LLM: files, digests, caches, journal lines. It is a
// real GGUF, read and run by the same code as any other.
const (
	tinyLayers, tinyHidden, tinyHeads, tinyDim, tinyFF = 5, 48, 6, 8, 40
	tinyContent                                        = 8
)

// tinyConfig goes with it.
func tinyConfig(llm, checkpoint string) string {
	return "llm: {file: " + llm + ", context_tokens: 200, threads: 1}\ncf: {kind: hybrid, content: 8}\n" +
		"checkpoint: \"" + checkpoint + "\"\n"
}

// tinyLLM writes the file; another seed is another model.
func tinyLLM(t *testing.T, seed uint64) string {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 31))
	w := &gguf.Writer{}
	set := func(k string, v any) {
		if err := w.Set(k, v); err != nil {
			t.Fatal(err)
		}
	}
	set("general.architecture", "llama")
	for k, v := range map[string]uint32{
		"block_count": tinyLayers, "embedding_length": tinyHidden, "feed_forward_length": tinyFF, "context_length": 256,
		"attention.head_count": tinyHeads, "attention.head_count_kv": tinyHeads / 2, "attention.key_length": tinyDim,
		"attention.value_length": tinyDim,
	} {
		set("llama."+k, v)
	}
	set("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	set("llama.rope.freq_base", float32(10000))
	vocabulary := testkit.ByteVocabulary()
	types := make([]int32, len(vocabulary))
	for i := range types {
		types[i] = 1
	}
	types[len(types)-1] = 3 // the control token
	set("tokenizer.ggml.model", "gpt2")
	set("tokenizer.ggml.pre", "gpt-2")
	set("tokenizer.ggml.tokens", vocabulary)
	set("tokenizer.ggml.token_type", types)
	set("tokenizer.ggml.merges", []string{"Y e", "Ye s", "\u0120 Yes", "N o", "\u0120 No"})
	set("tokenizer.ggml.bos_token_id", uint32(len(vocabulary)-1))
	add := func(name string, mean, spread float64, dims ...int) {
		n := 1
		for _, d := range dims {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(mean + spread*r.NormFloat64())
		}
		if err := w.Add(name, gguf.F32, dims, v); err != nil {
			t.Fatal(err)
		}
	}
	add("token_embd.weight", 0, 1, tinyHidden, len(vocabulary))
	add("output_norm.weight", 1, .1, tinyHidden)
	thin, wide := 1/math.Sqrt(tinyHidden), 1/math.Sqrt(tinyFF)
	for l := range tinyLayers {
		at := func(name string) string { return "blk." + string(rune('0'+l)) + "." + name + ".weight" }
		add(at("attn_norm"), 1, .1, tinyHidden)
		add(at("ffn_norm"), 1, .1, tinyHidden)
		add(at("attn_q"), 0, thin, tinyHidden, tinyHeads*tinyDim)
		add(at("attn_k"), 0, thin, tinyHidden, tinyHeads/2*tinyDim)
		add(at("attn_v"), 0, thin, tinyHidden, tinyHeads/2*tinyDim)
		add(at("attn_output"), 0, thin, tinyHeads*tinyDim, tinyHidden)
		add(at("ffn_gate"), 0, thin, tinyHidden, tinyFF)
		add(at("ffn_up"), 0, thin, tinyHidden, tinyFF)
		add(at("ffn_down"), 0, wide, tinyFF, tinyHidden)
	}
	path := filepath.Join(t.TempDir(), "tiny.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// untrained writes a checkpoint for the configured LLM and CF with random weights, whose basis is fitted to the first
// items of the test catalogue. change may spoil what it says it was made for.
func untrained(t *testing.T, config string, items int, change func(*generator.Checkpoint)) string {
	t.Helper()
	cfg, err := node.Load(config)
	if err != nil {
		t.Fatal(err)
	}
	m, err := llm.Open(cfg.LLM.File, cfg.LLM.Options)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var list []corastream.Item
	for i := range items {
		list = append(list, corastream.Item{ID: "i", Title: title(i)})
	}
	states, err := m.Encode(t.Context(), list)
	if err != nil {
		t.Fatal(err)
	}
	w := node.Requirements(m, cfg.CF)
	ck := &generator.Checkpoint{Made: generator.Made{LLM: w.LLM, Template: w.Template, CF: w.CF, Layers: w.Layers}}
	if ck.Basis, err = generator.FitBasis(states, cfg.CF.Content); err != nil {
		t.Fatal(err)
	}
	var contents [][]float32
	for _, s := range states {
		c, err := ck.Basis.Content(s)
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, c)
	}
	if ck.Catalogue, err = generator.CatalogueOf(contents); err != nil {
		t.Fatal(err)
	}
	spec := generator.DefaultSpec()
	spec.Hidden, spec.Width = w.Hidden, 8
	spec.Factors, spec.Taste = cfg.CF.Widths()
	if ck.Model, err = generator.NewModel(spec, 5); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(9, 9))
	ck.Projection = &corastream.Projection{Rank: spec.Rank, Alpha: spec.Alpha, Adapt: spec.Adapt, P: map[corastream.Slot][]float32{}}
	for _, slot := range spec.Slots(w.Layers) {
		p := make([]float32, spec.Rank*w.Out[slot.Target])
		for i := range p {
			p[i] = float32(.05 * r.NormFloat64())
		}
		ck.Projection.P[slot] = p
	}
	if change != nil {
		change(ck)
	}
	if err := ck.Round(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "test.safetensors")
	if err := ck.Save(path); err != nil {
		t.Fatal(err)
	}
	return path
}
