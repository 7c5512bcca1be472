package generator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/corastream/corastream"
)

// encode lays the checkpoint out as tensors and metadata; decode is its inverse.
func (c *Checkpoint) encode() (map[string]Tensor, map[string]string, error) {
	tensors := map[string]Tensor{
		"basis.mean":       {Shape: []int{c.Basis.In}, Data: c.Basis.Mean},
		"basis.scale":      {Shape: []int{c.Basis.In}, Data: c.Basis.Scale},
		"basis.components": {Shape: []int{c.Basis.Out, c.Basis.In}, Data: c.Basis.Components},
		"catalogue.mean":   {Shape: []int{c.Basis.Out}, Data: c.Catalogue.Mean},
		"catalogue.spread": {Shape: []int{c.Basis.Out}, Data: c.Catalogue.Spread},
	}
	for _, p := range c.Model.Params {
		tensors["generator."+p.Name] = Tensor{Shape: p.Shape, Data: p.Data, BF16: half(p.Group)}
	}
	for slot, p := range c.Projection.P {
		name := fmt.Sprintf("p.%d.%s", slot.Layer, slot.Target)
		tensors[name] = Tensor{Shape: []int{c.Projection.Rank, len(p) / c.Projection.Rank}, Data: p, BF16: true}
	}
	for name, t := range tensors {
		if t.BF16 && slices.ContainsFunc(t.Data, notBF16) {
			return nil, nil, fmt.Errorf("tensor %s is not rounded to bfloat16: call Round first", name)
		}
	}
	spec, err := json.Marshal(c.Model.Spec)
	if err != nil {
		return nil, nil, err
	}
	made, err := json.Marshal(c.Made)
	if err != nil {
		return nil, nil, err
	}
	figures, err := json.Marshal(c.Figures)
	if err != nil {
		return nil, nil, fmt.Errorf("training figures: %w", err)
	}
	meta := map[string]string{
		"format": Format, "spec": string(spec), "made": string(made), "figures": string(figures),
		"basis": c.Basis.Digest(), "items": strconv.Itoa(c.Catalogue.Items),
	}
	meta[sumKey] = contentSum(tensors, meta)
	return tensors, meta, nil
}

// sumKey is the metadata's SHA-256 of everything else in the file. A bit that flips in a matrix leaves a number that looks
// like any other; without it, wrong weights would be served. Files from before it have none, and are read as they are.
const sumKey = "sha256"

// contentSum is the SHA-256 over the metadata but sumKey, then the tensors, each in the order of names: names and values
// quoted or as numbers, data as f32 little-endian.
func contentSum(tensors map[string]Tensor, meta map[string]string) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(meta)) {
		if k != sumKey {
			fmt.Fprintf(h, "%q %q\n", k, meta[k])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		t := tensors[name]
		fmt.Fprintf(h, "%q %v %t\n", name, t.Shape, t.BF16)
		h.Write(bytesOf(t.Data))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// decode fills the checkpoint. The tensors are already read, so that nothing here allocates by what the metadata claims.
func (c *Checkpoint) decode(tensors map[string]Tensor, meta map[string]string) error {
	var spec Spec
	if err := strict(meta["spec"], &spec); err != nil {
		return fmt.Errorf("metadata, spec: %w", err)
	}
	if err := spec.Validate(); err != nil {
		return fmt.Errorf("metadata, spec: %w", err)
	}
	if err := strict(meta["made"], &c.Made); err != nil {
		return fmt.Errorf("metadata, made: %w", err)
	}
	if err := json.Unmarshal([]byte(meta["figures"]), &c.Figures); err != nil {
		return fmt.Errorf("metadata, figures: %w", err)
	}
	items, err := strconv.Atoi(meta["items"])
	if err != nil || items < 0 {
		return fmt.Errorf("metadata, items: %q is not a count", meta["items"])
	}
	take := func(name string, shape ...int) (data []float32, err error) {
		t, ok := tensors[name]
		if !ok {
			return nil, fmt.Errorf("tensor %s is missing", name)
		}
		delete(tensors, name)
		if !slices.Equal(t.Shape, shape) {
			return nil, fmt.Errorf("tensor %s has shape %v, the spec wants %v", name, t.Shape, shape)
		}
		return t.Data, nil
	}
	in, m := 2*spec.Hidden, spec.Contents()
	b := &Basis{In: in, Out: m}
	var errs [5]error
	b.Mean, errs[0] = take("basis.mean", in)
	b.Scale, errs[1] = take("basis.scale", in)
	b.Components, errs[2] = take("basis.components", m, in)
	c.Catalogue.Items = items
	c.Catalogue.Mean, errs[3] = take("catalogue.mean", m)
	c.Catalogue.Spread, errs[4] = take("catalogue.spread", m)
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	if d := b.Digest(); d != meta["basis"] {
		return fmt.Errorf("the basis has digest %s, the metadata says %s", d, meta["basis"])
	}
	c.Basis = b
	c.Model = &Model{Spec: spec, Params: paramsOf(spec)}
	for _, p := range c.Model.Params {
		if p.Data, err = take("generator."+p.Name, p.Shape...); err != nil {
			return err
		}
	}
	c.Model.bind()
	return c.decodeProjection(tensors)
}

// decodeProjection takes the remaining tensors: P of every target in each of the top layers, and nothing else.
func (c *Checkpoint) decodeProjection(tensors map[string]Tensor) error {
	spec := &c.Model.Spec
	if c.Made.Layers < spec.Layers || c.Made.Layers > 4096 {
		return fmt.Errorf("metadata, made: %d layers adapted of an LLM of %d", spec.Layers, c.Made.Layers)
	}
	c.Projection = &corastream.Projection{Rank: spec.Rank, Alpha: spec.Alpha, Adapt: spec.Adapt, P: map[corastream.Slot][]float32{}}
	out := map[corastream.Target]int{}
	for _, slot := range spec.Slots(c.Made.Layers) {
		name := fmt.Sprintf("p.%d.%s", slot.Layer, slot.Target)
		t, ok := tensors[name]
		if !ok {
			return fmt.Errorf("tensor %s is missing", name)
		}
		delete(tensors, name)
		if len(t.Shape) != 2 || t.Shape[0] != spec.Rank || t.Shape[1] == 0 {
			return fmt.Errorf("tensor %s has shape %v, the spec wants [%d out]", name, t.Shape, spec.Rank)
		}
		if n, ok := out[slot.Target]; ok && n != t.Shape[1] {
			return fmt.Errorf("tensor %s is %d wide, another layer's %d", name, t.Shape[1], n)
		}
		out[slot.Target] = t.Shape[1]
		c.Projection.P[slot] = t.Data
	}
	for name := range tensors {
		return fmt.Errorf("tensor %s is none of this spec's", name)
	}
	return nil
}

// Slots lists the adapted layers and targets of an LLM of that many layers, lowest layer first.
func (s Spec) Slots(layers int) []corastream.Slot {
	slots := make([]corastream.Slot, 0, s.Layers*len(s.Targets))
	for l := layers - s.Layers; l < layers; l++ {
		for _, t := range s.Targets {
			slots = append(slots, corastream.Slot{Layer: l, Target: t})
		}
	}
	return slots
}

func strict(text string, v any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something follows the object")
	}
	return nil
}
