package listworth

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/mix"
)

func TestTheFindingFollowsTheInterval(t *testing.T) {
	for _, c := range []struct {
		w    mix.Worth
		want string
	}{
		{mix.Worth{Rows: 999, CI: [2]float64{1, 2}}, Early},
		{mix.Worth{Rows: 1000, CI: [2]float64{.001, .01}}, Gain},
		{mix.Worth{Rows: 4999, CI: [2]float64{-.001, .01}}, Unclear},
		{mix.Worth{Rows: 5000, CI: [2]float64{-.001, .01}}, Nothing},
		{mix.Worth{Rows: 8000, CI: [2]float64{-.01, -.001}}, Nothing},
	} {
		if got := Finding(c.w); got != c.want || (Advice(c.w) != "") != (c.want == Nothing) {
			t.Errorf("%+v: %s, advice %q", c.w, got, Advice(c.w))
		}
		if says := Says(c.w); c.w.CI[1] < 0 && !strings.Contains(says, "worse") {
			t.Error(says)
		}
	}
}

// Codes that say nothing are worth nothing: the log and the status say so, and what to do. A version's verdict is logged once.
func TestAPartThatIsWorthNothingIsNamedWithWhatToDo(t *testing.T) {
	spec := mix.Default()
	spec.Neighbours, spec.History, spec.Factors, spec.EASEItems, spec.Codes = 16, 10, 0, 0, 8
	spec.TrainAfter, spec.TrainRows, spec.Judge = 200, 1000, 400
	m, err := mix.New(spec)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 300 {
		code := make([]float32, 8)
		for k := range code {
			code[k] = float32(r.NormFloat64()) / 3
		}
		corastream.QuantizeContent(code)
		m.Describe(corastream.Item{ID: fmt.Sprint("i", i), Title: fmt.Sprint("item ", i), Code: code})
	}
	var log bytes.Buffer
	w := &watcher{log: zerolog.New(&log), finding: Finding(m.Worth())}
	if s := Status(m); s.Worth.Finding != Early || s.Worth.Advice != "" || s.Version != 0 || len(s.Verdicts) != 0 {
		t.Fatalf("%+v", s)
	}
	now := time.Unix(1e9, 0)
	recent := make([][]corastream.Interaction, 50)
	for range 9000 {
		now = now.Add(time.Minute)
		u, id := r.IntN(len(recent)), fmt.Sprint("i", r.IntN(300))
		m.Learn(corastream.Step{Item: id, Positive: true, Time: now, Recent: recent[u]})
		recent[u] = append([]corastream.Interaction{{Item: id, Label: 1, Time: now}}, recent[u]...)
		recent[u] = recent[u][:min(len(recent[u]), 10)]
	}
	w.look(m)
	w.look(m)
	s := Status(m)
	if s.Worth.Finding != Nothing || !strings.Contains(s.Worth.Says, "worth nothing") && !strings.Contains(s.Worth.Says, "worse") || !strings.Contains(s.Worth.Advice, "fields") {
		t.Errorf("%+v", s.Worth)
	}
	if s.Version != 0 || len(s.Verdicts) < 2 || s.List != m.Trial().Active {
		t.Errorf("%+v", s)
	}
	text := log.String()
	if n := strings.Count(text, "a version was"); n != len(s.Verdicts) {
		t.Errorf("%d verdicts logged, %d were given:\n%s", n, len(s.Verdicts), text)
	}
	if strings.Count(text, `"fix"`) != 1 || !strings.Contains(text, "NDCG@10") || !strings.Contains(text, `"reason"`) {
		t.Error(text)
	}
}
