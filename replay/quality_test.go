package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// table of scores as a contender: user rN has row N.
type scoreTable [][]float64

func (scoreTable) fit(context.Context, []corastream.Event) error { return nil }
func (scoreTable) learn(corastream.Event) error                  { return nil }
func (scoreTable) remember(corastream.Event) error               { return nil }
func (scoreTable) see(corastream.Event) (sight, error)           { return sight{}, nil }
func (s scoreTable) all(user string, out []float64) error {
	var n int
	if _, err := fmt.Sscanf(user, "r%d", &n); err != nil {
		return err
	}
	copy(out, s[n])
	return nil
}

// TestRankingAgreesWithRecBole: hit rate, NDCG and MRR at four cutoffs, item coverage and Gini index, through the ranker that a
// replay uses; calibration, Brier score and windows against scikit-learn (.ci/reference/ranking.py).
func TestRankingAgreesWithRecBole(t *testing.T) {
	b, err := os.ReadFile("testdata/ranking.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref struct {
		Scores                 scoreTable
		Met                    [][]int
		Target                 []int
		RecBole                map[string]float64
		Z, Said, Came, Windows []float64
		Label, Rows            []int
		Brier, ECE             float64
	}
	if err := json.Unmarshal(b, &ref); err != nil {
		t.Fatal(err)
	}
	var items []corastream.Item
	for i := range ref.Scores[0] {
		items = append(items, corastream.Item{ID: fmt.Sprint("i", i)})
	}
	u := universeOf(Data{Items: items})
	var train, events []corastream.Event
	var rows []row
	for r := range ref.Scores {
		for _, i := range ref.Met[r] {
			train = append(train, corastream.Event{User: fmt.Sprint("r", r), Item: fmt.Sprint("i", i), Time: time.Unix(1, 0)})
		}
		ev := corastream.Event{User: fmt.Sprint("r", r), Item: fmt.Sprint("i", ref.Target[r]), Label: 1, Time: time.Unix(int64(2+r), 0)}
		events, rows = append(events, ev), append(rows, row{Event: ev, test: r%2 == 0})
	}
	for i := range rows { // both splits as one, so that all rows count
		rows[i].test = true
	}
	rk := newRanker(u, newChronicle(TaskUnseen, train, rows, u), rows, len(rows), 0)
	for i := range events {
		if err := rk.rank(events, []int32{int32(i)}, ref.Scores, nil); err != nil {
			t.Fatal(err)
		}
	}
	p := partOf(rows, true)
	got := rk.ranks.of(p.at, true).ranking()
	near := func(name string, got Number, want float64) {
		t.Helper()
		if !(math.Abs(float64(got)-want) < 1e-9) {
			t.Errorf("%s: %v, reference %v", name, float64(got), want)
		}
	}
	if got.Rows != len(rows) || len(got.At) != 4 {
		t.Fatalf("%+v", got)
	}
	for _, c := range got.At {
		near(fmt.Sprint("HR@", c.K), c.HR, ref.RecBole[fmt.Sprint("hit@", c.K)])
		near(fmt.Sprint("NDCG@", c.K), c.NDCG, ref.RecBole[fmt.Sprint("ndcg@", c.K)])
		near(fmt.Sprint("MRR@", c.K), c.MRR, ref.RecBole[fmt.Sprint("mrr@", c.K)])
	}
	near("coverage", got.Coverage10, ref.RecBole["itemcoverage@10"])
	near("Gini", got.Gini10, ref.RecBole["giniindex@10"])

	positive := make([]bool, len(ref.Z))
	for i, y := range ref.Label {
		positive[i] = y == 1
	}
	brier, ece, bins := calibration(ref.Z, positive)
	near("Brier", brier, ref.Brier)
	near("ECE", ece, ref.ECE)
	at := 0
	for _, bin := range bins {
		if bin.Rows == 0 {
			continue
		}
		near("said", bin.Said, ref.Said[at])
		near("came", bin.Came, ref.Came[at])
		if bin.Rows != ref.Rows[at] {
			t.Errorf("bin %d: %d rows, reference %d", at, bin.Rows, ref.Rows[at])
		}
		at++
	}
	if at != len(ref.Said) {
		t.Errorf("%d bins, reference %d", at, len(ref.Said))
	}
	windows := part{rows: make([]row, len(ref.Z)), positive: positive}.curve(ref.Z)
	if len(windows) != len(ref.Windows) {
		t.Fatalf("%d windows, reference %d", len(windows), len(ref.Windows))
	}
	for w := range windows {
		near(fmt.Sprint("window ", w), windows[w].AUC, ref.Windows[w])
	}
}

// TestTiesShareTheirPlaces: with all scores equal every place is as likely, so each figure is its mean over the places.
func TestTiesShareTheirPlaces(t *testing.T) {
	for _, n := range []int{3, 10, 25, 5000} {
		r := newRanks(1, n, TaskUnseen)
		r.above[0], r.level[0] = 0, int32(n-1)
		got := r.of([]int{0}, false).ranking()
		var mrr float64
		for place := 1; place <= n; place++ {
			mrr += 1 / float64(place) / float64(n)
		}
		if math.Abs(float64(got.MRR)-mrr) > 1e-9 {
			t.Errorf("%d items: MRR %v, want %v", n, got.MRR, mrr)
		}
		for _, c := range got.At {
			if want := min(1, float64(c.K)/float64(n)); math.Abs(float64(c.HR)-want) > 1e-9 {
				t.Errorf("%d items: HR@%d %v, want %v", n, c.K, c.HR, want)
			}
		}
	}
}

// TestMissedItemsCountAsMissed: what the candidates lack is a row without a hit, not a row less.
func TestMissedItemsCountAsMissed(t *testing.T) {
	r := newRanks(4, 5, TaskUnseen)
	r.above[1], r.above[2] = 0, missed
	got := r.of([]int{0, 1, 2, 3}, false).ranking()
	if got.Rows != 2 || got.At[0].HR != 0.5 || got.MRR != 0.5 || !math.IsNaN(float64(got.Gini10)) {
		t.Errorf("%+v", got)
	}
}
