package node

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
)

// nextUp lists the items in order after the one that was taken last, of those it was told of.
type nextUp struct {
	items     int
	described map[string]int
	at        time.Time
}

func (*nextUp) Window() int           { return 5 }
func (*nextUp) Learn(corastream.Step) {}
func (r *nextUp) Describe(it corastream.Item) {
	r.described[it.ID]++
}

func (r *nextUp) Rank(q corastream.Query) (out []corastream.Candidate) {
	r.at = q.Now
	from := ""
	n := 0
	if len(q.Recent) > 0 {
		from = q.Recent[0].Item
		fmt.Sscanf(from, "i%d", &n)
	}
	for i := range r.items {
		if id := fmt.Sprintf("i%d", (n+i+1)%r.items); len(out) < q.N && !q.Skip(id) {
			out = append(out, corastream.Candidate{Item: id, Score: float32(r.items - i), Source: corastream.SourceSession, From: from})
		}
	}
	return out
}

// rankedNode is a node over a data folder without a broker, with a list model and a shadow of it.
func rankedNode(t *testing.T, data string) (e *Node, live, shadow *nextUp) {
	t.Helper()
	cfg := Default()
	cfg.Data, cfg.LLM.File, cfg.HTTP.Listen = data, "off", "127.0.0.1:0"
	live, shadow = &nextUp{20, map[string]int{}, time.Time{}}, &nextUp{20, map[string]int{}, time.Time{}}
	e = &Node{
		Config: cfg, Log: zerolog.Nop(), began: time.Now(), Ranker: live,
		newRanker: func() (corastream.Ranker, error) { return shadow, nil },
	}
	if err := e.openState(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := e.wire(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e, live, shadow
}

// A node with a list model serves its lists without an LLM, judges them, describes each record to the shadow once, and keeps
// the log's time for the next process.
func TestANodeWithAListModelServesJudgesAndKeepsTheTime(t *testing.T) {
	dir := t.TempDir()
	e, live, shadow := rankedNode(t, dir)
	e.Monitor.Start()
	var b corastream.Batch
	for i := range 20 {
		b.Items = append(b.Items, corastream.Item{ID: fmt.Sprint("i", i), Title: fmt.Sprint("Film ", i)})
	}
	appended := time.Now().Add(-time.Minute)
	old := time.Date(1998, 1, 2, 3, 4, 5, 0, time.UTC)
	for i := range 10 {
		b.Events = append(b.Events, corastream.Event{
			Pos: corastream.Position{Topic: "t", Offset: int64(i)}, User: "u", Item: fmt.Sprint("i", i+1), Kind: "like", Label: 1, Weight: 1,
			Time: old.Add(time.Duration(i) * time.Second), Appended: appended,
		})
	}
	b.Spans = []corastream.Span{{Partition: corastream.Partition{Topic: "t"}, From: 0, To: 10}}
	untitled := b
	untitled.Items, b.Items = nil, append(b.Items[:11:11], b.Items[12:]...) // of i11 nothing is known
	if err := e.Pipeline.LearnBatch(t.Context(), untitled); err != nil {
		t.Fatal(err)
	}
	if recs, err := e.Pipeline.Recommend(t.Context(), []corastream.Owed{{User: "u"}}); err != nil || recs[0].Items[0].Item != "i11" {
		t.Errorf("before any catalogue: %+v: %v", recs, err)
	}
	if err := e.Pipeline.LearnBatch(t.Context(), corastream.Batch{Items: b.Items}); err != nil {
		t.Fatal(err)
	}
	recs, err := e.Pipeline.Recommend(t.Context(), []corastream.Owed{{User: "u"}})
	if err != nil {
		t.Fatal(err)
	}
	if r := recs[0]; r.Degraded != "" || r.Items[0].Item != "i12" || r.Items[0].Title != "Film 12" || r.Items[0].Why.Text != "goes with Film 10, which you just looked at" {
		t.Errorf("%+v", recs[0])
	}
	if d := live.at.Sub(old); d < time.Minute || d > 5*time.Minute {
		t.Errorf("asked at %v", live.at)
	}
	for id, n := range shadow.described {
		if n != 1 {
			t.Errorf("%s was described %d times", id, n)
		}
	}
	if err := e.Judged(); err != nil || len(shadow.described) != 19 {
		t.Errorf("%d described: %v", len(shadow.described), err)
	}
	s := e.Summary(time.Second)
	text, err := json.Marshal(s)
	if err != nil || s.Hits10["mix"] != 1. || s.HitsRows < 1 || s.Degraded != "" || !strings.Contains(string(text), `"hits10":{"late":1,"mix":1,"popularity":0}`) {
		t.Errorf("%s: %v", text, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	e.keepClock(ended)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	e, live, shadow = rankedNode(t, dir)
	defer e.Close()
	if _, err := e.Pipeline.Recommend(t.Context(), []corastream.Owed{{User: "u"}}); err != nil {
		t.Fatal(err)
	}
	if d := live.at.Sub(old); d < time.Minute || d > 5*time.Minute || len(shadow.described) != 19 {
		t.Errorf("the next process asked at %v; its shadow was told of %d records", live.at, len(shadow.described))
	}
}

func TestASummaryWithoutListsSaysNull(t *testing.T) {
	if b, err := json.Marshal(Summary{Hits10: NoHits()}); err != nil || !strings.Contains(string(b), `"hits10":{"late":null,"mix":null,"popularity":null}`) {
		t.Errorf("%s: %v", b, err)
	}
}
