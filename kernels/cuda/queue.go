package cuda

import (
	"fmt"
	"math"
	"unsafe"
)

// Queue is the device within one Do. Uploads run on a stream of their own, and the next launch waits for them on the device, not here:
// what is uploaded while kernels run overlaps with them. Both directions go through pinned memory, since a copy to or from pageable
// memory would have the host wait. What a kernel or Zero of the same Do still reads or writes must not be uploaded to before Wait.
type Queue struct {
	d        *Device
	staged   int
	uploaded bool // since the compute stream was last ordered behind the copies
	busy     bool // something was asked for since the last Wait
	landed   int
	arrivals []arrival
}

// arrival is a download that is to be taken from pinned memory once it is there.
type arrival struct {
	to   []byte
	from int
}

// Alloc makes a buffer of n bytes, at least 1, with unspecified content.
func (q *Queue) Alloc(n int64) (*Buffer, error) {
	n = max(n, 1)
	ptr, err := q.d.drv.alloc(n)
	if err != nil {
		return nil, q.d.failed(fmt.Errorf("allocate %d bytes: %w", n, err))
	}
	q.d.mu.Lock()
	q.d.used += n
	q.d.mu.Unlock()
	return &Buffer{ptr: ptr, bytes: n}, nil
}

// Grow makes *b hold at least n bytes; a larger buffer takes the place of the old one, whose content is lost.
func (q *Queue) Grow(b **Buffer, n int64) error {
	if *b != nil && (*b).bytes >= n {
		return nil
	}
	if err := q.Free(*b); err != nil {
		return err
	}
	*b = nil
	fresh, err := q.Alloc(n + n/4)
	*b = fresh
	return err
}

// GrowCleared is Grow, and zeroes a buffer that took the old one's place: for padding that no kernel writes.
func (q *Queue) GrowCleared(b **Buffer, n int64) error {
	old := *b
	if err := q.Grow(b, n); err != nil || *b == old {
		return err
	}
	return q.Zero(*b, 0, (*b).Bytes())
}

// Free gives a buffer back once what is under way has ended; nil is nothing.
func (q *Queue) Free(b *Buffer) error {
	if b == nil || b.ptr == 0 {
		return nil
	}
	if err := q.Wait(); err != nil {
		return err
	}
	q.d.mu.Lock()
	q.d.used -= b.bytes
	q.d.mu.Unlock()
	ptr := b.ptr
	b.ptr, b.bytes = 0, 0
	return q.d.failed(q.d.drv.free(ptr))
}

// Value is what a slice on the device may hold.
type Value interface {
	~float32 | ~int32 | ~uint32 | ~uint16
}

// Upload copies v to a byte offset of b. v may be changed as soon as Upload returns.
func Upload[T Value](q *Queue, b *Buffer, offset int64, v []T) error {
	size := int64(unsafe.Sizeof(*new(T)))
	if n := int64(len(v)) * size; n == 0 {
		return nil
	} else if offset < 0 || offset+n > b.Bytes() {
		panic(fmt.Sprintf("cuda.Upload: %d bytes at %d into a buffer of %d", n, offset, b.Bytes()))
	}
	from := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), int64(len(v))*size)
	for len(from) > 0 {
		if q.staged == len(q.d.staging) {
			q.d.waits.Add(1)
			if err := q.d.failed(q.d.drv.sync(copies)); err != nil {
				return err
			}
			q.staged = 0
		}
		n := copy(q.d.staging[q.staged:], from)
		if err := q.d.failed(q.d.drv.copyIn(uint64(b.At(offset)), unsafe.Pointer(&q.d.staging[q.staged]), int64(n), copies)); err != nil {
			return err
		}
		q.staged, q.uploaded, q.busy = q.staged+n, true, true
		offset, from = offset+int64(n), from[n:]
	}
	return nil
}

// Put uploads v to a buffer of its own.
func Put[T Value](q *Queue, v []T) (*Buffer, error) {
	b, err := q.Alloc(int64(len(v)) * int64(unsafe.Sizeof(*new(T))))
	if err != nil {
		return nil, err
	}
	return b, Upload(q, b, 0, v)
}

// Download copies from a byte offset of b into v, once what was launched before has ended; v holds it after Wait, or when Do
// returns.
func Download[T Value](q *Queue, v []T, b *Buffer, offset int64) error {
	n := int64(len(v)) * int64(unsafe.Sizeof(*new(T)))
	if n == 0 {
		return nil
	}
	if offset < 0 || offset+n > b.Bytes() {
		panic(fmt.Sprintf("cuda.Download: %d bytes at %d of a buffer of %d", n, offset, b.Bytes()))
	}
	if err := q.behind(); err != nil {
		return err
	}
	to := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), n)
	for len(to) > 0 {
		if q.landed == len(q.d.landing) {
			if err := q.Wait(); err != nil {
				return err
			}
		}
		q.busy = true
		part := to[:min(len(to), len(q.d.landing)-q.landed)]
		if err := q.d.failed(q.d.drv.copyOut(unsafe.Pointer(&q.d.landing[q.landed]), uint64(b.At(offset)), int64(len(part)), compute)); err != nil {
			return err
		}
		q.arrivals = append(q.arrivals, arrival{part, q.landed})
		q.landed += len(part)
		offset, to = offset+int64(len(part)), to[len(part):]
	}
	return nil
}

// Zero clears n bytes of b at offset, in the order of launches.
func (q *Queue) Zero(b *Buffer, offset, n int64) error {
	if n <= 0 {
		return nil
	}
	if offset < 0 || offset+n > b.Bytes() {
		panic(fmt.Sprintf("cuda.Zero: %d bytes at %d of a buffer of %d", n, offset, b.Bytes()))
	}
	if err := q.behind(); err != nil {
		return err
	}
	q.busy = true
	return q.d.failed(q.d.drv.zero(uint64(b.At(offset)), n, compute))
}

// behind lets the compute stream wait for the uploads so far.
func (q *Queue) behind() error {
	if !q.uploaded {
		return nil
	}
	q.uploaded = false
	return q.d.failed(q.d.drv.order(copies, compute))
}

// Wait ends when all that was asked for has been done, and downloads are where they were to go.
func (q *Queue) Wait() error {
	if !q.busy {
		return nil
	}
	if err := q.behind(); err != nil {
		return err
	}
	q.d.waits.Add(1)
	err := q.d.failed(q.d.drv.sync(compute))
	if err == nil {
		for _, a := range q.arrivals {
			copy(a.to, q.d.landing[a.from:])
		}
	}
	q.staged, q.landed, q.arrivals, q.busy = 0, 0, nil, false
	return err
}

func (q *Queue) sync() error {
	if err := q.d.Lost(); err != nil {
		return nil // said already
	}
	return q.Wait()
}

// Time measures f's launches on the device, in milliseconds: from when what came before has ended.
func (q *Queue) Time(f func() error) (ms float64, err error) {
	if err = q.behind(); err != nil {
		return 0, err
	}
	if err = q.d.failed(q.d.drv.mark()); err != nil {
		return 0, err
	}
	if err = f(); err != nil {
		return 0, err
	}
	ms, err = q.d.drv.since()
	return ms, q.d.failed(err)
}

// Launch runs a kernel. Arguments are *Buffer (nil is a null pointer), Pointer, int, int32 or float32, in the kernel's order; every one
// takes 8 bytes, as gorgonia.org/cu reads them.
func (q *Queue) Launch(kernel string, grid, block [3]int, shared int, args ...any) error {
	if err := q.behind(); err != nil {
		return err
	}
	q.busy = true
	words := make([]uint64, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case *Buffer:
			if v != nil {
				words[i] = v.ptr
			}
		case Pointer:
			words[i] = uint64(v)
		case int:
			if v != int(int32(v)) {
				return fmt.Errorf("cuda: %s: argument %d is %d, which no int of a kernel holds", kernel, i, v)
			}
			words[i] = uint64(uint32(int32(v)))
		case int32:
			words[i] = uint64(uint32(v))
		case float32:
			words[i] = uint64(math.Float32bits(v))
		default:
			panic(fmt.Sprintf("cuda.Launch: %s: argument %d is a %T", kernel, i, a))
		}
	}
	for i := range 3 {
		if grid[i] <= 0 || i > 0 && grid[i] > 65535 {
			return fmt.Errorf("cuda: %s: a grid of %v blocks (fix: smaller batches)", kernel, grid)
		}
	}
	if shared > sharedBytes { // refused here: the driver's refusal would cost the device
		return fmt.Errorf("cuda: %s: %d bytes of shared memory for a block, at most %d (fix: shorter prompts, or a smaller generator)", kernel, shared, sharedBytes)
	}
	if err := q.d.drv.launch(kernel, grid, block, shared, words); err != nil {
		return q.d.failed(fmt.Errorf("launch %s: %w", kernel, err))
	}
	return nil
}

// sharedBytes is what every device gives a block without being asked.
const sharedBytes = 48 << 10

// Pointer is an address in device memory.
type Pointer uint64
