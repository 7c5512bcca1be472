//go:build gpu

package llm

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels/cuda"
	"github.com/corastream/corastream/kernels/cuda/cudatest"
)

// The host waits once for each pass, for its result: nothing on the way (plans of later layers, row numbers, read-outs) has it wait. And no
// copy comes too late or too early: the emulated driver does them once as late, once as early as the events allow, with equal results.
func TestGPUPassesWaitOnceAndCopiesKeepTheirPlace(t *testing.T) {
	cudatest.Emulated(t)
	results := map[string][]any{}
	for _, mode := range []string{"late", "eager:1"} {
		t.Run(mode, func(t *testing.T) {
			t.Setenv("CORASTREAM_EMULATE", mode)
			d := cudatest.Open(t)
			f := &cuda.Fallback{Warn: func(err error) { t.Error(err) }}
			m := tinyQwen.open(t, onDevice(d, f))
			ps, ws := pairs(m, 7, 3, 3, true, 41)
			items, clicks := pairs(m, 7, 3, 3, false, 43)
			last, suffix := project(m, 3, corastream.AdaptLast, tinyQwen.layers-2, allTargets, 42), project(m, 3, corastream.AdaptSuffix, 1, allTargets, 44)
			labels := []float32{1, 0, .3, 1, 0, 1, 0}
			calls := 0
			for _, x := range []struct {
				name string
				run  func() (any, error)
			}{
				{"whole prompts, base", func() (any, error) { return m.Score(t.Context(), ps, nil, nil) }},
				{"whole prompts, suffix", func() (any, error) { return m.Score(t.Context(), ps, ws, suffix) }},
				{"whole prompts, last", func() (any, error) { return m.Score(t.Context(), ps, ws, last) }},
				{"clicks", func() (any, error) { return m.Score(t.Context(), items, clicks, last) }},
				{"gradients of whole prompts", func() (any, error) { return m.Backward(t.Context(), ps, ws, suffix, labels) }},
				{"gradients of clicks", func() (any, error) { return m.Backward(t.Context(), items, clicks, last, labels) }},
				{"new items", func() (any, error) {
					calls++ // others each time: what was read is kept
					var list []corastream.Item
					for i := range 5 {
						list = append(list, corastream.Item{ID: fmt.Sprint(calls, i), Title: fmt.Sprintf("Title %d of %d", i, calls)})
					}
					return m.Encode(t.Context(), list)
				}},
			} {
				for range 2 { // the first makes room
					before := d.Waits()
					v, err := x.run()
					if err != nil {
						t.Fatalf("%s: %v", x.name, err)
					}
					results[mode] = append(results[mode], v)
					if waits := d.Waits() - before; waits == 0 || len(results[mode])%2 == 0 && waits != 1 {
						t.Errorf("%s, %s: the host waits %d times", mode, x.name, waits)
					}
				}
			}
			if f.Count() != 0 {
				t.Errorf("%s: %d answers of the CPU", mode, f.Count())
			}
		})
	}
	for i, v := range results["late"] {
		if !reflect.DeepEqual(v, results["eager:1"][i]) {
			t.Errorf("result %d depends on when copies happen", i)
		}
	}
}
