package cuda

import (
	"sort"
	"sync"
	"unsafe"
)

// Counter is a device that computes nothing and counts what would be computed: every launch with its own arguments, as the engines make
// it. What comes back from it is zeros.
type Counter struct {
	peak Peak

	mu       sync.Mutex
	next     uint64
	blocks   []counted // by address
	work     map[string]Work
	cleared  float64 // bytes
	sent     float64 // bytes to and from the host
	received float64
}

// counted is a buffer; small uploads are kept, since costs read lists of rows from them.
type counted struct {
	at   uint64
	size int64
	data []byte
}

// countedBytes bounds the uploads that are kept.
const countedBytes = 4 << 20

// OpenCounter gives a device as large as p's that counts. It needs no driver and works in every build.
func OpenCounter(p Peak) (*Device, *Counter, error) {
	c := &Counter{peak: p, next: 1 << 20, work: map[string]Work{}}
	d, err := openWith(func() (driver, error) { return c, nil })
	return d, c, err
}

// Reset forgets what was counted.
func (c *Counter) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.work, c.cleared, c.sent, c.received = map[string]Work{}, 0, 0, 0
}

// Counted is what one kernel has cost, by its name.
type Counted struct {
	Kernel string
	Work
}

// Counted lists the kernels since the last Reset, the longest at the roofline first; clearing of memory is one of them.
func (c *Counter) Counted() []Counted {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Counted
	for k, w := range c.work {
		out = append(out, Counted{k, w})
	}
	if c.cleared > 0 {
		out = append(out, Counted{"(memory cleared)", Work{BytesWrite: c.cleared}})
	}
	sort.Slice(out, func(i, j int) bool {
		a, _ := out[i].Seconds(c.peak)
		b, _ := out[j].Seconds(c.peak)
		return a > b || a == b && out[i].Kernel < out[j].Kernel
	})
	return out
}

// Copied is how many bytes went to the device and came back since the last Reset.
func (c *Counter) Copied() (sent, received float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sent, c.received
}

func (c *Counter) info() Info {
	return Info{Name: "counter for " + c.peak.Name, Major: 9, Multiprocessors: 132, MemoryBytes: 141e9, DriverVersion: 12000}
}

func (c *Counter) load(string) error          { return nil }
func (c *Counter) order(stream, stream) error { return nil }
func (c *Counter) sync(stream) error          { return nil }
func (c *Counter) mark() error                { return nil }
func (c *Counter) since() (float64, error)    { return 1, nil }
func (c *Counter) close() error               { return nil }
func (c *Counter) pin(n int) ([]byte, error)  { return make([]byte, n), nil }
func (c *Counter) unpin([]byte) error         { return nil }
func (c *Counter) find(at uint64) *counted {
	i := sort.Search(len(c.blocks), func(i int) bool { return c.blocks[i].at > at })
	if i == 0 || at >= c.blocks[i-1].at+uint64(c.blocks[i-1].size) {
		return nil
	}
	return &c.blocks[i-1]
}

func (c *Counter) alloc(n int64) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.next
	c.next += (uint64(n) + 511) / 256 * 256
	c.blocks = append(c.blocks, counted{at: at, size: n})
	return at, nil
}

func (c *Counter) free(at uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := sort.Search(len(c.blocks), func(i int) bool { return c.blocks[i].at >= at })
	c.blocks = append(c.blocks[:i], c.blocks[i+1:]...)
	return nil
}

func (c *Counter) copyIn(to uint64, from unsafe.Pointer, n int64, _ stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent += float64(n)
	if b := c.find(to); b != nil && b.size <= countedBytes {
		if b.data == nil {
			b.data = make([]byte, b.size)
		}
		copy(b.data[to-b.at:], unsafe.Slice((*byte)(from), n))
	}
	return nil
}

func (c *Counter) copyOut(to unsafe.Pointer, _ uint64, n int64, _ stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received += float64(n)
	clear(unsafe.Slice((*byte)(to), n))
	return nil
}

func (c *Counter) zero(_ uint64, n int64, _ stream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cleared += float64(n)
	return nil
}

func (c *Counter) launch(kernel string, grid, _ [3]int, _ int, args []uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w, err := costOf(launched{kernel: kernel, grid: grid, args: args, ints: func(at uint64, n int) []int32 {
		v := make([]int32, n)
		if b := c.find(at); b != nil && int(at-b.at) < len(b.data) {
			from := b.data[at-b.at:]
			copy(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*n), from)
		}
		return v
	}})
	if err != nil {
		return err
	}
	c.work[kernel] = c.work[kernel].plus(w)
	return nil
}
