package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// guard keeps disk space in reserve. Badger writes through memory maps: on a full disk the kernel kills the process with
// SIGBUS, which no recover can catch. So writers wait before that can happen; readers go on.
type guard struct {
	dir     string
	reserve int64
	log     zerolog.Logger
	free    func(dir string) (bytes int64, known bool, err error)
	every   time.Duration // between looks while waiting
	warned  *atomic.Int64 // when last, in seconds: the disk may be at the border for hours
	waiting *atomic.Int32 // writers held up now
}

func newGuard(dir string, reserve int64, log zerolog.Logger) guard {
	return guard{dir: dir, reserve: reserve, log: log, free: freeBytes, every: time.Second, warned: new(atomic.Int64), waiting: new(atomic.Int32)}
}

// wait returns once there is room for a write, or ctx's error.
func (g *guard) wait(ctx context.Context) error {
	var tick *time.Ticker
	for looks := 0; ; looks++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		free, known, err := g.free(g.dir)
		if err != nil {
			return fmt.Errorf("store: free space of %s: %w", g.dir, err)
		}
		if !known || free >= g.reserve {
			if looks > 0 {
				g.log.Debug().Str("dir", g.dir).Int64("free_bytes", free).Msg("disk space is back: writing on")
			}
			return nil
		}
		if now, last := time.Now().Unix(), g.warned.Load(); now-last >= 30 && g.warned.CompareAndSwap(last, now) {
			g.log.Warn().Str("dir", g.dir).Int64("free_bytes", free).Int64("reserve_bytes", g.reserve).
				Msg("disk almost full: writes wait; free some space, or lower store.reserve_bytes")
		}
		if tick == nil {
			tick = time.NewTicker(g.every)
			defer tick.Stop()
			g.waiting.Add(1)
			defer g.waiting.Add(-1)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// DiskFull says that a write waits for disk space.
func (s *Store) DiskFull() bool { return s.guard.waiting.Load() > 0 }

// room is an error when fewer than n bytes are free: opening makes files of that size.
func (g *guard) room(n int64) error {
	free, known, err := g.free(g.dir)
	if err != nil {
		return fmt.Errorf("store: free space of %s: %w", g.dir, err)
	}
	if known && free < n {
		return fmt.Errorf("store: %s has %d bytes free, opening needs %d (fix: free some space, or lower store.memory_limit_bytes)",
			g.dir, free, n)
	}
	return nil
}
