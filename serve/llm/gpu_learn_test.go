//go:build gpu

package llm

import (
	"errors"
	"fmt"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels/cuda"
	"github.com/corastream/corastream/kernels/cuda/cudatest"
)

// What a DeviceBackprop leaves on the device for P that lies there are the values that Backward brings to the host, bit by bit; and it follows
// P when an optimiser moves it.
func TestGPULearnerLeavesBackwardsGradients(t *testing.T) {
	d := cudatest.Open(t)
	for _, c := range []struct {
		shape   shape
		adapt   corastream.Adapt
		history bool
		lowest  int
		targets []corastream.Target
	}{
		{tinyLlama, corastream.AdaptLast, false, tinyLlama.layers - 2, allTargets},
		{tinyQwen, corastream.AdaptSuffix, true, 1, allTargets},
		{tinyQwen, corastream.AdaptAll, true, tinyQwen.layers - 1, []corastream.Target{corastream.TargetV, corastream.TargetGate, corastream.TargetK}},
	} {
		t.Run(fmt.Sprintf("%s/%s/%v", c.shape.arch, c.adapt, c.targets), func(t *testing.T) {
			f := &cuda.Fallback{Warn: func(err error) { t.Error(err) }}
			m := c.shape.open(t, onDevice(d, f))
			ps, ws := pairs(m, 7, 3, 3, c.history, 41)
			for i := range ws {
				ws[i].Item, ws[i].ItemScale = nil, 0
			}
			labels := []float32{1, 0, .3, 1, 0, 1, 0}
			p := project(m, 3, c.adapt, c.lowest, c.targets, 42)
			var slots []corastream.Slot
			slices := []cuda.Slice{{Data: make([]float32, 11), First: make([]float32, 11), Second: make([]float32, 11)}} // another's
			for s, v := range p.P {
				slots = append(slots, s)
				slices = append(slices, cuda.Slice{Data: v, First: make([]float32, len(v)), Second: make([]float32, len(v))})
			}
			size, used := m.arch.hidden*3, d.Used()
			on := &cuda.Learning{Slice: func(layer int, target string) int {
				for i, s := range slots {
					if s.Layer == layer && string(s.Target) == target {
						return i + 1
					}
				}
				return -1
			}}
			if err := d.Do(t.Context(), func(q *cuda.Queue) (err error) {
				if on.Arena, err = q.NewArena(slices); err != nil {
					return err
				}
				on.DW, err = q.Alloc(int64(4 * len(ps) * size))
				return err
			}); err != nil {
				t.Fatal(err)
			}
			l, err := m.Learn(t.Context(), on, p)
			if err != nil {
				t.Fatal(err)
			}
			for round := range 2 {
				want, err := m.Backward(t.Context(), ps, ws, p, labels)
				if err != nil {
					t.Fatal(err)
				}
				loss, err := l.Backward(t.Context(), ps, ws, labels)
				if err != nil {
					t.Fatal(err)
				}
				dw, dp := make([]float32, len(ps)*size), make([][]float32, len(slots))
				if err := d.Do(t.Context(), func(q *cuda.Queue) error {
					errs := []error{cuda.Download(q, dw, on.DW, 0)}
					for i, s := range slots {
						dp[i] = make([]float32, len(p.P[s]))
						errs = append(errs, cuda.Download(q, dp[i], on.Grads, 4*int64(on.At(i+1))))
					}
					return errors.Join(errs...)
				}); err != nil {
					t.Fatal(err)
				}
				if loss != want.Loss {
					t.Errorf("round %d: loss %v, want %v", round, loss, want.Loss)
				}
				for i := range ps {
					if off := cuda.Compare(want.DW[i], dw[i*size:(i+1)*size]); off != 0 {
						t.Errorf("round %d: dW of row %d is off by %.3g", round, i, off)
					}
				}
				for i, s := range slots {
					if off := cuda.Compare(want.DP[s], dp[i]); off != 0 || cuda.Compare(want.DP[s], make([]float32, len(dp[i]))) == 0 {
						t.Errorf("round %d: dP of %v is off by %.3g", round, s, off)
					}
				}
				for i, s := range slots { // an optimiser's step
					for j := range p.P[s] {
						p.P[s][j] += .1 * float32(j%5)
					}
					if err := d.Do(t.Context(), func(q *cuda.Queue) error { return cuda.Upload(q, on.Params, 4*int64(on.At(i+1)), p.P[s]) }); err != nil {
						t.Fatal(err)
					}
				}
			}
			if f.Count() != 0 {
				t.Errorf("%d answers of the CPU", f.Count())
			}
			ws[2].User = ws[2].User[1:]
			if _, err := l.Backward(t.Context(), ps, ws, labels); !errors.Is(err, corastream.ErrMismatch) {
				t.Errorf("weights cut short: %v", err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			if err := m.Close(); err != nil { // tests of a model close it again, which is nothing
				t.Fatal(err)
			}
			if err := d.Do(t.Context(), func(q *cuda.Queue) error { return errors.Join(on.Free(q), q.Free(on.DW)) }); err != nil {
				t.Fatal(err)
			}
			if left := d.Used() - used; left > int64(64*size*2) {
				t.Errorf("%d bytes stay on the device", left)
			}
		})
	}
}
