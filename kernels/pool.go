package kernels

import (
	"runtime"
	"sync"
)

// pool keeps what is made once and used again. A sync.Pool may drop anything at any time; this drops only what is past twice the
// number of processors.
type pool[T any] struct {
	lock sync.Mutex
	idle []*T
}

func (p *pool[T]) take() *T {
	p.lock.Lock()
	defer p.lock.Unlock()
	n := len(p.idle)
	if n == 0 {
		return new(T)
	}
	x := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return x
}

func (p *pool[T]) put(x *T) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if len(p.idle) < 2*runtime.GOMAXPROCS(0) {
		p.idle = append(p.idle, x)
	}
}
