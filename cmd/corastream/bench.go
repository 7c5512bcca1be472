package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/cmd/internal/bench"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/store"
)

func benchCommand() *cobra.Command {
	var f common
	var seconds float64
	var lf bench.LLMFlags
	var size bench.Market
	var file, texts string
	benches := map[string]func(context.Context, bench.Deps, io.Writer, time.Duration) error{
		"learn": func(ctx context.Context, d bench.Deps, w io.Writer, length time.Duration) error {
			return bench.Learn(ctx, d, w, length, func() ([]corastream.Event, error) { return benchLog(d.Kafka, file) })
		},
		"catalogue": func(ctx context.Context, d bench.Deps, w io.Writer, _ time.Duration) error {
			return bench.Catalogue(ctx, d, w, size)
		},
		"generator": bench.Generator,
		"llm": func(ctx context.Context, d bench.Deps, w io.Writer, length time.Duration) error {
			if texts != "" {
				var err error
				if lf.Items, err = datafile.Items(d.Kafka, texts); err != nil {
					return err
				}
			}
			return bench.LLM(ctx, d, w, length, lf)
		},
	}
	c := &cobra.Command{
		Use:   "bench NAME",
		Short: "Measure: llm, generator, learn, catalogue or freshness; JSON lines, the summary last",
		Long: `learn: events per second through one transaction per micro-batch, the list model's too (--log FILE: of a log of yours). catalogue:
a made-up shop of --items and --users is learnt from --events and asked for lists, against a ranking of all items. llm: the rows of
docs/measured/performance.md that are our own. generator: users'
weights per second. freshness: from a click's append to its recommendation, through the embedded broker (or the one given).`,
		Example: "  corastream bench learn\n  corastream bench freshness -c configs/demo.yaml", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"llm", "generator", "learn", "catalogue", "freshness"},
		RunE: func(cmd *cobra.Command, args []string) error {
			measure := benches[args[0]]
			if measure == nil && args[0] != "freshness" {
				return corastream.Usagef(args[0], "choose llm, generator, learn, catalogue or freshness", "no such benchmark")
			}
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			log, length := log.Level(zerolog.WarnLevel), time.Duration(seconds*float64(time.Second))
			if measure == nil {
				return freshness(cmd.Context(), cfg, log, cmd.OutOrStdout(), length, 200)
			}
			return measure(cmd.Context(), newBenchDeps(cfg, log), cmd.OutOrStdout(), length)
		},
	}
	f.add(c, "llm", "checkpoint", "bootstrap")
	c.Flags().Float64Var(&seconds, "seconds", 3, "how long each case runs")
	c.Flags().StringVar(&file, "log", "", "learn: a log to learn from (default: a made-up one)")
	c.Flags().IntVar(&size.Items, "items", 100_000, "catalogue: how many items")
	c.Flags().IntVar(&size.Users, "users", 100_000, "catalogue: how many users")
	c.Flags().IntVar(&size.Events, "events", 500_000, "catalogue: how many events are learnt")
	c.Flags().Uint64Var(&size.Seed, "seed", 1, "catalogue: of what is made up")
	c.Flags().StringSliceVar(&lf.Cases, "cases", bench.DefaultLLMCases, "llm: which of "+strings.Join(bench.LLMCases, ", "))
	c.Flags().StringSliceVar(&lf.Numerics, "numerics", nil, "llm: f32, bf16, int8 or auto (default: the configured, and int8)")
	c.Flags().IntSliceVar(&lf.Threads, "threads", nil, "llm: cores of a call (default: 1 and the configured)")
	c.Flags().StringVar(&texts, "texts", "", "llm: a catalogue for the case list_100_n1 (default: invented titles)")
	c.Flags().StringVar(&lf.CacheDir, "cache-dir", "", "llm: where packed weights and items are kept (default: nowhere)")
	c.Flags().StringVar(&lf.Prompts, "prompts-out", "", "llm: write the prompts' tokens to this file, for other programs")
	return c
}

// newBenchDeps hands the configured stages to the benchmarks.
func newBenchDeps(cfg node.Config, log zerolog.Logger) bench.Deps {
	return bench.Deps{
		CF: cfg.CF, Store: cfg.Store, Kafka: cfg.Kafka, LLM: cfg.LLM.Options, File: cfg.LLM.File,
		Progress: func(phase string) func(done, total int) {
			return console.NewProgress(log.Level(zerolog.InfoLevel), phase).Set
		},
		OpenStore: func(dir string) (*store.Store, *mix.Model, error) {
			c := cfg
			c.Data = dir
			return node.OpenStore(c, log)
		},
		OpenLLM: func(o llm.Options) (*llm.Model, error) {
			c := cfg.LLM
			c.Options = o
			m, err := node.OpenLLM(c, log)
			if err == nil && m == nil {
				err = corastream.Usagef("llm", "name a GGUF with --llm FILE", "this benchmark needs the LLM")
			}
			return m, err
		},
		OpenStage: func(m *llm.Model) (*generator.Stage, error) {
			ck, err := node.OpenCheckpoint(cfg, m)
			if err != nil {
				return nil, err
			}
			if ck == nil {
				return nil, corastream.Usagef("checkpoint", "name one with --checkpoint FILE, or -c configs/demo.yaml", "this benchmark needs a checkpoint")
			}
			return node.NewStage(ck, cfg.Generator, m, log)
		},
	}
}

// benchLog is a log to learn from, as if it came on four partitions; nil where there is no file.
func benchLog(c ingest.Config, file string) ([]corastream.Event, error) {
	if file == "" {
		return nil, nil
	}
	events, err := datafile.Events(c, file, "bench")
	for i := range events {
		events[i].Pos, events[i].Appended = corastream.Position{Topic: "bench", Partition: int32(i % 4), Offset: int64(i / 4)}, events[i].Time
	}
	return events, err
}

// freshness opens an engine in a folder of its own, and on topics of its own, and measures clicks on a catalogue of some items.
func freshness(ctx context.Context, cfg node.Config, log zerolog.Logger, w io.Writer, length time.Duration, items int) error {
	dir, err := os.MkdirTemp("", "corastream-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cfg.Data, cfg.HTTP.Listen = dir, "127.0.0.1:0"
	if len(cfg.Kafka.Brokers) > 0 {
		tag := fmt.Sprintf("bench-%d.", time.Now().UnixNano())
		t := &cfg.Kafka.Topics
		for _, name := range []*string{&t.Interactions, &t.Items, &t.Requests, &t.Recommendations, &t.DeadLetters} {
			*name = tag + *name
		}
		cfg.Kafka.Group = tag + "group"
	}
	e, err := node.Open(ctx, cfg, version, log)
	if err != nil {
		return err
	}
	var times []time.Duration
	err = e.Run(ctx, func(ctx context.Context) error {
		var err error
		ready := func(n int) bool {
			live, _, _ := e.Catalogue.Sizes()
			return live >= n && (e.Familiarity == nil || e.Pipeline.Stats.ItemsRead.Load() >= int64(n))
		}
		times, err = bench.Loop{Kafka: e.Config.Kafka, Producer: e.Producer, Ready: ready, Log: e.Log}.Clicks(ctx, length, items)
		return err
	})
	closed, _ := false, ""
	if e.Familiarity != nil {
		closed, _ = e.Familiarity.Closed()
	}
	ranked := "cora"
	if e.Familiarity == nil || closed {
		ranked = "cf"
	}
	if err = errors.Join(err, e.Close()); err != nil {
		return err
	}
	return console.JSONLine(w, bench.Freshness(times, ranked, cfg.Pipeline.Candidates))
}
