//go:build gpu

package generator

import (
	"errors"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/kernels/cuda"
	"github.com/corastream/corastream/kernels/cuda/cudatest"
)

// onGPU has a stage of the spec on a device beside one on the CPU.
func onGPU(t *testing.T, spec Spec, d *cuda.Device, bf16 bool) (gpu, cpu *Stage, f *cuda.Fallback, told *int) {
	cpu, gpu = newStage(t, spec, DefaultStageConfig()), newStage(t, spec, DefaultStageConfig())
	told = new(int)
	f = &cuda.Fallback{Warn: func(error) { *told++ }}
	if err := gpu.UseGPU(&GPU{Device: d, Fallback: f, BF16: bf16}); err != nil {
		t.Fatal(err)
	}
	return gpu, cpu, f, told
}

// far is the largest difference between two stages' matrices, as a part of their root mean square.
func far(t *testing.T, a, b *Stage, spec Spec) float64 {
	t.Helper()
	pairs := somePairs(rand.New(rand.NewPCG(9, 1)), spec, 7, 3)
	want, _, err := a.Weights(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := b.Weights(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	var off float64
	for i := range want {
		off = max(off, cuda.Compare(want[i].User, got[i].User))
		if i > 0 && (&want[i].User[0] == &want[i-1].User[0]) != (&got[i].User[0] == &got[i-1].User[0]) {
			t.Errorf("pair %d: the device shares other matrices than the CPU", i)
		}
	}
	return off
}

func TestDeviceMakesTheCPUsWeights(t *testing.T) {
	d := cudatest.Open(t)
	for _, c := range []struct {
		name   string
		change func(*Spec)
	}{
		{"small", func(*Spec) {}},
		{"paper's inputs", func(s *Spec) { *s = smallSpec(KindMLP, InputsPaper) }},
		{"default widths", func(s *Spec) { *s = DefaultSpec(); s.Hidden, s.Taste = 40, 32 }},
		{"qformer", func(s *Spec) { *s = smallSpec(KindQFormer, InputsUser) }},
		{"qformer, paper's inputs", func(s *Spec) { *s = smallSpec(KindQFormer, InputsPaper) }},
		{"qformer of 8 layers", func(s *Spec) {
			*s = smallSpec(KindQFormer, InputsPaper)
			s.Taste, s.Factors, s.Hidden, s.QFormer = 20, 11, 40, QFormerSpec{Queries: 4, Layers: 8, Heads: 8}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := smallSpec(KindMLP, InputsUser)
			c.change(&spec)
			// Both factors of each product are rounded to bfloat16 (2^-9 each); 131 of them add up with random signs. Measured 4e-3; 5e-3 with
			// the sum rounded too.
			bound := 1.5e-2
			if spec.Kind == KindQFormer { // through up to 8 layers of products in bfloat16; measured 2e-2
				bound = 6e-2
			}
			for _, bf16 := range []bool{false, true} {
				gpu, cpu, f, _ := onGPU(t, spec, d, bf16)
				if off := far(t, cpu, gpu, spec); off > bound || off == 0 {
					t.Errorf("bf16 %v: off by %.3g", bf16, off)
				} else {
					t.Logf("bf16 %v: off by %.3g", bf16, off)
				}
				if f.Count() != 0 {
					t.Errorf("%d answers of the CPU", f.Count())
				}
			}
		})
	}
}

func TestDeviceFaultsAreMadeGoodWithinTheCall(t *testing.T) {
	cudatest.Emulated(t)
	for fault, stays := range map[string]bool{
		"alloc:1:2": true, "alloc:3:2": true, "alloc:6:2": true, "memory:300": true, "launch:1:2": true, "launch:2:700": false, "launch:1:719": false, "nan:2": true,
	} {
		t.Run(fault, func(t *testing.T) {
			d := cudatest.Open(t)
			spec := smallSpec(KindMLP, InputsUser)
			gpu, cpu, f, told := onGPU(t, spec, d, true)
			t.Setenv("CORASTREAM_EMULATE", fault)
			if off := far(t, cpu, gpu, spec); off != 0 && fault != "nan:2" {
				t.Errorf("the CPU's own weights, yet off by %.3g", off)
			}
			if f.Count() != 1 || *told != 1 {
				t.Fatalf("%d answers of the CPU, told %d times; want 1 and 1", f.Count(), *told)
			}
			t.Setenv("CORASTREAM_EMULATE", "")
			if err := gpu.Swap(gpu.Checkpoint()); err != nil {
				t.Fatal(err)
			}
			off := far(t, cpu, gpu, spec)
			if stays && (off == 0 || f.Count() != 1) {
				t.Errorf("the device is not used again: off by %.3g, %d answers of the CPU", off, f.Count())
			}
			if !stays && (off != 0 || f.Count() != 2 || *told > 2) {
				t.Errorf("a lost device is used: off by %.3g, %d answers of the CPU, told %d times", off, f.Count(), *told)
			}
		})
	}
}

func TestSwappedCheckpointLeavesNoMemoryBehind(t *testing.T) {
	d := cudatest.Open(t)
	spec := smallSpec(KindMLP, InputsUser)
	gpu, cpu, _, _ := onGPU(t, spec, d, true)
	far(t, cpu, gpu, spec)
	first := d.Used()
	for i := range 6 {
		if err := gpu.Swap(smallCheckpoint(t, spec, uint64(20+i))); err != nil {
			t.Fatal(err)
		}
		if _, _, err := gpu.Weights(t.Context(), somePairs(rand.New(rand.NewPCG(9, 1)), spec, 7, 3)); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			runtime.GC()
		}
	}
	for range 50 { // cleanups run in a goroutine of their own
		runtime.GC()
		if err := d.Do(t.Context(), func(*cuda.Queue) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if d.Used() <= 2*first {
			return
		}
	}
	t.Errorf("%d bytes in use after the first checkpoint, %d after six more", first, d.Used())
}

// In bfloat16 the host's copy is what lies on the device, bit by bit: the sums of a float32 W_A, rounded.
func TestHalfWeightsAreTheFloatsRounded(t *testing.T) {
	d := cudatest.Open(t)
	for _, spec := range []Spec{smallSpec(KindMLP, InputsUser), smallSpec(KindQFormer, InputsPaper)} {
		full, _, _, _ := onGPU(t, spec, d, false)
		half, _, _, _ := onGPU(t, spec, d, true)
		pairs := somePairs(rand.New(rand.NewPCG(9, 2)), spec, 5, 2)
		far(t, full, half, spec) // makes room
		a, _, err1 := full.Weights(t.Context(), pairs)
		before := d.Waits()
		b, _, err2 := half.Weights(t.Context(), pairs)
		if waits := d.Waits() - before; waits != 1 {
			t.Errorf("%s: the host waits %d times for its copy", spec.Kind, waits)
		}
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for i := range a {
			rounded := make([]uint16, len(a[i].User))
			kernels.BF16FromF32(rounded, a[i].User)
			want := make([]float32, len(rounded))
			kernels.F32FromBF16(want, rounded)
			if !slices.Equal(want, b[i].User) {
				t.Fatalf("%s, pair %d: other values than the rounded ones", spec.Kind, i)
			}
		}
	}
}
