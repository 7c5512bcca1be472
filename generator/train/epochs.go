package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/corastream/corastream"
)

// progress is how far a training has come. A state file keeps it with the trained slices.
type progress struct {
	Epoch, Step int // the next one
	LossSum     float64
	Best        int     // the best epoch so far, from 1; 0 is the start
	BestAUC     float64 // on the held-out rows
	Epochs      []Epoch
	best        [][]float32
}

// epochs trains until the schedule or the patience ends and leaves the best epoch's values in the model.
func (r *runner) epochs(ctx context.Context, rows *snapshots) error {
	at, err := r.resume()
	if err != nil {
		return err
	}
	r.toDevice(ctx, at)
	defer r.leaveDevice()
	r.clock.steps(len(rows.train) / r.cfg.Batch * (r.cfg.Align + r.cfg.Labels))
	total := r.cfg.Align + r.cfg.Labels
	for at.Epoch < total && at.Epoch-at.Best < r.cfg.Patience {
		if err := r.epoch(ctx, rows, at); err != nil {
			if ctx.Err() != nil { // a stop, not a failure: keep what was done
				if e := r.saveState(at); e != nil {
					return fmt.Errorf("%w; and the state was not kept: %w", err, e)
				}
			}
			return err
		}
	}
	if at.Best == 0 {
		return fmt.Errorf("no epoch gave a usable AUC on the held-out rows: lower train.rate (%v)", r.cfg.Rate)
	}
	r.restore(at.best)
	r.report.Best, r.report.Epochs = at.Best, at.Epochs
	return nil
}

// epoch runs the rest of one epoch and evaluates it.
func (r *runner) epoch(ctx context.Context, rows *snapshots, at *progress) error {
	steps := len(rows.train) / r.cfg.Batch
	phase := r.phase(at.Epoch)
	order := rand.New(rand.NewPCG(r.cfg.Seed, uint64(at.Epoch)+1)).Perm(len(rows.train))
	for at.Step < steps {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		batch := r.minibatch(rows.train, order, at)
		r.clock.begin()
		loss, err := r.step(ctx, batch, schedule(at.Epoch*steps+at.Step, r.cfg.WarmUp, steps*(r.cfg.Align+r.cfg.Labels)))
		if err != nil && r.device != nil && ctx.Err() == nil {
			r.failed(err, at)
			continue
		}
		if err != nil {
			return fmt.Errorf("%s, step %d: %w", phase, at.Step, err)
		}
		at.LossSum += loss
		at.Step++
		r.clock.step(phase, at, steps)
		if r.clock.stateDue(r.cfg.StateEvery) {
			if err := r.saveState(at); err != nil {
				return err
			}
		}
		if at.Step == steps || at.Step%pullEvery == 0 {
			r.pull(at) // it may take the step back
		}
	}
	scores, err := r.score(ctx, rows.holdout, nil, "evaluate")
	if err != nil {
		return err
	}
	auc := figuresOf(scores, rows.holdout).AUC
	at.Epochs = append(at.Epochs, Epoch{Phase: phase, Loss: at.LossSum / float64(steps), AUC: auc})
	at.Epoch, at.Step, at.LossSum = at.Epoch+1, 0, 0
	if auc > at.BestAUC {
		at.Best, at.BestAUC, at.best = at.Epoch, auc, r.best()
	}
	r.tell(Progress{Phase: phase, Done: steps, Total: steps, Loss: at.Epochs[len(at.Epochs)-1].Loss, AUC: auc})
	return r.saveState(at)
}

func (r *runner) phase(epoch int) string {
	if epoch < r.cfg.Align {
		return fmt.Sprintf("align %d/%d", epoch+1, r.cfg.Align)
	}
	return fmt.Sprintf("labels %d/%d", epoch+1-r.cfg.Align, r.cfg.Labels)
}

// example is a row as the LLM sees it: perhaps with another row's user and the CF score as its label.
type example struct {
	pair   corastream.Pair
	prompt corastream.Prompt
	label  float32
}

// minibatch draws the rows of a step. Its draws depend on seed, epoch and step alone, so that a resumed run makes the same.
func (r *runner) minibatch(rows []row, order []int, at *progress) []example {
	rnd := rand.New(rand.NewPCG(r.cfg.Seed^0x5eed, uint64(at.Epoch)<<32|uint64(at.Step)))
	swapped := r.cfg.Swapped
	if at.Epoch < r.cfg.Align {
		swapped = 1
	}
	out := make([]example, r.cfg.Batch)
	for i := range out {
		x := &rows[order[at.Step*r.cfg.Batch+i]]
		out[i] = example{pair: x.pair, prompt: x.prompt, label: x.label}
		if rnd.Float64() < swapped {
			user := &rows[rnd.IntN(len(rows))].pair
			out[i].pair.UserID, out[i].pair.User, out[i].pair.Mu = user.UserID, user.User, user.Mu
			out[i].label = out[i].pair.P()
		}
	}
	return out
}

// step runs one batch forward and backward through generator and LLM and moves the parameters; the loss is the batch's mean.
func (r *runner) step(ctx context.Context, batch []example, rate float64) (float64, error) {
	n, size := len(batch), r.model.Spec.Size()
	pairs := make([]*corastream.Pair, n)
	prompts, labels := make([]corastream.Prompt, n), make([]float32, n)
	for i := range batch {
		pairs[i], prompts[i], labels[i] = &batch[i].pair, batch[i].prompt, batch[i].label
	}
	x, lin, err := r.inputs(pairs)
	if err != nil {
		return 0, err
	}
	if r.device != nil {
		return r.device.step(ctx, x, lin, prompts, labels, rate)
	}
	got, err := r.deps.Backprop.Backward(ctx, prompts, r.weights(x, lin, n), r.proj, labels)
	if err != nil {
		return 0, err
	}
	if loss := float64(got.Loss); math.IsNaN(loss) || math.IsInf(loss, 0) || len(got.DW) != n {
		return 0, fmt.Errorf("the LLM's backward pass gave loss %v and %d gradients for %d rows", got.Loss, len(got.DW), n)
	}
	upstream := make([]float32, n*size)
	for i, d := range got.DW {
		if len(d) != size {
			return 0, fmt.Errorf("dLoss/dW_A of row %d has %d numbers, W_A has %d", i, len(d), size)
		}
		copy(upstream[i*size:], d)
	}
	if err := r.graph.run(x, lin, upstream); err != nil {
		return 0, err
	}
	slots := r.model.Spec.Slots(r.deps.LLM.Layers)
	of := r.opt.slots[len(r.opt.slots)-len(slots):]
	for i, slot := range slots {
		if len(got.DP[slot]) != len(of[i].grad) {
			return 0, fmt.Errorf("dLoss/dP of %s has %d numbers, P has %d", of[i].name, len(got.DP[slot]), len(of[i].grad))
		}
		copy(of[i].grad, got.DP[slot])
	}
	if l := r.opt.length(); math.IsNaN(l) || math.IsInf(l, 0) {
		return 0, fmt.Errorf("the gradient is not a number")
	}
	r.opt.update(rate, r.cfg.Clip)
	return float64(got.Loss), nil
}

// inputs gathers the generator's input rows.
func (r *runner) inputs(pairs []*corastream.Pair) (x, lin []float32, err error) {
	nx, nl := r.model.Inputs()
	x, lin = make([]float32, len(pairs)*nx), make([]float32, len(pairs)*nl)
	for i, p := range pairs {
		var l []float32
		if nl > 0 {
			l = lin[i*nl : (i+1)*nl]
		}
		if err := r.model.UserInput(x[i*nx:(i+1)*nx], l, p); err != nil {
			return nil, nil, err
		}
		if nl > 0 {
			l[r.model.Spec.Taste] += p.ItemScale(r.model.Spec.Factors)
		}
	}
	return x, lin, nil
}

// weights computes W_A of n input rows.
func (r *runner) weights(x, lin []float32, n int) []corastream.Weights {
	spec := &r.model.Spec
	w := make([]float32, n*spec.Size())
	r.model.Forward(w, x, lin, n)
	out := make([]corastream.Weights, n)
	for i := range out {
		out[i] = corastream.Weights{Hidden: spec.Hidden, Rank: spec.Rank, User: w[i*spec.Size() : (i+1)*spec.Size()]}
	}
	return out
}
