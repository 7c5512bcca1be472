package llm

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// shape of a tiny random model.
type shape struct {
	arch                               string
	layers, hidden, heads, kv, dim, ff int
	tied, biased                       bool
}

// numbers marks a test of figures alone: what runs at the same time is tested elsewhere.
func numbers(t *testing.T) {
	if underRace {
		t.Skip("a test of figures, too slow under the race detector")
	}
}

var (
	tinyLlama = shape{"llama", 5, 48, 6, 2, 8, 40, true, false}
	tinyQwen  = shape{"qwen2", 4, 32, 4, 2, 8, 72, false, false}
	// tinyWide has an o-projection whose input is not hidden wide.
	tinyWide = shape{"llama", 3, 32, 4, 4, 16, 40, true, false}
	// tinyGemma sees windows of 5 tokens in two of three layers; tinyGemmaWide's o can not be adapted.
	tinyGemma     = shape{"gemma3", 4, 48, 6, 2, 8, 40, true, false}
	tinyGemmaWide = shape{"gemma3", 4, 32, 4, 1, 16, 40, true, false}
	tinyQwen3     = shape{"qwen3", 3, 32, 4, 2, 8, 40, false, false}
	// tinyBiased has biases where other families have none, and in some layers alone.
	tinyBiased = shape{arch: "llama", layers: 4, hidden: 48, heads: 6, kv: 2, dim: 8, ff: 40, tied: true, biased: true}
)

// biasedLinears are the linears of each layer of tinyBiased that have a bias.
var biasedLinears = [][]string{{}, {"attn_k", "attn_output"}, {"attn_q", "ffn_gate", "ffn_down"}, {"attn_v", "ffn_up"}}

// words is a byte-level vocabulary with " Yes" and " No".
func words(w *gguf.Writer) (vocab int) {
	var tokens []string
	next := 0x100
	for b := range 256 {
		r := rune(b)
		if !(r >= '!' && r <= '~' || r >= 0xa1 && r <= 0xac || r >= 0xae) {
			r = rune(next)
			next++
		}
		tokens = append(tokens, string(r))
	}
	tokens = append(tokens, "Ye", "Yes", "\u0120Yes", "No", "\u0120No", "<|bos|>")
	types := make([]int32, len(tokens))
	for i := range types {
		types[i] = 1
	}
	types[len(types)-1] = 3
	must(w.Set("tokenizer.ggml.model", "gpt2"))
	must(w.Set("tokenizer.ggml.pre", "gpt-2"))
	must(w.Set("tokenizer.ggml.tokens", tokens))
	must(w.Set("tokenizer.ggml.token_type", types))
	must(w.Set("tokenizer.ggml.merges", []string{"Y e", "Ye s", "\u0120 Yes", "N o", "\u0120 No"}))
	must(w.Set("tokenizer.ggml.bos_token_id", uint32(len(tokens)-1)))
	must(w.Set("tokenizer.ggml.add_bos_token", true))
	return len(tokens)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// write makes the file of a random model.
func (s shape) write(seed uint64) *gguf.Writer { return s.writeAs(seed, gguf.F32) }

// writeAs makes the same with linears of another type.
func (s shape) writeAs(seed uint64, typ gguf.Type) *gguf.Writer { return s.writeWith(seed, typ, nil) }

// writeWith makes the same with other values of some of the architecture's keys.
func (s shape) writeWith(seed uint64, typ gguf.Type, keys map[string]any) *gguf.Writer {
	rng := rand.New(rand.NewPCG(seed, 7))
	w := &gguf.Writer{}
	key := func(k string, v any) {
		if other, ok := keys[k]; ok {
			v = other
		}
		must(w.Set(s.arch+"."+k, v))
	}
	must(w.Set("general.architecture", s.arch))
	key("block_count", uint32(s.layers))
	key("embedding_length", uint32(s.hidden))
	key("feed_forward_length", uint32(s.ff))
	key("context_length", uint32(256))
	key("attention.head_count", uint32(s.heads))
	key("attention.head_count_kv", uint32(s.kv))
	key("attention.key_length", uint32(s.dim))
	key("attention.value_length", uint32(s.dim))
	key("attention.layer_norm_rms_epsilon", float32(1e-5))
	key("rope.freq_base", float32(500))
	if s.arch == "gemma3" {
		key("attention.sliding_window", uint32(5))
		key("attention.sliding_window_pattern", uint32(3))
		key("rope.freq_base_swa", float32(300))
		key("final_logit_softcapping", float32(0))
	}
	vocab := words(w)
	add := func(name string, mean, sd float64, dims ...int) {
		n := 1
		for _, d := range dims {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(mean + sd*rng.NormFloat64())
		}
		as := gguf.F32
		if strings.HasPrefix(name, "blk.") && len(dims) == 2 {
			as = typ
		}
		if k := typ == gguf.Q4_K || typ == gguf.Q5_K; k && (as == typ || name == "token_embd.weight") {
			addK(w, rng, name, dims, typ)
			return
		}
		must(w.Add(name, as, dims, v))
	}
	sd := func(in int) float64 { return 1 / math.Sqrt(float64(in)) }
	add("token_embd.weight", 0, 1, s.hidden, vocab)
	add("output_norm.weight", 1, .1, s.hidden)
	if !s.tied {
		add("output.weight", 0, 1, s.hidden, vocab)
	}
	if s.arch == "llama" { // Llama 3's frequency factors
		add("rope_freqs.weight", 2, .1, s.dim/2)
	}
	for l := range s.layers {
		add(name(l, "attn_norm.weight"), 1, .1, s.hidden)
		add(name(l, "ffn_norm.weight"), 1, .1, s.hidden)
		add(name(l, "attn_q.weight"), 0, 2*sd(s.hidden), s.hidden, s.heads*s.dim)
		add(name(l, "attn_k.weight"), 0, 2*sd(s.hidden), s.hidden, s.kv*s.dim)
		add(name(l, "attn_v.weight"), 0, sd(s.hidden), s.hidden, s.kv*s.dim)
		add(name(l, "attn_output.weight"), 0, sd(s.heads*s.dim), s.heads*s.dim, s.hidden)
		add(name(l, "ffn_gate.weight"), 0, sd(s.hidden), s.hidden, s.ff)
		add(name(l, "ffn_up.weight"), 0, sd(s.hidden), s.hidden, s.ff)
		add(name(l, "ffn_down.weight"), 0, sd(s.ff), s.ff, s.hidden)
		if s.arch == "gemma3" || s.arch == "qwen3" {
			add(name(l, "attn_q_norm.weight"), 1, .3, s.dim)
			add(name(l, "attn_k_norm.weight"), 1, .3, s.dim)
		}
		if s.arch == "gemma3" {
			add(name(l, "post_attention_norm.weight"), 1, .3, s.hidden)
			add(name(l, "post_ffw_norm.weight"), 1, .3, s.hidden)
		}
		if s.biased {
			widths := map[string]int{
				"attn_q": s.heads * s.dim, "attn_k": s.kv * s.dim, "attn_v": s.kv * s.dim, "attn_output": s.hidden,
				"ffn_gate": s.ff, "ffn_up": s.ff, "ffn_down": s.hidden,
			}
			for _, tensor := range biasedLinears[l] {
				add(name(l, tensor+".bias"), 0, .2, widths[tensor])
			}
		}
		if s.arch == "qwen2" {
			add(name(l, "attn_q.bias"), 0, .5, s.heads*s.dim)
			add(name(l, "attn_k.bias"), 0, .5, s.kv*s.dim)
			add(name(l, "attn_v.bias"), 0, .5, s.kv*s.dim)
		}
	}
	return w
}

// addK adds random blocks as a Q4_K_M or Q5_K_M file has them: Q6_K for v, down and the tokens, else typ, of weights of about .05.
func addK(w *gguf.Writer, rng *rand.Rand, name string, dims []int, typ gguf.Type) {
	if strings.Contains(name, "attn_v") || strings.Contains(name, "ffn_down") || strings.Contains(name, "token_embd") {
		typ = gguf.Q6_K
	}
	raw := make([]byte, dims[0]/typ.BlockSize()*dims[1]*typ.BlockBytes())
	for i := range raw {
		raw[i] = byte(rng.Uint32())
	}
	half := func(at int, bits uint16) { raw[at], raw[at+1] = byte(bits), byte(bits>>8) }
	for at := 0; at < len(raw); at += typ.BlockBytes() {
		if typ == gguf.Q6_K {
			half(at+208, 0x0280) // d = .00004
			continue
		}
		half(at, 0x0e00)   // d = .00037
		half(at+2, 0x19a0) // dmin = 7.5 d, so that weights are about zero on average
	}
	must(w.AddRaw(name, typ, dims, raw))
}

func tinyOptions() Options {
	o := Default()
	o.Numerics = "f32"
	o.Threads, o.TopLayers, o.ReadLayer, o.ContextTokens = 2, 2, 2, 200
	o.Template = Template{Item: "F {title}\n#A:", History: "L {history}\nF {title}\n#A:"} // short: every byte is a token
	return o
}

func (s shape) open(t testing.TB, change ...func(*Options)) *Model {
	t.Helper()
	o := tinyOptions()
	for _, c := range change {
		c(&o)
	}
	m, err := openTiny(t, s, o)
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

func openTiny(t testing.TB, s shape, o Options) (*Model, error) {
	f, err := gguf.Parse("tiny", s.write(1).Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return newModel(f, o)
}

func asUsage(err error, target **corastream.UsageError) bool { return errors.As(err, target) }

// pairs makes n prompts with weights: few users, some prompts shared, an item column with differing scales.
func pairs(m *Model, n, users, rank int, history bool, seed uint64) ([]corastream.Prompt, []corastream.Weights) {
	rng := rand.New(rand.NewPCG(seed, 3))
	matrix := func(sd float64) []float32 {
		v := make([]float32, m.arch.hidden*rank)
		for i := range v {
			v[i] = float32(sd * rng.NormFloat64())
		}
		return v
	}
	item := matrix(.1)
	user := make([][]float32, users)
	for i := range user {
		user[i] = matrix(.1)
	}
	titles := []string{"Alien", "Aliens 2", "M", "Ran", "Brazil 85", "Die Hard"}
	var ps []corastream.Prompt
	var ws []corastream.Weights
	for i := range n {
		u := rng.IntN(users)
		p := corastream.Prompt{ItemID: fmt.Sprint(i), Title: titles[rng.IntN(len(titles))]}
		if history {
			p.History = []string{titles[u], titles[(u+3)%len(titles)]}
		}
		ps = append(ps, p)
		ws = append(ws, corastream.Weights{Hidden: m.arch.hidden, Rank: rank, User: user[u], Item: item, ItemScale: float32(rng.NormFloat64())})
	}
	return ps, ws
}

// takes leaves out the targets that the model can not adapt.
func (m *Model) takes(targets []corastream.Target) (out []corastream.Target) {
	for _, t := range targets {
		if _, ok := m.TargetWidths()[t]; ok {
			out = append(out, t)
		}
	}
	return out
}

var allTargets = []corastream.Target{corastream.TargetQ, corastream.TargetK, corastream.TargetV, corastream.TargetO, corastream.TargetGate, corastream.TargetUp}

// project makes a random P for the given layers and targets.
func project(m *Model, rank int, adapt corastream.Adapt, lowest int, targets []corastream.Target, seed uint64) *corastream.Projection {
	rng := rand.New(rand.NewPCG(seed, 5))
	p := &corastream.Projection{Rank: rank, Alpha: float32(2 * rank), Adapt: adapt, P: map[corastream.Slot][]float32{}}
	for l := lowest; l < m.arch.layers; l++ {
		for _, t := range m.takes(targets) {
			v := make([]float32, rank*m.TargetWidths()[t][1])
			for i := range v {
				v[i] = float32(.2 * rng.NormFloat64())
			}
			p.P[corastream.Slot{Layer: l, Target: t}] = v
		}
	}
	return p
}
