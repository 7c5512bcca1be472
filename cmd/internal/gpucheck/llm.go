//go:build gpu

package gpucheck

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/bench"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/kernels/cuda"
	"github.com/corastream/corastream/serve/llm"
)

// model measures the LLM through its own interface: what serving sees, host work included.
func (c *checker) model(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "corastream-gpu-check")
	if err != nil {
		return c.failure("model", err)
	}
	defer os.RemoveAll(dir)
	c.dir = dir
	file := filepath.Join(dir, "random.gguf")
	if err := c.Sizes.model.write(file); err != nil {
		return c.failure("model", err)
	}
	cpu, err := llm.Open(file, c.options(nil))
	if err != nil {
		return c.failure("model", err)
	}
	defer cpu.Close()
	gpu, err := llm.Open(file, c.options(&llm.GPU{Device: c.d, Fallback: &c.count}))
	if err != nil {
		return c.failure("model", err)
	}
	defer gpu.Close()
	spec := c.spec
	spec.Hidden = c.Sizes.model.hidden
	prompts := c.whole(c.prompts)
	for _, k := range []struct {
		name   string
		adapt  corastream.Adapt
		users  int
		layers int
	}{
		{"base", "", 1, spec.Layers},
		{"all, one W_A", corastream.AdaptAll, 1, spec.Layers},
		{"all, a W_A each", corastream.AdaptAll, c.prompts, spec.Layers},
		{"all, a W_A each, every layer", corastream.AdaptAll, c.prompts, c.Sizes.model.layers},
	} {
		if err := c.part(ctx, "scores, "+k.name, partLimit, func() error {
			s := spec
			s.Adapt, s.Layers = k.adapt, k.layers
			ws, p := c.weights(s, gpu, k.users, c.prompts)
			if k.adapt == "" {
				ws, p = nil, nil
			}
			before := c.count.Count()
			off, err := scoresDiffer(ctx, cpu, gpu, prompts[:c.checkPrompts], firstWeights(ws, c.checkPrompts), p)
			if e := c.judge("scores, "+k.name, off, c.bound, err); e != nil || err != nil || c.count.Count() > before {
				return e // where the CPU answered, there is nothing to measure
			}
			_, took, err := bench.Repeat(c.length, func() error { _, err := gpu.Score(ctx, prompts, ws, p); return err })
			if err != nil {
				return err
			}
			c.set("scores, "+k.name, float64(c.prompts)/took.Seconds())
			return c.line("scores", map[string]any{
				"case": k.name, "prompts": c.prompts, "tokens_each": c.Sizes.length, "ms": millis(took), "prompts_per_s": float64(c.prompts) / took.Seconds(),
				"tflops": c.Sizes.model.flops(c.prompts*c.Sizes.length) / took.Seconds() / 1e12,
			})
		}); err != nil {
			return err
		}
	}
	if err := c.gradients(ctx, cpu, gpu, spec, c.titles(c.prompts)); err != nil {
		return err
	}
	if err := c.clicks(ctx, cpu, gpu, spec); err != nil {
		return err
	}
	if err := c.training(ctx, cpu, gpu, file, spec); err != nil {
		return err
	}
	return c.part(ctx, "freshness", partLimit, func() error { return c.freshness(ctx, gpu, dir, file, spec) })
}

// options are those of the random model: it reads bytes, so that a title has as many tokens.
func (c *checker) options(g *llm.GPU) llm.Options {
	o := llm.Default()
	o.Numerics, o.GPU, o.TitleTokens, o.ContextTokens = "bf16", g, 1024, 1024
	o.TopLayers, o.ReadLayer = min(4, c.Sizes.model.layers-1), 1
	o.Template = llm.Template{Item: "{title}\n#A:", History: "{history}\n{title}\n#A:"}
	return o
}

// gradients measures the way there and back that training takes, for each form of adaptation.
func (c *checker) gradients(ctx context.Context, cpu, gpu *llm.Model, spec generator.Spec, prompts []corastream.Prompt) error {
	for _, k := range []struct {
		adapt  corastream.Adapt
		layers int
	}{{corastream.AdaptAll, c.Sizes.model.layers}, {corastream.AdaptLast, gpu.Info().TopLayers}} {
		if err := c.part(ctx, "gradients, "+string(k.adapt), partLimit, func() error {
			s, n := spec, min(64, c.prompts)
			s.Adapt, s.Layers = k.adapt, k.layers
			ws, p := c.weights(s, gpu, n, n)
			labels := make([]float32, n)
			for i := range labels {
				labels[i] = float32(i % 2)
			}
			few, before := min(2, n), c.count.Count()
			a, err1 := cpu.Backward(ctx, prompts[:few], ws[:few], p, labels[:few])
			b, err2 := gpu.Backward(ctx, prompts[:few], ws[:few], p, labels[:few])
			off, err := math.Inf(1), errors.Join(err1, err2)
			if err == nil { // the angle between the gradients, as 1 - cosine
				var ab, aa, bb float64
				for i := range a.DW {
					for j, v := range a.DW[i] {
						w := float64(b.DW[i][j])
						ab, aa, bb = ab+float64(v)*w, aa+float64(v)*float64(v), bb+w*w
					}
				}
				off = 1 - ab/math.Sqrt(aa*bb)
			}
			if e := c.judge("gradients, "+string(k.adapt), off, .1, err); e != nil || err != nil || c.count.Count() > before {
				return e
			}
			_, took, err := bench.Repeat(c.length, func() error { _, err := gpu.Backward(ctx, prompts[:n], ws, p, labels); return err })
			if err != nil {
				return err
			}
			return c.line("gradients", map[string]any{"adapt": string(k.adapt), "rows": n, "tokens_each": c.Sizes.length, "ms": millis(took), "rows_per_s": float64(n) / took.Seconds()})
		}); err != nil {
			return err
		}
	}
	return nil
}

// clicks measures one token of each candidate through the top layers, and the reading of new items.
func (c *checker) clicks(ctx context.Context, cpu, gpu *llm.Model, spec generator.Spec) error {
	spec.Adapt, spec.Layers = corastream.AdaptLast, min(spec.Layers, gpu.Info().TopLayers)
	for _, n := range []int{c.Sizes.clicks, 16 * c.Sizes.clicks} {
		name := fmt.Sprintf("clicks, %d candidates", n)
		if err := c.part(ctx, name, partLimit, func() error {
			prompts := c.titles(n)
			ws, p := c.weights(spec, gpu, max(1, n/c.Sizes.clicks), n)
			before := c.count.Count()
			off, err := scoresDiffer(ctx, cpu, gpu, prompts[:c.checkPrompts], firstWeights(ws, c.checkPrompts), p)
			if e := c.judge(name, off, c.bound, err); e != nil || err != nil || c.count.Count() > before {
				return e
			}
			var times []float64
			for began := time.Now(); time.Since(began) < c.length || len(times) < 3; {
				t := time.Now()
				if _, err := gpu.Score(ctx, prompts, ws, p); err != nil {
					return err
				}
				times = append(times, millis(time.Since(t)))
			}
			slices.Sort(times)
			return c.line("click", map[string]any{"candidates": n, "p50_ms": times[len(times)/2], "p99_ms": times[len(times)*99/100], "runs": len(times)})
		}); err != nil {
			return err
		}
	}
	return c.part(ctx, "catalogue", partLimit, func() error {
		items := make([]corastream.Item, c.items)
		began := time.Now()
		for i, t := range c.titles(c.items) {
			items[i] = corastream.Item{ID: t.ItemID, Title: "new " + t.Title}
		}
		if _, err := gpu.Encode(ctx, items); err != nil {
			return err
		}
		took := time.Since(began)
		return c.line("catalogue", map[string]any{"items": c.items, "tokens_each": c.Sizes.length, "items_per_s": float64(c.items) / took.Seconds()})
	})
}

// whole makes prompts of so many tokens with a history, which no item's cache holds: they are read from the first token to the last.
func (c *checker) whole(n int) []corastream.Prompt {
	out := c.titles(n)
	for i := range out {
		half := len(out[i].Title) / 2
		out[i].History, out[i].Title = []string{out[i].Title[:half]}, out[i].Title[half+1:]
	}
	return out
}

// titles makes prompts of about the wanted number of tokens: the random model reads bytes.
func (c *checker) titles(n int) []corastream.Prompt {
	r := rand.New(rand.NewPCG(7, 8))
	out := make([]corastream.Prompt, n)
	for i := range out {
		b := make([]byte, c.Sizes.length-5)
		for j := range b {
			b[j] = byte('a' + r.IntN(26))
		}
		out[i] = corastream.Prompt{ItemID: fmt.Sprint(i), Title: string(b)}
	}
	return out
}

// weights makes W_A for n prompts of some users, in turn, with an item column.
func (c *checker) weights(spec generator.Spec, m *llm.Model, users, n int) ([]corastream.Weights, *corastream.Projection) {
	var all []corastream.Weights
	var p *corastream.Projection
	for u := range users {
		var ws []corastream.Weights
		ws, p = bench.RandomWeights(spec, m, 1)
		for i := range ws[0].User {
			ws[0].User[i] *= 1 + .1*float32(u%7)
		}
		all = append(all, ws[0])
	}
	out := make([]corastream.Weights, n)
	for i := range out {
		out[i] = all[i*users/n]
		out[i].Item, out[i].ItemScale = all[0].Item, float32(i%7)*.1
	}
	return out, p
}

func firstWeights(w []corastream.Weights, n int) []corastream.Weights {
	if w == nil {
		return nil
	}
	return w[:n]
}

// scoresDiffer is the largest difference of the two engines' scores over their root mean square.
func scoresDiffer(ctx context.Context, cpu, gpu *llm.Model, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection) (float64, error) {
	a, err1 := cpu.Score(ctx, prompts, w, p)
	b, err2 := gpu.Score(ctx, prompts, w, p)
	if err := errors.Join(err1, err2); err != nil {
		return math.Inf(1), err
	}
	flat := func(l []corastream.Logits) (v []float32) {
		for _, x := range l {
			v = append(v, x.Yes, x.No)
		}
		return v
	}
	return cuda.Compare(flat(a), flat(b)), nil
}

// millis gives a time in milliseconds with two decimals.
func millis(d time.Duration) float64 { return math.Round(float64(d)/1e4) / 100 }
