package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
)

// Erase forgets a user in every shard that may hold one, and returns their numbers. It restores
// such a shard into a folder of its own and takes it over for as long as that lasts. The process
// that runs the shard takes it back within fencedWait.
//
// A user can be in several shards, if strays were learnt before the cluster gathered them, so every
// changelog is read. The home shard is always taken over, even if it does not know the user: the
// mark that keeps events still on their way from being learnt must be written there.
func Erase(ctx context.Context, cfg Deps, log zerolog.Logger, user string) (shards []int, err error) {
	dir, err := os.MkdirTemp("", "corastream-erase")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cfg.Member, cfg.Log = fmt.Sprintf("erase-%d", os.Getpid()), log
	home, err := ingest.PartitionOf(ctx, cfg.Kafka, user)
	if err != nil {
		return nil, err
	}
	for k := range cfg.Kafka.Shards {
		erased, err := eraseInShard(ctx, cfg, user, k, filepath.Join(dir, fmt.Sprint(k)), corastream.PartitionShard(home, cfg.Kafka.Shards) == k)
		if err != nil {
			return shards, fmt.Errorf("shard %d: %w", k, err)
		}
		if erased {
			shards = append(shards, k)
		}
	}
	return shards, nil
}

// eraseInShard looks into the shard without claiming it, and claims it only if there is something
// to erase. A claim stops the shard's learning for seconds.
func eraseInShard(ctx context.Context, cfg Deps, user string, shard int, dir string, always bool) (erased bool, err error) {
	changelog, err := ingest.OpenChangelog(cfg.Kafka, shard, cfg.Member, cfg.Log)
	if err != nil {
		return false, err
	}
	defer changelog.Close()
	known, err := knownInShard(ctx, cfg, changelog, user, shard, dir)
	if err != nil || !known && !always {
		return false, err
	}
	if _, err := restore(ctx, cfg, changelog, dir, cfg.Log); err != nil {
		return false, err
	}
	st, err := OpenShard(cfg, shard, dir, cfg.Log)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	epoch, _ := changelog.LastSeen()
	st.Ship(changelog, epoch)
	return true, st.Erase(ctx, user)
}

// knownInShard reads the shard's changelog into dir and looks the user up; the shard stays whose it is.
func knownInShard(ctx context.Context, cfg Deps, changelog *ingest.Changelog, user string, shard int, dir string) (known bool, err error) {
	cp, err := openCopy(cfg, changelog, dir, cfg.Log)
	if err != nil {
		return false, err
	}
	_, err = catchUp(ctx, changelog, cp)
	if err = errors.Join(err, cp.Close()); err != nil {
		return false, err
	}
	st, err := OpenShard(cfg, shard, dir, cfg.Log)
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
