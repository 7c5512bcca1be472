package cuda

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Fallback counts how often an engine answered on the CPU because the device could not, and tells of each kind of error once.
// Its zero value counts silently.
type Fallback struct {
	// Warn is told of the first error of each kind.
	Warn func(err error)

	count atomic.Int64
	mu    sync.Mutex
	told  map[error]bool
}

// Count is how often Note was called.
func (f *Fallback) Count() int64 { return f.count.Load() }

// Note counts one answer given on the CPU.
func (f *Fallback) Note(err error) {
	f.count.Add(1)
	kind := errOther
	for _, k := range []error{ErrMemory, ErrNoDevice, ErrNotBuilt, ErrLost, ErrNotFinite} {
		if errors.Is(err, k) {
			kind = k
			break
		}
	}
	f.mu.Lock()
	first := !f.told[kind]
	if f.told == nil {
		f.told = map[error]bool{}
	}
	f.told[kind] = true
	f.mu.Unlock()
	if first && f.Warn != nil {
		f.Warn(err)
	}
}

// ErrNotFinite: the device's result holds a NaN or an infinity.
var ErrNotFinite = errors.New("the device's result is not finite")

var errOther = errors.New("other")
