package train

import (
	"context"
	"fmt"
	"math"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/kernels/cuda"
)

// OnDevice has a step stay on the device where the frozen LLM computes: parameters, gradients and moments live there, the step's input
// rows go in, losses come out.
type OnDevice struct {
	Device   *cuda.Device
	Fallback *cuda.Fallback
	// Learn prepares the LLM's way there and back for an optimiser on the device.
	Learn func(ctx context.Context, on *cuda.Learning, p *corastream.Projection) (DeviceBackprop, error)
}

// DeviceBackprop is Backprop with P, dLoss/dP and dLoss/dW_A in device memory; back comes the mean loss. What fails is an error.
type DeviceBackprop interface {
	Backward(ctx context.Context, prompts []corastream.Prompt, w []corastream.Weights, labels []float32) (float32, error)
	Close() error
}

// resident is the run's trained state on a device. The host's copy is that of the last pull: what a lost device costs is the steps
// since, which are made again on the CPU, from the same draws.
type resident struct {
	*OnDevice
	r        *runner
	arena    *cuda.Arena
	backprop DeviceBackprop
	slot     map[string]int // of the arena, by the slice's name
	on       *cuda.Learning
	x, lin   *cuda.Buffer // input rows
	body     body
	// [rows][...]: raw (then its gradient), the linear path, 1/|raw|, dgain, and where W_A lies
	raw, path, inv, dgain, where *cuda.Buffer
	hosts                        [][]float32 // W_A on the host, by address alone: it is never downloaded

	behind bool // steps since the last pull
	pulled mark // the place of the last pull
}

// mark is what a step changes beside the trained slices.
type mark struct {
	step    int
	lossSum float64
	updates int
}

func (r *runner) mark(at *progress) mark { return mark{at.Step, at.LossSum, r.opt.step} }

// pullEvery bounds the steps that a lost device costs.
const pullEvery = 256

// toDevice moves the trained state to the device, where there is one with a form for the generator. What fails is counted and told.
func (r *runner) toDevice(ctx context.Context, at *progress) {
	on, spec := r.deps.OnDevice, &r.model.Spec
	if on == nil || spec.Size()%2 != 0 {
		return
	}
	d := &resident{OnDevice: on, r: r, slot: map[string]int{}, pulled: r.mark(at)}
	if err := d.open(ctx); err != nil {
		d.close()
		on.Fallback.Note(fmt.Errorf("training on the CPU: %w", err))
		return
	}
	r.device = d
}

func (r *runner) slices() []cuda.Slice {
	out := make([]cuda.Slice, len(r.opt.slots))
	for i, s := range r.opt.slots {
		out[i] = cuda.Slice{Data: s.data, First: s.first, Second: s.second}
	}
	return out
}

func (d *resident) open(ctx context.Context) error {
	r, n := d.r, d.r.cfg.Batch
	spec := &r.model.Spec
	in, lin := r.model.Inputs()
	size := spec.Size()
	d.body = newBody(spec, in, n)
	for i, s := range r.opt.slots {
		d.slot[s.name] = i
	}
	d.hosts = make([][]float32, n)
	for i := range d.hosts {
		d.hosts[i] = make([]float32, size)
		for j := range d.hosts[i] {
			d.hosts[i][j] = float32(math.NaN()) // should the device's copy have given way, the step fails instead of using it
		}
	}
	err := d.Device.Do(ctx, func(q *cuda.Queue) (err error) {
		if d.arena, err = q.NewArena(r.slices()); err != nil {
			return err
		}
		d.on = &cuda.Learning{Arena: d.arena, Slice: func(layer int, target string) int {
			return d.slot[slotName(corastream.Slot{Layer: layer, Target: corastream.Target(target)})]
		}}
		for _, b := range []struct {
			at     **cuda.Buffer
			values int
		}{{&d.on.DW, n * size}, {&d.raw, n * size}, {&d.path, n * size}, {&d.x, n * in}, {&d.lin, n * lin}, {&d.inv, n}, {&d.dgain, n}, {&d.where, n}} {
			if *b.at, err = q.Alloc(4 * int64(b.values)); err != nil {
				return err
			}
		}
		for at, values := range d.body.buffers() {
			if *at, err = q.Alloc(4 * int64(values)); err != nil {
				return err
			}
		}
		return q.Wait()
	})
	if err != nil {
		return err
	}
	d.backprop, err = d.Learn(ctx, d.on, r.proj)
	return err
}

// close frees the device's memory, now or with the device's next work.
func (d *resident) close() {
	if d.backprop != nil {
		if err := d.backprop.Close(); err != nil {
			d.Fallback.Note(fmt.Errorf("training's memory on the GPU: %w", err))
		}
	}
	list := []*cuda.Buffer{d.x, d.lin, d.raw, d.path, d.inv, d.dgain, d.where}
	if d.body != nil {
		for at := range d.body.buffers() {
			list = append(list, *at)
		}
	}
	if d.arena != nil {
		list = append(list, d.arena.Buffers()...)
	}
	if d.on != nil {
		list = append(list, d.on.DW)
	}
	d.Device.Discard(list)
}

// step is runner.step on the device: nothing has moved when it fails.
func (d *resident) step(ctx context.Context, x, lin []float32, prompts []corastream.Prompt, labels []float32, rate float64) (float64, error) {
	w, err := d.forward(ctx, x, lin)
	if err != nil {
		return 0, err
	}
	loss, err := d.backprop.Backward(ctx, prompts, w, labels)
	if err != nil {
		return 0, err
	}
	if v := float64(loss); math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, fmt.Errorf("loss %v: %w", loss, cuda.ErrNotFinite)
	}
	if err := d.backward(ctx, rate); err != nil {
		return 0, err
	}
	d.behind = true
	return float64(loss), nil
}

// forward makes W_A of the rows, in bfloat16, where the LLM finds it.
func (d *resident) forward(ctx context.Context, x, lin []float32) ([]corastream.Weights, error) {
	spec, n := &d.r.model.Spec, len(d.hosts)
	_, lins := d.r.model.Inputs()
	size := spec.Size()
	w := make([]corastream.Weights, n)
	return w, d.Device.Do(ctx, func(q *cuda.Queue) error {
		store, err := q.Rows(cuda.RowsFormat{Width: size, BF16: true}, 2*n)
		if err != nil {
			return err
		}
		where := make([]int32, n)
		for i, host := range d.hosts {
			where[i] = int32(store.Place(host))
			w[i] = corastream.Weights{Hidden: spec.Hidden, Rank: spec.Rank, User: host}
		}
		for _, err := range []error{cuda.Upload(q, d.x, 0, x), cuda.Upload(q, d.lin, 0, lin), cuda.Upload(q, d.where, 0, where)} {
			if err != nil {
				return err
			}
		}
		s := &steps{d: d, q: q}
		d.body.forward(s, d.x)
		s.affine(n, d.body.made(), d.output(), d.raw)
		path, gain := cuda.Pointer(0), cuda.Pointer(0)
		if lins > 0 {
			path, gain = d.path.At(0), s.param("gain")
			s.launch("learn_affine", [3]int{tiles(size, 128), tiles(n, 16), 1}, 0, d.lin, s.param("lin.weight"), cuda.Pointer(0), n, lins, size, size, d.path)
		}
		s.launch("learn_unit", [3]int{n, 1, 1}, 16, d.raw, path, gain, float32(generator.NormEps), size, d.where, store.Buffer(), d.inv)
		return s.err
	})
}

// output is the generator's last layer.
func (d *resident) output() linear {
	size := d.r.model.Spec.Size()
	return linear{"out", d.body.width(), size, size}
}

// backward takes dLoss/dW_A through the generator and moves all slices by one step of AdamW.
func (d *resident) backward(ctx context.Context, rate float64) error {
	r, n := d.r, len(d.hosts)
	_, lins := r.model.Inputs()
	size := r.model.Spec.Size()
	updates := r.opt.step + 1
	rates, c2 := r.opt.rates(updates, rate)
	clip := make([]float32, 2)
	err := d.Device.Do(ctx, func(q *cuda.Queue) error {
		s := &steps{d: d, q: q}
		gain := cuda.Pointer(0)
		if lins > 0 {
			gain = s.param("gain")
		}
		s.launch("learn_unit_back", [3]int{n, 1, 1}, 16, d.raw, d.on.DW, gain, d.inv, size, d.dgain)
		if lins > 0 {
			s.outer(n, d.lin, lins, d.on.DW, size, size, "lin.weight")
			s.outer(n, nil, 1, d.dgain, 1, 1, "gain")
		}
		s.learnt(n, d.body.made(), d.output(), d.raw)
		s.back(n, d.raw, d.output(), d.body.last(), false, d.body.dmade())
		d.body.backward(s, d.x)
		if s.err != nil {
			return s.err
		}
		return d.arena.Step(q, cuda.AdamW{Beta1: beta1, Beta2: beta2, Eps: adamEps, C2: c2, Clip: float32(r.cfg.Clip)}, rates, clip)
	})
	if err != nil {
		return err
	}
	if clip[1]-clip[1] != 0 {
		return fmt.Errorf("the gradient's length is %v: %w", clip[1], cuda.ErrNotFinite) // and nothing has moved
	}
	r.opt.step = updates
	return nil
}

// pull brings the host's copy of the trained state up to the device's. When the device can not give it, the run goes back to the last
// pull, at, and on with the CPU.
func (r *runner) pull(at *progress) {
	d := r.device
	if d == nil || !d.behind {
		return
	}
	fresh := make([]cuda.Slice, len(r.opt.slots))
	for i, s := range r.opt.slots {
		fresh[i] = cuda.Slice{Data: make([]float32, len(s.data)), First: make([]float32, len(s.data)), Second: make([]float32, len(s.data))}
	}
	err := d.Device.Do(context.Background(), func(q *cuda.Queue) error { return d.arena.Download(q, fresh) })
	if err != nil {
		d.Fallback.Note(fmt.Errorf("training goes back %d steps, and on with the CPU: %w", at.Step-d.pulled.step, err))
		at.Step, at.LossSum, r.opt.step = d.pulled.step, d.pulled.lossSum, d.pulled.updates
		r.leaveDevice()
		return
	}
	for i, s := range r.opt.slots {
		copy(s.data, fresh[i].Data)
		copy(s.first, fresh[i].First)
		copy(s.second, fresh[i].Second)
	}
	d.behind, d.pulled = false, r.mark(at)
}

// failed takes the run from the device to the CPU, with all that the device still gives.
func (r *runner) failed(err error, at *progress) {
	r.device.Fallback.Note(fmt.Errorf("training goes on with the CPU: %w", err))
	r.pull(at)
	r.leaveDevice()
}

func (r *runner) leaveDevice() {
	if r.device != nil {
		r.device.close()
		r.device = nil
	}
}
