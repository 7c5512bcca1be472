//go:build gpu

package gpucheck

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/corastream/corastream/serve/llm/gguf"
)

// modelShape is a Llama whose weights are drawn, so that gpu-check needs no file: speed does not depend on their values.
type modelShape struct{ layers, hidden, heads, kv, dim, ffn int }

// flops is what the linear layers take for some tokens.
func (s modelShape) flops(tokens int) float64 {
	perLayer := s.hidden*(2*s.heads+2*s.kv)*s.dim + 3*s.hidden*s.ffn
	return 2 * float64(tokens) * float64(s.layers) * float64(perLayer)
}

// write makes the file: a vocabulary of single bytes, weights in bfloat16.
func (s modelShape) write(path string) error {
	w := &gguf.Writer{}
	var errs []error
	set := func(key string, v any) { errs = append(errs, w.Set(key, v)) }
	set("general.architecture", "llama")
	for key, v := range map[string]int{
		"block_count": s.layers, "embedding_length": s.hidden, "feed_forward_length": s.ffn, "context_length": 2048,
		"attention.head_count": s.heads, "attention.head_count_kv": s.kv, "attention.key_length": s.dim, "attention.value_length": s.dim,
	} {
		set("llama."+key, uint32(v))
	}
	set("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	set("llama.rope.freq_base", float32(10000))
	vocab := gpuVocabulary(set)
	r := rand.New(rand.NewPCG(11, 12))
	add := func(name string, mean, sd float64, dims ...int) {
		n := 1
		for _, d := range dims {
			n *= d
		}
		if len(dims) == 1 {
			v := make([]float32, n)
			for i := range v {
				v[i] = float32(mean + sd*r.NormFloat64())
			}
			errs = append(errs, w.Add(name, gguf.F32, dims, v))
			return
		}
		raw := make([]byte, 2*n)
		for i := range n {
			binary.LittleEndian.PutUint16(raw[2*i:], uint16(math.Float32bits(float32(sd*r.NormFloat64()))>>16))
		}
		errs = append(errs, w.AddRaw(name, gguf.BF16, dims, raw))
	}
	sd := func(in int) float64 { return 1 / math.Sqrt(float64(in)) }
	add("token_embd.weight", 0, 1, s.hidden, vocab)
	add("output_norm.weight", 1, .1, s.hidden)
	for l := range s.layers {
		at := fmt.Sprintf("blk.%d.", l)
		add(at+"attn_norm.weight", 1, .1, s.hidden)
		add(at+"ffn_norm.weight", 1, .1, s.hidden)
		add(at+"attn_q.weight", 0, sd(s.hidden), s.hidden, s.heads*s.dim)
		add(at+"attn_k.weight", 0, sd(s.hidden), s.hidden, s.kv*s.dim)
		add(at+"attn_v.weight", 0, sd(s.hidden), s.hidden, s.kv*s.dim)
		add(at+"attn_output.weight", 0, sd(s.heads*s.dim), s.heads*s.dim, s.hidden)
		add(at+"ffn_gate.weight", 0, sd(s.hidden), s.hidden, s.ffn)
		add(at+"ffn_up.weight", 0, sd(s.hidden), s.hidden, s.ffn)
		add(at+"ffn_down.weight", 0, sd(s.ffn), s.ffn, s.hidden)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("random model: %w", err)
	}
	return w.WriteFile(path)
}

// gpuVocabulary is GPT-2's bytes with " Yes" and " No".
func gpuVocabulary(set func(string, any)) int {
	var tokens []string
	next := rune(0x100)
	for b := range 256 {
		c := rune(b)
		if !(c >= '!' && c <= '~' || c >= 0xa1 && c <= 0xac || c >= 0xae) {
			c = next
			next++
		}
		tokens = append(tokens, string(c))
	}
	tokens = append(tokens, "Ye", "Yes", "\u0120Yes", "No", "\u0120No")
	types := make([]int32, len(tokens))
	for i := range types {
		types[i] = 1
	}
	set("tokenizer.ggml.model", "gpt2")
	set("tokenizer.ggml.pre", "gpt-2")
	set("tokenizer.ggml.tokens", tokens)
	set("tokenizer.ggml.token_type", types)
	set("tokenizer.ggml.merges", []string{"Y e", "Ye s", "\u0120 Yes", "N o", "\u0120 No"})
	return len(tokens)
}
