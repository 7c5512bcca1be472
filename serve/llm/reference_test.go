package llm_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// tinyCase is a model of testdata/reference-tiny.json, made by .ci/reference/tiny.py with llama.cpp (Gemma 3: with transformers).
type tinyCase struct {
	Name, Arch                         string
	Layers, Hidden, Heads, KV, Dim, FF int
	Tied, Freqs                        bool
	Linear                             float32
	Biases                             [][]string // of each layer; nil: those that the architecture has
	Prompts                            []struct {
		Tokens []int32
		Logits string // base64 of float32 [vocabulary]
	}
}

// tinyTolerance is 3 times the largest difference measured, 8e-6 of the row's standard deviation (AVX-512; 60 tokens).
const tinyTolerance = 2.5e-5

// Every architecture and variant gives the reference's logits, at one token, a few and sixty.
func TestTinyModelsEqualTheReference(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "reference-tiny.json"))
	if err != nil {
		t.Fatal(err)
	}
	var golden struct{ Cases []tinyCase }
	if err := json.Unmarshal(b, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden.Cases) < 7 {
		t.Fatalf("%d cases", len(golden.Cases))
	}
	for _, c := range golden.Cases {
		t.Run(c.Name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tiny.gguf")
			if err := c.file(t).WriteFile(path); err != nil {
				t.Fatal(err)
			}
			o := llm.Default()
			o.Numerics = "f32"
			o.Threads, o.TopLayers, o.ReadLayer, o.ContextTokens = 1, 1, 1, 200
			o.Template = llm.Template{Item: "F {title}\n#A:", History: "L {history}\nF {title}\n#A:"}
			m, err := llm.Open(path, o)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			for _, p := range c.Prompts {
				got, err := m.Logits(context.Background(), p.Tokens)
				if err != nil {
					t.Fatal(err)
				}
				raw, err := base64.StdEncoding.DecodeString(p.Logits)
				if err != nil || len(raw) != 4*len(got) {
					t.Fatalf("%d bytes of golden logits for %d: %v", len(raw), len(got), err)
				}
				var sum, squares, worst float64
				for i, x := range got {
					want := float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
					sum, squares = sum+want, squares+want*want
					worst = max(worst, math.Abs(float64(x)-want))
				}
				mean := sum / float64(len(got))
				sd := math.Sqrt(squares/float64(len(got)) - mean*mean)
				if !(worst <= tinyTolerance*sd) {
					t.Errorf("%d tokens: off by %v, %.1e of the standard deviation", len(p.Tokens), worst, worst/sd)
				}
			}
		})
	}
}

// file writes the model whose weights the formula of tiny.py gives.
func (c tinyCase) file(t *testing.T) *gguf.Writer {
	t.Helper()
	w := &gguf.Writer{}
	set := func(key string, v any) {
		t.Helper()
		if err := w.Set(key, v); err != nil {
			t.Fatal(err)
		}
	}
	set("general.architecture", c.Arch)
	for key, v := range map[string]any{
		"block_count": uint32(c.Layers), "context_length": uint32(256), "embedding_length": uint32(c.Hidden),
		"feed_forward_length": uint32(c.FF), "attention.head_count": uint32(c.Heads), "attention.head_count_kv": uint32(c.KV),
		"attention.key_length": uint32(c.Dim), "attention.value_length": uint32(c.Dim), "rope.dimension_count": uint32(c.Dim),
		"attention.layer_norm_rms_epsilon": float32(1e-5), "rope.freq_base": float32(500),
	} {
		set(c.Arch+"."+key, v)
	}
	if c.Linear != 1 {
		set(c.Arch+".rope.scaling.type", "linear")
		set(c.Arch+".rope.scaling.factor", c.Linear)
	}
	if c.Arch == "gemma3" {
		set("gemma3.attention.sliding_window", uint32(7))
		set("gemma3.attention.sliding_window_pattern", uint32(3))
	}
	var tokens []string
	for b, next := rune(0), rune(0x100); b < 256; b++ {
		r := b
		if !(r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae) {
			r = next
			next++
		}
		tokens = append(tokens, string(r))
	}
	merges := []string{"Y e", "Ye s", "Ġ Yes", "N o", "Ġ No"}
	for _, m := range merges {
		tokens = append(tokens, strings.Replace(m, " ", "", 1))
	}
	set("tokenizer.ggml.model", "gpt2")
	set("tokenizer.ggml.pre", "gpt-2")
	set("tokenizer.ggml.tokens", append(tokens, "<|bos|>"))
	set("tokenizer.ggml.merges", merges)
	c.tensors(t, w, len(tokens)+1)
	return w
}

// biased lists the linears of layer i with a bias.
func (c tinyCase) biased(i int) []string {
	if c.Biases == nil {
		return nil
	}
	return c.Biases[i]
}

// tensors adds them in tiny.py's order, because a tensor's number is its seed.
func (c tinyCase) tensors(t *testing.T, w *gguf.Writer, vocab int) {
	seed := uint32(0)
	add := func(name string, mean, scale float32, dims ...int) {
		seed++
		n := 1
		for _, d := range dims {
			n *= d
		}
		values, s := make([]float32, n), seed
		for i := range values {
			s = 1664525*s + 1013904223
			values[i] = scale*(float32(s>>8)/(1<<23)-1) + mean
		}
		if err := w.Add(name, gguf.F32, dims, values); err != nil {
			t.Fatal(err)
		}
	}
	q, k, h, f := c.Heads*c.Dim, c.KV*c.Dim, c.Hidden, c.FF
	add("token_embd.weight", 0, 1, h, vocab)
	add("output_norm.weight", 1, .25, h)
	if !c.Tied {
		add("output.weight", 0, 1, h, vocab)
	}
	if c.Freqs {
		add("rope_freqs.weight", 2, 1, c.Dim/2)
	}
	for i := range c.Layers {
		b := "blk." + string(rune('0'+i)) + "."
		add(b+"attn_norm.weight", 1, .25, h)
		add(b+"attn_q.weight", 0, .5, h, q)
		add(b+"attn_k.weight", 0, .5, h, k)
		add(b+"attn_v.weight", 0, .5, h, k)
		add(b+"attn_output.weight", 0, .25, q, h)
		for _, linear := range c.biased(i) {
			add(b+linear+".bias", 0, .5, map[string]int{"attn_q": q, "attn_k": k, "attn_v": k, "attn_output": h, "ffn_gate": f, "ffn_up": f, "ffn_down": h}[linear])
		}
		if c.Arch == "qwen2" && c.Biases == nil {
			add(b+"attn_q.bias", 0, .5, q)
			add(b+"attn_k.bias", 0, .5, k)
			add(b+"attn_v.bias", 0, .5, k)
		}
		if c.Arch == "qwen3" || c.Arch == "gemma3" {
			add(b+"attn_q_norm.weight", 1, .25, c.Dim)
			add(b+"attn_k_norm.weight", 1, .25, c.Dim)
		}
		if c.Arch == "gemma3" {
			add(b+"post_attention_norm.weight", 1, .25, h)
			add(b+"post_ffw_norm.weight", 1, .25, h)
		}
		add(b+"ffn_norm.weight", 1, .25, h)
		add(b+"ffn_gate.weight", 0, .5, h, f)
		add(b+"ffn_up.weight", 0, .5, h, f)
		add(b+"ffn_down.weight", 0, .25, f, h)
	}
}
