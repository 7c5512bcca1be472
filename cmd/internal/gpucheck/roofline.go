//go:build gpu

package gpucheck

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/training"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/generator/train"
	"github.com/corastream/corastream/kernels/cuda"
	"github.com/corastream/corastream/serve/llm"
)

// counting runs gpu-check's cases on a device that counts operations and bytes of each launch, and needs none: the engines make the
// launches that they would make, so that the count follows the code.
type counting struct {
	*checker
	count *cuda.Counter
	cases []countedCase
}

type countedCase struct {
	name           string
	units          int
	unit           string
	kernels        []cuda.Counted
	sent, received float64
}

// small is the part of a case's roofline below which kernels are told together.
const small = .02

// Roofline counts each kernel's operations and bytes in the cases of gpu-check, and writes a table.
func Roofline(ctx context.Context, s Sizes, w io.Writer) error {
	d, count, err := cuda.OpenCounter(cuda.H200)
	if err != nil {
		return err
	}
	defer d.Close()
	c := &counting{checker: &checker{Sizes: s, w: w, d: d, figures: map[string]float64{}}, count: count}
	c.checker.count.Warn = func(err error) { fmt.Fprintln(os.Stderr, "not counted:", err) }
	if err := errors.Join(c.weightsMade(ctx), c.prompted(ctx)); err != nil {
		return err
	}
	if n := c.checker.count.Count(); n > 0 {
		return fmt.Errorf("%d answers came from the CPU: the count is not whole", n)
	}
	return c.print()
}

// one counts the second call of f: the first makes room and loads what stays.
func (c *counting) one(name string, units int, unit string, f func() error) error {
	if err := f(); err != nil {
		return err
	}
	c.count.Reset()
	if err := f(); err != nil {
		return err
	}
	x := countedCase{name: name, units: units, unit: unit, kernels: c.count.Counted()}
	x.sent, x.received = c.count.Copied()
	c.cases = append(c.cases, x)
	return nil
}

func (c *counting) weightsMade(ctx context.Context) error {
	paper := c.paper()
	for _, x := range []struct {
		name string
		spec generator.Spec
		bf16 bool
	}{{"W_A, mlp, float32", c.spec, false}, {"W_A, mlp, bf16", c.spec, true}, {"W_A, the paper's Q-Former, bf16", paper, true}} {
		m, err := generator.NewModel(x.spec, 5)
		if err != nil {
			return err
		}
		rows := c.rows[len(c.rows)-1]
		b, err := generator.NewDeviceBench(m, &generator.GPU{Device: c.d, Fallback: &c.checker.count, BF16: x.bf16}, rows)
		if err != nil {
			return err
		}
		if err := c.one(fmt.Sprintf("%s, %d users", x.name, rows), rows, "W_A", func() error { return b.Whole(ctx) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *counting) prompted(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "corastream-roofline")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "random.gguf")
	if err := c.Sizes.model.write(file); err != nil {
		return err
	}
	m, err := llm.Open(file, c.options(&llm.GPU{Device: c.d, Fallback: &c.checker.count}))
	if err != nil {
		return err
	}
	defer m.Close()
	spec := c.spec
	spec.Hidden = c.Sizes.model.hidden
	prompts := c.whole(c.prompts)
	for _, k := range []struct {
		name   string
		adapt  corastream.Adapt
		layers int
	}{{"scored", "", 0}, {"scored, a W_A each on all tokens of " + fmt.Sprint(spec.Layers) + " layers", corastream.AdaptAll, spec.Layers}, {"scored, a W_A each on all tokens of all layers", corastream.AdaptAll, c.Sizes.model.layers}} {
		s := spec
		s.Adapt, s.Layers = k.adapt, k.layers
		ws, p := c.weights(s, m, c.prompts, c.prompts)
		if k.adapt == "" {
			ws, p = nil, nil
		}
		if err := c.one(fmt.Sprintf("%d prompts of %d tokens %s", c.prompts, c.Sizes.length, k.name), c.prompts, "prompts", func() error {
			_, err := m.Score(ctx, prompts, ws, p)
			return err
		}); err != nil {
			return err
		}
	}
	last := spec
	last.Adapt, last.Layers = corastream.AdaptLast, min(spec.Layers, m.Info().TopLayers)
	ws, p := c.weights(last, m, 1, c.Sizes.clicks)
	candidates := c.titles(c.Sizes.clicks)
	if err := c.one(fmt.Sprintf("a click, %d candidates, top %d layers", c.Sizes.clicks, last.Layers), 1, "clicks", func() error {
		_, err := m.Score(ctx, candidates, ws, p)
		return err
	}); err != nil {
		return err
	}
	paper := c.paper()
	paper.Hidden = spec.Hidden
	for _, k := range []struct {
		spec   generator.Spec
		adapt  corastream.Adapt
		layers int
	}{{spec, corastream.AdaptAll, c.Sizes.model.layers}, {spec, corastream.AdaptLast, m.Info().TopLayers}, {paper, corastream.AdaptAll, c.Sizes.model.layers}} {
		config := train.Default()
		config.Spec = k.spec
		config.Spec.Adapt, config.Spec.Layers, config.Spec.Linear = k.adapt, k.layers, false
		b, err := train.NewBench(ctx, config, training.Deps(cfstream.Default(), m), c.titles(c.trainRows))
		if err != nil {
			return err
		}
		if !b.OnDevice() {
			return errors.New("training does not stay on the device")
		}
		err = c.one(fmt.Sprintf("a training step, %s, %d rows, adapt %s, %d layers", k.spec.Kind, c.trainRows, k.adapt, k.layers), c.trainRows, "rows", func() error {
			_, err := b.Step(ctx)
			return err
		})
		if err := errors.Join(err, b.Close()); err != nil {
			return err
		}
	}
	return nil
}

// print writes two Markdown tables: the cases, and their kernels.
func (c *counting) print() error {
	p := cuda.H200
	var err error
	printf := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(c.w, format, args...)
		}
	}
	printf("| case | launches | GFLOP, bf16 | GFLOP, float32 | MB of memory | MB sent, received | at the roofline | that is, a second |\n|---|---|---|---|---|---|---|---|\n")
	totals := make([]float64, len(c.cases))
	for i, x := range c.cases {
		var all cuda.Work
		for _, k := range x.kernels {
			s, _ := k.Seconds(p)
			totals[i] += s
			all.Launches += k.Launches
			all.Tensor, all.Float = all.Tensor+k.Tensor, all.Float+k.Float
			all.BytesRead, all.BytesWrite = all.BytesRead+k.BytesRead, all.BytesWrite+k.BytesWrite
		}
		printf("| %s | %d | %s | %s | %s | %s, %s | %s ms | %s %s |\n", x.name, all.Launches, figure(all.Tensor/1e9), figure(all.Float/1e9), figure(all.Bytes()/1e6),
			figure(x.sent/1e6), figure(x.received/1e6), figure(1e3*totals[i]), figure(float64(x.units)/totals[i]), x.unit)
	}
	printf("\n| case and kernel | launches | GFLOP, bf16 | GFLOP, float32 | MB read | MB written | at the roofline | of the case | limit |\n|---|---|---|---|---|---|---|---|---|\n")
	for i, x := range c.cases {
		printf("| **%s** | | | | | | | | |\n", x.name)
		var rest cuda.Work
		var left float64
		others := 0
		for _, k := range x.kernels {
			s, bound := k.Seconds(p)
			if s < small*totals[i] {
				others++
				left += s
				rest.Launches += k.Launches
				rest.Tensor, rest.Float = rest.Tensor+k.Tensor, rest.Float+k.Float
				rest.BytesRead, rest.BytesWrite = rest.BytesRead+k.BytesRead, rest.BytesWrite+k.BytesWrite
				continue
			}
			printf("| %s | %d | %s | %s | %s | %s | %s us | %.0f %% | %s |\n", k.Kernel, k.Launches, figure(k.Tensor/1e9), figure(k.Float/1e9), figure(k.BytesRead/1e6),
				figure(k.BytesWrite/1e6), figure(1e6*s), 100*s/totals[i], bound)
		}
		if others > 0 {
			printf("| %d others | %d | %s | %s | %s | %s | %s us | %.0f %% | |\n", others, rest.Launches, figure(rest.Tensor/1e9), figure(rest.Float/1e9), figure(rest.BytesRead/1e6),
				figure(rest.BytesWrite/1e6), figure(1e6*left), 100*left/totals[i])
		}
	}
	return err
}

// figure writes three digits.
func figure(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v >= 1e6:
		return fmt.Sprintf("%.3g M", v/1e6)
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}
