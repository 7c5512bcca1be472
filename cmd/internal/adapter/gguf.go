package adapter

import (
	"fmt"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// ggufTensors name the targets in GGUF.
var ggufTensors = map[corastream.Target]string{
	corastream.TargetQ: "attn_q", corastream.TargetK: "attn_k", corastream.TargetV: "attn_v", corastream.TargetO: "attn_output",
	corastream.TargetGate: "ffn_gate", corastream.TargetUp: "ffn_up",
}

// ggufOf writes the adapter as llama.cpp's --lora reads it: lora_a [in, r] and lora_b [r, out] for each tensor it changes
// (GGUF's dimensions, the row length first); the scale is adapter.lora.alpha/r.
func ggufOf(a *generator.Adapter, info llm.Info) ([]byte, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	w := &gguf.Writer{}
	keys := []struct {
		name  string
		value any
	}{
		{"general.architecture", info.Arch},
		{"general.type", "adapter"},
		{"general.base_model.count", uint32(1)},
		{"general.base_model.0.name", a.Base},
		{"adapter.type", "lora"},
		{"adapter.lora.alpha", a.Projection.Alpha},
	}
	for _, k := range keys {
		if err := w.Set(k.name, k.value); err != nil {
			return nil, err
		}
	}
	if len(a.Invocation) > 0 {
		ids := make([]uint32, len(a.Invocation)) // llama.cpp refuses signed ones
		for i, id := range a.Invocation {
			ids[i] = uint32(id)
		}
		if err := w.Set("adapter.alora.invocation_tokens", ids); err != nil {
			return nil, err
		}
	}
	down, r := a.A(), a.Weights.Rank
	for _, s := range a.Slots() {
		up := a.B(s)
		if heads := turned(s.Target, info); heads > 0 {
			if len(up) != heads*info.HeadDim*r {
				return nil, fmt.Errorf("%w: P of layer %d, target %s is %d wide, the model's %d", corastream.ErrMismatch, s.Layer, s.Target, len(up)/r, heads*info.HeadDim)
			}
			pairRows(up, heads, info.HeadDim, r)
		}
		name := fmt.Sprintf("blk.%d.%s.weight", s.Layer, ggufTensors[s.Target])
		if err := w.Add(name+".lora_a", gguf.F32, []int{a.Weights.Hidden, r}, down); err != nil {
			return nil, err
		}
		if err := w.Add(name+".lora_b", gguf.F32, []int{r, len(up) / r}, up); err != nil {
			return nil, err
		}
	}
	return w.Bytes(), nil
}

// turned is the number of heads whose rows converters to GGUF reorder: those of q and k in the llama architecture.
func turned(t corastream.Target, info llm.Info) int {
	switch {
	case info.Arch == "llama" && t == corastream.TargetQ:
		return info.Heads
	case info.Arch == "llama" && t == corastream.TargetK:
		return info.KVHeads
	}
	return 0
}

// pairRows puts the rows of each head from the published model's order, where row i turns with row i+headDim/2, into
// GGUF's for Llama, where row 2i turns with row 2i+1.
func pairRows(m []float32, heads, headDim, columns int) {
	tmp := make([]float32, headDim*columns)
	row := func(v []float32, i int) []float32 { return v[i*columns : (i+1)*columns] }
	for h := range heads {
		head := m[h*headDim*columns : (h+1)*headDim*columns]
		copy(tmp, head)
		for i := range headDim / 2 {
			copy(row(head, 2*i), row(tmp, i))
			copy(row(head, 2*i+1), row(tmp, i+headDim/2))
		}
	}
}
