//go:build gpu

package cuda

// #include <cuda.h>
// #include <stdlib.h>
// #include <string.h>
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"gorgonia.org/cu"
)

// Built says whether this binary has the GPU path.
const Built = true

// cuDriver drives one device through gorgonia.org/cu. Pinned memory and what the driver's compiler says are not in that package and are
// called here.
type cuDriver struct {
	dev        cu.Device
	ctx        cu.CUContext
	functions  map[string]cu.Function
	modules    []cu.Module
	streams    [2]cu.Stream
	ordered    cu.Event
	start, end cu.Event
}

func openDriver() (driver, error) {
	n, err := cu.NumDevices()
	if err != nil || n == 0 {
		return nil, fmt.Errorf("%w (the driver says %v, %d devices)", ErrNoDevice, err, n)
	}
	d := &cuDriver{functions: map[string]cu.Function{}}
	if d.dev, err = cu.GetDevice(0); err != nil {
		return nil, meaning(err)
	}
	if d.ctx, err = d.dev.MakeContext(cu.SchedAuto); err != nil {
		return nil, meaning(err)
	}
	for i := range d.streams {
		if d.streams[i], err = cu.MakeStream(cu.NonBlocking); err != nil {
			return nil, errors.Join(meaning(err), d.close())
		}
	}
	if d.ordered, err = cu.MakeEvent(cu.DisableTiming); err != nil {
		return nil, errors.Join(meaning(err), d.close())
	}
	for _, e := range []*cu.Event{&d.start, &d.end} {
		if *e, err = cu.MakeEvent(cu.DefaultEvent); err != nil {
			return nil, errors.Join(meaning(err), d.close())
		}
	}
	return d, nil
}

// meaning gives the errors that callers decide on their own name.
func meaning(err error) error {
	switch err {
	case nil:
		return nil
	case cu.OutOfMemory:
		return fmt.Errorf("%w (%v)", ErrMemory, err)
	case cu.NoDevice:
		return fmt.Errorf("%w (%v)", ErrNoDevice, err)
	}
	return fmt.Errorf("CUDA: %w", err)
}

func (d *cuDriver) info() Info {
	at := func(a cu.DeviceAttribute) int {
		v, err := d.dev.Attribute(a)
		if err != nil {
			return 0
		}
		return v
	}
	name, err := d.dev.Name()
	if err != nil {
		name = "CUDA device"
	}
	_, total, err := cu.MemInfo()
	if err != nil {
		total = 0
	}
	return Info{
		Name: name, Major: at(cu.ComputeCapabilityMajor), Minor: at(cu.ComputeCapabilityMinor),
		Multiprocessors: at(cu.MultiprocessorCount), MemoryBytes: total, DriverVersion: cu.Version(),
	}
}

func (d *cuDriver) load(ptx string) error {
	m, err := cu.LoadData(ptx)
	if err != nil {
		return fmt.Errorf("%w%s", meaning(err), compilerSays(ptx))
	}
	d.modules = append(d.modules, m)
	for _, name := range entries(ptx) {
		f, err := m.Function(name)
		if err != nil {
			return fmt.Errorf("kernel %s: %w", name, meaning(err))
		}
		d.functions[name] = f
	}
	return nil
}

// compilerSays is why the driver refuses a PTX text, in its compiler's words: a second attempt, with room for them.
func compilerSays(ptx string) string {
	const room = 8 << 10
	text, says := C.CString(ptx), (*C.char)(C.calloc(1, room))
	defer C.free(unsafe.Pointer(text))
	defer C.free(unsafe.Pointer(says))
	values := (*[2]unsafe.Pointer)(C.calloc(2, C.size_t(unsafe.Sizeof(uintptr(0)))))
	defer C.free(unsafe.Pointer(values))
	values[0] = unsafe.Pointer(says)
	*(*uintptr)(unsafe.Pointer(&values[1])) = room // a number where the others are pointers
	options := [2]C.CUjit_option{C.CU_JIT_ERROR_LOG_BUFFER, C.CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES}
	var m C.CUmodule
	if C.cuModuleLoadDataEx(&m, unsafe.Pointer(text), 2, &options[0], &values[0]) == C.CUDA_SUCCESS {
		_ = C.cuModuleUnload(m)
		return ""
	}
	if s := strings.TrimSpace(C.GoStringN(says, C.int(C.strnlen(says, room)))); s != "" {
		return ": " + s
	}
	return ""
}

func (d *cuDriver) alloc(n int64) (uint64, error) {
	p, err := cu.MemAlloc(n)
	return uint64(p), meaning(err)
}

func (d *cuDriver) free(p uint64) error { return meaning(cu.MemFree(cu.DevicePtr(p))) }

func (d *cuDriver) pin(n int) ([]byte, error) {
	var p unsafe.Pointer
	if r := C.cuMemAllocHost(&p, C.size_t(n)); r != C.CUDA_SUCCESS {
		return nil, fmt.Errorf("CUDA: %d bytes of pinned memory: error %d", n, int(r))
	}
	return unsafe.Slice((*byte)(p), n), nil
}

func (d *cuDriver) unpin(b []byte) error {
	if r := C.cuMemFreeHost(unsafe.Pointer(unsafe.SliceData(b))); r != C.CUDA_SUCCESS {
		return fmt.Errorf("CUDA: free pinned memory: error %d", int(r))
	}
	return nil
}

func (d *cuDriver) copyIn(dst uint64, src unsafe.Pointer, n int64, s stream) error {
	return meaning(cu.MemcpyHtoDAsync(cu.DevicePtr(dst), src, n, d.streams[s]))
}

func (d *cuDriver) copyOut(dst unsafe.Pointer, src uint64, n int64, s stream) error {
	return meaning(cu.MemcpyDtoHAsync(dst, cu.DevicePtr(src), n, d.streams[s]))
}

func (d *cuDriver) zero(dst uint64, n int64, s stream) error {
	return meaning(cu.MemsetD8Async(cu.DevicePtr(dst), 0, n, d.streams[s]))
}

func (d *cuDriver) launch(kernel string, grid, block [3]int, shared int, args []uint64) error {
	f, ok := d.functions[kernel]
	if !ok {
		return fmt.Errorf("no kernel of this name is loaded")
	}
	params := make([]unsafe.Pointer, len(args))
	for i := range args {
		params[i] = unsafe.Pointer(&args[i])
	}
	return meaning(f.Launch(grid[0], grid[1], grid[2], block[0], block[1], block[2], shared, d.streams[compute], params))
}

func (d *cuDriver) order(before, after stream) error {
	if err := d.ordered.Record(d.streams[before]); err != nil {
		return meaning(err)
	}
	return meaning(d.streams[after].Wait(d.ordered, 0))
}

func (d *cuDriver) sync(s stream) error { return meaning(d.streams[s].Synchronize()) }

func (d *cuDriver) mark() error { return meaning(d.start.Record(d.streams[compute])) }

func (d *cuDriver) since() (float64, error) {
	if err := d.end.Record(d.streams[compute]); err != nil {
		return 0, meaning(err)
	}
	if err := d.end.Synchronize(); err != nil {
		return 0, meaning(err)
	}
	ms, err := d.start.Elapsed(d.end)
	return ms, meaning(err)
}

func (d *cuDriver) close() error { return meaning(d.ctx.Destroy()) }
