package cluster

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/store"
)

// ShardDir is the folder of a shard below the data folder.
func ShardDir(cfg Deps, shard int) string {
	return filepath.Join(cfg.Data, fmt.Sprintf("shard-%d", shard))
}

// shardStore is the store's configuration with a shard's share of the memory, because one process
// may come to own all shards when the others fail. SyncWrites is off: a transaction is in the
// changelog first, and what a power loss takes from the folder is read again.
func shardStore(cfg Deps) store.Config {
	c := cfg.Store
	c.MemoryLimit = max(64<<20, c.MemoryLimit/int64(cfg.Kafka.Shards))
	c.ReserveBytes = max(c.ReserveBytes, c.MemoryLimit)
	c.SyncWrites = false // a transaction is in the changelog first; what a power loss takes from the folder is read again
	return c
}

// restore reads the changelog to its end into the folder and claims the shard there. It returns how
// many changes it read.
//
// A claim is good only at the very end of what was read, because nobody could know otherwise which
// transactions came before it. Kafka appends without comparing, so the claim may come to lie behind
// a transaction of the old owner. Claim then returns ErrFenced, the records in between are read
// too, and the next claim has a higher epoch. It ends, since an old owner writes nothing more once
// it has met a claim.
func restore(ctx context.Context, cfg Deps, changelog *ingest.Changelog, dir string, log zerolog.Logger) (n int64, err error) {
	cp, err := openCopy(cfg, changelog, dir, log)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, cp.Close()) }()
	for {
		read, err := catchUp(ctx, changelog, cp)
		n += read
		if err != nil {
			return n, err
		}
		next, _, _ := cp.Reach()
		if err := changelog.Claim(ctx, next); !errors.Is(err, corastream.ErrFenced) {
			return n, err
		}
	}
}

// openCopy opens a shard's folder and sets the changelog's reader to where the folder ends. The
// epoch and sequence up to there decide which later records are void.
func openCopy(cfg Deps, changelog *ingest.Changelog, dir string, log zerolog.Logger) (*store.Copy, error) {
	cp, err := store.OpenCopy(dir, shardStore(cfg), log)
	if err != nil {
		return nil, err
	}
	_, epoch, seq := cp.Reach()
	changelog.Seen(epoch, seq)
	return cp, nil
}

// catchUp reads the changelog to its present end. The last Apply has no changes: it stores the
// offset behind void records and claims, and the keys that are void now, so that the next reader
// begins there and knows them.
func catchUp(ctx context.Context, changelog *ingest.Changelog, cp *store.Copy) (n int64, err error) {
	next, _, _ := cp.Reach()
	from := next
	next, err = changelog.Read(ctx, next, func(changes []corastream.Change) error {
		n += int64(len(changes))
		return cp.Apply(ctx, changes, changes[len(changes)-1].Pos.Offset+1)
	})
	if err != nil || next == from {
		return n, err
	}
	cp.Void(changelog.Void())
	return n, cp.Apply(ctx, nil, next)
}

// OpenShard opens one shard's store in a folder.
func OpenShard(cfg Deps, shard int, dir string, log zerolog.Logger) (*store.Store, error) {
	if err := cfstream.Shardable(cfg.CF); err != nil {
		return nil, err
	}
	cf, err := cfstream.New(cfg.CF)
	if err != nil {
		return nil, err
	}
	m, err := mix.New(cfg.Mix)
	if err != nil {
		return nil, err
	}
	return store.Open(dir, shardStore(cfg), store.WithLogger(log), store.WithSteps(m.Window()),
		store.WithShard(store.Shard{Index: shard, Of: cfg.Kafka.Shards, Merger: cf.(corastream.Merger)}))
}
