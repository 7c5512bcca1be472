package node

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/testkit"
	"github.com/corastream/corastream/replay"
)

// TestWhatIsServedIsWhatIsJudged asks POST /v1/recommend before each of 500 live events, and the places of what was taken next are
// those that replay reports for the same log.
func TestWhatIsServedIsWhatIsJudged(t *testing.T) {
	cfg := Default()
	cfg.Data, cfg.LLM.File, cfg.HTTP.Listen = t.TempDir(), "off", "127.0.0.1:0"
	e := &Node{Config: cfg, Log: zerolog.Nop(), began: time.Now()}
	if err := e.openState(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := e.wire(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	e.Pipeline.Now = func() time.Time { return now }
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- e.HTTP.Run(ctx) }()
	defer func() { cancel(); <-served }()
	testkit.Eventually(t, "an address", func() bool { return e.HTTP.Addr() != "" })
	url := "http://" + e.HTTP.Addr()

	// Users of five tastes rate 150 films; nobody rates one twice.
	var b corastream.Batch
	for i := range 150 {
		b.Items = append(b.Items, corastream.Item{ID: fmt.Sprint("i", i), Title: testkit.Title(i)})
	}
	if err := e.Pipeline.LearnBatch(ctx, b); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(4, 2))
	var log []corastream.Event
	met := map[string]bool{}
	for at := time.Unix(1_500_000_000, 0).UTC(); len(log) < 2500; at = at.Add(time.Duration(1+r.IntN(900)) * time.Second) {
		u := r.IntN(80)
		i := r.IntN(30)*5 + u%5
		if r.IntN(6) == 0 {
			i = r.IntN(150)
		}
		if pair := fmt.Sprint(u, " ", i); !met[pair] {
			met[pair] = true
			ev := corastream.Event{
				Pos: corastream.Position{Topic: "t", Offset: int64(len(log))}, User: fmt.Sprint("u", u), Item: fmt.Sprint("i", i),
				Kind: "rating", Weight: 1, Time: at, Appended: at,
			}
			if r.IntN(4) > 0 {
				ev.Label = 1
			}
			log = append(log, ev)
		}
	}
	const learnt = 2000
	learn := func(from, to int) {
		t.Helper()
		part := corastream.Partition{Topic: "t"}
		batch := corastream.Batch{Events: log[from:to], Spans: []corastream.Span{{Partition: part, From: int64(from), To: int64(to)}}}
		if err := e.Pipeline.LearnBatch(ctx, batch); err != nil {
			t.Fatal(err)
		}
	}
	learn(0, learnt)
	rows, hits, gain := 0, 0.0, 0.0
	for k := learnt; k < len(log); k++ {
		if ev := log[k]; ev.Positive() {
			// The clock of the log goes on from its newest event.
			now = ev.Time
			answer := post(t, url+"/v1/recommend", fmt.Sprintf(`{"user_id":%q,"n":20}`, ev.User))
			items, _ := answer["items"].([]any)
			if len(items) == 0 {
				t.Fatalf("no list: %v", answer)
			}
			rows++
			for place, x := range items {
				if x.(map[string]any)["item_id"] == ev.Item && place < 10 {
					hits++
					gain += 1 / math.Log2(float64(place)+2)
				}
			}
		}
		learn(k, k+1)
	}

	c := replay.Default()
	c.Mode, c.Models, c.Task, c.Bootstraps = replay.Prequential, []string{replay.Words}, replay.TaskUnseen, 0
	report, err := replay.Run(ctx, c, replay.Data{Items: b.Items, Train: log[:learnt], Test: log[learnt:]}, replay.Deps{
		NewRanker: func(model string, all bool) (corastream.Ranker, error) { return NewRanker(cfg, model, all) },
	})
	if err != nil {
		t.Fatal(err)
	}
	next := report.Test[replay.Words].Next
	t.Logf("%d rows, HR@10 %.4f, NDCG@10 %.4f", rows, hits/float64(rows), gain/float64(rows))
	if next.Rows != rows || math.Abs(float64(next.HR10)-hits/float64(rows)) > 1e-6 || math.Abs(float64(next.NDCG10)-gain/float64(rows)) > 1e-6 {
		t.Errorf("served HR@10 %.6f, NDCG@10 %.6f on %d rows; judged %+v", hits/float64(rows), gain/float64(rows), rows, next)
	}
}
