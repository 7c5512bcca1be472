package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
)

// Loop is a running program that learns and answers: from the producer's append to the recommendation in the broker.
type Loop struct {
	Kafka    ingest.Config
	Producer *ingest.Producer
	// Ready says that this many items are in the catalogue, and read where an LLM reads them.
	Ready func(items int) bool
	Log   zerolog.Logger
}

// Clicks sends clicks of new users one by one for a time, and waits for each recommendation to come back through the broker.
func (l Loop) Clicks(ctx context.Context, length time.Duration, catalogue int) ([]time.Duration, error) {
	prompts := InventedTitles(catalogue)
	items := make([]corastream.Item, len(prompts))
	for i, p := range prompts {
		items[i] = corastream.Item{ID: p.ItemID, Title: p.Title}
	}
	if err := l.Producer.Items(ctx, items); err != nil {
		return nil, err
	}
	for !l.Ready(len(items)) {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	in, err := ingest.NewConsumer(ctx, l.Kafka, l.Kafka.Topics.Recommendations, ingest.AtOffset(0), true, l.Log)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	var times []time.Duration
	for n := 0; len(times) < 10 || time.Duration(sum(times)) < length; n++ {
		user := fmt.Sprint("user-", n)
		sent := time.Now()
		if err := l.Producer.Events(ctx, []corastream.Event{{User: user, Item: items[n%len(items)].ID, Kind: "rating", Label: 1, Weight: 1, Time: sent}}); err != nil {
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

func sum(ds []time.Duration) (total time.Duration) {
	for _, d := range ds {
		total += d
	}
	return total
}

// Freshness is what `bench freshness` prints of its times.
func Freshness(times []time.Duration, ranked string, candidates int) map[string]any {
	slices.Sort(times)
	at := func(q float64) float64 { return ms(times[int(q*float64(len(times)-1))]) }
	return map[string]any{
		"bench": "freshness", "clicks": len(times), "ranked_by": ranked, "candidates": candidates,
		"freshness_ms": map[string]float64{"p50": at(.5), "p90": at(.9), "p99": at(.99)},
	}
}
