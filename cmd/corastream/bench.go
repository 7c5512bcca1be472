package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve/llm"
)

func benchCommand() *cobra.Command {
	var f common
	var seconds float64
	var lf llmFlags
	var size marketSize
	var file string
	benches := map[string]func(context.Context, Config, zerolog.Logger, io.Writer, time.Duration) error{
		"learn": func(ctx context.Context, cfg Config, log zerolog.Logger, w io.Writer, length time.Duration) error {
			return benchLearn(ctx, cfg, log, w, length, file)
		},
		"catalogue": func(ctx context.Context, cfg Config, log zerolog.Logger, w io.Writer, _ time.Duration) error {
			return benchCatalogue(ctx, cfg, log, w, size)
		},
		"generator": benchGenerator, "freshness": benchFreshness,
		"llm": func(ctx context.Context, cfg Config, log zerolog.Logger, w io.Writer, length time.Duration) error {
			return benchLLM(ctx, cfg, log, w, length, lf)
		},
	}
	c := &cobra.Command{
		Use:   "bench NAME",
		Short: "Measure: llm, generator, learn, catalogue or freshness; JSON lines, the summary last",
		Long: `learn: events per second through one transaction per micro-batch, the list model's too (--log FILE: of a log of yours). catalogue:
a made-up shop of --items and --users is learnt from --events and asked for lists, against a ranking of all items. llm: the rows of
docs/performance.md that are our own. generator: users'
weights per second. freshness: from a click's append to its recommendation, through the embedded broker (or the one given).`,
		Example: "  corastream bench learn\n  corastream bench freshness -c configs/demo.yaml", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"llm", "generator", "learn", "catalogue", "freshness"},
		RunE: func(cmd *cobra.Command, args []string) error {
			bench := benches[args[0]]
			if bench == nil {
				return corastream.Usagef(args[0], "choose llm, generator, learn, catalogue or freshness", "no such benchmark")
			}
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			return bench(cmd.Context(), cfg, log.Level(zerolog.WarnLevel), cmd.OutOrStdout(), time.Duration(seconds*float64(time.Second)))
		},
	}
	f.add(c, "llm", "checkpoint", "bootstrap")
	c.Flags().Float64Var(&seconds, "seconds", 3, "how long each case runs")
	c.Flags().StringVar(&file, "log", "", "learn: a log to learn from (default: a made-up one)")
	c.Flags().IntVar(&size.items, "items", 100_000, "catalogue: how many items")
	c.Flags().IntVar(&size.users, "users", 100_000, "catalogue: how many users")
	c.Flags().IntVar(&size.events, "events", 500_000, "catalogue: how many events are learnt")
	c.Flags().Uint64Var(&size.seed, "seed", 1, "catalogue: of what is made up")
	c.Flags().StringSliceVar(&lf.cases, "cases", defaultLLMCases, "llm: which of "+strings.Join(llmCases, ", "))
	c.Flags().StringSliceVar(&lf.numerics, "numerics", nil, "llm: f32, bf16, int8 or auto (default: the configured, and int8)")
	c.Flags().IntSliceVar(&lf.threads, "threads", nil, "llm: cores of a call (default: 1 and the configured)")
	c.Flags().StringVar(&lf.cacheDir, "cache-dir", "", "llm: where packed weights and items are kept (default: nowhere)")
	c.Flags().StringVar(&lf.prompts, "prompts-out", "", "llm: write the prompts' tokens to this file, for other programs")
	return c
}

// syntheticLog draws users and items by Zipf's law, so that some are hot, as in real logs.
func syntheticLog(n, users, items int) []corastream.Event {
	r := rand.New(rand.NewPCG(1, 2))
	zu, zi := rand.NewZipf(r, 1.1, 8, uint64(users-1)), rand.NewZipf(r, 1.1, 8, uint64(items-1))
	now := time.Now()
	out := make([]corastream.Event, n)
	for i := range out {
		out[i] = corastream.Event{
			Pos: corastream.Position{Topic: "bench", Partition: int32(i % 4), Offset: int64(i / 4)}, User: fmt.Sprint("u", zu.Uint64()),
			Item: fmt.Sprint("i", zi.Uint64()), Kind: "rating", Label: float32(r.IntN(2)), Weight: 1, Time: now, Appended: now,
		}
	}
	return out
}

func benchLearn(ctx context.Context, cfg Config, _ zerolog.Logger, w io.Writer, length time.Duration, file string) error {
	events := syntheticLog(400_000, 200_000, 50_000)
	if file != "" {
		var err error
		if events, err = readEvents(cfg.Kafka, file, "bench"); err != nil {
			return err
		}
		for i := range events {
			events[i].Pos, events[i].Appended = corastream.Position{Topic: "bench", Partition: int32(i % 4), Offset: int64(i / 4)}, events[i].Time
		}
	}
	for _, batch := range []int{256, 1024, 4000} {
		dir, err := os.MkdirTemp("", "corastream-bench")
		if err != nil {
			return err
		}
		err = benchLearnBatch(ctx, cfg, w, dir, batch, length, events)
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

func benchLearnBatch(ctx context.Context, cfg Config, w io.Writer, dir string, batch int, length time.Duration, log []corastream.Event) error {
	cfg.Data = dir
	s, model, err := openStore(cfg, zerolog.Nop())
	if err != nil {
		return err
	}
	defer s.Close()
	cf, err := cfstream.New(cfg.CF)
	if err != nil {
		return err
	}
	began, done := time.Now(), 0
	var slowest time.Duration
	for done+batch <= len(log) && time.Since(began) < length {
		part := slices.Clone(log[done : done+batch]) // a batch holds one partition after the other, as its spans do
		slices.SortStableFunc(part, func(a, b corastream.Event) int { return cmp.Compare(a.Pos.Partition, b.Pos.Partition) })
		b := corastream.Batch{Events: part}
		for p := range int32(4) {
			from, to := int64((done+3-int(p))/4), int64((done+batch+3-int(p))/4)
			b.Spans = append(b.Spans, corastream.Span{Partition: corastream.Partition{Topic: "bench", ID: p}, From: from, To: to})
		}
		t := time.Now()
		if _, err := s.Commit(ctx, b, cf.Learn); err != nil {
			return err
		}
		slowest = max(slowest, time.Since(t))
		done += batch
	}
	took := time.Since(began)
	return jsonLine(w, map[string]any{
		"bench": "learn", "cf": cfg.CF.String(), "batch": batch, "events": done, "events_per_s": float64(done) / took.Seconds(),
		"slowest_commit_ms": ms(slowest), "mix": model.Spec().String(), "sync_writes": cfg.Store.SyncWrites,
	})
}

// repeat runs f until length is over and returns how often it ran and the median time of a run.
func repeat(length time.Duration, f func() error) (int, time.Duration, error) {
	if err := f(); err != nil { // warm-up
		return 0, 0, err
	}
	var times []time.Duration
	for began := time.Now(); time.Since(began) < length || len(times) < 3; {
		t := time.Now()
		if err := f(); err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(t))
	}
	slices.Sort(times)
	return len(times), times[len(times)/2], nil
}

// inventedTitles are of no real film: benchmarks need text of a title's length alone.
func inventedTitles(n int) []corastream.Prompt {
	first := []string{"The Last", "A Quiet", "Return of the", "Midnight", "Seven", "The Painted", "Northern", "Her Brother's"}
	second := []string{"Harbour", "Witness", "Cartographers", "Orchard", "Telegram", "Winter", "Accord", "Lighthouse"}
	out := make([]corastream.Prompt, n)
	for i := range out {
		part := ""
		if i >= 64 {
			part = fmt.Sprintf(" %d", i/64)
		}
		out[i] = corastream.Prompt{
			ItemID: fmt.Sprint("bench-", i),
			Title:  fmt.Sprintf("%s %s%s (%d)", first[i%8], second[i/8%8], part, 1950+i%60),
		}
	}
	return out
}

func needLLM(cfg Config, log zerolog.Logger) (*llm.Model, error) {
	m, err := openLLM(cfg.LLM, log)
	if err == nil && m == nil {
		err = corastream.Usagef("llm", "name a GGUF with --llm FILE", "this benchmark needs the LLM")
	}
	return m, err
}

// randomWeights are one user's W_A and a projection of the given spec, for timing.
func randomWeights(spec generator.Spec, m *llm.Model, n int) ([]corastream.Weights, *corastream.Projection) {
	r := rand.New(rand.NewPCG(3, 4))
	noise := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64() * .02)
		}
		return v
	}
	user, item := noise(spec.Size()), noise(spec.Size())
	ws := make([]corastream.Weights, n)
	for i := range ws {
		ws[i] = corastream.Weights{Hidden: spec.Hidden, Rank: spec.Rank, User: user, Item: item, ItemScale: float32(i%7) * .1}
	}
	p := &corastream.Projection{Rank: spec.Rank, Alpha: float32(spec.Alpha), Adapt: spec.Adapt, P: map[corastream.Slot][]float32{}}
	widths := m.TargetWidths()
	for _, slot := range spec.Slots(m.Info().Layers) {
		p.P[slot] = noise(spec.Rank * widths[slot.Target][1])
	}
	return ws, p
}

func benchGenerator(ctx context.Context, cfg Config, log zerolog.Logger, w io.Writer, length time.Duration) error {
	m, err := needLLM(cfg, log)
	if err != nil {
		return err
	}
	defer m.Close()
	ck, err := openCheckpoint(cfg, m)
	if err != nil {
		return err
	}
	if ck == nil {
		return corastream.Usagef("checkpoint", "name one with --checkpoint FILE, or -c configs/demo.yaml", "this benchmark needs a checkpoint")
	}
	stage, err := newStage(ck, cfg.Generator, m, log)
	if err != nil {
		return err
	}
	width := ck.Model.Spec.Factors + ck.Model.Spec.Taste
	r := rand.New(rand.NewPCG(5, 6))
	pairs := make([]corastream.Pair, 256)
	version := uint64(0)
	_, took, err := repeat(length, func() error {
		version++ // every user moved: nothing comes from the cache
		for i := range pairs {
			pairs[i] = corastream.Pair{UserID: fmt.Sprint(i), ItemID: "i", User: corastream.Embedding{Vec: make([]float32, width), Version: version}, Item: corastream.Embedding{Vec: make([]float32, width)}}
			for j := range width {
				pairs[i].User.Vec[j] = float32(r.NormFloat64())
			}
		}
		_, _, err := stage.Weights(ctx, pairs)
		return err
	})
	if err != nil {
		return err
	}
	return jsonLine(w, map[string]any{
		"bench": "generator", "spec": string(ck.Model.Spec.Kind), "weights_per_s": float64(len(pairs)) / took.Seconds(), "batch": len(pairs),
		"bytes_each": 4 * ck.Model.Spec.Size(),
	})
}

// benchFreshness sends clicks one by one and waits for each recommendation to come back through the broker.
func benchFreshness(ctx context.Context, cfg Config, log zerolog.Logger, w io.Writer, length time.Duration) error {
	return freshness(ctx, cfg, log, w, length, 200)
}

// freshness is benchFreshness on a catalogue of some items.
func freshness(ctx context.Context, cfg Config, log zerolog.Logger, w io.Writer, length time.Duration, items int) error {
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
	e, err := openEngine(ctx, cfg, log)
	if err != nil {
		return err
	}
	var times []time.Duration
	err = e.run(ctx, func(ctx context.Context) error {
		var err error
		times, err = e.clicks(ctx, length, items)
		return err
	})
	closed, _ := false, ""
	if e.gate != nil {
		closed, _ = e.gate.state()
	}
	ranked := "cora"
	if e.gate == nil || closed {
		ranked = "cf"
	}
	if err = errors.Join(err, e.close()); err != nil {
		return err
	}
	slices.Sort(times)
	at := func(q float64) float64 { return ms(times[int(q*float64(len(times)-1))]) }
	return jsonLine(w, map[string]any{
		"bench": "freshness", "clicks": len(times), "ranked_by": ranked, "candidates": cfg.Pipeline.Candidates,
		"freshness_ms": map[string]float64{"p50": at(.5), "p90": at(.9), "p99": at(.99)},
	})
}

func (e *engine) clicks(ctx context.Context, length time.Duration, catalogue int) ([]time.Duration, error) {
	prompts := inventedTitles(catalogue)
	items := make([]corastream.Item, len(prompts))
	for i, p := range prompts {
		items[i] = corastream.Item{ID: p.ItemID, Title: p.Title}
	}
	if err := e.producer.Items(ctx, items); err != nil {
		return nil, err
	}
	for e.marketSize() < len(items) || e.gate != nil && e.pipeline.Stats.ItemsRead.Load() < int64(len(items)) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	in, err := ingest.NewConsumer(ctx, e.cfg.Kafka, e.cfg.Kafka.Topics.Recommendations, ingest.AtOffset(0), true, e.log)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var times []time.Duration
	for n := 0; len(times) < 10 || time.Duration(sum(times)) < length; n++ {
		user := fmt.Sprint("user-", n)
		sent := time.Now()
		if err := e.producer.Events(ctx, []corastream.Event{{User: user, Item: items[n%len(items)].ID, Kind: "rating", Label: 1, Weight: 1, Time: sent}}); err != nil {
			return nil, err
		}
		for {
			rec, err := in.Next(ctx)
			if err != nil {
				return nil, err
			}
			if got, err := ingest.DecodeRecommendation(rec); err == nil && got.User == user {
				break
			}
		}
		times = append(times, time.Since(sent))
	}
	return times, nil
}

func (e *engine) marketSize() int {
	live, _, _ := e.catalogue.Sizes()
	return live
}

func sum(ds []time.Duration) (total time.Duration) {
	for _, d := range ds {
		total += d
	}
	return total
}
