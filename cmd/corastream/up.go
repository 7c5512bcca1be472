package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
)

func upCommand() *cobra.Command {
	var f common
	var exitWhenIdle bool
	var listen string
	var likeGorse bool
	c := &cobra.Command{
		Use:   "up",
		Short: "Run all stages in one process: learn from the log, recommend to moved users and to requests, serve HTTP",
		Long: `Up reads the interactions, items and requests topics, learns every event once, and publishes fresh recommendations. Without
--bootstrap-server it starts an embedded broker in the data folder. Ctrl-C drains, commits and exits 0.`,
		Example: `  corastream up -c configs/default.yaml
  corastream up --bootstrap-server kafka-1:9092,kafka-2:9092 --data /var/lib/corastream --checkpoint cora.safetensors
  corastream up --exit-when-idle        # ends when the log is used up
  corastream up --gorse                 # answers Gorse's SDKs too`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if cfg.Kafka.Shards > 0 {
				return corastream.Usagef("kafka.shards", "leave it out, or use `corastream run --stages ingest,cfstream,generator,serve`", "`up` keeps all state to itself and would not be part of the cluster")
			}
			if exitWhenIdle {
				cfg.Kafka.ExitWhenIdle = time.Second
				// A group may still count a killed process among its members and give us a part of the log: what we then
				// read to its end is not the log's end.
				cfg.Kafka.Group = ""
			}
			if listen != "" {
				cfg.HTTP.Listen = listen
			}
			cfg.HTTP.Gorse = likeGorse
			ctx := cmd.Context()
			e, err := node.Open(ctx, cfg, version, log)
			if err != nil && ctx.Err() != nil { // asked to stop before it had begun: nothing is done, nothing is lost
				return console.Summary(cmd.OutOrStdout(), node.Summary{FreshnessMS: map[string]float64{"p50": 0, "p99": 0}, Hits10: node.NoHits(), AUC: map[string]any{"bias": nil, "cf": nil, "cora": nil}})
			}
			if err != nil {
				return err
			}
			if e.LLM != nil && e.Familiarity == nil {
				what := "ranks nothing, answers are degraded: cf"
				if e.Ranker != nil && e.Config.Mix.Codes > 0 {
					what = "reads the catalogue for lists, and scores nothing, the probability of a like is that of cf"
				} else if e.Ranker != nil {
					what = "scores nothing, the probability of a like is that of cf"
				}
				log.Warn().Msg("no checkpoint: the language model " + what + " (fix: `corastream train`, then --checkpoint FILE)")
			}
			began := time.Now()
			e.Monitor.Start()
			err = e.Run(ctx, nil)
			if judgeErr := e.Judged(); judgeErr != nil {
				log.Warn().Err(judgeErr).Msg("the last rows were not judged")
			}
			result := e.Summary(time.Since(began))
			if closeErr := e.Close(); err == nil {
				err = closeErr
			}
			if err != nil {
				return err
			}
			return console.Summary(cmd.OutOrStdout(), result)
		},
	}
	f.add(c, "data", "llm", "checkpoint", "bootstrap")
	c.Flags().BoolVar(&exitWhenIdle, "exit-when-idle", false, "end once the log is used up and every recommendation is out")
	c.Flags().BoolVar(&likeGorse, "gorse", false, gorseHelp)
	c.Flags().StringVar(&listen, "listen", "", "HTTP address (default 127.0.0.1:8642)")
	return c
}

const gorseHelp = "answer Gorse's REST paths below /api/ too, for its SDKs"
