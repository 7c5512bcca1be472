package cuda

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"
)

// What Open and Device.Do may answer with; test with errors.Is.
var (
	// ErrNotBuilt: this binary was built without the tag gpu.
	ErrNotBuilt = errors.New("this binary is built without the GPU path (fix: `make cuda`, and start bin/corastream-gpu)")
	// ErrNoDevice: there is no driver, or it knows of no device.
	ErrNoDevice = errors.New("no CUDA device")
	// ErrMemory: the device has no room left. The device can still be used.
	ErrMemory = errors.New("out of device memory")
	// ErrLost: an earlier error has spoilt the context. Only another Open helps.
	ErrLost = errors.New("the CUDA device is lost")
)

// Info describes a device.
type Info struct {
	Name            string
	Major, Minor    int // compute capability
	Multiprocessors int
	MemoryBytes     int64
	DriverVersion   int // 1000*major + 10*minor of the CUDA version that the driver knows
}

// driver is what a Device needs of CUDA: calls come from one goroutine, tied to one thread. Its only implementation, over
// gorgonia.org/cu, is behind the tag gpu.
type driver interface {
	info() Info
	load(ptx string) error
	free(ptr uint64) error
	alloc(n int64) (uint64, error)
	pin(n int) ([]byte, error)
	unpin(b []byte) error
	copyIn(dst uint64, src unsafe.Pointer, n int64, s stream) error
	copyOut(dst unsafe.Pointer, src uint64, n int64, s stream) error
	zero(dst uint64, n int64, s stream) error
	launch(kernel string, grid, block [3]int, shared int, args []uint64) error
	// order makes what comes later on `after` wait for what is on `before` by now.
	order(before, after stream) error
	sync(s stream) error
	// mark and since measure the compute stream: milliseconds between a mark and now, once all before now is done.
	mark() error
	since() (float64, error)
	close() error
}

// stream is one of a device's two queues: copies to the device run beside kernels.
type stream int

const (
	compute stream = iota
	copies
)

// Device is one GPU with our kernels loaded. Safe for concurrent use: work goes through one thread, one Do after the other.
type Device struct {
	drv  driver
	info Info
	work chan func()
	done chan struct{}

	life  sync.RWMutex // held to read by every Do, to write by Close
	ended bool

	mu      sync.Mutex // guards what follows
	lost    error
	used    int64
	garbage []*Buffer // to be freed by the next Do

	staging []byte       // pinned memory that uploads go through
	landing []byte       // pinned memory that downloads come through
	waits   atomic.Int64 // how often the host waited for the device
	rows    map[RowsFormat]*Rows
}

// stagingBytes is the size of each of the two pinned memories; a Do that copies more waits for the copies to end now and then.
const stagingBytes = 32 << 20

// Open takes the first device and loads the kernels: ErrNotBuilt, ErrNoDevice or what the driver says.
func Open() (*Device, error) { return openWith(openDriver) }

func openWith(driver func() (driver, error)) (*Device, error) {
	d := &Device{work: make(chan func()), done: make(chan struct{}), rows: map[RowsFormat]*Rows{}}
	opened := make(chan error)
	go func() {
		runtime.LockOSThread() // a context belongs to a thread; the thread ends with this goroutine
		defer close(d.done)
		err := d.open(driver)
		opened <- err
		if err != nil {
			return
		}
		for f := range d.work {
			f()
		}
	}()
	if err := <-opened; err != nil {
		return nil, fmt.Errorf("open GPU: %w", err)
	}
	return d, nil
}

func (d *Device) open(driver func() (driver, error)) (err error) {
	if d.drv, err = driver(); err != nil {
		return err
	}
	d.info = d.drv.info()
	if d.info.Major < 8 {
		return errors.Join(fmt.Errorf("%w: %s has compute capability %d.%d, 8.0 is needed", ErrNoDevice, d.info.Name, d.info.Major, d.info.Minor), d.drv.close())
	}
	for _, m := range modules() {
		if err := d.drv.load(m.text); err != nil {
			return errors.Join(fmt.Errorf("load %s: %w", m.name, err), d.drv.close())
		}
	}
	for _, b := range []*[]byte{&d.staging, &d.landing} {
		if *b, err = d.drv.pin(stagingBytes); err != nil {
			return errors.Join(fmt.Errorf("pinned memory: %w", err), d.drv.close())
		}
	}
	return nil
}

// Info describes the device.
func (d *Device) Info() Info { return d.info }

// Used is the device memory that Buffers hold now, in bytes.
func (d *Device) Used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.used
}

// Waits is how often the host has waited for the device: once for a Do that needs no result before its end.
func (d *Device) Waits() int64 { return d.waits.Load() }

// Close frees the device's memory, once what runs has ended. Do fails afterwards.
func (d *Device) Close() error {
	d.life.Lock()
	defer d.life.Unlock()
	if d.ended {
		return nil
	}
	d.ended = true
	var err error
	d.work <- func() { err = errors.Join(d.drv.unpin(d.staging), d.drv.unpin(d.landing), d.drv.close()) }
	close(d.work)
	<-d.done
	return err
}

// Do runs f with a Queue, waits for all that f has asked of the device, and returns the first error of f or of the device. Calls
// run one after the other. After an error that is not ErrMemory nor f's own, every later Do answers ErrLost.
func (d *Device) Do(ctx context.Context, f func(q *Queue) error) error {
	d.life.RLock()
	defer d.life.RUnlock()
	if d.ended {
		return fmt.Errorf("%w: closed", ErrLost)
	}
	var err error
	ran := make(chan struct{})
	select {
	case d.work <- func() {
		defer close(ran)
		if err = d.Lost(); err == nil {
			err = d.run(f)
		}
	}:
		<-ran
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Lost says why every Do fails from now on; nil where it does not.
func (d *Device) Lost() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

func (d *Device) run(f func(q *Queue) error) error {
	q := &Queue{d: d}
	d.sweep(q)
	err := f(q)
	// Copies into the caller's memory may be under way even after an error: wait for them in any case.
	return errors.Join(err, q.sync())
}

// failed marks the device as lost when err is one that its context does not survive.
func (d *Device) failed(err error) error {
	if err == nil || errors.Is(err, ErrMemory) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.lost == nil {
		d.lost = fmt.Errorf("%w after: %w", ErrLost, err)
	}
	return err
}

// Discard has buffers freed by the next Do: for whoever drops them outside of one, such as a cleanup.
func (d *Device) Discard(list []*Buffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.garbage = append(d.garbage, list...)
}

func (d *Device) sweep(q *Queue) {
	d.mu.Lock()
	list := d.garbage
	d.garbage = nil
	d.mu.Unlock()
	for _, b := range list {
		_ = q.Free(b) // an error has marked the device as lost
	}
}

// Buffer is device memory. Its zero value is an empty buffer.
type Buffer struct {
	ptr   uint64
	bytes int64
}

// Bytes is the size asked for.
func (b *Buffer) Bytes() int64 { return b.bytes }

// At is the address of a byte, for a launch's arguments; 0 of no buffer.
func (b *Buffer) At(offset int64) Pointer {
	if b == nil {
		return 0
	}
	if offset < 0 || offset > b.bytes {
		panic(fmt.Sprintf("cuda: offset %d in a buffer of %d bytes", offset, b.Bytes()))
	}
	return Pointer(b.ptr + uint64(offset))
}
