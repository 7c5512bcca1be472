package serve

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// gate lets a number of requests in, keeps a number waiting for a time, and refuses the others.
//
// enter yields the processor once after it has taken a slot. Scoring never blocks. Without this,
// requests that arrive together queue in the Go scheduler, where nothing bounds them: none would
// be refused, and all would wait. Measured on two cores with two slots, at ten times the rate that
// one caller gets answered: the median of accepted answers was 14 times that of one caller alone,
// and is 1.7 times that.
type gate struct {
	slots    chan struct{}
	maxQueue int64
	patience time.Duration
	waiting  atomic.Int64
}

func newGate(inFlight, queue int, patience time.Duration) *gate {
	return &gate{slots: make(chan struct{}, inFlight), maxQueue: int64(queue), patience: patience}
}

// enter returns nil when the caller may go on; it must call leave afterwards. A free slot is taken
// at once. Otherwise the caller counts itself among the waiting, and is refused if they are too
// many. The count is added before it is compared, so of several that arrive together at the last
// free place only one gets it.
func (g *gate) enter(ctx context.Context) error {
	select {
	case g.slots <- struct{}{}:
		runtime.Gosched()
		return nil
	default:
	}
	if g.waiting.Add(1) > g.maxQueue {
		g.waiting.Add(-1)
		return overloaded("the queue is full", nil)
	}
	defer g.waiting.Add(-1)
	timer := time.NewTimer(g.patience)
	defer timer.Stop()
	select {
	case g.slots <- struct{}{}:
		runtime.Gosched()
		return nil
	case <-timer.C:
		return overloaded(fmt.Sprintf("no slot came free within %s", g.patience), nil)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *gate) leave() { <-g.slots }

// limiter is a token bucket for each client.
type limiter struct {
	rate, burst float64
	mu          sync.Mutex
	buckets     map[string]bucket
}

type bucket struct {
	tokens float64
	at     time.Time
}

// maxClients bounds the limiter's memory. When it is full, buckets that have filled up again are
// dropped first. A flood from more addresses than that is held back by the gate.
const maxClients = 10_000

func newLimiter(rate float64, burst int) *limiter {
	return &limiter{rate: rate, burst: float64(burst), buckets: map[string]bucket{}}
}

// take spends one token, or says how long until there is one. A bucket is filled when it is looked
// at, from the time since the last look, so no goroutine is needed. mu is held for a map access.
func (l *limiter) take(client string, now time.Time) (wait time.Duration) {
	if l.rate == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.buckets[client]
	if !ok {
		if len(l.buckets) >= maxClients {
			l.evict(now)
		}
		b = bucket{l.burst, now}
	}
	b.tokens, b.at = l.filled(b, now), now
	if b.tokens >= 1 {
		b.tokens--
	} else {
		wait = time.Duration((1 - b.tokens) / l.rate * float64(time.Second))
	}
	l.buckets[client] = b
	return wait
}

func (l *limiter) filled(b bucket, now time.Time) float64 {
	return min(l.burst, b.tokens+max(0, now.Sub(b.at).Seconds())*l.rate)
}

// evict makes room: first buckets that have filled up again, which say nothing, then any until a
// tenth is free. Called under the lock.
func (l *limiter) evict(now time.Time) {
	for c, b := range l.buckets {
		if l.filled(b, now) == l.burst {
			delete(l.buckets, c)
		}
	}
	for c := range l.buckets {
		if len(l.buckets) < maxClients*9/10 {
			return
		}
		delete(l.buckets, c)
	}
}

// clientOf names a client: by its certificate, else by its address. A token is shared by many, so
// it names nobody.
func clientOf(r *http.Request) string {
	if r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return "cert:" + string(r.TLS.PeerCertificates[0].RawSubject)
	}
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	ip := addr.Addr().Unmap().WithZone("")
	if ip.Is6() && !ip.IsLoopback() {
		if p, err := ip.Prefix(64); err == nil {
			return p.String()
		}
	}
	return ip.String()
}

// boundedListener holds at most cap(slots) connections open; the rest wait in the kernel's queue. A
// slot is taken before Accept, so a connection over the limit costs no descriptor. Close wakes an
// Accept that waits for a slot.
type boundedListener struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func newBoundedListener(l net.Listener, n int) *boundedListener {
	return &boundedListener{Listener: l, slots: make(chan struct{}, n), done: make(chan struct{})}
}

func (b *boundedListener) Accept() (net.Conn, error) {
	select {
	case b.slots <- struct{}{}:
	case <-b.done:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.slots
		return nil, err
	}
	return &boundedConn{Conn: c, free: func() { <-b.slots }}, nil
}

func (b *boundedListener) Close() error {
	b.once.Do(func() { close(b.done) })
	return b.Listener.Close()
}

type boundedConn struct {
	net.Conn
	once sync.Once
	free func()
}

func (c *boundedConn) Close() error {
	defer c.once.Do(c.free)
	return c.Conn.Close()
}
