package llm

import (
	"fmt"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// inventory names every tensor that a model of this shape may hold. Biases are optional in each layer by itself.
func (a arch) inventory() map[string]bool {
	names := map[string]bool{"token_embd.weight": true, "output_norm.weight": true, "output.weight": true}
	if a.ropeFactors {
		names["rope_freqs.weight"] = true
	}
	parts := []string{"attn_norm.weight", "ffn_norm.weight"}
	for _, linear := range []string{"attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"} {
		parts = append(parts, linear+".weight", linear+".bias")
	}
	if a.headNorms {
		parts = append(parts, "attn_q_norm.weight", "attn_k_norm.weight")
	}
	if a.postNorms {
		parts = append(parts, "post_attention_norm.weight", "post_ffw_norm.weight")
	}
	for l := range a.layers {
		for _, p := range parts {
			names[name(l, p)] = true
		}
	}
	return names
}

// checkInventory refuses a file with a tensor that nothing would read: such a model computes something else than its makers meant.
// llama.cpp refuses it too.
func (a arch) checkInventory(f *gguf.File) error {
	known := a.inventory()
	for _, t := range f.Tensors() {
		if !known[t.Name] {
			return corastream.Usagef(f.Name(), "use a plain model of the architecture "+a.name, "tensor %q has no place in a %s model of %d layers",
				t.Name, a.name, a.layers)
		}
	}
	return nil
}

// biases reads the biases of linears below each other into one vector; nil when none of them has one.
func (w *weights) biases(l linear) ([]float32, error) {
	var all []float32
	off := 0
	for _, p := range l.parts {
		if bias := p.bias(); w.file.Has(bias) {
			if all == nil {
				all = make([]float32, l.out())
			}
			v := all[off : off+p.out]
			if err := readVector(w.file, bias, v); err != nil {
				return nil, err
			}
			if p.heads > 0 {
				halves(v, p.heads, p.out/p.heads, 1)
			}
		}
		off += p.out
	}
	return all, nil
}

// addBias adds a bias to each of n rows of y, when there is one.
func addBias(y, bias []float32, n int) {
	for i := 0; bias != nil && i < n; i++ {
		kernels.Add(y[i*len(bias):(i+1)*len(bias)], bias)
	}
}

// laterBiases says that a layer has a bias elsewhere than on q, k and v.
func (w *weights) laterBiases() (tensor string, yes bool) {
	for i := range w.layers {
		for k, bias := range [...][]float32{w.layers[i].oBias, w.layers[i].gateUpBias, w.layers[i].downBias} {
			if bias != nil {
				return fmt.Sprintf("blk.%d.%s.bias", i, [...]string{"attn_output", "ffn_gate or ffn_up", "ffn_down"}[k]), true
			}
		}
	}
	return "", false
}
