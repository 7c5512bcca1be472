//go:build gpu

package cuda

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// open gives a device: a real one, or the emulated driver that CORASTREAM_LIBCUDA names (`make test-cuda` builds it).
func open(t testing.TB) *Device {
	t.Helper()
	d, err := Open()
	if err != nil {
		if os.Getenv("CORASTREAM_LIBCUDA") == "" {
			t.Skipf("no device and no emulated driver (`make test-cuda` has one): %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestDeviceAgreesWithGeneric(t *testing.T) {
	d := open(t)
	atGeneric(t)
	Check(context.Background(), d, func(name string, off, bound float64, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if off > bound {
			t.Errorf("%s: off by %.3g of the reference, allowed %.3g", name, off, bound)
		} else {
			t.Logf("%s: off by %.3g, allowed %.3g", name, off, bound)
		}
	})
}

func emulated(t *testing.T) {
	if os.Getenv("CORASTREAM_LIBCUDA") == "" {
		t.Skip("this looks at the emulated driver's ways (`make test-cuda`)")
	}
}

// gatherOnce copies the words of v on the device, row by row in the opposite order.
func gatherOnce(d *Device, v []float32) ([]float32, error) {
	out := make([]float32, len(v))
	err := d.Do(context.Background(), func(q *Queue) error {
		order := make([]int32, len(v))
		for i := range order {
			order[i] = int32(len(v) - 1 - i)
		}
		u := &uploads{q: q}
		dst := u.room(4 * len(v))
		src, index := u.floats(v), u.ints(order)
		u.run(func() error { return q.Gather(dst.At(0), 1, src, 1, 0, index, len(v), 1) })
		u.run(func() error { return Download(q, out, dst, 0) })
		return u.err
	})
	return out, err
}

func TestErrorsAreThoseOfOneDo(t *testing.T) {
	emulated(t)
	v := draws(1, 40, 1)
	for _, c := range []struct {
		fault string
		want  error
		lost  bool
	}{{"alloc:2:2", ErrMemory, false}, {"launch:1:2", ErrMemory, false}, {"launch:1:700", nil, true}, {"launch:1:719", nil, true}, {"alloc:1:999", nil, true}} {
		d := open(t)
		t.Setenv("CORASTREAM_EMULATE", c.fault)
		if _, err := gatherOnce(d, v); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.fault, err)
		}
		t.Setenv("CORASTREAM_EMULATE", "")
		got, err := gatherOnce(d, v)
		if c.lost != errors.Is(err, ErrLost) || !c.lost && (err != nil || got[0] != v[39]) {
			t.Errorf("after %s: %v", c.fault, err)
		}
	}
}

// A kernel that reads past its buffer, one that does not exist, one with the wrong number of arguments: all are errors or panics
// of the caller's, none goes unnoticed.
func TestWrongLaunchesAreRefused(t *testing.T) {
	d := open(t)
	for name, f := range map[string]func(q *Queue) error{
		"no such kernel": func(q *Queue) error { return q.Launch("nothing", [3]int{1, 1, 1}, [3]int{32, 1, 1}, 0) },
		"empty grid":     func(q *Queue) error { return q.Launch("gather", [3]int{0, 1, 1}, [3]int{32, 1, 1}, 0) },
		"long grid":      func(q *Queue) error { return q.Launch("gather", [3]int{1, 70000, 1}, [3]int{32, 1, 1}, 0) },
		"much memory":    func(q *Queue) error { return q.Launch("gather", [3]int{1, 1, 1}, [3]int{32, 1, 1}, 48<<10+1) },
		"odd product":    func(q *Queue) error { return q.Gemm(Gemm{End: "floats", M: 1, N: 3, K: 32}) },
		"head of 256": func(q *Queue) error {
			return AttendShape{HeadDim: 256, Group: 1, KVHeads: 1}.Check()
		},
	} {
		if err := d.Do(t.Context(), f); err == nil {
			t.Errorf("%s: no error", name)
		} else if d.Lost() != nil && name != "no such kernel" {
			t.Errorf("%s: the device is lost", name)
		}
		d = open(t)
	}
	emulatedOnly := os.Getenv("CORASTREAM_LIBCUDA") != ""
	err := d.Do(t.Context(), func(q *Queue) error { return d.drv.load("no PTX") })
	if err == nil || emulatedOnly && !strings.Contains(err.Error(), "emulated compiler") {
		t.Errorf("a text that is no PTX: %v", err)
	}
	if emulatedOnly { // more threads than the kernel's launch bounds; a driver refuses them
		if err := d.Do(t.Context(), func(q *Queue) error { return q.Launch("attend_16_1", [3]int{1, 1, 1}, [3]int{64, 1, 1}, 0) }); err == nil {
			t.Error("a block over the launch bounds passed")
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("an offset past the buffer passed")
		}
	}()
	(&Buffer{ptr: 8, bytes: 8}).At(9)
}

// Copies go through pinned memory that is used again and again, uploads on a stream of their own: what kernels read is there in time, and
// what comes back is whole.
func TestCopiesArriveInOrder(t *testing.T) {
	d := open(t)
	v := make([]float32, stagingBytes/4+1000)
	for i := range v {
		v[i] = float32(i % 1000)
	}
	err := d.Do(t.Context(), func(q *Queue) error {
		u := &uploads{q: q}
		b := u.floats(v)
		if back := fetch[float32](u, &Buffer{ptr: uint64(b), bytes: int64(4 * len(v))}, len(v)); u.err == nil && !slices.Equal(back, v) {
			t.Error("other values came back")
		}
		for round := range 3 { // a buffer overwritten after Wait, and read before and after
			out := u.room(4)
			index := u.ints([]int32{int32(len(v) - 1 - round)})
			u.run(func() error { return q.Gather(out.At(0), 1, b, 1, 0, index, 1, 1) })
			if got := fetch[float32](u, out, 1); u.err == nil && got[0] != v[len(v)-1-round] {
				t.Errorf("round %d: %v", round, got[0])
			}
		}
		small := u.room(4)
		for i := range 4 {
			u.run(func() error { return Upload(q, small, 0, []float32{float32(i)}) })
			out := u.room(4)
			index := u.ints([]int32{0})
			u.run(func() error { return q.Gather(out.At(0), 1, small.At(0), 1, 0, index, 1, 1) })
			if got := fetch[float32](u, out, 1); u.err == nil && got[0] != float32(i) {
				t.Errorf("%v, not %d", got[0], i)
			}
		}
		return u.err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestManyCallersShareADevice(t *testing.T) {
	d := open(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			v := draws(uint64(i), 50+i, 1)
			got, err := gatherOnce(d, v)
			if err != nil || got[0] != v[len(v)-1] || got[len(v)-1] != v[0] {
				t.Errorf("caller %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := gatherOnce(d, []float32{1}); !errors.Is(err, ErrLost) {
		t.Errorf("after Close: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t).Do(ctx, func(*Queue) error { return nil }); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Rows are found by their host copy while it lives, never by an address that was taken anew.
func TestRowsAreFoundByTheirCopy(t *testing.T) {
	d := open(t)
	err := d.Do(t.Context(), func(q *Queue) error {
		r, err := q.Rows(RowsFormat{Width: 16}, 4)
		if err != nil {
			return err
		}
		host := [][]float32{draws(1, 16, 1), draws(2, 16, 1), draws(3, 16, 1)}
		slots := map[int]bool{}
		for _, h := range host {
			s, err := r.Find(q, h)
			if err != nil {
				return err
			}
			slots[s] = true
		}
		if len(slots) != 3 {
			t.Errorf("three rows in slots %v", slots)
		}
		again, err := r.Find(q, host[0])
		if err != nil || !slots[again] {
			t.Errorf("found in slot %d, %v", again, err)
		}
		got := make([]float32, 16)
		if err := errJoin(Download(q, got, r.Buffer(), int64(4*16*again)), q.Wait()); err != nil {
			return err
		}
		if Compare(host[0], got) != 0 {
			t.Error("another row's values")
		}
		for i := range 2 * r.slots { // all others give way
			if _, err := r.Find(q, draws(uint64(10+i), 16, 1)); err != nil {
				return err
			}
		}
		if len(r.byKey) > r.slots {
			t.Errorf("%d rows known in %d slots", len(r.byKey), r.slots)
		}
		back, err := r.Find(q, host[0])
		if err != nil {
			return err
		}
		if err := errJoin(Download(q, got, r.Buffer(), int64(4*16*back)), q.Wait()); err != nil {
			return err
		}
		if Compare(host[0], got) != 0 {
			t.Error("a row that came back has another's values")
		}
		runtime.KeepAlive(host)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Without a driver the process starts all the same, and Open says why there is no device.
func TestWithoutADriver(t *testing.T) {
	if os.Getenv("CORASTREAM_TEST_NO_DRIVER") != "" {
		if _, err := Open(); !errors.Is(err, ErrNoDevice) {
			t.Fatalf("Open: %v", err)
		}
		return
	}
	for _, env := range [][]string{{"CORASTREAM_LIBCUDA=/nonexistent/libcuda.so.1"}, {"CORASTREAM_EMULATE=devices:0"}} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestWithoutADriver$", "-test.v")
		cmd.Env = append(append(os.Environ(), "CORASTREAM_TEST_NO_DRIVER=1"), env...)
		if strings.HasPrefix(env[0], "CORASTREAM_EMULATE") && os.Getenv("CORASTREAM_LIBCUDA") == "" {
			continue
		}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("%v: %v\n%s", env, err, out)
		}
	}
}
