package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/configs"
)

func demoCommand() *cobra.Command {
	var f common
	var cache string
	var events int
	var rate float64
	c := &cobra.Command{
		Use:   "demo",
		Short: "Stream MovieLens-100K's real ratings through everything (what `make run` does)",
		Long: `The demo starts all stages on the embedded broker. The first 80 % of the ratings, in time order, are a fast backfill; the rest
is the live stream, on which alone the running prequential AUC is counted. Recommendations appear while it flows.`,
		Example: "  corastream demo --events 2000",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.loadDemo(cache)
			if err != nil {
				return err
			}
			d := demo{cfg: cfg, log: log, out: cmd.OutOrStdout(), rate: rate, limit: events}
			if err := d.read(filepath.Join(cache, "ml-100k")); err != nil {
				return err
			}
			result, err := d.run(cmd.Context())
			if err != nil {
				return err
			}
			return console.Summary(cmd.OutOrStdout(), result)
		},
	}
	f.add(c, "data", "llm", "checkpoint")
	fl := c.Flags()
	fl.StringVar(&cache, "cache", ".cache", "folder that `make fetch` filled")
	fl.IntVar(&events, "events", 0, "end after so many live events; 0: all 20,000")
	fl.Float64Var(&rate, "rate", 250, "live events per second")
	return c
}

// loadDemo lays the flags over the demo's embedded configuration; its checkpoint is embedded too.
func (f *common) loadDemo(cache string) (node.Config, zerolog.Logger, error) {
	if f.config == "" {
		dir := filepath.Join(cache, "demo")
		if err := configs.Extract(dir); err != nil {
			return node.Config{}, zerolog.Nop(), fmt.Errorf("unpack the demo's configuration: %w", err)
		}
		f.config = filepath.Join(dir, configs.Demo)
		if f.checkpoint == "" {
			f.checkpoint = filepath.Join(dir, configs.Checkpoint)
		}
	}
	if f.llm == "" {
		f.llm = filepath.Join(cache, filepath.Base(node.DefaultLLM))
	}
	if f.data == "" {
		f.data = filepath.Join(cache, "demo", "data")
	}
	cfg, log, err := f.load()
	cfg.LLM.CacheDir = filepath.Join(cache, "llm")
	return cfg, log, err
}

// demo is one run: fresh state each time, but what the LLM read of the catalogue is kept.
type demo struct {
	cfg   node.Config
	log   zerolog.Logger
	out   io.Writer
	rate  float64
	limit int

	items          []corastream.Item
	backfill, live []corastream.Event
	titles         map[string]string
	shown          time.Time
	first          time.Duration
}

func (d *demo) read(dir string) (err error) {
	if d.items, err = datafile.Items(d.cfg.Kafka, filepath.Join(dir, "items.csv")); err != nil {
		return err
	}
	if d.backfill, err = datafile.Events(d.cfg.Kafka, filepath.Join(dir, "train.csv"), "train"); err != nil {
		return err
	}
	if d.live, err = datafile.Events(d.cfg.Kafka, filepath.Join(dir, "live.csv"), "live"); err != nil {
		return err
	}
	if d.limit > 0 {
		d.live = d.live[:min(d.limit, len(d.live))]
	}
	d.titles = map[string]string{}
	for _, it := range d.items {
		d.titles[it.ID] = it.Title
	}
	return nil
}

func (d *demo) run(ctx context.Context) (node.Summary, error) {
	for _, part := range []string{"store", "broker"} {
		if err := os.RemoveAll(filepath.Join(d.cfg.Data, part)); err != nil {
			return node.Summary{}, err
		}
	}
	began := time.Now()
	if l, err := net.Listen("tcp", d.cfg.HTTP.Listen); err == nil {
		l.Close()
	} else {
		d.log.Warn().Str("listen", d.cfg.HTTP.Listen).Msg("taken: the dashboard gets another port")
		d.cfg.HTTP.Listen = "127.0.0.1:0"
	}
	e, err := node.Open(ctx, d.cfg, version, d.log)
	if err != nil {
		return node.Summary{}, err
	}
	e.Pipeline.Sink = shown{e.Pipeline.Sink, d, e.Store, began}
	var result node.Summary
	err = e.Run(ctx, func(ctx context.Context) error {
		if err := d.stream(ctx, e); err != nil {
			return err
		}
		result = e.Summary(time.Since(began))
		return nil
	})
	if ctx.Err() != nil { // Ctrl-C: what was done so far is the result
		result = e.Summary(time.Since(began))
	}
	if result.FreshnessMS == nil && err == nil {
		err = errors.New("the demo ended before its stream")
	}
	return result, errors.Join(err, e.Close())
}

// stream is the demo's own part: it only produces to Kafka and watches.
func (d *demo) stream(ctx context.Context, e *node.Node) error {
	st := &e.Pipeline.Stats
	if err := e.Producer.Items(ctx, d.items); err != nil {
		return err
	}
	read := func() int { return int(st.ItemsRead.Load()) }
	if e.Familiarity != nil && e.Ranker == nil { // without a list model, the LLM ranks
		if err := d.await(ctx, "read catalogue", len(d.items), read); err != nil {
			return err
		}
	}
	began := time.Now()
	if err := e.Producer.Events(ctx, d.backfill); err != nil {
		return err
	}
	if err := d.await(ctx, "backfill", len(d.backfill), func() int { return int(st.Events.Load()) }); err != nil {
		return err
	}
	d.log.Info().Int("events", len(d.backfill)).Int("events_per_s", int(float64(len(d.backfill))/time.Since(began).Seconds())).Msg("backfill learnt")
	if err := d.settled(ctx, e); err != nil {
		return err
	}
	if seconds := float64(len(d.live)) / d.rate; e.Familiarity != nil && (d.rate <= 0 || seconds < readingTime.Seconds()) {
		if err := d.await(ctx, "read catalogue", len(d.items), read); err != nil {
			return err
		}
	}
	// From here on it is live: freshness and HR@10 count from now, AUC from when the LLM has read the catalogue.
	st.Freshness.Reset()
	e.Monitor.StartLists()
	judging := false
	judge := func() {
		if ready := e.Familiarity == nil || read() >= len(d.items); ready && !judging {
			judging = true
			e.Monitor.Start()
		}
	}
	judge()
	d.log.Info().Int("events", len(d.live)).Float64("per_s", d.rate).Str("dashboard", e.HTTP.URL()).Msg("live stream")
	status := time.NewTicker(2 * time.Second)
	defer status.Stop()
	done := make(chan error, 1)
	go func() {
		_, err := paced(ctx, d.live, d.rate, e.Producer.Events, func(int) {})
		done <- err
	}()
	for sent := false; !sent; {
		select {
		case err := <-done:
			if err != nil {
				return err
			}
			sent = true
		case <-status.C:
			judge()
			d.status(e)
		}
	}
	total := len(d.backfill) + len(d.live)
	if err := d.await(ctx, "live", total, func() int { return int(st.Events.Load()) }); err != nil {
		return err
	}
	if err := d.settled(ctx, e); err != nil {
		return err
	}
	return d.await(ctx, "judge", 1, func() int {
		if e.Monitor.Figures().Waiting == 0 {
			return 1
		}
		return 0
	})
}

// readingTime is more than the LLM takes to read the catalogue for the first time, on two cores. A live stream that is shorter
// waits for it, or no row would be left for AUC. Lists do not wait.
const readingTime = time.Minute

// await shows progress until at reaches total.
func (d *demo) await(ctx context.Context, what string, total int, at func() int) error {
	bar := console.NewProgress(d.log, what)
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		n := at()
		bar.Set(min(n, total), total)
		if n >= total {
			tick.Stop()
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// settled waits until nobody is owed a recommendation.
func (d *demo) settled(ctx context.Context, e *node.Node) error {
	return d.await(ctx, "recommend to everyone", 1, func() int {
		owed, err := e.Store.Owed(1)
		if err != nil || len(owed) > 0 {
			return 0
		}
		return 1
	})
}

func (d *demo) status(e *node.Node) {
	st, f := &e.Pipeline.Stats, e.Monitor.Figures()
	h := f.Hits
	d.log.Info().Int64("events", st.Events.Load()).Int64("recommendations", st.Recommendations.Load()).
		Float64("hits10_mix", console.Round4(float64(h.Mix))).Float64("hits10_popularity", console.Round4(float64(h.Popularity))).Float64("hits10_late", console.Round4(float64(h.Late))).
		Float64("fresh_p50_ms", console.Millis(st.Freshness.Quantile(.5))).Float64("fresh_p99_ms", console.Millis(st.Freshness.Quantile(.99))).
		Float64("auc_bias", console.Round4(float64(f.Bias))).Float64("auc_cf", console.Round4(float64(f.CF))).Float64("auc_cora", console.Round4(float64(f.Cora))).
		Int64("rows", f.Rows).Msg("live")
}
