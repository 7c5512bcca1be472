package llm

import (
	"context"
	"errors"
	"fmt"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels/cuda"
)

// GPU is the device that the model computes on, with the count of what the CPU did in its place; nil: the CPU.
func (m *Model) GPU() *GPU {
	if m.gpu == nil {
		return nil
	}
	return m.gpu.GPU
}

// DeviceBackprop is Backward for an optimiser on the model's own device: P is read where the optimiser keeps it, dLoss/dP and dLoss/dW_A are
// left beside it, and only losses come back. What fails is an error: nothing is made good on the CPU here.
type DeviceBackprop struct {
	d       *device
	on      *cuda.Learning
	with    *prepared // shapes: its values are those of the start
	x       *deviceDelta
	back    [][3]*cuda.Buffer
	columns [][3]*cuda.Buffer // where each column of P begins in the arena, and its step
}

// Learn prepares a projection whose values lie in on. p gives its shape.
func (m *Model) Learn(ctx context.Context, on *cuda.Learning, p *corastream.Projection) (*DeviceBackprop, error) {
	if m.gpu == nil {
		return nil, errors.New("llm: the model does not compute on a device")
	}
	with, err := prepare(m.arch, p, false)
	if err != nil {
		return nil, err
	}
	l := &DeviceBackprop{d: m.gpu, on: on, with: with}
	err = m.gpu.do(ctx, func(q *cuda.Queue) error {
		err := l.allocate(q)
		if err == nil {
			err = q.Wait()
		}
		if err != nil {
			err = errors.Join(err, l.free(q))
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("llm: put P on the device: %w", err)
	}
	return l, nil
}

// allocate makes room for P's forms and uploads where its columns come from, in the device's order.
func (l *DeviceBackprop) allocate(q *cuda.Queue) error {
	a := l.d.m.arch
	even := l.with.rank + l.with.rank%2
	l.x = &deviceDelta{of: l.with, ld: cuda.Padded(l.with.rank), layers: make([]struct{ qkv, o, gateUp *cuda.Buffer }, a.layers)}
	l.back, l.columns = make([][3]*cuda.Buffer, a.layers), make([][3]*cuda.Buffer, a.layers)
	for layer := range l.with.layers {
		to := &l.x.layers[layer]
		down := [...]**cuda.Buffer{&to.qkv, &to.o, &to.gateUp}
		for k, p := range l.with.layers[layer].all() {
			if p == nil {
				continue
			}
			begin, step := make([]int32, p.out), make([]int32, p.out)
			for n := range begin {
				begin[n] = -1
			}
			for _, c := range p.slots {
				at := l.on.At(l.on.Slice(c.slot.Layer, string(c.slot.Target)))
				for n := c.lo; n < c.hi; n++ {
					begin[n], step[n] = int32(at+n-c.lo), int32(c.hi-c.lo)
				}
			}
			order := [...]func(int) int{a.turnedFrom, func(n int) int { return n }, a.alternateFrom}[k]
			columns := make([]int32, 2*p.out)
			for n := range p.out {
				columns[2*n], columns[2*n+1] = begin[order(n)], step[order(n)]
			}
			var err error
			if l.columns[layer][k], err = cuda.Put(q, columns); err != nil {
				return err
			}
			if *down[k], err = q.Alloc(int64(2 * p.out * l.x.ld)); err != nil {
				return err
			}
			if l.back[layer][k], err = q.Alloc(int64(2 * even * cuda.Padded(p.out))); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close frees what Learn made.
func (l *DeviceBackprop) Close() error {
	err := l.d.Device.Do(context.Background(), l.free)
	if errors.Is(err, cuda.ErrLost) {
		return nil // its memory went with it
	}
	return err
}

func (l *DeviceBackprop) free(q *cuda.Queue) error {
	errs := []error{l.x.free(q)}
	for _, list := range [][][3]*cuda.Buffer{l.back, l.columns} {
		for _, bs := range list {
			for _, b := range bs {
				errs = append(errs, q.Free(b))
			}
		}
	}
	return errors.Join(errs...)
}

// forms writes P as products read it, from what the optimiser holds now, and clears the gradients.
func (l *DeviceBackprop) forms(q *cuda.Queue) error {
	if err := q.Zero(l.on.Grads, 0, l.on.Grads.Bytes()); err != nil {
		return err
	}
	for layer := range l.with.layers {
		to := &l.x.layers[layer]
		down := [...]*cuda.Buffer{to.qkv, to.o, to.gateUp}
		for k, p := range l.with.layers[layer].all() {
			if p == nil {
				continue
			}
			if err := q.PForms(l.on.Params.At(0), l.columns[layer][k].At(0), l.with.scale, p.out, l.with.rank, down[k].At(0), l.x.ld,
				l.back[layer][k].At(0), cuda.Padded(p.out)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Backward does what Model.Backward does and gives the loss, the mean over the prompts. W_A is found on the device by its host copy.
func (l *DeviceBackprop) Backward(ctx context.Context, prompts []corastream.Prompt, w []corastream.Weights, labels []float32) (float32, error) {
	m, size := l.d.m, l.d.m.arch.hidden*l.with.rank
	if len(prompts) == 0 || len(labels) != len(prompts) || len(w) != len(prompts) {
		return 0, fmt.Errorf("llm: %d prompts with %d weights and %d labels", len(prompts), len(w), len(labels))
	}
	if room := l.on.DW.Bytes() / int64(4*size); room < int64(len(prompts)) {
		return 0, fmt.Errorf("llm: %d prompts, and room for the gradients of %d", len(prompts), room)
	}
	for i := range w {
		if len(w[i].User) != size || w[i].Item != nil {
			return 0, fmt.Errorf("llm: weights %d hold %d values, %d are due, and no item's: %w", i, len(w[i].User), size, corastream.ErrMismatch)
		}
		if !(labels[i] >= 0 && labels[i] <= 1) {
			return 0, fmt.Errorf("llm: label %d is %v; labels are from 0 to 1", i, labels[i])
		}
	}
	ts, err := m.render(prompts)
	if err != nil {
		return 0, err
	}
	b := &backprop{
		d: &delta{prepared: l.with, w: w}, labels: labels, loss: make([]float64, len(prompts)),
		g: &corastream.Gradients{Scores: make([]float32, len(prompts))},
	}
	if err := l.d.do(ctx, l.forms); err != nil {
		return 0, err
	}
	one, all := m.split(prompts, b.d)
	if err := l.d.backAll(ctx, b, one, all, ts, l); err != nil {
		return 0, err
	}
	var sum float64
	for _, x := range b.loss {
		sum += x
	}
	return float32(sum / float64(len(b.loss))), nil
}

// projections gives P for the way there and back: the learner's own, or uploaded.
func (d *device) projections(q *cuda.Queue, with *delta, on *DeviceBackprop) (x *deviceDelta, back [][3]*cuda.Buffer, free func() error, err error) {
	if on != nil {
		return on.x, on.back, func() error { return nil }, nil
	}
	if x, err = d.delta(q, with); err != nil {
		return nil, nil, nil, err
	}
	back, free, err = d.backs(q, with)
	return x, back, free, err
}

// leave gives the gradients to the optimiser; only the logits come to the host.
func (pb *passBack) leave(b *backprop, order []int, on *DeviceBackprop) error {
	d, q, n, r := pb.d, pb.q, len(order), pb.with.rank
	z := make([]float32, n)
	errs := []error{cuda.Download(q, z, d.tapes, int64(pb.g.z-d.tapes.At(0))), q.PutRows(on.on.DW.At(0), pb.g.dw, pb.order, n, d.m.arch.hidden*r)}
	for l := pb.with.lowest; l < d.m.arch.layers; l++ {
		for k, p := range pb.with.layers[l].all() {
			if p != nil {
				errs = append(errs, q.PTake(pb.g.dp[l][k], on.columns[l][k].At(0), on.with.scale, p.out, r, on.on.Grads.At(0)))
			}
		}
	}
	if err := errors.Join(append(errs, q.Wait())...); err != nil {
		return err
	}
	for i, j := range order {
		if z[i]-z[i] != 0 {
			return fmt.Errorf("logit %d: %w", j, cuda.ErrNotFinite)
		}
		b.score(j, z[i])
	}
	return nil
}
