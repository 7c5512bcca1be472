package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/store"
)

func Rerun(ctx context.Context, cfg Config, shard int, log zerolog.Logger) (have, again string, lines int, err error) {
	original, err := OpenPart(cfg, shard, log)
	if err != nil {
		return "", "", 0, err
	}
	defer original.Close()
	if have, err = original.Digest(); err != nil {
		return "", "", 0, err
	}
	dir, err := os.MkdirTemp("", "corastream-rerun")
	if err != nil {
		return "", "", 0, err
	}
	defer os.RemoveAll(dir)
	cfg.Store.SyncWrites = false
	var fresh *store.Store
	if shard == NoShard {
		again := cfg
		again.Data = dir
		fresh, _, err = OpenStore(again, zerolog.Nop())
	} else {
		fresh, err = cluster.OpenShard(cfg.Shards(), shard, filepath.Join(dir, "store"), log)
	}
	if err != nil {
		return "", "", 0, err
	}
	defer fresh.Close()
	cf, err := cfstream.New(cfg.CF)
	if err != nil {
		return "", "", 0, err
	}
	spans, err := ingest.NewSpans(cfg.Kafka)
	if err != nil {
		return "", "", 0, err
	}
	defer spans.Close()
	mine := func(*corastream.Batch) {}
	if shard != NoShard {
		spans.Keep = cluster.KeepForShards
		n, err := cluster.PartitionsOf(original)
		if err != nil {
			return "", "", 0, err
		}
		if n > 0 {
			mine = cluster.NewOwned(cfg.Kafka, shard, n).Keep
		}
	}
	for line, err := range original.Journal(0) {
		if err != nil {
			return "", "", lines, err
		}
		lines++
		switch line.Kind {
		case store.KindContent:
			err = fresh.Rejoin(ctx, line)
		case store.KindCodes:
			err = fresh.Recode(ctx, line)
		case store.KindEvents:
			var b corastream.Batch
			if b, err = spans.ReadSpans(ctx, line.Spans); err == nil {
				mine(&b)
				_, err = fresh.Commit(ctx, b, cf.Learn)
			}
		case store.KindErasure:
			err = fresh.EraseAll(ctx, line.Erasures...)
		default:
			err = fmt.Errorf("a journal line of kind %s can not be applied again", line.Kind)
		}
		if err != nil {
			return "", "", lines, fmt.Errorf("journal line %d: %w", line.Seq, err)
		}
	}
	if again, err = fresh.Digest(); err == nil && again != have {
		err = differences(ctx, original, fresh, log)
	}
	return have, again, lines, err
}

// differences logs the first records in which a re-run parts from the state.
func differences(ctx context.Context, original, again *store.Store, log zerolog.Logger) error {
	const most = 5
	told := 0
	tell := func(kind, id string, a, b corastream.Embedding, more string) {
		if a.Version == b.Version && a.Count == b.Count && a.Bias == b.Bias && slices.Equal(a.Vec, b.Vec) && slices.Equal(a.Acc, b.Acc) && more == "" {
			return
		}
		if told++; told <= most {
			log.Warn().Str(kind, id).Uint64("version", a.Version).Uint64("rerun_version", b.Version).Uint32("count", a.Count).Uint32("rerun_count", b.Count).
				Float32("bias", a.Bias).Float32("rerun_bias", b.Bias).Str("more", more).Msg("differs")
		}
	}
	return again.View(ctx, func(s corastream.State) error {
		err := original.View(ctx, func(o corastream.State) error {
			a, err := o.Shared()
			if err != nil {
				return err
			}
			b, err := s.Shared()
			if err != nil {
				return err
			}
			tell("shared", "", *a, *b, "")
			return nil
		})
		if err != nil {
			return err
		}
		for u, err := range original.Users() {
			if err != nil {
				return err
			}
			other, err := s.User(u.ID)
			if err != nil {
				return err
			}
			more := ""
			if len(u.History) != len(other.History) {
				more = fmt.Sprintf("%d interactions, %d in the re-run", len(u.History), len(other.History))
			}
			tell("user", u.ID, u.Embedding, other.Embedding, more)
		}
		for it, err := range original.Items() {
			if err != nil {
				return err
			}
			other, err := s.Item(it.Item.ID)
			if err != nil {
				return err
			}
			more := ""
			if it.Title != other.Title || it.Seq != other.Seq {
				more = fmt.Sprintf("%q at %d, %q at %d in the re-run", it.Title, it.Seq, other.Title, other.Seq)
			}
			tell("item", it.Item.ID, it.Embedding, other.Embedding, more)
		}
		return nil
	})
}
