package store

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/rs/zerolog"
)

// guard keeps disk space in reserve. Badger writes through memory maps: on a full disk the kernel kills the process with
// SIGBUS, which no recover can catch. So writers wait before that can happen, and merges of tables when a quarter of the
// reserve is left; readers go on.
type guard struct {
	dir     string
	reserve int64
	buffers int64 // what closing writes at most
	log     zerolog.Logger
	free    func(dir string) (bytes int64, known bool, err error)
	every   time.Duration // between looks while waiting
	warned  atomic.Int64  // when last, in seconds: the disk may be at the border for hours
	waiting atomic.Int32  // writers and merges held up now
	closing chan struct{} // closed when merges wait no more
}

func newGuard(dir string, c Config, log zerolog.Logger) *guard {
	return &guard{dir: dir, reserve: c.ReserveBytes, buffers: c.memTable() * (memTables + 1), log: log, free: freeBytes, every: time.Second, closing: make(chan struct{})}
}

// wait returns once there is room for a write, or ctx's error.
func (g *guard) wait(ctx context.Context) error {
	if err := g.until(ctx.Done(), g.reserve, "disk almost full: writes wait; free some space, or lower store.reserve_bytes"); err != nil {
		return err
	}
	return ctx.Err()
}

// merge returns once there is room for one more table of a merge, or when the store is closed.
func (g *guard) merge() {
	if err := g.until(g.closing, g.reserve/4, "disk full: merging of tables waits too; free some space"); err != nil {
		g.log.Warn().Err(err).Msg("merging without knowing how much space is left")
	}
}

// until returns once so many bytes are free, or when done is closed.
func (g *guard) until(done <-chan struct{}, bytes int64, warning string) error {
	var tick *time.Ticker
	for looks := 0; ; looks++ {
		free, known, err := g.free(g.dir)
		if err != nil {
			return fmt.Errorf("store: free space of %s: %w", g.dir, err)
		}
		if !known || free >= bytes {
			if looks > 0 {
				g.log.Debug().Str("dir", g.dir).Int64("free_bytes", free).Msg("disk space is back: writing on")
			}
			return nil
		}
		if now, last := time.Now().Unix(), g.warned.Load(); now-last >= 30 && g.warned.CompareAndSwap(last, now) {
			g.log.Warn().Str("dir", g.dir).Int64("free_bytes", free).Int64("reserve_bytes", g.reserve).Msg(warning)
		}
		if tick == nil {
			tick = time.NewTicker(g.every)
			defer tick.Stop()
			g.waiting.Add(1)
			defer g.waiting.Add(-1)
		}
		select {
		case <-done:
			return nil
		case <-tick.C:
		}
	}
}

// closeBadger ends Badger, which writes the rest of its buffers into tables and waits for merges.
// Where the disk has no room for that, it is left as a kill would leave it: all is in the
// write-ahead files, from which the next start takes it. Merges that wait for room are let go
// first, or Badger would wait for them for ever.
func (g *guard) closeBadger(db *badger.DB) error {
	if err := g.room(g.buffers + g.reserve/4); err != nil {
		g.log.Warn().Err(err).Msg("disk full: closed without filing the write buffers, which the next start does")
		return db.Sync()
	}
	close(g.closing)
	return db.Close()
}

// badgerLog passes Badger's messages on; its chatter about tables and compactions is for debugging.
//
// It is also where a merge can be made to wait, for which Badger has no option: the goroutine that merges says how many keys
// it gathered right before each table that it writes (levels.go, subcompact).
type badgerLog struct {
	zerolog.Logger
	guard *guard // nil: merges never wait
}

// gathered begins what Badger says then; TestAMergeWaitsForRoom fails when it says something else.
const gathered = "[%d] LOG Compact. Added"

func (l badgerLog) Errorf(f string, a ...any)   { l.Error().Msgf("badger: "+f, a...) }
func (l badgerLog) Warningf(f string, a ...any) { l.Warn().Msgf("badger: "+f, a...) }
func (l badgerLog) Infof(f string, a ...any)    { l.Debug().Msgf("badger: "+f, a...) }
func (l badgerLog) Debugf(f string, a ...any) {
	l.Trace().Msgf("badger: "+f, a...)
	if l.guard != nil && strings.HasPrefix(f, gathered) {
		l.guard.merge()
	}
}

// DiskFull says that a write or a merge waits for disk space.
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
