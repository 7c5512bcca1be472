package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/store"
)

func benchCommand() *cobra.Command {
	var f common
	var seconds float64
	benches := map[string]func(context.Context, Config, zerolog.Logger, io.Writer, time.Duration) error{
		"learn": benchLearn, "llm": benchLLM, "generator": benchGenerator, "freshness": benchFreshness,
	}
	c := &cobra.Command{
		Use:   "bench NAME",
		Short: "Measure: llm, generator, learn or freshness; JSON lines, the summary last",
		Long: `learn: events per second through one transaction per micro-batch. llm: prompts and candidates per second. generator: users'
weights per second. freshness: from a click's append to its recommendation, through the embedded broker (or the one given).`,
		Example: "  corastream bench learn\n  corastream bench freshness -c configs/demo.yaml", Args: cobra.ExactArgs(1),
		ValidArgs: []string{"llm", "generator", "learn", "freshness"},
		RunE: func(cmd *cobra.Command, args []string) error {
			bench := benches[args[0]]
			if bench == nil {
				return corastream.Usagef(args[0], "choose llm, generator, learn or freshness", "no such benchmark")
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

func benchLearn(ctx context.Context, cfg Config, _ zerolog.Logger, w io.Writer, length time.Duration) error {
	for _, batch := range []int{256, 1024, 4000} {
		dir, err := os.MkdirTemp("", "corastream-bench")
		if err != nil {
			return err
		}
		err = benchLearnBatch(ctx, cfg, w, dir, batch, length)
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

func benchLearnBatch(ctx context.Context, cfg Config, w io.Writer, dir string, batch int, length time.Duration) error {
	s, err := store.Open(filepath.Join(dir, "store"), cfg.Store)
	if err != nil {
		return err
	}
	defer s.Close()
	cf, err := cfstream.New(cfg.CF)
	if err != nil {
		return err
	}
	log := syntheticLog(400_000, 200_000, 50_000)
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
		"slowest_commit_ms": ms(slowest), "sync_writes": cfg.Store.SyncWrites,
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
		out[i] = corastream.Prompt{
			ItemID: fmt.Sprint("bench-", i),
			Title:  fmt.Sprintf("%s %s %d (%d)", first[i%8], second[i/8%8], i/64, 1950+i%60),
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

func benchLLM(ctx context.Context, cfg Config, log zerolog.Logger, w io.Writer, length time.Duration) error {
	cfg.LLM.CacheDir = ""
	m, err := needLLM(cfg, log)
	if err != nil {
		return err
	}
	defer m.Close()
	info := m.Info()
	perToken := 2 * float64(info.Layers) * float64(info.Hidden*(info.OInput+2*info.KVHeads*info.HeadDim)+info.OInput*info.Hidden+3*info.Hidden*info.FFN)
	say := func(name string, prompts, tokens int, flops float64, took time.Duration) error {
		s := took.Seconds()
		return jsonLine(w, map[string]any{
			"bench": "llm", "case": name, "prompts_per_s": float64(prompts) / s, "tokens_per_s": float64(tokens) / s,
			"gflops": flops / s / 1e9, "threads": cfg.LLM.Threads, "numerics": cfg.LLM.Numerics,
		})
	}
	ids := make([]int32, 110)
	for i := range ids {
		ids[i] = int32((1000 + 7*i) % info.Vocab)
	}
	_, took, err := repeat(length, func() error { _, err := m.Logits(ctx, ids); return err })
	if err != nil {
		return err
	}
	if err := say("prompt_110", 1, 110, 110*perToken, took); err != nil {
		return err
	}
	prompts := inventedTitles(256)
	items := make([]corastream.Item, len(prompts))
	for i, p := range prompts {
		items[i] = corastream.Item{ID: p.ItemID, Title: p.Title}
	}
	t := time.Now()
	if _, err := m.Encode(ctx, items); err != nil {
		return err
	}
	if err := say("encode_item", len(items), 0, 0, time.Since(t)); err != nil {
		return err
	}
	spec := generator.DefaultSpec()
	spec.Hidden = info.Hidden
	weights, projection := randomWeights(spec, m, len(prompts))
	for _, n := range []int{20, len(prompts)} {
		_, took, err := repeat(length, func() error { _, err := m.Score(ctx, prompts[:n], weights[:n], projection); return err })
		if err != nil {
			return err
		}
		if err := say(fmt.Sprintf("candidates_%d_last_n%d", n, spec.Layers), n, n, float64(n)*perToken*float64(spec.Layers)/float64(info.Layers), took); err != nil {
			return err
		}
	}
	return nil
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
	stage, err := generator.NewStage(ck, cfg.Generator)
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
		times, err = e.clicks(ctx, length)
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

func (e *engine) clicks(ctx context.Context, length time.Duration) ([]time.Duration, error) {
	prompts := inventedTitles(200)
	items := make([]corastream.Item, len(prompts))
	for i, p := range prompts {
		items[i] = corastream.Item{ID: p.ItemID, Title: p.Title}
	}
	if err := e.producer.Items(ctx, items); err != nil {
		return nil, err
	}
	for e.catalogueSize() < len(items) || e.gate != nil && e.pipeline.Stats.ItemsRead.Load() < int64(len(items)) {
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

func (e *engine) catalogueSize() int {
	live, _, _ := e.catalogue.Sizes()
	return live
}

func sum(ds []time.Duration) (total time.Duration) {
	for _, d := range ds {
		total += d
	}
	return total
}
