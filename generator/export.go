package generator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/corastream/corastream"
)

// Adapter is one W_A with every P: a plain low-rank adapter, which any server that takes LoRA can add to the frozen LLM.
type Adapter struct {
	Weights    corastream.Weights
	Projection *corastream.Projection
	// Base names the frozen LLM as the consumer knows it.
	Base string
	// Invocation are the tokens from which on an activated LoRA acts (Greenewald et al., arXiv 2512.17910); nil: on all tokens.
	Invocation []int32
}

// The files of a PEFT folder.
const (
	PEFTConfig  = "adapter_config.json"
	PEFTWeights = "adapter_model.safetensors"
)

// peftModules name the targets in the published models of the Llama and Qwen2 families.
var peftModules = map[corastream.Target]string{
	corastream.TargetQ: "self_attn.q_proj", corastream.TargetK: "self_attn.k_proj", corastream.TargetV: "self_attn.v_proj",
	corastream.TargetO: "self_attn.o_proj", corastream.TargetGate: "mlp.gate_proj", corastream.TargetUp: "mlp.up_proj",
}

// peftConfig is adapter_config.json: what PEFT, vLLM and llama.cpp's converter read of it, in PEFT's words.
type peftConfig struct {
	PEFTType   string   `json:"peft_type"`
	TaskType   string   `json:"task_type"`
	Base       string   `json:"base_model_name_or_path"`
	R          int      `json:"r"`
	Alpha      float32  `json:"lora_alpha"` // PEFT's scale is lora_alpha/r, as ours
	Dropout    float32  `json:"lora_dropout"`
	Bias       string   `json:"bias"`
	FanInOut   bool     `json:"fan_in_fan_out"`
	Inference  bool     `json:"inference_mode"`
	RSLoRA     bool     `json:"use_rslora"` // true would make the scale lora_alpha/sqrt(r)
	Modules    []string `json:"target_modules"`
	Layers     []int    `json:"layers_to_transform"`
	Pattern    string   `json:"layers_pattern"`
	Invocation []int32  `json:"alora_invocation_tokens,omitempty"`
}

// Slots lists the adapted layers and targets, lowest layer first.
func (a *Adapter) Slots() []corastream.Slot {
	return slices.SortedFunc(maps.Keys(a.Projection.P), func(x, y corastream.Slot) int {
		if x.Layer != y.Layer {
			return x.Layer - y.Layer
		}
		return slices.Index(targets, x.Target) - slices.Index(targets, y.Target)
	})
}

// Check refuses weights and a projection that do not belong together.
func (a *Adapter) Check() error {
	w, p := a.Weights, a.Projection
	if p == nil || len(p.P) == 0 {
		return fmt.Errorf("%w: the checkpoint has no projection, so there is nothing to export", corastream.ErrMismatch)
	}
	if w.Rank != p.Rank || w.Rank < 1 || w.Hidden < 1 || len(w.User) != w.Hidden*w.Rank || w.Item != nil && len(w.Item) != len(w.User) {
		return fmt.Errorf("%w: weights of [%d, %d] with %d and %d values, a projection of rank %d", corastream.ErrMismatch,
			w.Hidden, w.Rank, len(w.User), len(w.Item), p.Rank)
	}
	for slot, v := range p.P {
		if peftModules[slot.Target] == "" || slot.Layer < 0 || len(v) == 0 || len(v)%p.Rank != 0 {
			return fmt.Errorf("%w: P of layer %d, target %q has %d values for rank %d", corastream.ErrMismatch, slot.Layer, slot.Target, len(v), p.Rank)
		}
	}
	return nil
}

// A is lora_A [rank][hidden] = W_A^T, the same for every layer and target.
func (a *Adapter) A() []float32 {
	w := a.Weights
	dense := make([]float32, w.Hidden*w.Rank)
	w.Dense(dense)
	return transposed(dense, w.Hidden, w.Rank)
}

// B is lora_B [out][rank] = P^T of one layer and target. Its rows are in the order of the published model.
func (a *Adapter) B(slot corastream.Slot) []float32 {
	p := a.Projection.P[slot]
	return transposed(p, a.Projection.Rank, len(p)/a.Projection.Rank)
}

// transposed gives m [rows][columns] as [columns][rows].
func transposed(m []float32, rows, columns int) []float32 {
	t := make([]float32, len(m))
	for i := range rows {
		for j := range columns {
			t[j*rows+i] = m[i*columns+j]
		}
	}
	return t
}

// PEFT lays the adapter out as the files of a PEFT LoRA folder, by name. Equal input gives equal bytes.
func (a *Adapter) PEFT() (map[string][]byte, error) {
	if err := a.Check(); err != nil {
		return nil, err
	}
	r, h, slots := a.Weights.Rank, a.Weights.Hidden, a.Slots()
	c := peftConfig{
		PEFTType: "LORA", TaskType: "CAUSAL_LM", Base: a.Base, R: r, Alpha: a.Projection.Alpha, Bias: "none", Inference: true,
		Pattern: "layers", Invocation: a.Invocation,
	}
	down := a.A()
	tensors := map[string]Tensor{}
	for _, s := range slots {
		module := peftModules[s.Target]
		if !slices.Contains(c.Layers, s.Layer) {
			c.Layers = append(c.Layers, s.Layer)
		}
		if short := module[strings.IndexByte(module, '.')+1:]; !slices.Contains(c.Modules, short) {
			c.Modules = append(c.Modules, short)
		}
		name := fmt.Sprintf("base_model.model.model.layers.%d.%s.", s.Layer, module)
		tensors[name+"lora_A.weight"] = Tensor{Shape: []int{r, h}, Data: down}
		tensors[name+"lora_B.weight"] = Tensor{Shape: []int{len(a.Projection.P[s]) / r, r}, Data: a.B(s)}
	}
	var weights bytes.Buffer
	if err := WriteTensors(&weights, tensors, map[string]string{"format": "pt"}); err != nil { // transformers asks for this key
		return nil, err
	}
	config, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, err
	}
	return map[string][]byte{PEFTConfig: append(config, '\n'), PEFTWeights: weights.Bytes()}, nil
}
