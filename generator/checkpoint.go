package generator

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/corastream/corastream"
)

// Format is the version that a checkpoint's metadata carries.
const Format = "corastream.generator/1"

// Made says what a checkpoint was made for, by digests and sizes.
type Made struct {
	LLM      string `json:"llm"`      // digest of the frozen LLM
	Template string `json:"template"` // digest of the prompt templates
	CF       string `json:"cf"`       // digest of the CF spec: kind and dimensions, never its moving state
	Layers   int    `json:"layers"`   // of the LLM
}

// Checkpoint is all that serving needs beside the frozen LLM: the content basis, the generator and the projection.
type Checkpoint struct {
	Made       Made
	Basis      *Basis
	Model      *Model
	Projection *corastream.Projection
	Catalogue  Catalogue
	// Figures are the training figures, by name; they take no part in serving.
	Figures map[string]float64

	digest string
}

// Want says what a checkpoint has to fit; an empty field is not compared.
type Want struct {
	LLM, Template, CF, Basis string
	Hidden, Layers           int
	Out                      map[corastream.Target]int // output width of each target
}

// Open reads a checkpoint and refuses by name what does not fit.
func Open(path string, want Want) (*Checkpoint, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read checkpoint %s: %w", path, err)
	}
	c, err := Read(b, want)
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", path, err)
	}
	return c, nil
}

// Read parses a checkpoint's bytes.
func Read(file []byte, want Want) (*Checkpoint, error) {
	if len(file) > maxFile {
		return nil, fmt.Errorf("%w: more than %d bytes", corastream.ErrCorrupt, maxFile)
	}
	tensors, meta, err := ReadTensors(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", corastream.ErrCorrupt, err)
	}
	if meta["format"] != Format {
		return nil, fmt.Errorf("%w: format %q, this build reads %q", corastream.ErrMismatch, meta["format"], Format)
	}
	c := &Checkpoint{}
	if err := c.decode(tensors, meta); err != nil {
		return nil, fmt.Errorf("%w: %w", corastream.ErrCorrupt, err)
	}
	sum := sha256.Sum256(file)
	c.digest = hex.EncodeToString(sum[:16])
	return c, c.Fits(want)
}

// Fits reports every way in which the checkpoint does not fit, wrapping corastream.ErrMismatch.
func (c *Checkpoint) Fits(want Want) error {
	var errs []error
	differ := func(what, have, want string) {
		if want != "" && have != want {
			errs = append(errs, fmt.Errorf("%w: made for %s %s, here is %s", corastream.ErrMismatch, what, have, want))
		}
	}
	differ("LLM", c.Made.LLM, want.LLM)
	differ("prompt template", c.Made.Template, want.Template)
	differ("CF spec", c.Made.CF, want.CF)
	if want.Basis != "" {
		differ("content basis", c.Basis.Digest(), want.Basis)
	}
	if h := c.Model.Spec.Hidden; want.Hidden != 0 && want.Hidden != h {
		errs = append(errs, fmt.Errorf("%w: made for an LLM of width %d, here is %d", corastream.ErrMismatch, h, want.Hidden))
	}
	if n := c.Made.Layers; want.Layers != 0 && want.Layers != n {
		errs = append(errs, fmt.Errorf("%w: made for an LLM of %d layers, here are %d", corastream.ErrMismatch, n, want.Layers))
	}
	for slot, p := range c.Projection.P {
		if out, ok := want.Out[slot.Target]; ok && len(p) != out*c.Projection.Rank {
			errs = append(errs, fmt.Errorf("%w: P of target %s is %d wide, here %d", corastream.ErrMismatch, slot.Target, len(p)/c.Projection.Rank, out))
			break
		}
	}
	return errors.Join(errs...)
}

// Digest names the checkpoint by its file's content; it is the generator's version.
func (c *Checkpoint) Digest() (string, error) {
	if c.digest == "" {
		if _, err := c.Bytes(); err != nil {
			return "", err
		}
	}
	return c.digest, nil
}

// Round rounds the generator's and the projection's matrices to bfloat16, in which the file keeps them: after it, saving
// and opening changes no bit. Biases, norms, input scales, basis and statistics stay f32.
func (c *Checkpoint) Round() error {
	for _, p := range c.Model.Params {
		if half(p.Group) {
			if err := roundBF16(p.Data); err != nil {
				return fmt.Errorf("tensor %s: %w", p.Name, err)
			}
		}
	}
	for slot, p := range c.Projection.P {
		if err := roundBF16(p); err != nil {
			return fmt.Errorf("P of layer %d, target %s: %w", slot.Layer, slot.Target, err)
		}
	}
	c.digest = ""
	return nil
}

func half(g Group) bool { return g == Weight || g == LinearPath }

// Bytes is the checkpoint's file. It refuses matrices that Round has not seen, since the file could not keep them.
func (c *Checkpoint) Bytes() ([]byte, error) {
	tensors, meta, err := c.encode()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := WriteTensors(&b, tensors, meta); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(b.Bytes())
	c.digest = hex.EncodeToString(sum[:16])
	return b.Bytes(), nil
}

// Save writes the file and renames it into place, so that a reader sees the old one or the new one.
func (c *Checkpoint) Save(path string) error {
	b, err := c.Bytes()
	if err != nil {
		return fmt.Errorf("save checkpoint: %w", err)
	}
	return WriteFile(path, b)
}

// WriteFile writes beside path, syncs, and renames into place.
func WriteFile(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".tmp*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if _, err = f.Write(b); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

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
	return tensors, map[string]string{"format": Format, "spec": string(spec), "made": string(made), "figures": string(figures),
		"basis": c.Basis.Digest(), "items": strconv.Itoa(c.Catalogue.Items)}, nil
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
	in, m := 2*spec.Hidden, spec.Taste
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
