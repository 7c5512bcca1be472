//go:build gpu

package llm

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/kernels/cuda"
	"github.com/corastream/corastream/kernels/cuda/cudatest"
)

func onDevice(d *cuda.Device, f *cuda.Fallback) func(*Options) {
	return func(o *Options) {
		o.Numerics, o.KVBytes, o.GPU = "bf16", 1<<20, &GPU{Device: d, Fallback: f}
	}
}

// The device's scores are as near to a float64 oracle as bfloat16 lets them be: as near as the CPU's own bf16, times 3.
func TestGPUScoresLikeTheOracle(t *testing.T) {
	d := cudatest.Open(t)
	for _, s := range []shape{tinyLlama, tinyQwen, tinyWide} {
		targets := allTargets
		if s.heads*s.dim != s.hidden {
			targets = []corastream.Target{corastream.TargetQ, corastream.TargetV, corastream.TargetUp}
		}
		for _, c := range []struct {
			adapt   corastream.Adapt
			history bool
			lowest  int
			users   int
		}{
			{"", false, 0, 1},
			{"", true, 0, 1},
			{corastream.AdaptLast, false, s.layers - 2, 3},
			{corastream.AdaptLast, false, 0, 3},
			{corastream.AdaptLast, true, s.layers - 1, 2},
			{corastream.AdaptSuffix, true, 1, 3},
			{corastream.AdaptAll, false, 0, 9},
			{corastream.AdaptAll, true, 2, 3},
		} {
			t.Run(fmt.Sprintf("%s-%d/%s/history=%v/from=%d", s.arch, s.hidden, c.adapt, c.history, c.lowest), func(t *testing.T) {
				f := &cuda.Fallback{Warn: func(err error) { t.Error(err) }}
				cpu := s.open(t, func(o *Options) { o.Numerics = "bf16" })
				gpu := s.open(t, onDevice(d, f))
				ps, ws := pairs(cpu, 12, c.users, 5, c.history, 31)
				ws[3].Item = nil
				var p *corastream.Projection
				if c.adapt == "" {
					ws = nil
				} else {
					p = project(cpu, 5, c.adapt, c.lowest, targets, 32)
				}
				want := oracleScore(t, cpu, newOracle(t, cpu), ps, ws, p)
				a, err1 := cpu.Score(t.Context(), ps, ws, p)
				b, err2 := gpu.Score(t.Context(), ps, ws, p)
				again, err3 := gpu.Score(t.Context(), ps, ws, p)
				if err := errors.Join(err1, err2, err3); err != nil {
					t.Fatal(err)
				}
				near, spread := compare(a, want)
				off, _ := compare(b, want)
				t.Logf("logits spread over %.3g; the CPU's bf16 is off by %.3g, the device by %.3g", spread, near, off)
				// Keys, values and T are kept in bfloat16 there and in float32 here, so somewhat further; never a tenth of the spread.
				if off > max(4*near, .01*spread) || off > .1*spread {
					t.Errorf("off by %.3g of a spread of %.3g; the CPU's bf16 is off by %.3g", off, spread, near)
				}
				for i := range b {
					if b[i] != again[i] {
						t.Fatalf("prompt %d is scored %v, then %v", i, b[i], again[i])
					}
				}
				if f.Count() != 0 {
					t.Errorf("%d answers of the CPU", f.Count())
				}
			})
		}
	}
}

// What the device reads of an item is what the CPU reads, and either can be scored from by the other.
func TestGPUReadsItemsLikeTheCPU(t *testing.T) {
	d := cudatest.Open(t)
	for _, s := range []shape{tinyLlama, tinyQwen} {
		f := &cuda.Fallback{Warn: func(err error) { t.Error(err) }}
		cpu := s.open(t, func(o *Options) { o.Numerics = "bf16" })
		gpu := s.open(t, onDevice(d, f))
		items := []corastream.Item{{ID: "1", Title: "Alien"}, {ID: "2", Title: "Aliens 2"}, {ID: "3"}, {ID: "4", Title: "The Thing That Would Not Stop At Sixteen"}}
		a, err1 := cpu.Encode(t.Context(), items)
		b, err2 := gpu.Encode(t.Context(), items)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for i := range a {
			if off := cuda.Compare(a[i].Title, b[i].Title); off > .05 {
				t.Errorf("%s, item %d: title off by %.3g", s.arch, i, off)
			}
			for l := range a[i].Answer {
				if off := cuda.Compare(a[i].Answer[l], b[i].Answer[l]); off > .08 {
					t.Errorf("%s, item %d: answer of layer %d off by %.3g", s.arch, i, l, off)
				}
			}
		}
		for i, it := range items {
			ts, err := cpu.render([]corastream.Prompt{{ItemID: it.ID, Title: it.Title}})
			if err != nil {
				t.Fatal(err)
			}
			x, err1 := cpu.entries(t.Context(), ts)
			y, err2 := gpu.entries(t.Context(), ts)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			if off := cuda.Compare(halvesOf(x[0]), halvesOf(y[0])); off > .08 {
				t.Errorf("%s, item %d: keys and values off by %.3g", s.arch, i, off)
			}
		}
		if f.Count() != 0 {
			t.Errorf("%d answers of the CPU", f.Count())
		}
	}
}

func halvesOf(e *entry) []float32 {
	v := make([]float32, len(e.kv16))
	for i, h := range e.kv16 {
		v[i] = math.Float32frombits(uint32(h) << 16)
	}
	return v
}

// The device's gradients are the CPU's, as far as bfloat16 goes: within 5 times the distance that the CPU's own in
// bfloat16 have to the float32 ones (measured: at most 3.2, T and attention being rounded as well).
func TestGPUGradientsAreTheCPUs(t *testing.T) {
	d := cudatest.Open(t)
	for _, s := range []shape{tinyLlama, tinyQwen} {
		for _, c := range []struct {
			adapt   corastream.Adapt
			history bool
			lowest  int
			targets []corastream.Target
		}{
			{corastream.AdaptLast, false, s.layers - 2, allTargets},
			{corastream.AdaptLast, true, s.layers - 1, allTargets},
			{corastream.AdaptSuffix, true, 1, allTargets},
			{corastream.AdaptAll, false, s.layers - 2, allTargets},
			{corastream.AdaptAll, true, s.layers - 1, []corastream.Target{corastream.TargetV, corastream.TargetGate}},
			{corastream.AdaptLast, false, s.layers - 2, []corastream.Target{corastream.TargetO}},
		} {
			t.Run(fmt.Sprintf("%s/%s/history=%v/from=%d/%v", s.arch, c.adapt, c.history, c.lowest, c.targets), func(t *testing.T) {
				f := &cuda.Fallback{Warn: func(err error) { t.Error(err) }}
				exact := s.open(t)
				cpu := s.open(t, func(o *Options) { o.Numerics = "bf16" })
				gpu := s.open(t, onDevice(d, f))
				ps, ws := pairs(cpu, 7, 3, 3, c.history, 41)
				ws[2].Item = nil
				p := project(cpu, 3, c.adapt, c.lowest, c.targets, 42)
				labels := []float32{1, 0, .3, 1, 0, 1, 0}
				want, err1 := exact.Backward(t.Context(), ps, ws, p, labels)
				a, err2 := cpu.Backward(t.Context(), ps, ws, p, labels)
				b, err3 := gpu.Backward(t.Context(), ps, ws, p, labels)
				again, err4 := gpu.Backward(t.Context(), ps, ws, p, labels)
				if err := errors.Join(err1, err2, err3, err4); err != nil {
					t.Fatal(err)
				}
				if f.Count() != 0 {
					t.Fatalf("%d answers of the CPU", f.Count())
				}
				close := func(what string, want, a, b, again []float32) {
					near, off := distance(want, a), distance(want, b)
					t.Logf("%s: the CPU's bf16 is off by %.3g of its length, the device by %.3g", what, near, off)
					if off > max(5*near, .05) || off > .8 {
						t.Errorf("%s: off by %.3g of its length, the CPU's bf16 by %.3g", what, off, near)
					}
					if cuda.Compare(b, again) != 0 {
						t.Errorf("%s: a second pass gives others", what)
					}
				}
				close("scores", want.Scores, a.Scores, b.Scores, again.Scores)
				rows := func(g *corastream.Gradients) (v []float32) {
					for _, x := range g.DW {
						v = append(v, x...)
					}
					return v
				}
				close("dW", rows(want), rows(a), rows(b), rows(again))
				for slot := range p.P {
					if len(want.DP[slot]) == 0 || len(b.DP[slot]) != len(want.DP[slot]) {
						t.Fatalf("%v: %d values of dP, want %d", slot, len(b.DP[slot]), len(want.DP[slot]))
					}
					close(fmt.Sprint("dP of ", slot), want.DP[slot], a.DP[slot], b.DP[slot], again.DP[slot])
				}
			})
		}
	}
}

// distance is the length of the difference of two vectors as a part of the first's.
func distance(want, got []float32) float64 {
	var square, all float64
	for i, w := range want {
		square += (float64(got[i]) - float64(w)) * (float64(got[i]) - float64(w))
		all += float64(w) * float64(w)
	}
	return math.Sqrt(square / all)
}

// A fault on the way back leaves the CPU's own gradients, nothing added twice.
func TestGPUGradientFaultsAreMadeGoodWithinTheCall(t *testing.T) {
	cudatest.Emulated(t)
	for _, fault := range []string{"launch:40:2", "alloc:12:2", "nan:2"} {
		t.Run(fault, func(t *testing.T) {
			d := cudatest.Open(t)
			f := &cuda.Fallback{Warn: func(err error) { t.Log(err) }}
			cpu := tinyQwen.open(t, func(o *Options) { o.Numerics = "bf16" })
			gpu := tinyQwen.open(t, onDevice(d, f))
			ps, ws := pairs(cpu, 3, 2, 3, false, 5)
			p := project(cpu, 3, corastream.AdaptAll, 2, allTargets, 6)
			labels := []float32{1, 0, 1}
			t.Setenv("CORASTREAM_EMULATE", fault)
			want, err1 := cpu.Backward(t.Context(), ps, ws, p, labels)
			got, err2 := gpu.Backward(t.Context(), ps, ws, p, labels)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			if f.Count() != 1 || !reflect.DeepEqual(want, got) {
				t.Errorf("%d answers of the CPU; the gradients are the CPU's: %v", f.Count(), reflect.DeepEqual(want, got))
			}
		})
	}
}

// With room for few items on the device, they come and go, and the scores stay.
func TestGPUPagesGiveWay(t *testing.T) {
	d := cudatest.Open(t)
	f := &cuda.Fallback{Warn: func(err error) { t.Error(err) }}
	m := tinyLlama.open(t, onDevice(d, f))
	m.gpu.pages.limit = 5
	p := project(m, 3, corastream.AdaptLast, 3, allTargets, 2)
	one := func(title string) float32 {
		ps, ws := pairs(m, 1, 1, 3, false, 7)
		ps[0].Title = title
		l, err := m.Score(t.Context(), ps, ws, p)
		if err != nil {
			t.Fatal(err)
		}
		return l[0].Yes - l[0].No
	}
	titles := []string{"Alien", "A Very Long Title Of Many Tokens Indeed, So That It Takes Pages", "Brazil", "Ran Of The Many Letters", "M"}
	first := map[string]float32{}
	for range 3 {
		for _, title := range titles {
			v := one(title)
			if w, ok := first[title]; ok && v != w {
				t.Errorf("%q is scored %v, before %v", title, v, w)
			}
			first[title] = v
		}
	}
	if used := m.gpu.pages.count - len(m.gpu.pages.spare); used > max(5, m.gpu.pages.count) || m.gpu.pages.order.Len() >= len(titles) {
		t.Errorf("%d items in %d pages; some should have given way", m.gpu.pages.order.Len(), used)
	}
	if f.Count() != 0 {
		t.Errorf("%d answers of the CPU", f.Count())
	}
}

// Every fault of the driver leaves the caller with the CPU's own answer.
func TestGPUFaultsAreMadeGoodWithinTheCall(t *testing.T) {
	cudatest.Emulated(t)
	for _, fault := range []string{"alloc:1:2", "alloc:4:2", "memory", "launch:1:719", "launch:9:700", "launch:30:2", "nan:3", "nan:20"} {
		t.Run(fault, func(t *testing.T) {
			d := cudatest.Open(t)
			told := 0
			f := &cuda.Fallback{Warn: func(err error) { told++; t.Log(err) }}
			cpu := tinyLlama.open(t, func(o *Options) { o.Numerics = "bf16" })
			gpu := tinyLlama.open(t, onDevice(d, f))
			ps, ws := pairs(cpu, 6, 2, 3, true, 5)
			p := project(cpu, 3, corastream.AdaptAll, 0, allTargets, 6)
			if fault == "memory" {
				fault = fmt.Sprintf("memory:%d", d.Used()+20_000) // enough to begin with
			}
			t.Setenv("CORASTREAM_EMULATE", fault)
			want, err1 := cpu.Score(t.Context(), ps, ws, p)
			got, err2 := gpu.Score(t.Context(), ps, ws, p)
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("prompt %d is scored %v, on the CPU %v", i, got[i], want[i])
				}
			}
			if f.Count() != 1 || told != 1 {
				t.Errorf("%d answers of the CPU, told %d times; want 1 and 1", f.Count(), told)
			}
		})
	}
}

// A machine with too little memory at the start serves on the CPU and says so once.
func TestGPUWithoutRoomForTheModel(t *testing.T) {
	cudatest.Emulated(t)
	t.Setenv("CORASTREAM_EMULATE", "memory:20000")
	d := cudatest.Open(t)
	told := 0
	f := &cuda.Fallback{Warn: func(error) { told++ }}
	m := tinyLlama.open(t, onDevice(d, f))
	ps, _ := pairs(m, 3, 1, 1, false, 5)
	for range 3 {
		if _, err := m.Score(t.Context(), ps, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	if f.Count() < 4 || told != 1 {
		t.Errorf("%d answers of the CPU, told %d times", f.Count(), told)
	}
	if used := d.Used(); used != 0 {
		t.Errorf("%d bytes stay on a device that does not serve", used)
	}
}

// A closed model leaves nothing on the device.
func TestGPUMemoryIsGivenBack(t *testing.T) {
	d := cudatest.Open(t)
	f := &cuda.Fallback{}
	m, err := openTiny(t, tinyLlama, func() Options { o := tinyOptions(); onDevice(d, f)(&o); return o }())
	if err != nil {
		t.Fatal(err)
	}
	ps, _ := pairs(m, 3, 1, 1, false, 5)
	if _, err := m.Score(t.Context(), ps, nil, nil); err != nil {
		t.Fatal(err)
	}
	if d.Used() == 0 {
		t.Error("nothing was on the device")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if used := d.Used(); used != 0 {
		t.Errorf("%d bytes stay", used)
	}
}

// A W_A that the generator has made on the device is taken from there: what its host copy holds is not looked at.
func TestGPUTakesWeightsThatAreThere(t *testing.T) {
	d := cudatest.Open(t)
	f := &cuda.Fallback{Warn: func(err error) { t.Error(err) }}
	m := tinyQwen.open(t, onDevice(d, f))
	p := project(m, 3, corastream.AdaptLast, 2, allTargets, 2)
	ps, made := pairs(m, 2, 1, 3, false, 7)
	_, host := pairs(m, 2, 1, 3, false, 8)
	for i := range host {
		host[i].Item, host[i].ItemScale = made[i].Item, made[i].ItemScale
	}
	halves := make([]uint16, len(made[0].User))
	kernels.BF16FromF32(halves, made[0].User)
	if err := d.Do(t.Context(), func(q *cuda.Queue) error {
		r, err := q.Rows(cuda.RowsFormat{Width: m.arch.hidden * 3, BF16: true}, 8)
		if err != nil {
			return err
		}
		slot := r.Take()
		r.Bind(slot, host[0].User)
		return cuda.Upload(q, r.Buffer(), 2*int64(slot)*int64(m.arch.hidden*3), halves)
	}); err != nil {
		t.Fatal(err)
	}
	got, err1 := m.Score(t.Context(), ps, host, p)
	want, err2 := m.Score(t.Context(), ps, made, p)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if got[0] != want[0] || got[1] != want[1] {
		t.Errorf("scores %v, with the device's own weights %v", got, want)
	}
}

// Equal texts share every row on the device too, and each has its answer.
func TestGPUAnswersEqualTextsEach(t *testing.T) {
	d := cudatest.Open(t)
	for _, n := range []int{2, 40} {
		f := &cuda.Fallback{Warn: func(err error) { t.Error(err) }}
		answeredEach(t, tinyLlama.open(t, onDevice(d, f)), make([]byte, n))
	}
}
