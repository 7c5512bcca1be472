package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/corastream/corastream/ingest"
)

// standby keeps the folder of a shard that runs elsewhere close to its changelog (cluster.standby),
// so that a takeover reads seconds of it and not all. It claims nothing.
type standby struct {
	stop context.CancelFunc
	done chan struct{}
	read atomic.Int64 // in the last pass; -1 before the first
}

// standbyEvery is how far a standby lets the changelog run ahead.
const standbyEvery = time.Second

// startStandby follows a shard once its folder is free. Called under the lock. The goroutine ends
// as an owner's does (start).
func (l *ShardHost) startStandby(ctx context.Context, k int32, free <-chan struct{}, fail context.CancelCauseFunc) {
	own, cancel := context.WithCancel(ctx)
	b := &standby{stop: cancel, done: make(chan struct{})}
	b.read.Store(-1)
	l.standbys[k] = b
	go func() {
		defer func() {
			l.mu.Lock()
			if l.standbys[k] == b {
				delete(l.standbys, k)
			}
			l.mu.Unlock()
			close(b.done)
		}()
		<-free
		if err := l.follow(own, b, int(k)); err != nil && own.Err() == nil {
			fail(fmt.Errorf("standby of shard %d: %w", k, err))
		}
	}()
}

// follow reads the changelog again and again until ctx ends. A failure ends the process: a folder
// that can not be kept close would make the next takeover slow without anybody knowing.
func (l *ShardHost) follow(ctx context.Context, b *standby, shard int) (err error) {
	if ctx.Err() != nil {
		return nil
	}
	log := l.log.With().Int("standby", shard).Logger()
	changelog, err := ingest.OpenChangelog(l.d.Kafka, shard, l.d.Member, log)
	if err != nil {
		return err
	}
	defer changelog.Close()
	cp, err := openCopy(l.d, changelog, ShardDir(l.d, shard), log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cp.Close()) }()
	for ctx.Err() == nil {
		n, err := catchUp(ctx, changelog, cp)
		if err != nil {
			return err
		}
		b.read.Store(n)
		select {
		case <-ctx.Done():
		case <-time.After(standbyEvery):
		}
	}
	return nil
}
