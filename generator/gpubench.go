package generator

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/corastream/corastream/kernels/cuda"
)

// DeviceBench measures a generator on a device; `corastream-gpu gpu-check` uses it.
type DeviceBench struct {
	d      *onDevice
	x, lin []float32
	rows   int
}

// NewDeviceBench draws the inputs of some rows.
func NewDeviceBench(m *Model, g *GPU, rows int) (*DeviceBench, error) {
	nx, nl := m.Inputs()
	r := rand.New(rand.NewPCG(1, uint64(rows)))
	noise := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	b := &DeviceBench{d: newOnDevice(g, m, int64(4*m.Spec.Size()*rows)), x: noise(rows * nx), lin: noise(rows * nl), rows: rows}
	if b.d == nil {
		return nil, cuda.ErrNotBuilt
	}
	return b, nil
}

// Parity is the largest difference to Model.Forward, as cuda.Compare has it.
func (b *DeviceBench) Parity(ctx context.Context) (float64, error) {
	made, err := b.d.forward(ctx, b.x, b.lin, b.rows)
	if err != nil {
		return 0, err
	}
	size := b.d.model.Spec.Size()
	want, got := make([]float32, b.rows*size), make([]float32, 0, b.rows*size)
	b.d.model.Forward(want, b.x, b.lin, b.rows)
	for _, row := range made {
		got = append(got, row...)
	}
	return cuda.Compare(want, got), nil
}

// Kernels is the best time of the kernels alone, in milliseconds: inputs and outputs stay on the device.
func (b *DeviceBench) Kernels(ctx context.Context, length time.Duration) (best float64, err error) {
	err = b.d.Device.Do(ctx, func(q *cuda.Queue) error {
		run, err := b.d.prepare(q, b.x, b.lin, b.rows)
		if err != nil {
			return err
		}
		for began := time.Now(); best == 0 || time.Since(began) < length; {
			ms, err := q.Time(run.launch)
			if err != nil {
				return err
			}
			if best == 0 || ms < best {
				best = ms
			}
		}
		return nil
	})
	return best, err
}

// Whole makes the rows once, copies to and from the host included.
func (b *DeviceBench) Whole(ctx context.Context) error {
	_, err := b.d.forward(ctx, b.x, b.lin, b.rows)
	return err
}
