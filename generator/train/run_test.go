package train

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// TestTrainingReadsContentThroughTheLLM: the generator never sees what an item is, so that ranking as well as CF, and much
// worse with other items' prompts, shows that the content came through the LLM's states.
func TestTrainingReadsContentThroughTheLLM(t *testing.T) {
	for _, kind := range []string{generator.KindMLP, generator.KindQFormer} {
		t.Run(kind, func(t *testing.T) {
			data, llm := world(1, 60, 80, 4500)
			cfg := testConfig()
			cfg.Spec.Kind = kind
			ckpt, report, err := Run(t.Context(), cfg, data, depsFor(llm), nil)
			if err != nil {
				t.Fatal(err)
			}
			cf, cora, shuffled := report.Valid["cf"].AUC, report.Valid["cora"].AUC, report.Valid["cora-shuffled"].AUC
			t.Logf("cf %.4f cora %.4f shuffled %.4f decoder %.3f epochs %+v best %d", cf, cora, shuffled, report.DecoderFit, report.Epochs, report.Best)
			if cf < 0.7 {
				t.Fatalf("cf AUC %v: the test's world is not learnt", cf)
			}
			if cora < cf-0.02 || shuffled > cora-0.05 {
				t.Errorf("cora %v, cf %v, shuffled %v: content does not come through the LLM", cora, cf, shuffled)
			}
			if got := ckpt.Figures["valid.cora.auc"]; got != cora {
				t.Errorf("the checkpoint says %v, the report %v", got, cora)
			}
			if got, last := ckpt.Figures[generator.TrainedUntil], data.Train[len(data.Train)-1].Time; got != float64(last.Unix()) {
				t.Errorf("the checkpoint was trained until %v, it says; the log ends at %v", got, last)
			}
		})
	}
}

// TestPaperInputsTrain: concat(e_u, e_i) with a Q-Former and no linear path learns from the start too.
func TestPaperInputsTrain(t *testing.T) {
	data, llm := world(2, 40, 60, 3000)
	cfg := testConfig()
	cfg.Spec.Kind, cfg.Spec.Inputs, cfg.Spec.Linear = generator.KindQFormer, generator.InputsPaper, false
	_, report, err := Run(t.Context(), cfg, data, depsFor(llm), nil)
	if err != nil {
		t.Fatal(err)
	}
	first, last := report.Epochs[0], report.Epochs[report.Best-1]
	t.Logf("%+v %+v", report.Epochs, report.Valid)
	if last.AUC < 0.6 || last.Loss >= first.Loss && report.Best > 1 {
		t.Errorf("epochs %+v: nothing was learnt", report.Epochs)
	}
}

// TestStoppedRunEndsInTheSameBytes stops a run in the middle of an epoch, goes on in a new one, and compares the checkpoints.
func TestStoppedRunEndsInTheSameBytes(t *testing.T) {
	data, llm := world(3, 40, 60, 2500)
	whole := testConfig()
	whole.Out = filepath.Join(t.TempDir(), "whole")
	if _, _, err := Run(t.Context(), whole, data, depsFor(llm), nil); err != nil {
		t.Fatal(err)
	}
	parts := whole
	parts.Out = filepath.Join(t.TempDir(), "parts")
	for _, phase := range []string{"align 1/4", "align 3/4", "labels 1/1"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, _, err := Run(ctx, parts, data, depsFor(llm), func(p Progress) {
			if p.Phase == phase && p.Done == p.Total/2 {
				cancel()
			}
		})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped in %s: %v", phase, err)
		}
		if _, err := os.Stat(parts.Out); err == nil {
			t.Fatalf("stopped in %s, and yet there is a checkpoint", phase)
		}
	}
	before := llm.calls
	_, report, err := Run(t.Context(), parts, data, depsFor(llm), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Resumed || llm.calls-before > len(data.Train)/testConfig().Batch/3 {
		t.Errorf("resumed %v, %d steps to go from the middle of the last epoch", report.Resumed, llm.calls-before)
	}
	a, errA := os.ReadFile(whole.Out)
	b, errB := os.ReadFile(parts.Out)
	if errA != nil || errB != nil || string(a) != string(b) {
		t.Errorf("the checkpoints differ (%d and %d bytes; %v, %v)", len(a), len(b), errA, errB)
	}
	if _, err := os.Stat(parts.Out + ".state"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state file is left behind: %v", err)
	}
}

func TestStateOfAnotherRunIsRefused(t *testing.T) {
	data, llm := world(3, 40, 60, 2500)
	cfg := testConfig()
	cfg.Out = filepath.Join(t.TempDir(), "ckpt")
	ctx, cancel := context.WithCancel(t.Context())
	_, _, err := Run(ctx, cfg, data, depsFor(llm), func(p Progress) {
		if p.Phase == "align 1/4" && p.Done == 3 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	state, err := os.ReadFile(cfg.Out + ".state")
	if err != nil {
		t.Fatal(err)
	}
	var usage *corastream.UsageError
	cfg.Rate *= 2
	if _, _, err = Run(t.Context(), cfg, data, depsFor(llm), nil); !errors.As(err, &usage) || !strings.Contains(err.Error(), "another run") {
		t.Errorf("another rate: %v", err)
	}
	cfg.Rate /= 2
	if err := os.WriteFile(cfg.Out+".state", state[:len(state)-7], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err = Run(t.Context(), cfg, data, depsFor(llm), nil); !errors.As(err, &usage) || !strings.Contains(err.Error(), "cut short") {
		t.Errorf("a state file cut short: %v", err)
	}
}

type brokenLLM struct {
	*linearLLM
	spoil func(*corastream.Gradients)
}

func (b brokenLLM) Backward(ctx context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection, labels []float32) (*corastream.Gradients, error) {
	g, err := b.linearLLM.Backward(ctx, prompts, w, p, labels)
	b.spoil(g)
	return g, err
}

func TestBadGradientsStopTheRun(t *testing.T) {
	data, llm := world(4, 30, 40, 1500)
	nan := float32(math.NaN())
	for what, spoil := range map[string]func(*corastream.Gradients){
		"loss":          func(g *corastream.Gradients) { g.Loss = nan },
		"not a number":  func(g *corastream.Gradients) { g.DW[0][3] = nan },
		"gradients for": func(g *corastream.Gradients) { g.DW = g.DW[1:] },
		"dLoss/dP":      func(g *corastream.Gradients) { delete(g.DP, corastream.Slot{Layer: 4, Target: "o"}) },
	} {
		deps := depsFor(llm)
		deps.Backprop = brokenLLM{llm, spoil}
		if _, _, err := Run(t.Context(), testConfig(), data, deps, nil); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want an error naming %q, got %v", what, err)
		}
	}
}

// TestALogOfClicksAloneTrains: each click is set against an item drawn by popularity, which no count of clicks could tell from it.
func TestALogOfClicksAloneTrains(t *testing.T) {
	data, llm := world(1, 60, 80, 9000)
	clicks := func(log []corastream.Event) (out []corastream.Event) {
		for _, ev := range log {
			if ev.Positive() {
				ev.Implicit = true
				out = append(out, ev)
			}
		}
		return out
	}
	data.Train, data.Valid = clicks(data.Train), clicks(data.Valid)
	_, report, err := Run(t.Context(), testConfig(), data, depsFor(llm), nil)
	if err != nil {
		t.Fatal(err)
	}
	cora, shuffled := report.Valid["cora"].AUC, report.Valid["cora-shuffled"].AUC
	t.Logf("%d rows, %d drawn, cf %.4f cora %.4f shuffled %.4f", report.Rows, report.Sampled, report.Valid["cf"].AUC, cora, shuffled)
	if report.Sampled*5 < report.Rows*2 {
		t.Errorf("%d of %d rows and more were drawn", report.Sampled, report.Rows)
	}
	if cf := report.Valid["cf"].AUC; cf < 0.58 || cora < cf-0.05 || shuffled > cora-0.05 {
		t.Errorf("cf %v, cora %v, shuffled %v: nothing was learnt from clicks", cf, cora, shuffled)
	}
}

func TestWhatDoesNotFitIsRefusedByName(t *testing.T) {
	data, llm := world(5, 30, 40, 1500)
	cases := map[string]func(*Config, *Data, *Deps){
		"generator.hidden":  func(c *Config, _ *Data, _ *Deps) { c.Spec.Hidden = 14 },
		"generator.layers":  func(c *Config, _ *Data, d *Deps) { d.LLM.Layers = 1 },
		"generator.targets": func(c *Config, _ *Data, d *Deps) { d.LLM.In = map[corastream.Target]int{"q": 12, "o": 16} },
		"two items or more": func(_ *Config, d *Data, _ *Deps) { d.Items = d.Items[:1] },
		"generator.linear":  func(c *Config, _ *Data, _ *Deps) { c.Spec.Inputs = generator.InputsPaper },
		"train.batch":       func(c *Config, _ *Data, _ *Deps) { c.Batch = 1 },
		"train.rate":        func(c *Config, _ *Data, _ *Deps) { c.Rate = math.NaN() },
		"longer log":        func(_ *Config, d *Data, _ *Deps) { d.Train = d.Train[:20] },
		"both labels": func(_ *Config, d *Data, _ *Deps) {
			d.Train = append([]corastream.Event(nil), d.Train...)
			for i := range d.Train {
				d.Train[i].Label = 0
			}
		},
	}
	for want, change := range cases {
		cfg, data, deps := testConfig(), data, depsFor(llm)
		change(&cfg, &data, &deps)
		var usage *corastream.UsageError
		if _, _, err := Run(t.Context(), cfg, data, deps, nil); !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("want a usage error naming %q, got %v", want, err)
		}
	}
}
