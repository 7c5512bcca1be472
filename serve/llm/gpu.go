package llm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/kernels/cuda"
)

// GPU is a device that a model may compute on, with what to do when it can not.
type GPU struct {
	Device   *cuda.Device
	Fallback *cuda.Fallback
}

// device is the model on a GPU: weights in bfloat16, products on tensor cores, residuals in
// float32. All fields but those of the first block are used within Device.Do alone, one call at a
// time, so they need no lock.
//
// The weights are loaded by the first call and again after a failure. A model that does not fit
// leaves nothing on the device, and for loadPause every call is answered by the CPU without a try.
type device struct {
	*GPU
	m     *Model
	shape cuda.AttendShape
	ldh   int // padded widths: of norms, q|k|v, o's input, the feed-forward
	ldq   int
	ldo   int
	ldf   int

	loaded     bool
	again      time.Time // no attempt to load before
	closed     bool
	held       []*cuda.Buffer // what load made
	layers     []deviceLayer
	embedding  *cuda.Buffer // [vocab][hidden] floats
	angles     *cuda.Buffer // [context][headDim]: cosines, sines
	yes, no    *cuda.Buffer // rows of the head times the last norm
	pages      pages
	deltas     []*deviceDelta // most recently used first
	back       []*backLayer   // by layer, once it went back
	tapes      *cuda.Buffer
	work       activationBuffers
	plan, tail planBuffers
	fork       planBuffers // of the rows from the first adapted layer on: uploaded while those below it run
}

// deviceLayer holds a layer's weights. Rows of q and k lie so that what turns together is side by side, rows of gate and up
// alternate (see kernels/cuda/src/gemm.cu).
type deviceLayer struct {
	attnNorm, ffnNorm, bias  *cuda.Buffer
	qkv, o, gateUp, down     *cuda.Buffer
	inQKV, inO, inGU, inDown int // padded row widths
}

// loadPause is how long nobody tries to load the weights after they did not fit: an attempt takes as long as a start.
const loadPause = 30 * time.Second

// newDevice tells whether the GPU has a form for the model; nil means the CPU.
func newDevice(m *Model, g *GPU) (*device, error) {
	if g == nil || m.opts.Numerics != "bf16" {
		return nil, nil
	}
	a := m.arch
	if !a.plain() {
		return nil, fmt.Errorf("llm: the GPU has no form of the architecture %s", a.name)
	}
	if tensor, yes := m.weights.laterBiases(); yes {
		return nil, fmt.Errorf("llm: the GPU has no form of a model with %s", tensor)
	}
	d := &device{GPU: g, m: m, shape: cuda.AttendShape{HeadDim: a.headDim, Group: a.heads / a.kvHeads, KVHeads: a.kvHeads}}
	d.ldh, d.ldq, d.ldo, d.ldf = cuda.Padded(a.hidden), cuda.Padded(a.qkvWidth()), cuda.Padded(a.qWidth()), cuda.Padded(a.ffn)
	if err := d.shape.Check(); err != nil {
		return nil, err
	}
	if a.hidden%4 != 0 {
		return nil, fmt.Errorf("llm: hidden size %d is no multiple of 4, which the GPU's norm needs", a.hidden)
	}
	d.pages.init(m)
	return d, nil
}

// startDevice puts the model on the GPU that the options name. What fails is counted and told, and the CPU serves.
func (m *Model) startDevice() {
	d, err := newDevice(m, m.opts.GPU)
	if err != nil {
		m.opts.GPU.Fallback.Note(err)
		return
	}
	if m.gpu = d; d == nil {
		return
	}
	if err := d.do(context.Background(), func(*cuda.Queue) error { return nil }); err != nil {
		d.Fallback.Note(err)
	}
}

// do runs f with the weights at hand. An error of any sort makes the caller compute on the CPU
// (onGPU), so do never tries twice.
func (d *device) do(ctx context.Context, f func(q *cuda.Queue) error) error {
	return d.Device.Do(ctx, func(q *cuda.Queue) error {
		if d.closed {
			return errors.New("llm: the model is closed")
		}
		if !d.loaded && time.Now().Before(d.again) {
			return fmt.Errorf("weights onto the GPU, tried within the last %v: %w", loadPause, cuda.ErrMemory)
		}
		if err := d.load(q); err != nil {
			d.again = time.Now().Add(loadPause)
			return fmt.Errorf("weights onto the GPU: %w", err)
		}
		return f(q)
	})
}

// close frees the device's memory. closed is set within Do, after all calls before it and before
// all after it.
func (d *device) close() error {
	if d == nil {
		return nil
	}
	err := d.Device.Do(context.Background(), func(q *cuda.Queue) error {
		d.closed = true
		return d.drop(q)
	})
	if errors.Is(err, cuda.ErrLost) {
		return nil // its memory went with it
	}
	return err
}

// drop frees all that the model holds.
func (d *device) drop(q *cuda.Queue) error {
	var errs []error
	for _, b := range d.held {
		errs = append(errs, q.Free(b))
	}
	for _, x := range d.deltas {
		errs = append(errs, x.free(q))
	}
	errs = append(errs, d.work.free(q), d.plan.free(q), d.tail.free(q), d.fork.free(q), d.pages.free(q), q.Free(d.tapes))
	d.held, d.layers, d.deltas, d.back, d.tapes, d.loaded = nil, nil, nil, nil, nil, false
	return errors.Join(errs...)
}

// load puts the model on the device once; when it does not fit, nothing stays.
func (d *device) load(q *cuda.Queue) (err error) {
	if d.loaded {
		return nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.drop(q))
		}
	}()
	m, a := d.m, d.m.arch
	d.layers = make([]deviceLayer, a.layers)
	for l := range d.layers {
		if err := d.loadLayer(q, l); err != nil {
			return err
		}
	}
	table := make([]float32, a.vocab*a.hidden)
	if err := m.embedding.Float32(table); err != nil {
		return err
	}
	half := a.headDim / 2
	angles := make([]float32, m.opts.ContextTokens*a.headDim)
	for p := range m.opts.ContextTokens {
		cos, sin := m.angles(int32(p))
		copy(angles[p*a.headDim:], cos)
		copy(angles[p*a.headDim+half:], sin)
	}
	normed := func(row []float32) []float32 {
		y := make([]float32, len(row))
		for i, v := range row {
			y[i] = v * m.outNorm[i]
		}
		return y
	}
	for _, x := range []struct {
		at **cuda.Buffer
		v  []float32
	}{{&d.embedding, table}, {&d.angles, angles}, {&d.yes, normed(m.yes)}, {&d.no, normed(m.no)}} {
		if len(x.v) == 0 {
			continue // the paper's score has no " No"
		}
		if err := hold(d, q, x.at, x.v); err != nil {
			return err
		}
	}
	if err := q.Wait(); err != nil {
		return err
	}
	d.loaded = true
	return nil
}

// hold uploads v to a buffer of its own, freed with the model.
func hold[T cuda.Value](d *device, q *cuda.Queue, at **cuda.Buffer, v []T) error {
	b, err := cuda.Put(q, v)
	if b != nil {
		d.held = append(d.held, b)
	}
	*at = b
	return err
}

func (d *device) loadLayer(q *cuda.Queue, l int) error {
	m, a, to := d.m, d.m.arch, &d.layers[l]
	from := &m.weights.layers[l]
	if err := errors.Join(hold(d, q, &to.attnNorm, from.attnNorm), hold(d, q, &to.ffnNorm, from.ffnNorm)); err != nil {
		return err
	}
	if from.bias != nil {
		bias := make([]float32, len(from.bias))
		for i := range bias {
			bias[i] = from.bias[a.turnedFrom(i)]
		}
		if err := hold(d, q, &to.bias, bias); err != nil {
			return err
		}
	}
	places := [...]struct {
		at    **cuda.Buffer
		ld    *int
		order func(int) int
	}{{&to.qkv, &to.inQKV, a.turnedFrom}, {&to.o, &to.inO, nil}, {&to.gateUp, &to.inGU, a.alternateFrom}, {&to.down, &to.inDown, nil}}
	for i, lin := range a.linears(l) {
		dense, err := m.weights.dense(lin)
		if err != nil {
			return err
		}
		ld := cuda.Padded(lin.in)
		rows := make([]uint16, lin.out()*ld)
		for n := range lin.out() {
			src := n
			if places[i].order != nil {
				src = places[i].order(n)
			}
			kernels.BF16FromF32(rows[n*ld:n*ld+lin.in], dense[src*lin.in:(src+1)*lin.in])
		}
		*places[i].ld = ld
		if err := hold(d, q, places[i].at, rows); err != nil {
			return err
		}
	}
	return nil
}

// turnedFrom tells which output of q|k|v stands at place i on the device: there the two values that turn together are neighbours,
// here they are half a head apart. Values of v stay.
func (a arch) turnedFrom(i int) int {
	if i >= a.qWidth()+a.kvWidth() {
		return i
	}
	head, j := i/a.headDim, i%a.headDim
	return head*a.headDim + j/2 + j%2*(a.headDim/2)
}

// alternateFrom does so for gate|up.
func (a arch) alternateFrom(i int) int { return i/2 + i%2*a.ffn }

// deviceDelta is a prepared projection on the device: (alpha/r) P^T of each layer [out][padded rank].
type deviceDelta struct {
	of     *prepared
	ld     int
	layers []struct{ qkv, o, gateUp *cuda.Buffer }
}

func (x *deviceDelta) free(q *cuda.Queue) error {
	var errs []error
	for _, b := range x.buffers() {
		errs = append(errs, q.Free(b))
	}
	return errors.Join(errs...)
}

func (x *deviceDelta) buffers() (list []*cuda.Buffer) {
	for _, l := range x.layers {
		list = append(list, l.qkv, l.o, l.gateUp)
	}
	return list
}

// delta finds a projection on the device, or puts it there.
func (d *device) delta(q *cuda.Queue, p *delta) (*deviceDelta, error) {
	if p == nil {
		return nil, nil
	}
	for i, x := range d.deltas {
		if x.of == p.prepared {
			copy(d.deltas[1:i+1], d.deltas[:i])
			d.deltas[0] = x
			return x, nil
		}
	}
	a := d.m.arch
	x := &deviceDelta{of: p.prepared, ld: cuda.Padded(p.rank), layers: make([]struct{ qkv, o, gateUp *cuda.Buffer }, a.layers)}
	for l := range x.layers {
		src, dst := &p.layers[l], &x.layers[l]
		for _, y := range []struct {
			p     *projection
			at    **cuda.Buffer
			order func(int) int
		}{{src.qkv, &dst.qkv, a.turnedFrom}, {src.o, &dst.o, nil}, {src.gateUp, &dst.gateUp, a.alternateFrom}} {
			if y.p == nil {
				continue
			}
			rows := make([]float32, y.p.out*p.rank)
			for n := range y.p.out {
				from := n
				if y.order != nil {
					from = y.order(n)
				}
				for r := range p.rank {
					rows[n*p.rank+r] = p.scale * y.p.values[r*y.p.out+from]
				}
			}
			var err error
			if *y.at, err = cuda.Put(q, cuda.BF16Rows(rows, y.p.out, p.rank)); err != nil {
				return nil, errors.Join(err, x.free(q))
			}
		}
	}
	d.deltas = append([]*deviceDelta{x}, d.deltas...)
	if len(d.deltas) > readyLimit {
		d.Device.Discard(d.deltas[readyLimit].buffers()) // freed when nothing is under way: it would have to be waited for now
		d.deltas = d.deltas[:readyLimit]
	}
	return x, nil
}

// onGPU runs f on the device. false means that the CPU has to answer: there is no device, or it failed, which is counted and told.
// An error is the caller's own: its context has ended.
func (m *Model) onGPU(ctx context.Context, what string, f func(d *device) error) (bool, error) {
	if m.gpu == nil {
		return false, nil
	}
	err := f(m.gpu)
	if err == nil {
		return true, nil
	}
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if m.closed.Load() {
		return false, errors.New("llm: the model is closed")
	}
	m.gpu.Fallback.Note(fmt.Errorf("%s on the CPU: %w", what, err))
	return false, nil
}

// finiteLogits refuses what must never be published.
func finiteLogits(v []float32) error {
	for i, x := range v {
		if x-x != 0 {
			return fmt.Errorf("logit %d: %w", i, cuda.ErrNotFinite)
		}
	}
	return nil
}

// deviceOf chooses the device's numerics: auto becomes bf16 where a GPU computes.
func (o *Options) deviceNumerics() {
	if o.GPU != nil && o.Numerics == "auto" {
		o.Numerics = "bf16"
	}
}

func (o Options) validateDevice() error {
	switch {
	case o.Device == "":
		return nil // as auto: options made in code
	case o.Device == "gpu" && !cuda.Built:
		return corastream.Usagef("llm.device", "choose auto or cpu, or start bin/corastream-gpu (`make cuda`)", "this binary has no GPU path")
	case o.Device == "gpu" && o.Numerics != "auto" && o.Numerics != "bf16":
		return corastream.Usagef("llm.numerics", "choose auto or bf16, or device: cpu", "the GPU computes in bf16, not in %s", o.Numerics)
	}
	return oneOf("llm.device", o.Device, "auto", "cpu", "gpu")
}
