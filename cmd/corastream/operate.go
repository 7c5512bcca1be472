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
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
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
				return console.JSONLine(w, map[string]any{"digest": d})
			}),
		storeVerb("check", "Read every record and verify its checksum", func(ctx context.Context, s *store.Store, w io.Writer) error {
			r, err := s.Check(ctx)
			if err != nil {
				return err
			}
			for _, p := range r.Problems {
				fmt.Fprintln(os.Stderr, p)
			}
			if err := console.JSONLine(w, map[string]any{"records": r.Records, "bytes": r.Bytes, "problems": r.Found}); err != nil {
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
			s, err := node.OpenPart(cfg, shard, log)
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

func shardFlag(c *cobra.Command, shard *int) {
	c.Flags().IntVar(shard, "shard", node.NoShard, "of a cluster's data folder, this shard (with kafka.shards in the configuration)")
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
				return console.Summary(cmd.OutOrStdout(), map[string]any{"records": info.Records, "bytes": info.Bytes, "sha256": hex.EncodeToString(info.SHA256[:])})
			}
			s, err := node.OpenExisting(cfg, log)
			if err != nil {
				return err
			}
			info, err := s.Snapshot(cmd.Context(), args[0])
			if err = errors.Join(err, s.Close()); err != nil {
				return err
			}
			return console.Summary(cmd.OutOrStdout(), map[string]any{"records": info.Records, "bytes": info.Bytes, "sha256": hex.EncodeToString(info.SHA256[:])})
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
func compareRerun(ctx context.Context, cfg node.Config, shard int, log zerolog.Logger, w io.Writer) error {
	done, err := node.Dial(&cfg, true, log)
	if err != nil {
		return err
	}
	have, again, lines, err := node.Rerun(ctx, cfg, shard, log)
	if err = errors.Join(err, done()); err != nil {
		return err
	}
	if err := console.JSONLine(w, map[string]any{"digest": have, "rerun": again, "equal": have == again, "journal_lines": lines}); err != nil {
		return err
	}
	if have != again {
		return fmt.Errorf("%w: the state differs from its log", corastream.ErrCorrupt)
	}
	return nil
}
