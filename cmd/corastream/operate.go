package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/store"
)

func storeCommand() *cobra.Command {
	c := &cobra.Command{Use: "store", Short: "Check, digest, snapshot or re-run the state in a data folder that nobody holds", Example: "  corastream store digest --data data"}
	c.AddCommand(
		storeVerb("digest", "Print the SHA-256 of the state (vectors, histories, items, offsets), equal for equal logs",
			func(_ context.Context, s *store.Store, w io.Writer) error {
				d, err := s.Digest()
				if err != nil {
					return err
				}
				return jsonLine(w, map[string]any{"digest": d})
			}),
		storeVerb("check", "Read every record and verify its checksum", func(ctx context.Context, s *store.Store, w io.Writer) error {
			r, err := s.Check(ctx)
			if err != nil {
				return err
			}
			for _, p := range r.Problems {
				fmt.Fprintln(os.Stderr, p)
			}
			if err := jsonLine(w, map[string]any{"records": r.Records, "bytes": r.Bytes, "problems": r.Found}); err != nil {
				return err
			}
			if r.Found > 0 {
				return fmt.Errorf("%w: %d records (fix: restore a snapshot, or replay the log into another --data folder)", corastream.ErrCorrupt, r.Found)
			}
			return nil
		}),
		snapshotCommand(), rerunCommand(),
	)
	return c
}

func storeVerb(name, short string, do func(context.Context, *store.Store, io.Writer) error) *cobra.Command {
	var f common
	var shard int
	c := &cobra.Command{
		Use: name, Short: short, Args: cobra.NoArgs, Example: "  corastream store " + name + " --data data",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			s, err := openPart(cfg, shard, log)
			if err != nil {
				return err
			}
			return errors.Join(do(cmd.Context(), s, cmd.OutOrStdout()), s.Close())
		},
	}
	f.add(c, "data")
	shardFlag(c, &shard)
	return c
}

// noShard is the store of `up`.
const noShard = -1

func shardFlag(c *cobra.Command, shard *int) {
	c.Flags().IntVar(shard, "shard", noShard, "of a cluster's data folder, this shard (with kafka.shards in the configuration)")
}

// openPart opens the store of `up`, or one shard's.
func openPart(cfg Config, shard int, log zerolog.Logger) (*store.Store, error) {
	if shard == noShard {
		return openExisting(cfg, log)
	}
	if shard < 0 || shard >= cfg.Kafka.Shards {
		return nil, corastream.Usagef("--shard", fmt.Sprintf("choose from 0 to %d, or set kafka.shards", cfg.Kafka.Shards-1), "there is no shard %d", shard)
	}
	d := cfg.host()
	dir := cluster.ShardDir(d, shard)
	if _, err := os.Stat(dir); err != nil {
		return nil, corastream.Usagef(cfg.Data, "name a folder that `corastream run` used, with --data", "shard %d was never here: %v", shard, err)
	}
	return cluster.OpenShard(d, shard, dir, log.Level(zerolog.WarnLevel))
}

// openExisting refuses to make a store where there is none.
func openExisting(cfg Config, log zerolog.Logger) (*store.Store, error) {
	if _, err := os.Stat(filepath.Join(cfg.Data, "store")); err != nil {
		return nil, corastream.Usagef(cfg.Data, "name a folder that `corastream up` used, with --data", "no store: %v", err)
	}
	s, _, err := openStore(cfg, log.Level(zerolog.WarnLevel))
	return s, err
}

func snapshotCommand() *cobra.Command {
	var f common
	var restore bool
	c := &cobra.Command{
		Use: "snapshot FILE", Short: "Write the state to one file, or restore it into an empty data folder",
		Example: "  corastream store snapshot backup.snap --data data\n  corastream store snapshot backup.snap --restore --data new",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if restore {
				info, err := store.Restore(cmd.Context(), args[0], filepath.Join(cfg.Data, "store"), cfg.Store, store.WithLogger(log))
				if errors.Is(err, corastream.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
					return corastream.Usagef(args[0], "give a whole file that `corastream store snapshot` wrote", "%v", err)
				}
				if err != nil {
					return err
				}
				return summary(cmd.OutOrStdout(), map[string]any{"records": info.Records, "bytes": info.Bytes, "sha256": hex.EncodeToString(info.SHA256[:])})
			}
			s, err := openExisting(cfg, log)
			if err != nil {
				return err
			}
			info, err := s.Snapshot(cmd.Context(), args[0])
			if err = errors.Join(err, s.Close()); err != nil {
				return err
			}
			return summary(cmd.OutOrStdout(), map[string]any{"records": info.Records, "bytes": info.Bytes, "sha256": hex.EncodeToString(info.SHA256[:])})
		},
	}
	f.add(c, "data")
	c.Flags().BoolVar(&restore, "restore", false, "read FILE into the data folder, which must hold no store")
	return c
}

// rerunCommand is the proof of exactly-once effect: the log, applied in the journal's order to an empty store, must give
// the same bytes.
func rerunCommand() *cobra.Command {
	var f common
	var shard int
	c := &cobra.Command{
		Use: "rerun", Short: "Apply the log again in journal order to an empty store and compare digests",
		Example: "  corastream store rerun --data data --bootstrap-server 127.0.0.1:9092", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			return compareRerun(cmd.Context(), cfg, shard, log, cmd.OutOrStdout())
		},
	}
	f.add(c, "data", "bootstrap")
	shardFlag(c, &shard)
	return c
}

// compareRerun re-runs the journal of cfg.Data, or of one shard of it, prints both digests, and fails when they differ.
func compareRerun(ctx context.Context, cfg Config, shard int, log zerolog.Logger, w io.Writer) error {
	done, err := dial(&cfg, true, log)
	if err != nil {
		return err
	}
	have, again, lines, err := rerun(ctx, cfg, shard, log)
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	if err := jsonLine(w, map[string]any{"digest": have, "rerun": again, "equal": have == again, "journal_lines": lines}); err != nil {
		return err
	}
	if have != again {
		return fmt.Errorf("%w: the state differs from its log", corastream.ErrCorrupt)
	}
	return nil
}

func rerun(ctx context.Context, cfg Config, shard int, log zerolog.Logger) (have, again string, lines int, err error) {
	original, err := openPart(cfg, shard, log)
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
	if shard == noShard {
		again := cfg
		again.Data = dir
		fresh, _, err = openStore(again, zerolog.Nop())
	} else {
		fresh, err = cluster.OpenShard(cfg.host(), shard, filepath.Join(dir, "store"), log)
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
	if shard != noShard {
		spans.Keep = cluster.KeepForShards
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

func eraseCommand() *cobra.Command {
	var f common
	var from string
	c := &cobra.Command{
		Use: "erase USER", Short: "Forget a user: vectors, history, ids and debts; the erasure survives a replay of the log",
		Long: `Erase removes all that is kept of a user. Events that the log already holds are not learnt again, by a replay from offset 0
neither. A new data folder does not know of erasures: give it those of the old one with --from before it learns.

In a cluster (kafka.shards) it takes the user's shard over, erases, and leaves; the shard stands still for up to 10 seconds. Replicas drop the user
as they read the changelog.`,
		Example: "  corastream erase 42 --data data\n  corastream erase 42 -c configs/cluster.yaml\n  corastream erase --from data --data new", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if (from == "") == (len(args) == 0) {
				return corastream.Usagef("", "see "+cmd.CommandPath()+" --help", "erase wants a user's id or --from DIR, one of them")
			}
			if from != "" {
				n, err := inherit(cmd.Context(), cfg, from, log)
				if err != nil {
					return err
				}
				return jsonLine(cmd.OutOrStdout(), map[string]any{"erasures": n})
			}
			if cfg.Kafka.Shards > 0 {
				if err := checkCluster(cfg); err != nil {
					return err
				}
				shards, err := cluster.Erase(cmd.Context(), cfg.host(), log.Level(zerolog.WarnLevel), args[0])
				if err != nil {
					return err
				}
				return jsonLine(cmd.OutOrStdout(), map[string]any{"erased": true, "shards": shards})
			}
			s, err := openExisting(cfg, log)
			if err != nil {
				return err
			}
			if err := errors.Join(s.Erase(cmd.Context(), args[0]), s.Close()); err != nil {
				return err
			}
			return jsonLine(cmd.OutOrStdout(), map[string]any{"erased": true})
		},
	}
	f.add(c, "data", "bootstrap")
	c.Flags().StringVar(&from, "from", "", "take over all erasures of the store in this data folder")
	return c
}

// inherit gives the store in cfg.Data, made where there is none, the erasures of the one in from.
func inherit(ctx context.Context, cfg Config, from string, log zerolog.Logger) (int, error) {
	old := cfg
	old.Data = from
	s, err := openExisting(old, log)
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
	if s, _, err = openStore(cfg, log.Level(zerolog.WarnLevel)); err != nil {
		return 0, err
	}
	return len(list), errors.Join(s.EraseAll(ctx, list...), s.Close())
}
