package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/cmd/internal/testkit"
	"github.com/corastream/corastream/ingest"
)

// TestOneClickMovesTheWeightsOfItsUser runs the real LLM and the demo's checkpoint behind the embedded broker: users of
// different taste have different W_A and different rankings, and a click has changed its user's W_A by the time the
// recommendation that covers it is out; its freshness says how long that took.
func TestOneClickMovesTheWeightsOfItsUser(t *testing.T) {
	t.Parallel()
	cfg := node.Default()
	cfg.Data, cfg.LLM.CacheDir, cfg.HTTP.Listen = t.TempDir(), "", "127.0.0.1:0"
	cfg.LLM.File, cfg.Checkpoint = testkit.RealLLM(t), testkit.DemoCheckpoint(t)
	cfg.Pipeline.Candidates = 10
	e, err := node.Open(t.Context(), cfg, version, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	err = e.Run(testkit.Context(t), func(ctx context.Context) error { return clicks(ctx, t, e) })
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func clicks(ctx context.Context, t *testing.T, e *node.Node) error {
	const films = 24 // fewer than the familiarity test judges by: the titles are invented
	var items []corastream.Item
	for i := range films {
		items = append(items, corastream.Item{ID: fmt.Sprint("i", i), Title: fmt.Sprintf("The %s of Number %d (%d)", []string{"Return", "Fall"}[i%2], i, 1940+60*(i%2))})
	}
	if err := e.Producer.Items(ctx, items); err != nil {
		return err
	}
	testkit.Eventually(t, "the catalogue", func() bool { return e.Pipeline.Stats.ItemsRead.Load() == films })
	var events []corastream.Event
	for i := range 12 { // "old" likes the even items, "new" the odd ones
		for _, user := range []string{"old", "new"} {
			like := float32(0)
			if (i%2 == 0) == (user == "old") {
				like = 1
			}
			events = append(events, corastream.Event{User: user, Item: fmt.Sprint("i", i), Kind: "rating", Label: like, Weight: 1, Time: time.Now()})
		}
	}
	if err := e.Producer.Events(ctx, events); err != nil {
		return err
	}
	testkit.Eventually(t, "the first clicks", func() bool { return e.Pipeline.Stats.Events.Load() == int64(len(events)) && noDebts(e) })
	before, err := weightsOf(ctx, e, "old")
	if err != nil {
		return err
	}
	other, err := weightsOf(ctx, e, "new")
	if err != nil {
		return err
	}
	if slices.Equal(before, other) {
		t.Error("users of different taste have equal W_A")
	}
	rest := make([]string, 0, films)
	for _, it := range items[12:] {
		rest = append(rest, it.ID)
	}
	recs, err := e.Pipeline.Recommend(ctx, []corastream.Owed{
		{User: "old", Request: &corastream.Request{User: "old", N: len(rest), Candidates: rest}},
		{User: "new", Request: &corastream.Request{User: "new", N: len(rest), Candidates: rest}},
	})
	if err != nil {
		return err
	}
	if recs[0].Degraded != "" || slices.EqualFunc(recs[0].Items, recs[1].Items, func(a, b corastream.Scored) bool { return a.Item == b.Item && a.Score == b.Score }) {
		t.Errorf("degraded %q; the rankings of both: %v", recs[0].Degraded, recs[0].Items)
	}

	published, err := ingest.NewConsumer(ctx, e.Config.Kafka, e.Config.Kafka.Topics.Recommendations, ingest.AtOffset(0), true, zerolog.Nop())
	if err != nil {
		return err
	}
	defer published.Close()
	clicked := time.Now()
	if err := e.Producer.Events(ctx, []corastream.Event{{User: "old", Item: "i13", Kind: "rating", Label: 1, Weight: 1, Time: clicked}}); err != nil {
		return err
	}
	for {
		record, err := published.Next(ctx)
		if err != nil {
			return err
		}
		r, err := ingest.DecodeRecommendation(record)
		if err != nil {
			return err
		}
		if r.User != "old" || r.Versions.User <= recs[0].Versions.User {
			continue
		}
		after, err := weightsOf(ctx, e, "old")
		if err != nil {
			return err
		}
		if slices.Equal(before, after) {
			t.Error("the click left W_A as it was")
		}
		fresh := time.Duration(e.Pipeline.Stats.Freshness.Quantile(1))
		if fresh <= 0 {
			t.Error("a covered click has no freshness")
		}
		t.Logf("the click was in a published recommendation after %v", time.Since(clicked))
		return nil
	}
}

func noDebts(e *node.Node) bool {
	owed, err := e.Store.Owed(1)
	return err == nil && len(owed) == 0
}

// weightsOf is A_u as the generator makes it now.
func weightsOf(ctx context.Context, e *node.Node, user string) (w []float32, err error) {
	err = e.Store.View(ctx, func(s corastream.State) error {
		pair, err := corastream.PairOf(s, e.CF, user, "i0")
		if err != nil {
			return err
		}
		made, _, err := e.Familiarity.Weights(ctx, []corastream.Pair{pair})
		if err == nil {
			w = slices.Clone(made[0].User)
		}
		return err
	})
	return w, err
}
