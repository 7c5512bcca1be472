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

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/cluster"
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
