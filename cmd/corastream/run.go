package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest"
)

// roles are the parts of a cluster that one process plays.
type roles struct{ learn, answer bool }

// parseStages reads --stages. Ingest and cfstream share a transaction, generator and serve a batch: each pair is one role.
func parseStages(list []string) (roles, error) {
	all := []string{"ingest", "cfstream", "generator", "serve"}
	for _, s := range list {
		if !slices.Contains(all, s) {
			return roles{}, corastream.Usagef("--stages", "choose from "+strings.Join(all, ", "), "%q is not a stage", s)
		}
	}
	has := func(s string) bool { return slices.Contains(list, s) }
	for _, pair := range [][2]string{{"ingest", "cfstream"}, {"generator", "serve"}} {
		if has(pair[0]) != has(pair[1]) {
			return roles{}, corastream.Usagef("--stages", fmt.Sprintf("name both %s and %s, or neither", pair[0], pair[1]), "these two stages share a process")
		}
	}
	r := roles{learn: has("ingest"), answer: has("serve")}
	if r == (roles{}) {
		return r, corastream.Usagef("--stages", "name ingest,cfstream or generator,serve, or all four", "no stage to run")
	}
	return r, nil
}

func runCommand() *cobra.Command {
	var f common
	var stages []string
	var shards int
	var listen, member string
	var likeGorse bool
	c := &cobra.Command{
		Use:   "run",
		Short: "Run some of the stages: one process of a cluster that shares the work over Kafka",
		Long: `Run divides the work of ` + "`up`" + ` between processes. With --stages ingest,cfstream a process learns: Kafka's consumer group gives it some
of the shards (kafka.shards, fixed when the topics are made), each the only writer of its users' and items' vectors; what it learns goes to the
shard's changelog on the embeddings topic, and when a process dies, another one takes its shards over from there. With --stages generator,serve a
process answers: it follows all changelogs, shares the requests and the moved users with its peers, and serves HTTP for any user.
Start as many of each as you like, on as many machines; they need Kafka and nothing of each other.`,
		Example: `  corastream run --stages ingest,cfstream --shards 4 --bootstrap-server kafka:9092 --data /var/lib/corastream-a
  corastream run --stages generator,serve --shards 4 --bootstrap-server kafka:9092 --data /var/lib/corastream-b --listen 127.0.0.1:8643
  corastream run --stages ingest,cfstream,generator,serve -c configs/cluster.yaml   # both in one process`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			r, err := parseStages(stages)
			if err != nil {
				return err
			}
			if shards > 0 {
				cfg.Kafka.Shards = shards
			}
			if listen != "" {
				cfg.HTTP.Listen = listen
			}
			cfg.HTTP.Gorse = likeGorse
			if err := checkCluster(cfg); err != nil {
				return err
			}
			if member == "" {
				host, _ := os.Hostname()
				member = fmt.Sprintf("%s-%d", host, os.Getpid())
			}
			return runCluster(cmd.Context(), cfg, log, r, member, func(v any) error { return console.Summary(cmd.OutOrStdout(), v) })
		},
	}
	f.add(c, "data", "llm", "checkpoint", "bootstrap")
	fl := c.Flags()
	fl.StringSliceVar(&stages, "stages", nil, "ingest,cfstream (learn), generator,serve (answer), or all four")
	fl.IntVar(&shards, "shards", 0, "into how many shards the cluster's state is divided: the same number everywhere, fixed at birth (default: kafka.shards)")
	fl.StringVar(&listen, "listen", "", "HTTP address (default 127.0.0.1:8642)")
	fl.BoolVar(&likeGorse, "gorse", false, gorseHelp)
	fl.StringVar(&member, "member", "", "this process's name in logs and changelogs (default: host and process id)")
	return c
}

// checkCluster refuses what a cluster can not do, before anything is opened.
func checkCluster(cfg node.Config) error {
	switch {
	case cfg.Kafka.Shards < 1:
		return corastream.Usagef("kafka.shards", "set it, or pass --shards N: two to four times as many as processes that will learn (docs/measured/scale.md)", "a cluster needs shards")
	case len(cfg.Kafka.Brokers) == 0:
		return corastream.Usagef("kafka.brokers", "name them, or pass --bootstrap-server; `corastream up` alone has an embedded broker", "a cluster's processes meet in Kafka")
	case cfg.Pipeline.Recommendations != corastream.RecommendAlways:
		return corastream.Usagef("pipeline.recommendations", "set it to always, or use `corastream up`", "a process of a cluster that learns does not know who asked")
	}
	if err := cfg.Kafka.Validate(); err != nil {
		return node.Section("kafka", err)
	}
	return cfstream.Shardable(cfg.CF)
}

// clusterSummary is the last line of `run`.
type clusterSummary struct {
	Learner *cluster.Summary `json:"learner,omitempty"`
	Replica *node.Summary    `json:"replica,omitempty"`
}

// runCluster plays the roles until ctx ends or one of them fails.
func runCluster(ctx context.Context, cfg node.Config, log zerolog.Logger, r roles, member string, tell func(any) error) error {
	if err := ingest.EnsureTopics(ctx, cfg.Kafka); err != nil {
		return fmt.Errorf("topics: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var out clusterSummary
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	play := func(name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if failed == nil && context.Cause(ctx) == nil {
					failed = fmt.Errorf("%s: %w", name, err)
				}
				cancel(err)
			}
		})
	}
	var l *cluster.ShardHost
	if r.learn {
		var err error
		var end func() error
		if l, end, err = node.OpenShardHost(cfg, version, log, member, !r.answer); err != nil {
			return err
		}
		defer end()
		play("learn", func(ctx context.Context) error {
			err := l.Run(ctx)
			s := l.Summary()
			out.Learner = &s
			return err
		})
	}
	if r.answer {
		play("answer", func(ctx context.Context) error {
			e, err := node.OpenReplica(ctx, cfg, version, log, l)
			if err != nil {
				return err
			}
			began := time.Now()
			err = e.RunReplica(ctx)
			s := e.Summary(time.Since(began))
			out.Replica = &s
			if closeErr := e.Close(); err == nil {
				err = closeErr
			}
			return err
		})
	}
	wg.Wait()
	if failed != nil {
		return failed
	}
	return tell(out)
}
