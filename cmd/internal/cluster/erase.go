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

// Erase forgets a user in every shard that may hold one, on copies that dir names. It takes such a shard over for as long as that
// lasts; the process that runs it takes it back within fencedWait.
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
