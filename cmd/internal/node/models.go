package node

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve/llm"
)

// OpenLLM opens the frozen LLM; nil when it is "off". A missing default file is an error that says how to get it.
func OpenLLM(c LLMConfig, log zerolog.Logger) (*llm.Model, error) {
	if c.File == "off" {
		return nil, nil
	}
	if _, err := os.Stat(c.File); err != nil {
		return nil, corastream.Usagef("llm.file", "run `make fetch`, name a GGUF with --llm FILE, or --llm off", "%v", err)
	}
	if d := openGPU(c.Device, &gpu.llm, "llm", log); d != nil {
		c.Options.GPU = &llm.GPU{Device: d, Fallback: &gpu.llm}
	}
	m, err := llm.Open(c.File, c.Options)
	if u := (*corastream.UsageError)(nil); errors.As(err, &u) { // it names the file, and a fix of its own
		return nil, corastream.Usagef(u.Where, u.Fix+", or give another GGUF with --llm", "%s", u.What)
	}
	if err != nil {
		return nil, corastream.Usagef(c.File, "give another GGUF with --llm", "%v", err)
	}
	info := m.Info()
	if c.ListLayers < 0 || c.ListLayers >= info.Layers {
		return nil, errors.Join(corastream.Usagef("llm.list_layers", fmt.Sprintf("choose from 0 to %d", info.Layers-1), "%s has %d layers, not more than %d", c.File, info.Layers, c.ListLayers), m.Close())
	}
	log.Info().Str("file", c.File).Str("arch", info.Arch).Int("layers", info.Layers).Int("hidden", info.Hidden).
		Str("digest", m.Digest()[:12]).Msg("llm loaded")
	return m, nil
}

// Requirements is what a checkpoint must fit.
func Requirements(m *llm.Model, spec cfstream.Spec) generator.Want {
	info := m.Info()
	w := generator.Want{
		LLM: m.Digest(), Template: m.TemplateDigest(), CF: spec.Digest(), Hidden: info.Hidden, Layers: info.Layers,
		Out: map[corastream.Target]int{},
	}
	for t, width := range m.TargetWidths() {
		w.Out[t] = width[1]
	}
	return w
}

// OpenCheckpoint opens the checkpoint that the configuration names, or nil when it names none.
func OpenCheckpoint(c Config, m *llm.Model) (*generator.Checkpoint, error) {
	if c.Checkpoint == "" || m == nil {
		return nil, nil
	}
	ck, err := generator.Open(c.Checkpoint, Requirements(m, c.CF))
	if err != nil {
		return nil, corastream.Usagef("", "train one for this LLM and prompt with `corastream train`, or leave it out to rank by CF", "%v", err)
	}
	return ck, nil
}

// ReadContents has the LLM read every titled item and sets its content: by the checkpoint's basis, else by one fitted to
// these items.
func ReadContents(ctx context.Context, m *llm.Model, basis *generator.Basis, width int, items []corastream.Item, tell func(done, total int)) error {
	const batch = 64
	var states []corastream.States
	var titled []int
	for i, it := range items {
		if it.Title != "" && !it.Removed {
			titled = append(titled, i)
		}
	}
	for from := 0; from < len(titled); from += batch {
		var chunk []corastream.Item
		for _, i := range titled[from:min(from+batch, len(titled))] {
			chunk = append(chunk, items[i])
		}
		s, err := m.Encode(ctx, chunk)
		if err != nil {
			return fmt.Errorf("read the catalogue: %w", err)
		}
		states = append(states, s...)
		tell(len(states), len(titled))
	}
	if basis == nil {
		var err error
		if basis, err = generator.FitBasis(states, width); err != nil {
			return fmt.Errorf("content basis: %w", err)
		}
	}
	for k, i := range titled {
		var err error
		if items[i].Content, err = basis.Content(states[k]); err != nil {
			return fmt.Errorf("item %q: %w", items[i].ID, err)
		}
	}
	return nil
}

// NewCF makes the CF model in use, or another kind with the same rates.
func NewCF(c Config, kind string) (cfstream.Model, error) { return NewSeededCF(c, kind, 0) }

// NewSeededCF moves the configured seed on by some.
func NewSeededCF(c Config, kind string, seed uint64) (cfstream.Model, error) {
	spec := c.CF
	if kind != replay.CF {
		spec.Kind = kind
		if spec.Factors == 0 {
			spec.Factors = cfstream.DefaultFor(kind).Factors
		}
	}
	spec.Seed += seed
	return cfstream.New(spec)
}
