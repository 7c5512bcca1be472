package main

import (
	"context"
	"errors"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/store"
)

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
