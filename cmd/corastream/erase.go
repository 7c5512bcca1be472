package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/store"
)

func eraseCommand() *cobra.Command {
	var f common
	var from string
	c := &cobra.Command{
		Use: "erase USER", Short: "Forget a user: vectors, history, ids and debts; the erasure survives a replay of the log",
		Long: `Erase removes all that is kept of a user. Events that the log already holds are not learnt again, by a replay from offset 0
neither. A new data folder does not know of erasures: give it those of the old one with --from before it learns.

Beside a running ` + "`up`" + ` on the same folder it asks that process, at http.listen.

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
				n, err := node.InheritErasures(cmd.Context(), cfg, from, log)
				if err != nil {
					return err
				}
				return console.JSONLine(cmd.OutOrStdout(), map[string]any{"erasures": n})
			}
			if cfg.Kafka.Shards > 0 {
				if err := checkCluster(cfg); err != nil {
					return err
				}
				shards, err := cluster.Erase(cmd.Context(), cfg.Shards(), log.Level(zerolog.WarnLevel), args[0])
				if err != nil {
					return err
				}
				return console.JSONLine(cmd.OutOrStdout(), map[string]any{"erased": true, "shards": shards})
			}
			s, err := node.OpenExisting(cfg, log)
			if errors.Is(err, store.ErrInUse) {
				return eraseBeside(cmd.Context(), cfg, args[0], err, cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			if err := errors.Join(s.Erase(cmd.Context(), args[0]), s.Close()); err != nil {
				return err
			}
			return console.JSONLine(cmd.OutOrStdout(), map[string]any{"erased": true})
		},
	}
	f.add(c, "data", "bootstrap")
	c.Flags().StringVar(&from, "from", "", "take over all erasures of the store in this data folder")
	return c
}

// eraseBeside asks the running `up` that has the folder to forget the user.
func eraseBeside(ctx context.Context, cfg node.Config, user string, inUse error, out io.Writer) error {
	data, err := filepath.Abs(cfg.Data)
	if err != nil {
		return err
	}
	_, answered, err := send(ctx, cfg, http.MethodDelete, "/v1/users/"+url.PathEscape(user)+"?data="+url.QueryEscape(data), nil)
	if !answered && err == nil {
		return corastream.Usagef("http.listen", "give the running process's configuration with -c, or stop it", "nobody answers at %s: %v", cfg.HTTP.Listen, inUse)
	}
	if err != nil {
		return err
	}
	return console.JSONLine(out, map[string]any{"erased": true})
}
