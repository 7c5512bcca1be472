package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
)

// standby keeps the folder of a shard that runs elsewhere close to its changelog (cluster.standby).
type standby struct {
	stop context.CancelFunc
	done chan struct{}
	read atomic.Int64 // in the last pass; -1 before the first
}

// standbyEvery is how far a standby lets the changelog run ahead.
const standbyEvery = time.Second

// startStandby follows a shard once its folder is free. Called under the lock.
func (l *learner) startStandby(ctx context.Context, k int32, free <-chan struct{}, fail context.CancelCauseFunc) {
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

func (l *learner) follow(ctx context.Context, b *standby, shard int) (err error) {
	if ctx.Err() != nil {
		return nil
	}
	log := l.log.With().Int("standby", shard).Logger()
	changelog, err := ingest.OpenChangelog(l.cfg.Kafka, shard, l.member, log)
	if err != nil {
		return err
	}
	defer changelog.Close()
	cp, err := openCopy(l.cfg, changelog, shardDir(l.cfg, shard), log)
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

// eraseInCluster forgets a user in every shard that may hold one, on copies that dir names. It takes such a shard over for as long as that
// lasts; the process that runs it takes it back within fencedWait.
func eraseInCluster(ctx context.Context, cfg Config, log zerolog.Logger, user string) (shards []int, err error) {
	if err := checkCluster(cfg); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "corastream-erase")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l := &learner{cfg: cfg, log: log, member: fmt.Sprintf("erase-%d", os.Getpid())}
	home, err := ingest.PartitionOf(ctx, cfg.Kafka, user)
	if err != nil {
		return nil, err
	}
	for k := range cfg.Kafka.Shards {
		erased, err := eraseInShard(ctx, cfg, l, user, k, filepath.Join(dir, fmt.Sprint(k)), corastream.PartitionShard(home, cfg.Kafka.Shards) == k)
		if err != nil {
			return shards, fmt.Errorf("shard %d: %w", k, err)
		}
		if erased {
			shards = append(shards, k)
		}
	}
	return shards, nil
}

func eraseInShard(ctx context.Context, cfg Config, l *learner, user string, shard int, dir string, always bool) (erased bool, err error) {
	changelog, err := ingest.OpenChangelog(cfg.Kafka, shard, l.member, l.log)
	if err != nil {
		return false, err
	}
	defer changelog.Close()
	known, err := knownInShard(ctx, cfg, changelog, user, shard, dir, l)
	if err != nil || !known && !always {
		return false, err
	}
	if _, err := restore(ctx, cfg, changelog, dir, l.log); err != nil {
		return false, err
	}
	st, err := openShard(cfg, shard, dir, l.log)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	epoch, _ := changelog.LastSeen()
	st.Ship(changelog, epoch)
	return true, st.Erase(ctx, user)
}

// knownInShard reads the shard's changelog into dir and looks the user up; the shard stays whose it is.
func knownInShard(ctx context.Context, cfg Config, changelog *ingest.Changelog, user string, shard int, dir string, l *learner) (known bool, err error) {
	cp, err := openCopy(cfg, changelog, dir, l.log)
	if err != nil {
		return false, err
	}
	_, err = catchUp(ctx, changelog, cp)
	if err = errors.Join(err, cp.Close()); err != nil {
		return false, err
	}
	st, err := openShard(cfg, shard, dir, l.log)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	err = st.View(ctx, func(s corastream.State) error {
		u, err := s.User(user)
		known = err == nil && u.Version > 0
		return err
	})
	return known, err
}
