package train

import (
	"context"
	"math/rand/v2"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// Bench makes training steps on invented users; `corastream-gpu gpu-check` measures with it.
type Bench struct {
	r     *runner
	batch []example
	at    progress
}

// NewBench starts a generator for prompts, which are the rows of every step, on the device that deps name or else on the CPU.
func NewBench(ctx context.Context, cfg Config, deps Deps, prompts []corastream.Prompt) (*Bench, error) {
	cfg.Batch = len(prompts)
	r, err := newRunner(cfg, Data{}, deps, nil)
	if err != nil {
		return nil, err
	}
	if r.model, err = generator.NewModel(r.cfg.Spec, r.cfg.Seed); err != nil {
		return nil, err
	}
	if err := r.trainable(); err != nil {
		return nil, err
	}
	b := &Bench{r: r}
	draw := rand.New(rand.NewPCG(r.cfg.Seed, 77))
	vector := func() corastream.Embedding {
		e := corastream.Embedding{Vec: make([]float32, r.cfg.Spec.Factors+r.cfg.Spec.Taste), Bias: float32(draw.NormFloat64())}
		for i := range e.Vec {
			e.Vec[i] = float32(draw.NormFloat64())
		}
		return e
	}
	for i, p := range prompts {
		b.batch = append(b.batch, example{pair: corastream.Pair{UserID: "user", ItemID: p.ItemID, User: vector(), Item: vector()}, prompt: p, label: float32(i % 2)})
	}
	r.toDevice(ctx, &b.at)
	return b, nil
}

// OnDevice says whether steps stay on a device.
func (b *Bench) OnDevice() bool { return b.r.device != nil }

// Step makes one step and gives its loss.
func (b *Bench) Step(ctx context.Context) (float64, error) {
	b.at.Step++
	return b.r.step(ctx, b.batch, schedule(b.at.Step-1, b.r.cfg.WarmUp, 0))
}

// Close frees what was made.
func (b *Bench) Close() error {
	b.r.leaveDevice()
	return b.r.graph.close()
}
