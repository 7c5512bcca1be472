//go:build gpu

package gpucheck

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"runtime"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/bench"
	"github.com/corastream/corastream/cmd/internal/training"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/generator/train"
	"github.com/corastream/corastream/serve/llm"
)

// training measures whole steps, LLM, generator and AdamW, on the device and on one core of the CPU in its own best numerics.
func (c *checker) training(ctx context.Context, cpu, gpu *llm.Model, file string, spec generator.Spec) error {
	o := c.options(nil)
	o.Numerics, o.Threads = "auto", 1
	one, err := llm.Open(file, o)
	if err != nil {
		return c.failure("training", err)
	}
	defer one.Close()
	for _, k := range []struct {
		adapt   corastream.Adapt
		layers  int
		cpuRows int // of a step on one core, where whole prompts take long
	}{{corastream.AdaptAll, c.Sizes.model.layers, min(4, c.trainRows)}, {corastream.AdaptLast, gpu.Info().TopLayers, c.trainRows}} {
		if err := c.part(ctx, "training, "+string(k.adapt), partLimit, func() error {
			config := train.Default()
			config.Spec = spec
			config.Spec.Adapt, config.Spec.Layers, config.Spec.Linear = k.adapt, k.layers, false
			config.Spec.Rank = max(spec.Rank, 2)
			steps := func(m *llm.Model, rows int, f func(b *train.Bench) error) error {
				deps := training.Deps(cfstream.Default(), m)
				if deps.OnDevice != nil {
					deps.OnDevice.Fallback = &c.count
				}
				b, err := train.NewBench(ctx, config, deps, c.titles(rows))
				if err != nil {
					return err
				}
				return errors.Join(f(b), b.Close())
			}
			before := c.count.Count()
			var losses [2]float64
			for i, m := range []*llm.Model{cpu, gpu} {
				if err := steps(m, min(4, c.trainRows), func(b *train.Bench) (err error) {
					for range 4 {
						if losses[i], err = b.Step(ctx); err != nil {
							break
						}
					}
					return err
				}); err != nil {
					return err
				}
			}
			if err := c.judge("training, loss of the fourth step, "+string(k.adapt), math.Abs(losses[1]-losses[0])/losses[0], .1, nil); err != nil || c.count.Count() > before {
				return err
			}
			rate := func(m *llm.Model, rows int) (perSecond float64, resident bool, err error) {
				err = steps(m, rows, func(b *train.Bench) error {
					resident = b.OnDevice()
					_, took, err := bench.Repeat(c.length, func() error { _, err := b.Step(ctx); return err })
					perSecond = float64(rows) / took.Seconds()
					return err
				})
				return perSecond, resident, err
			}
			fast, resident, err := rate(gpu, c.trainRows)
			if err != nil {
				return err
			}
			threads := runtime.GOMAXPROCS(1)
			slow, _, err := rate(one, k.cpuRows)
			runtime.GOMAXPROCS(threads)
			if err != nil {
				return err
			}
			c.set("training, "+string(k.adapt), fast/slow)
			return c.line("training", map[string]any{
				"adapt": string(k.adapt), "rows": c.trainRows, "tokens_each": c.Sizes.length, "on_the_device": resident,
				"rows_per_s": fast, "rows_per_s_of_one_core": slow, "numerics_of_the_core": one.Info().Numerics, "ratio": fast / slow,
			})
		}); err != nil {
			return err
		}
	}
	return nil
}

// freshness measures from a click's append to its recommendation: the whole pipeline with the embedded broker, generator and LLM on the
// device. The checkpoint is drawn.
func (c *checker) freshness(ctx context.Context, m *llm.Model, dir, file string, spec generator.Spec) error {
	cf := cfstream.Default()
	cf.Content = c.Sizes.spec.Taste
	spec.Factors, spec.Taste = cf.Widths()
	spec.Adapt, spec.Layers, spec.Hidden = corastream.AdaptLast, min(spec.Layers, m.Info().TopLayers), c.Sizes.model.hidden
	ck := &generator.Checkpoint{Made: generator.Made{LLM: m.Digest(), Template: m.TemplateDigest(), CF: cf.Digest(), Layers: m.Info().Layers}}
	var items []corastream.Item
	for _, p := range bench.InventedTitles(c.clickItems) {
		items = append(items, corastream.Item{ID: p.ItemID, Title: p.Title})
	}
	states, err := m.Encode(ctx, items)
	if err != nil {
		return err
	}
	if ck.Basis, err = generator.FitBasis(states, spec.Contents()); err != nil {
		return err
	}
	var contents [][]float32
	for _, s := range states {
		v, err := ck.Basis.Content(s)
		if err != nil {
			return err
		}
		contents = append(contents, v)
	}
	if ck.Catalogue, err = generator.CatalogueOf(contents); err != nil {
		return err
	}
	if ck.Model, err = generator.NewModel(spec, 3); err != nil {
		return err
	}
	_, ck.Projection = bench.RandomWeights(spec, m, 1)
	if err := ck.Round(); err != nil {
		return err
	}
	run := FreshnessRun{
		Device: c.d, File: file, LLM: c.options(nil), CF: cf, Checkpoint: filepath.Join(dir, "drawn.safetensors"), Candidates: c.Sizes.clicks,
		Length: c.length, Items: c.clickItems,
	}
	if err := ck.Save(run.Checkpoint); err != nil {
		return err
	}
	var out bytes.Buffer
	answers, err := c.deps.Freshness(ctx, run, &out)
	if err != nil {
		return err
	}
	var v struct {
		Clicks int                `json:"clicks"`
		Ranked string             `json:"ranked_by"`
		Times  map[string]float64 `json:"freshness_ms"`
	}
	if err := json.Unmarshal(out.Bytes(), &v); err != nil {
		return err
	}
	if v.Ranked != "cora" {
		c.bad++
	}
	if answers == 0 {
		c.set("freshness p99", v.Times["p99"])
	}
	err = c.line("freshness", map[string]any{
		"candidates": run.Candidates, "clicks": v.Clicks, "ranked_by": v.Ranked, "p50_ms": v.Times["p50"], "p99_ms": v.Times["p99"],
		"answers_of_the_cpu": answers,
	})
	if err == nil && answers > 0 {
		err = fmt.Errorf("the CPU gave %d answers in the device's place", answers)
	}
	return err
}

// goals holds the figures to the project's. Those beside PyTorch are .ci/cuda/torch_peer.py's to tell, in the same run.
func (c *checker) goals(context.Context) error {
	f := c.figures
	tell := func(row, goal string, reached float64, ok bool) error {
		if !(reached > 0 && reached <= math.MaxFloat64) { // its part has failed, or has not begun
			return c.line("goal", map[string]any{"row": row, "goal": goal, "error": "not measured", "ok": false})
		}
		return c.line("goal", map[string]any{"row": row, "goal": goal, "reached": reached, "ok": ok})
	}
	var errs []error
	for _, bf16 := range []bool{false, true} {
		part := f[fmt.Sprintf("%s, bf16 %v: written", generator.KindMLP, bf16)] / f["memory written"]
		errs = append(errs, tell(fmt.Sprintf("W_A made, mlp, bf16 %v: part of the rate at which memory is written", bf16), "at least 0.7", part, part >= .7))
	}
	ours := f["scores, all, a W_A each, every layer"] / f["scores, base"]
	errs = append(errs, tell("prompts scored, a W_A each on all tokens of every layer: part of the rate without", "at least 0.9", ours, ours >= .9),
		tell("click to recommendation, p99, ms", "under 50", f["freshness p99"], f["freshness p99"] < 50),
		tell("training rows, adapt all: times one CPU core", "at least 20", f["training, all"], f["training, all"] >= 20),
		tell("training rows, adapt last: times one CPU core", "at least 5", f["training, last"], f["training, last"] >= 5))
	for _, x := range []struct {
		row    string
		figure float64
	}{{"W_A made a second, qformer", f[generator.KindQFormer+", bf16 true: made"]}, {"prompts scored a second, batch of 256", f["scores, base"]}} {
		errs = append(errs, c.line("goal", map[string]any{"row": x.row, "goal": "1.5 times PyTorch's in the same run (.ci/cuda/torch_peer.py tells)", "figure": x.figure}))
	}
	return errors.Join(errs...)
}
