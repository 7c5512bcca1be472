package kernels

import (
	"fmt"
	"sync/atomic"
	"testing"
)

func TestParallelCoversEachIndexOnce(t *testing.T) {
	for threads := -1; threads <= 9; threads++ {
		for n := -1; n <= 20; n++ {
			seen := make([]int32, max(0, n))
			workers := make([]int32, max(1, threads))
			Parallel(threads, n, func(lo, hi, worker int) {
				if atomic.AddInt32(&workers[worker], 1) != 1 {
					t.Errorf("worker %d of %d called twice", worker, threads)
				}
				for i := lo; i < hi; i++ {
					atomic.AddInt32(&seen[i], 1)
				}
			})
			for i, v := range seen {
				if v != 1 {
					t.Fatalf("threads=%d n=%d: index %d seen %d times", threads, n, i, v)
				}
			}
		}
	}
}

// TestParallelHandsPanicsOn from any worker, after the others are done, and works again afterwards.
func TestParallelHandsPanicsOn(t *testing.T) {
	for bad := 0; bad < 4; bad++ {
		var done atomic.Int32
		func() {
			defer func() {
				if p := recover(); p != fmt.Sprint("worker ", bad) {
					t.Errorf("recovered %v", p)
				}
				if done.Load() != 3 {
					t.Errorf("%d others were done", done.Load())
				}
			}()
			Parallel(4, 4, func(_, _, worker int) {
				if worker == bad {
					panic(fmt.Sprint("worker ", bad))
				}
				done.Add(1)
			})
		}()
	}
	var sum atomic.Int64
	Parallel(4, 100, func(lo, hi, _ int) { sum.Add(int64(hi - lo)) })
	if sum.Load() != 100 {
		t.Errorf("after a panic: %d of 100", sum.Load())
	}
}

func TestParallelNests(t *testing.T) {
	var sum atomic.Int64
	Parallel(3, 9, func(lo, hi, _ int) {
		for i := lo; i < hi; i++ {
			Parallel(2, 10, func(lo, hi, _ int) { sum.Add(int64(hi - lo)) })
		}
	})
	if sum.Load() != 90 {
		t.Errorf("%d of 90", sum.Load())
	}
}

func TestParallelAllocatesNothing(t *testing.T) {
	var sum atomic.Int64
	f := func(lo, hi, _ int) { sum.Add(int64(hi - lo)) }
	if n := testing.AllocsPerRun(200, func() { Parallel(4, 100, f) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkParallel(b *testing.B) {
	for _, threads := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			f := func(_, _, _ int) {}
			for range b.N {
				Parallel(threads, 100, f)
			}
		})
	}
}
