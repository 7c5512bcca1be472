package replay

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// tiedLog draws a log whose users repeat items and have many rows at one time, some of them across the cut.
func tiedLog(seed uint64, rows int) Data {
	rng := rand.New(rand.NewPCG(seed, 7))
	var all []corastream.Event
	second := int64(1000)
	for len(all) < rows {
		if rng.IntN(3) > 0 {
			second += int64(rng.IntN(40))
		}
		n := rng.IntN(12) * rng.IntN(3)
		all = append(all, corastream.Event{
			User: fmt.Sprint("u", rng.IntN(6)), Item: fmt.Sprint("i", n), Label: float32(min(1, rng.IntN(4))), Weight: 1, Time: time.Unix(second, 0),
		})
	}
	cut := rows * 7 / 10
	last := all[cut-1]
	all[cut].User, all[cut].Time, all[cut].Label = last.User, last.Time, 1 // one moment on both sides
	d := Data{Train: all[:cut], Test: all[cut:]}
	for n := range 25 {
		d.Items = append(d.Items, corastream.Item{ID: fmt.Sprint("i", n)})
	}
	d.Test = append(d.Test, corastream.Event{User: "u1", Item: "new", Label: 1, Weight: 1, Time: time.Unix(second+50, 0)})
	return d
}

// bruteRanks is the protocol in its plainest form: for each moment it counts all that came before from the log itself. delay < 0 is frozen.
func bruteRanks(d Data, all bool, delay time.Duration) map[int]float64 {
	log := slices.Concat(d.Train, d.Test)
	items := map[string]bool{"new": true}
	for _, it := range d.Items {
		items[it.ID] = true
	}
	// opened is the place of the first row of each row's moment; the moments go in that order.
	opened := make([]int, len(log))
	for i := range log {
		opened[i] = slices.IndexFunc(log, func(ev corastream.Event) bool { return ev.User == log[i].User && ev.Time.Equal(log[i].Time) })
	}
	out := map[int]float64{}
	for i := len(d.Train); i < len(log); i++ {
		if !log[i].Positive() {
			continue
		}
		likes, met := map[string]int{}, map[string]bool{}
		for j, ev := range log {
			if opened[j] >= opened[i] {
				continue
			}
			if ev.User == log[i].User {
				met[ev.Item] = true
			}
			known := j < len(d.Train) || delay == 0 || delay > 0 && !ev.Time.Add(delay).After(log[i].Time)
			if ev.Positive() && known {
				likes[ev.Item]++
			}
		}
		target := log[i].Item
		if !all && met[target] {
			continue
		}
		rank := 0.0
		for item := range items {
			switch {
			case item == target || !all && met[item]:
			case likes[item] > likes[target]:
				rank++
			case likes[item] == likes[target]:
				rank += 0.5
			}
		}
		out[i-len(d.Train)] = rank
	}
	return out
}

// TestRanksAreThoseOfCountingFromTheLog holds the popularity's ranks against brute force in both tasks, at delays, and frozen.
func TestRanksAreThoseOfCountingFromTheLog(t *testing.T) {
	for seed := range uint64(5) {
		d := tiedLog(seed, 300)
		for _, all := range []bool{false, true} {
			for _, delay := range []time.Duration{0, 30 * time.Second, time.Hour, -1} {
				c := Default()
				c.Models, c.Mode, c.LabelDelay, c.Bootstraps, c.Task = []string{Popularity}, Prequential, delay, 0, TaskUnseen
				if all {
					c.Task = TaskAll
				}
				if delay < 0 {
					c.Mode, c.LabelDelay = Static, 0
				}
				_, outcomes, err := evaluate(t.Context(), c, d, Deps{})
				if err != nil {
					t.Fatal(err)
				}
				want := bruteRanks(d, all, delay)
				got := outcomes[Popularity].ranks
				for i := range got.above {
					rank, ok := want[i]
					if ok != (got.above[i] != notRanked) || ok && got.place(i) != rank {
						t.Errorf("seed %d, all %v, delay %v, row %d: %v (%d above), want %v (%v)", seed, all, delay, i, got.place(i), got.above[i], rank, ok)
					}
				}
			}
		}
	}
}

// TestTaskIsChosenByRepeats: a tenth of repeated positives makes it `all`, and the report names it.
func TestTaskIsChosenByRepeats(t *testing.T) {
	for _, c := range []struct {
		repeats int
		want    string
	}{{9, TaskUnseen}, {10, TaskAll}} {
		var d Data
		for n := range 100 {
			item := n
			if n >= 100-c.repeats {
				item = 0
			}
			d.Train = append(d.Train, corastream.Event{User: "u", Item: fmt.Sprint("i", item), Label: 1, Weight: 1, Time: time.Unix(int64(n), 0)})
		}
		d.Train, d.Test = d.Train[:50], d.Train[50:]
		config := Default()
		config.Models, config.Mode, config.Bootstraps = []string{Popularity}, Prequential, 0
		r, err := Run(t.Context(), config, d, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		n := r.Test[Popularity].Next
		if n.Task != c.want || !strings.Contains(r.Table(), "task "+c.want) {
			t.Errorf("%d repeats: task %s, want %s\n%s", c.repeats, n.Task, c.want, r.Table())
		}
	}
}

// TestClicksAloneHaveNoAUC: a log of one label has null figures and the reason, and its first sentence is about the list.
func TestClicksAloneHaveNoAUC(t *testing.T) {
	d := tiedLog(1, 200)
	for _, events := range [][]corastream.Event{d.Train, d.Test} {
		for i := range events {
			events[i].Label = 1
		}
	}
	c := Default()
	c.Models, c.Mode, c.Bootstraps = []string{Popularity, Recent}, Prequential, 20
	r, err := Run(t.Context(), c, d, Deps{})
	if err != nil {
		t.Fatal(err)
	}
	f := r.Test[Popularity]
	for name, n := range map[string]Number{"auc": f.AUC, "uauc": f.UAUC, "ndcg10": f.NDCG10, "logloss": f.LogLoss, "brier": f.Brier, "auc_ci": f.AUCCI[0]} {
		if !math.IsNaN(float64(n)) {
			t.Errorf("%s is %v", name, n)
		}
	}
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{r.Table(), string(page)} {
		if !strings.Contains(text, "one label alone") || !strings.Contains(text, "puts the next item among its first ten") {
			t.Errorf("without the reason or the sentence:\n%s", text)
		}
	}
	if !strings.HasPrefix(r.Table(), "popularity puts the next item") {
		t.Errorf("the first sentence:\n%s", r.Table())
	}
	if d, ok := r.Paired["recent-popularity"]; !ok || math.IsNaN(float64(d.NDCG10)) || !(d.NDCG10CI[0] <= d.NDCG10CI[1]) {
		t.Errorf("paired: %+v", d)
	}
}

// told is a list model that notes what it is told, and lists nothing.
type told struct{ story *[]string }

func (told) Window() int                   { return 2 }
func (w told) Describe(it corastream.Item) { *w.story = append(*w.story, "item "+it.ID) }
func (w told) Learn(st corastream.Step) {
	met := ""
	if st.Met {
		met = " met"
	}
	*w.story = append(*w.story, fmt.Sprintf("learn %s@%d%s after %s", st.Item, st.Time.Unix(), met, itemsOf(st.Recent)))
}

func (w told) Rank(q corastream.Query) []corastream.Candidate {
	*w.story = append(*w.story, fmt.Sprintf("rank@%d after %s", q.Now.Unix(), itemsOf(q.Recent)))
	return nil
}

func itemsOf(recent []corastream.Interaction) string {
	s := ""
	for _, x := range recent {
		s += x.Item
	}
	return "[" + s + "]"
}

// TestMixIsToldEachEventOnceInOrder: the catalogue first, then steps with the history just before them, at any delay; queries hold
// what is known by then. The halves freeze one of the two.
func TestMixIsToldEachEventOnceInOrder(t *testing.T) {
	ev := func(user, item string, second int64) corastream.Event {
		return corastream.Event{User: user, Item: item, Label: 1, Weight: 1, Time: time.Unix(second, 0)}
	}
	d := Data{
		Items: []corastream.Item{{ID: "a"}},
		Train: []corastream.Event{ev("u", "a", 1), ev("u", "b", 2)},
		Test:  []corastream.Event{ev("u", "c", 10), ev("u", "a", 20), ev("u", "d", 30)},
	}
	begin := "item a,learn a@1 after [],learn b@2 after [a],"
	for _, c := range []struct {
		p    pass
		want string
	}{
		{pass{learn: true}, "rank@10 after [ba],learn c@10 after [ba],learn a@20 met after [cb],rank@30 after [ac],learn d@30 after [ac]"},
		{pass{learn: true, delay: 15 * time.Second}, "rank@10 after [ba],learn c@10 after [ba],rank@30 after [cb]"},
		{pass{}, "rank@10 after [ba],rank@30 after [ba]"},
		{pass{learn: true, half: halfUser}, "rank@10 after [ba],rank@30 after [ac]"},
		{pass{learn: true, half: halfModel}, "rank@10 after [ba],learn c@10 after [ba],learn a@20 met after [cb],rank@30 after [ba],learn d@30 after [ac]"},
	} {
		var story []string
		config := Default()
		config.Models, config.Mode, config.Task = []string{Mix}, Prequential, TaskUnseen
		deps := Deps{NewRanker: func(_ string, all bool) (corastream.Ranker, error) { return told{&story}, nil }}
		e, _, err := evaluate(t.Context(), config, d, deps)
		if err != nil {
			t.Fatal(err)
		}
		e.done, story = map[pass]map[string]outcome{}, nil
		if _, err := e.run(t.Context(), c.p, e.Models); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(story, ","); got != begin+c.want {
			t.Errorf("%+v:\n got %s\nwant %s", c.p, got, begin+c.want)
		}
	}
}

// TestFreshnessSetsTheMixturesHalvesApart: mix has two lines more than a counter, and each line carries the next-item figures.
func TestFreshnessSetsTheMixturesHalvesApart(t *testing.T) {
	c := Default()
	c.Models, c.Mode, c.Bootstraps, c.Freshness = []string{Popularity, Mix}, Prequential, 20, []time.Duration{0, time.Minute}
	var story []string
	r, err := Run(t.Context(), c, tiedLog(2, 200), Deps{NewRanker: func(string, bool) (corastream.Ranker, error) { return told{&story}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string][]string{}
	for _, f := range r.Freshness {
		lines[f.Model] = append(lines[f.Model], f.Delay)
		if f.Figures.Next == nil || f.Figures.Next.Rows == 0 || (f.LessFrost == nil) != (f.Delay == frozen) {
			t.Errorf("%s %s: %+v", f.Model, f.Delay, f)
		}
	}
	if want := []string{frozen, "0s", "1m"}; !slices.Equal(lines[Popularity], want) || !slices.Equal(lines[Mix], append(want, userLive, modelLive)) {
		t.Errorf("lines %v", lines)
	}
	if _, ok := r.Paired["mix-popularity"]; !ok {
		t.Errorf("pairs %v", r.Paired)
	}
}
