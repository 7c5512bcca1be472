package generator

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/kernels/cuda"
)

// GPU is a device that stages may make W_A on, with what to do when it can not.
type GPU struct {
	Device   *cuda.Device
	Fallback *cuda.Fallback
	// BF16 has W_A kept in bfloat16, as an LLM in bfloat16 reads it: half the bytes to write, and the host's copy is rounded too. Right
	// where the LLM's numerics are bf16 (always, where it computes on the same device); it finds no float32 W_A there.
	BF16 bool
}

// UseGPU has the stage make W_A on a device from now on, with a copy of every matrix staying there for the LLM. What the device
// fails to make, or makes with a NaN in it, is made on the CPU within the same call, counted and told once. Products are
// in bfloat16 there (a W_A differs from the CPU's by some 2^-9), so the cache starts anew.
func (s *Stage) UseGPU(g *GPU) error {
	s.gpu = g
	return s.Swap(s.Checkpoint())
}

// onDevice is one checkpoint's generator on a device.
type onDevice struct {
	*GPU
	model *Model
	held  *resident // nil until first used
	slots int       // matrices that stay on the device
}

// resident are a model's tensors on the device; freed when the model is collected.
type resident struct {
	qf           *deviceQFormer // nil: the MLP
	qfTensors    []*cuda.Buffer
	w0, b0, gram *cuda.Buffer
	out          *cuda.Buffer // [size][ld] bf16: out.weight, out.bias and lin.weight by output
	ld           int
	x, lin       *cuda.Buffer
	rows, where  *cuda.Buffer
}

// widestMLP bounds the Gram matrix, which is made on the CPU for every checkpoint.
const widestMLP = 512

// newOnDevice says whether a model has a form for the device.
func newOnDevice(g *GPU, m *Model, cacheBytes int64) *onDevice {
	fits := m.Spec.Kind == KindMLP && m.Spec.Width <= widestMLP || qformerFits(m.Spec)
	if g == nil || !fits || m.Spec.Size()%2 != 0 {
		return nil
	}
	return &onDevice{GPU: g, model: m, slots: int(min(cacheBytes/int64(4*m.Spec.Size()), 1<<14))}
}

// deviceCall is the work on some rows, uploaded and ready to launch within one Do.
type deviceCall struct {
	store  *cuda.Rows
	where  []int32 // the slot of each row's matrix
	launch func() error
}

// forward is Model.Forward on the device. It returns a row for each input, of its own memory, bound to its copy on the device.
func (d *onDevice) forward(ctx context.Context, x, lin []float32, rows int) ([][]float32, error) {
	size := d.model.Spec.Size()
	made := make([][]float32, rows)
	err := d.Device.Do(ctx, func(q *cuda.Queue) error {
		b, err := d.prepare(q, x, lin, rows)
		if err != nil {
			return err
		}
		if err := b.launch(); err != nil {
			return err
		}
		all, then := make([]float32, rows*size), []func(){}
		for lo, hi := 0, 0; lo < rows; lo = hi { // neighbouring slots come back in one copy
			for hi = lo + 1; hi < rows && b.where[hi] == b.where[hi-1]+1; hi++ {
			}
			widen, err := b.store.Download(q, all[lo*size:hi*size], int(b.where[lo]))
			if err != nil {
				return err
			}
			then = append(then, widen)
		}
		if err := q.Wait(); err != nil {
			return err
		}
		for _, widen := range then {
			widen()
		}
		for i := range made {
			made[i] = append([]float32(nil), all[i*size:(i+1)*size]...) // of its own: a part would keep the whole batch alive
			if !finiteRow(made[i]) {
				return fmt.Errorf("weights of row %d: %w", i, cuda.ErrNotFinite)
			}
			b.store.Bind(int(b.where[i]), made[i])
		}
		return nil
	})
	return made, err
}

// prepare uploads the inputs and takes slots for the outputs.
func (d *onDevice) prepare(q *cuda.Queue, x, lin []float32, rows int) (*deviceCall, error) {
	if err := d.load(q); err != nil {
		return nil, err
	}
	m, h := d.model, d.held
	size, in, lins := m.Spec.Size(), m.Spec.inputs(), len(lin)/rows
	store, err := q.Rows(cuda.RowsFormat{Width: size, BF16: d.BF16}, max(d.slots, 2*rows))
	if err != nil {
		return nil, err
	}
	b := &deviceCall{store: store, where: make([]int32, rows)}
	for i := range b.where {
		b.where[i] = int32(store.Take())
	}
	if h.qf != nil {
		if err := errors.Join(q.Grow(&h.where, int64(4*rows)), h.qf.upload(q, m, x, lin, rows, d.BF16)); err != nil {
			return nil, err
		}
		b.launch = func() error { return h.qf.launch(q, m, rows, store.Buffer().At(0), h.where.At(0), d.BF16) }
		return b, cuda.Upload(q, h.where, 0, b.where)
	}
	for _, x := range []struct {
		at **cuda.Buffer
		n  int
	}{{&h.x, 4 * rows * in}, {&h.lin, 4 * rows * lins}, {&h.rows, 2 * rows * h.ld}, {&h.where, 4 * rows}} {
		if err := q.Grow(x.at, int64(x.n)); err != nil {
			return nil, err
		}
	}
	for _, err := range []error{cuda.Upload(q, h.x, 0, x), cuda.Upload(q, h.lin, 0, lin), cuda.Upload(q, h.where, 0, b.where)} {
		if err != nil {
			return nil, err
		}
	}
	gain := float32(1)
	if m.Spec.Linear {
		gain = m.at["gain"][0]
	}
	width, end := m.Spec.Width, "floats"
	if d.BF16 {
		end = "bf16"
	}
	b.launch = func() error {
		if err := q.Launch("mlp_rows", [3]int{rows, 1, 1}, [3]int{128, 1, 1}, 4*(in+width+1+4), h.x, h.lin, h.w0, h.b0, h.gram, gain,
			float32(NormEps), in, width, lins, h.rows, h.ld); err != nil {
			return err
		}
		return q.Gemm(cuda.Gemm{
			End: end, M: rows, N: size, K: h.ld, A: h.rows.At(0), LDA: h.ld, W: h.out.At(0), LDW: h.ld,
			Out: store.Buffer().At(0), LDO: size, Where: h.where.At(0),
		})
	}
	return b, nil
}

// load puts the tensors on the device once.
func (d *onDevice) load(q *cuda.Queue) error {
	if d.held != nil {
		return nil
	}
	m := d.model
	if m.Spec.Kind == KindQFormer {
		qf, list, err := loadQFormer(q, m)
		if err == nil {
			d.keep(&resident{qf: qf, qfTensors: list})
		}
		return err
	}
	width, size := m.Spec.Width, m.Spec.Size()
	lins := 0
	if m.Spec.Linear {
		lins = m.Spec.linearInputs()
	}
	k := width + 1 + lins
	ld := cuda.Padded(k)
	rows := make([]float32, k*size) // [k][size]
	copy(rows, m.out.weight)
	copy(rows[width*size:], m.out.bias)
	if lins > 0 {
		copy(rows[(width+1)*size:], m.at["lin.weight"])
	}
	byOutput := make([]float32, size*k)
	for i := range k {
		for j, v := range rows[i*size : (i+1)*size] {
			byOutput[j*k+i] = v
		}
	}
	h := &resident{ld: ld}
	var list []*cuda.Buffer
	put := func(at **cuda.Buffer, bytes int, up func(*cuda.Buffer) error) error {
		b, err := q.Alloc(int64(bytes))
		if err != nil {
			return err
		}
		*at, list = b, append(list, b)
		return up(b)
	}
	floats := func(at **cuda.Buffer, v []float32) error {
		return put(at, 4*len(v), func(b *cuda.Buffer) error { return cuda.Upload(q, b, 0, v) })
	}
	err := put(&h.out, 2*size*ld, func(b *cuda.Buffer) error { return cuda.Upload(q, b, 0, cuda.BF16Rows(byOutput, size, k)) })
	for _, f := range []func() error{
		func() error { return floats(&h.w0, m.at["mlp.0.weight"]) },
		func() error { return floats(&h.b0, m.at["mlp.0.bias"]) },
		func() error { return floats(&h.gram, gram(rows[:(width+1)*size], width+1, size)) },
	} {
		if err == nil {
			err = f()
		}
	}
	if err != nil {
		for _, b := range list {
			_ = q.Free(b) // the first error is the one to tell
		}
		return err
	}
	d.keep(h)
	return nil
}

// keep holds the tensors until the model is collected.
func (d *onDevice) keep(h *resident) {
	d.held = h
	device := d.Device
	runtime.AddCleanup(d.model, func(h *resident) {
		list := append([]*cuda.Buffer{h.w0, h.b0, h.gram, h.out, h.x, h.lin, h.rows, h.where}, h.qfTensors...)
		if h.qf != nil {
			for _, b := range h.qf.buffers() {
				list = append(list, *b)
			}
		}
		device.Discard(list)
	}, h)
}

// gram is v v^T of rows v [n][width], summed in float64.
func gram(v []float32, n, width int) []float32 {
	g := make([]float32, n*n)
	kernels.Parallel(runtime.GOMAXPROCS(0), n, func(lo, hi, _ int) {
		for i := lo; i < hi; i++ {
			a := v[i*width : (i+1)*width]
			for j := range i + 1 {
				var s float64
				for k, x := range v[j*width : (j+1)*width] {
					s += float64(x) * float64(a[k])
				}
				g[i*n+j], g[j*n+i] = float32(s), float32(s)
			}
		}
	})
	return g
}

func finiteRow(v []float32) bool {
	var s float32
	for _, x := range v {
		s += x - x // 0, or NaN for a NaN or an infinity
	}
	return s == 0
}

// DeviceChoice is where a stage computes: auto, cpu or gpu.
type DeviceChoice string

// The choices: auto takes a GPU when this binary has the path and the machine a device; gpu warns when there is none.
const (
	DeviceAuto DeviceChoice = "auto"
	DeviceCPU  DeviceChoice = "cpu"
	DeviceGPU  DeviceChoice = "gpu"
)

func (c StageConfig) validateDevice() error {
	if c.Device == DeviceGPU && !cuda.Built {
		return corastream.Usagef("generator.device", "choose auto or cpu, or start bin/corastream-gpu (`make cuda`)", "this binary has no GPU path")
	}
	if c.Device == "" {
		return nil // as auto: a configuration made in code
	}
	return oneOf("generator.device", c.Device, DeviceAuto, DeviceCPU, DeviceGPU)
}
