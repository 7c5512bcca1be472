package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/store"
)

// NoShard is the store of `up`.
const NoShard = -1

// OpenPart opens the store of `up`, or one shard's.
func OpenPart(cfg Config, shard int, log zerolog.Logger) (*store.Store, error) {
	if shard == NoShard {
		return OpenExisting(cfg, log)
	}
	if shard < 0 || shard >= cfg.Kafka.Shards {
		return nil, corastream.Usagef("--shard", fmt.Sprintf("choose from 0 to %d, or set kafka.shards", cfg.Kafka.Shards-1), "there is no shard %d", shard)
	}
	d := cfg.Shards()
	dir := cluster.ShardDir(d, shard)
	if _, err := os.Stat(dir); err != nil {
		return nil, corastream.Usagef(cfg.Data, "name a folder that `corastream run` used, with --data", "shard %d was never here: %v", shard, err)
	}
	return cluster.OpenShard(d, shard, dir, log.Level(zerolog.WarnLevel))
}

// OpenExisting refuses to make a store where there is none.
func OpenExisting(cfg Config, log zerolog.Logger) (*store.Store, error) {
	if _, err := os.Stat(filepath.Join(cfg.Data, "store")); err != nil {
		return nil, corastream.Usagef(cfg.Data, "name a folder that `corastream up` used, with --data", "no store: %v", err)
	}
	s, _, err := OpenStore(cfg, log.Level(zerolog.WarnLevel))
	return s, err
}

// InheritErasures gives the store in cfg.Data, made where there is none, the erasures of the one in from.
func InheritErasures(ctx context.Context, cfg Config, from string, log zerolog.Logger) (int, error) {
	old := cfg
	old.Data = from
	s, err := OpenExisting(old, log)
	if err != nil {
		return 0, err
	}
	var list []store.Erasure
	for e, err := range s.Erasures() {
		if err != nil {
			return 0, errors.Join(err, s.Close())
		}
		list = append(list, e)
	}
	if err := s.Close(); err != nil {
		return 0, err
	}
	if s, _, err = OpenStore(cfg, log.Level(zerolog.WarnLevel)); err != nil {
		return 0, err
	}
	return len(list), errors.Join(s.EraseAll(ctx, list...), s.Close())
}
