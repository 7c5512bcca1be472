package generator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/corastream/corastream"
)

func smallAdapter() *Adapter {
	r := rand.New(rand.NewPCG(3, 3))
	const hidden, rank = 5, 2
	p := &corastream.Projection{Rank: rank, Alpha: 3, Adapt: corastream.AdaptAll, P: map[corastream.Slot][]float32{}}
	for l := 2; l < 4; l++ {
		for i, t := range targets {
			p.P[corastream.Slot{Layer: l, Target: t}] = normal(r, rank*(i+1))
		}
	}
	return &Adapter{
		Base: "org/model", Projection: p,
		Weights: corastream.Weights{Hidden: hidden, Rank: rank, User: normal(r, hidden*rank), Item: normal(r, hidden*rank), ItemScale: -.5},
	}
}

// TestPEFTFolderComputesTheDelta: lora_alpha/r * lora_B (lora_A x), as PEFT computes it, is (alpha/r) P^T (W_A^T x) for
// every layer and target.
func TestPEFTFolderComputesTheDelta(t *testing.T) {
	a := smallAdapter()
	files, err := a.PEFT()
	if err != nil {
		t.Fatal(err)
	}
	tensors, meta, err := ReadTensors(files[PEFTWeights])
	if err != nil || meta["format"] != "pt" || len(files) != 2 {
		t.Fatalf("%v, %v", meta, err)
	}
	var c peftConfig
	if err := strict(string(files[PEFTConfig]), &c); err != nil {
		t.Fatal(err)
	}
	if c.PEFTType != "LORA" || c.Base != "org/model" || c.R != 2 || c.Alpha != 3 || c.RSLoRA || c.FanInOut || c.Bias != "none" ||
		!slices.Equal(c.Layers, []int{2, 3}) || !slices.Equal(c.Modules, []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"}) {
		t.Errorf("%s", files[PEFTConfig])
	}
	if bytes.Contains(files[PEFTConfig], []byte("alora")) {
		t.Error("an adapter for all tokens is marked as an activated one")
	}
	x := []float32{1, -2, .5, 3, -1}
	modules := []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj"}
	for l := 2; l < 4; l++ {
		for i, target := range targets {
			name := fmt.Sprintf("base_model.model.model.layers.%d.%s.", l, modules[i])
			down, up := tensors[name+"lora_A.weight"], tensors[name+"lora_B.weight"]
			delete(tensors, name+"lora_A.weight")
			delete(tensors, name+"lora_B.weight")
			if !slices.Equal(down.Shape, []int{2, 5}) || !slices.Equal(up.Shape, []int{i + 1, 2}) {
				t.Fatalf("%s: %v, %v", name, down.Shape, up.Shape)
			}
			for o := range i + 1 {
				var got, want float64
				for r := range 2 {
					var z, w float64
					for j := range x {
						z += float64(down.Data[r*5+j] * x[j])
						w += float64((a.Weights.User[j*2+r] - .5*a.Weights.Item[j*2+r]) * x[j])
					}
					got += 1.5 * float64(up.Data[o*2+r]) * z
					want += 1.5 * float64(a.Projection.P[corastream.Slot{Layer: l, Target: target}][r*(i+1)+o]) * w
				}
				if d := got - want; d > 1e-5 || d < -1e-5 || want == 0 {
					t.Errorf("%s output %d: %v, want %v", name, o, got, want)
				}
			}
		}
	}
	if len(tensors) > 0 {
		t.Errorf("%d more tensors", len(tensors))
	}
	again, err := a.PEFT()
	if err != nil || !bytes.Equal(again[PEFTWeights], files[PEFTWeights]) || !bytes.Equal(again[PEFTConfig], files[PEFTConfig]) {
		t.Errorf("a second export differs: %v", err)
	}
}

func TestActivatedAdapterNamesItsTokens(t *testing.T) {
	a := smallAdapter()
	a.Invocation = []int32{7, 8}
	files, err := a.PEFT()
	if err != nil {
		t.Fatal(err)
	}
	var c struct {
		Tokens []int `json:"alora_invocation_tokens"`
	}
	if err := json.Unmarshal(files[PEFTConfig], &c); err != nil || !slices.Equal(c.Tokens, []int{7, 8}) {
		t.Errorf("%v, %v", c, err)
	}
}

func TestAdapterRefusesWhatDoesNotBelongTogether(t *testing.T) {
	for name, spoil := range map[string]func(*Adapter){
		"no projection":    func(a *Adapter) { a.Projection = nil },
		"an empty one":     func(a *Adapter) { a.Projection.P = nil },
		"another rank":     func(a *Adapter) { a.Projection.Rank = 3 },
		"short weights":    func(a *Adapter) { a.Weights.User = a.Weights.User[1:] },
		"short column":     func(a *Adapter) { a.Weights.Item = a.Weights.Item[1:] },
		"a ragged P":       func(a *Adapter) { a.Projection.P[corastream.Slot{Layer: 2, Target: "q"}] = make([]float32, 3) },
		"an unknown place": func(a *Adapter) { a.Projection.P[corastream.Slot{Layer: 2, Target: "down"}] = make([]float32, 4) },
	} {
		a := smallAdapter()
		spoil(a)
		if _, err := a.PEFT(); !errors.Is(err, corastream.ErrMismatch) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
