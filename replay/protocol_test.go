package replay_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/replay"
)

// TestRankingCountsItemsAboveAmongThoseNotMet goes over a small log by hand: what a user has met counts from the log, whatever the
// mode and the label delay; rows of one time do not hide each other; dislikes and repeats are not ranked.
func TestRankingCountsItemsAboveAmongThoseNotMet(t *testing.T) {
	ev := func(user, item string, second int64, label float32) corastream.Event {
		return corastream.Event{User: user, Item: item, Label: label, Weight: 1, Time: time.Unix(second, 0)}
	}
	var d replay.Data
	for i := range 15 {
		d.Items = append(d.Items, corastream.Item{ID: fmt.Sprint("i", i)})
	}
	// Likes in train: i0 four times, i1 three, i2 twice, i3 once, by others than u.
	for n, item := range []string{"i0", "i0", "i0", "i0", "i1", "i1", "i1", "i2", "i2", "i3"} {
		d.Train = append(d.Train, ev(fmt.Sprint("other", n), item, int64(n), 1))
	}
	d.Train = append(d.Train, ev("u", "i1", 20, 0)) // met, though not liked
	d.Valid = []corastream.Event{
		ev("u", "i0", 100, 1), // first of all unmet
		ev("u", "i2", 100, 1), // of the same second: i0 is still above it, i1 was met
		ev("u", "i3", 200, 1), // i0, i1, i2 are met: first
		ev("u", "i9", 300, 0), // a dislike
		ev("u", "i8", 400, 1), // level with i4..i14 but i9, and ix: ten others
		ev("v", "i8", 500, 1), // above: i0..i3; level: i4..i14 and ix, eleven others
		ev("v", "ix", 600, 1), // new to everybody; above: i0..i3, level: i4..i14 but i8, ten others
		ev("v", "i8", 700, 1), // met: not a row
	}
	gain := func(rank float64) float64 { return 1 / math.Log2(rank+2) }
	want := (gain(0) + gain(1) + gain(0) + gain(5) + gain(4+5.5) + gain(4+5)) / 6
	hits := 1.
	c := quick(replay.Static, replay.Popularity)
	f := run(t, c, d, replay.Deps{}).Valid[replay.Popularity]
	if math.Abs(float64(f.NDCG10All)-want) > 1e-9 || math.Abs(float64(f.HR10All)-hits) > 1e-9 || f.Ranked != 6 {
		t.Errorf("static: NDCG@10 %v, HR@10 %v over %d rows, want %v and %v over 6", float64(f.NDCG10All), float64(f.HR10All), f.Ranked, want, hits)
	}
	c.Mode, c.LabelDelay = replay.Prequential, time.Hour // nothing is learnt in time
	if late := run(t, c, d, replay.Deps{}).Valid[replay.Popularity]; late.NDCG10All != f.NDCG10All {
		t.Errorf("an hour's delay: NDCG@10 %v, want %v: what a user has met is known at once", late.NDCG10All, f.NDCG10All)
	}
	c.RankRows = 2
	if few := run(t, c, d, replay.Deps{}).Valid[replay.Popularity]; few.Ranked != 2 {
		t.Errorf("rank_rows 2 ranked %d", few.Ranked)
	}
}

// TestCoraRanksAmongTheBestOfCF: with the stand-in LLM that answers the CF score, ranking CF's best ten gives CF's own NDCG@10.
func TestCoraRanksAmongTheBestOfCF(t *testing.T) {
	data := makeLog(8, 1500)
	d, _ := deps(data)
	c := quick(replay.Prequential, replay.CF, replay.LLM, replay.Cora)
	c.RankLLM, c.Demand = 10, 0 // by score alone: demand would find other ten, and order them otherwise than the stand-in
	r := run(t, c, data, d)
	cf, cora, llm := r.Test[replay.CF], r.Test[replay.Cora], r.Test[replay.LLM]
	if cf.NDCG10All <= 0 || math.Abs(float64(cora.NDCG10All-cf.NDCG10All)) > 1e-6 || cora.HR10All != cf.HR10All || cora.Ranked != cf.Ranked {
		t.Errorf("cora %v (%d rows), cf %v (%d rows)", cora.NDCG10All, cora.Ranked, cf.NDCG10All, cf.Ranked)
	}
	if llm.HR10All != cf.HR10All { // the same ten, in another order
		t.Errorf("llm HR@10 %v, cf %v", llm.HR10All, cf.HR10All)
	}
	c.RankLLM, d.Codes = 0, nil
	if f := run(t, c, data, d).Test[replay.Cora]; !math.IsNaN(float64(f.NDCG10All)) {
		t.Errorf("not asked for, and ranked: %v", f.NDCG10All)
	}
}

// biased scores every item alike but for a level of each user's that moves with every label.
type biased struct{}

func (biased) Learn(s corastream.State, ev corastream.Event) error {
	u, err := s.User(ev.User)
	u.Bias += 3
	return err
}

func (biased) UserVector(_ corastream.State, u *corastream.UserState) (corastream.Embedding, error) {
	return corastream.Embedding{Bias: u.Bias}, nil
}

func (biased) ItemVector(_ corastream.State, it *corastream.ItemState) (corastream.Embedding, error) {
	return corastream.Embedding{Bias: it.Content[0], Version: it.Version}, nil
}

// TestUAUCWithoutUserBiasSeesItemsAlone: a level that rises with the user's rows spoils UAUC, and not uauc_no_user_bias.
func TestUAUCWithoutUserBiasSeesItemsAlone(t *testing.T) {
	var d replay.Data
	for i, worth := range []float32{-1, 1} {
		d.Items = append(d.Items, corastream.Item{ID: fmt.Sprint("i", i), Content: []float32{worth}})
	}
	d.Train = []corastream.Event{{User: "other", Item: "i0", Weight: 1, Time: time.Unix(0, 0)}}
	for n, item := range []string{"i1", "i0", "i1", "i0"} {
		label := float32(0)
		if item == "i1" {
			label = 1
		}
		d.Valid = append(d.Valid, corastream.Event{User: "u", Item: item, Label: label, Weight: 1, Time: time.Unix(int64(10+n), 0)})
	}
	r := run(t, quick(replay.Prequential, replay.CF), d, replay.Deps{NewModel: func(string, uint64) (replay.Model, error) { return biased{}, nil }})
	f := r.Valid[replay.CF]
	if f.UAUC != 0.25 || f.UAUCNoUserBias != 1 { // scores 1, 2, 7, 8: one pair of four in order; without the level all are
		t.Errorf("UAUC %v, without b_u %v, want 0.25 and 1", f.UAUC, f.UAUCNoUserBias)
	}
	if f := run(t, quick(replay.Static, replay.Popularity), d, replay.Deps{}).Valid[replay.Popularity]; !math.IsNaN(float64(f.UAUCNoUserBias)) {
		t.Errorf("popularity has no b_u, and %v without it", f.UAUCNoUserBias)
	}
}

// TestFreshnessIsTheSameReplayAtEachDelay holds the section against plain runs, and its differences against their figures.
func TestFreshnessIsTheSameReplayAtEachDelay(t *testing.T) {
	data := makeLog(9, 2000)
	d, _ := deps(data)
	c := quick(replay.Prequential, replay.Bias, replay.CF, replay.Recent, replay.Cora)
	var err error
	if c.Freshness, err = replay.ParseDelays("0s,1h,1d"); err != nil {
		t.Fatal(err)
	}
	r := run(t, c, data, d)
	if len(r.Freshness) != 2*4*4 || r.Configurations != 4*4 {
		t.Fatalf("%d lines, %d configurations, want 32 and 16", len(r.Freshness), r.Configurations)
	}
	frozen := map[string]replay.FreshFigure{}
	for _, f := range r.Freshness {
		key := fmt.Sprint(f.Model, f.Test)
		if f.Delay == "frozen" {
			frozen[key] = f.Figures
			if f.LessFrost != nil {
				t.Errorf("frozen less frozen: %+v", f)
			}
			continue
		}
		if got, want := f.LessFrost.AUC, f.Figures.AUC-frozen[key].AUC; math.Abs(float64(got-want)) > 1e-12 || f.LessFrost.AUCCI[0] > got || f.LessFrost.AUCCI[1] < got {
			t.Errorf("%s %s: difference %v in %v, want %v", f.Model, f.Delay, got, f.LessFrost.AUCCI, want)
		}
	}
	plain := c
	plain.Freshness, plain.LabelDelay = nil, time.Hour
	hour := run(t, plain, data, d)
	plain.Mode, plain.LabelDelay = replay.Static, 0
	still := run(t, plain, data, d)
	for _, f := range r.Freshness {
		if f.Test && f.Delay == "1h" && f.Figures.AUC != hour.Test[f.Model].AUC {
			t.Errorf("%s at 1h: AUC %v, a plain run has %v", f.Model, f.Figures.AUC, hour.Test[f.Model].AUC)
		}
		if f.Test && f.Delay == "frozen" && f.Model != replay.Cora && f.Figures.NDCG10All != still.Test[f.Model].NDCG10All {
			t.Errorf("%s frozen: NDCG@10 %v, a plain run has %v", f.Model, f.Figures.NDCG10All, still.Test[f.Model].NDCG10All)
		}
	}
	page, err := r.HTML()
	if err != nil || !strings.Contains(string(page), "<h2>Freshness</h2>") || !strings.Contains(r.Table(), "1d") {
		t.Errorf("the section is not shown: %v\n%s", err, r.Table())
	}
}

func TestDelaysAreReadAndRefused(t *testing.T) {
	got, err := replay.ParseDelays("0s, 1m,1h,1.5d")
	want := []time.Duration{0, time.Minute, time.Hour, 36 * time.Hour}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "1", "-1h", "1w", "9999d", "0s,,1h"} {
		if got, err := replay.ParseDelays(bad); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
	c := replay.Default()
	c.Freshness = []time.Duration{time.Hour, time.Hour}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a delay named twice: %v", err)
	}
}

// TestSeedsSpreadWhatStartsAtRandom: mf has a spread, bias has none, and seed 0 is the run itself.
func TestSeedsSpreadWhatStartsAtRandom(t *testing.T) {
	data := makeLog(10, 1500)
	d, _ := deps(data)
	c := quick(replay.Prequential, replay.Bias, "mf", replay.Popularity)
	c.Seeds, c.RankRows = 3, 50
	r := run(t, c, data, d)
	if len(r.Seeds) != 2*2 || r.Configurations != 3+2*2 {
		t.Fatalf("%d lines, %d configurations: %+v", len(r.Seeds), r.Configurations, r.Seeds)
	}
	for _, s := range r.Seeds {
		own := r.Valid[s.Model].AUC
		if s.Test {
			own = r.Test[s.Model].AUC
		}
		if spread := s.AUC.Max > s.AUC.Min; spread != (s.Model == "mf") || s.AUC.Min > own || s.AUC.Max < own || s.AUC.SD < 0 {
			t.Errorf("%s: %+v, the run's AUC is %v", s.Model, s.AUC, own)
		}
	}
}

// TestDevHoldsTheLastOfTrainOut: the rows scored are train's last ones, and valid and test are refused beside it.
func TestDevHoldsTheLastOfTrainOut(t *testing.T) {
	data := makeLog(11, 1000)
	d, _ := deps(data)
	c := quick(replay.Prequential, replay.Bias)
	c.Dev = 0.25
	if _, err := replay.Run(context.Background(), c, data, d); err == nil || !strings.Contains(err.Error(), "train alone") {
		t.Errorf("valid and test beside dev: %v", err)
	}
	train := data.Train
	got := run(t, c, replay.Data{Items: data.Items, Train: train}, d).Valid[replay.Bias]
	c.Dev = 0
	cut := len(train) * 3 / 4
	want := run(t, c, replay.Data{Items: data.Items, Train: train[:cut], Valid: train[cut:]}, d).Valid[replay.Bias]
	if got.AUC != want.AUC || got.Rows != len(train)-cut {
		t.Errorf("AUC %v over %d rows, want %v over %d", got.AUC, got.Rows, want.AUC, len(train)-cut)
	}
}

// TestColdItemsHaveIntervals: the slice a claim is made about says how sure it is, for models and for differences.
func TestColdItemsHaveIntervals(t *testing.T) {
	data := makeLog(12, 4000)
	d, _ := deps(data)
	r := run(t, quick(replay.Static, replay.Bias, replay.CF), data, d)
	cold := r.Test[replay.CF].Slices["item_cold"]
	if cold.Rows == 0 || cold.AUCCI == nil || cold.AUCCI[0] >= cold.AUC || cold.AUCCI[1] <= cold.AUC {
		t.Errorf("item_cold: %+v", cold)
	}
	diff := r.Paired["cf-bias"].Slices["item_cold"]
	if diff.AUC <= 0.05 || diff.AUCCI[0] <= 0 || diff.AUCCI[1] <= diff.AUC {
		t.Errorf("cf less bias on cold items: %+v: content is all there is to know of them here", diff)
	}
	if warm := r.Test[replay.CF].Slices["warm"]; warm.AUCCI != nil {
		t.Errorf("warm has an interval: %+v", warm)
	}
}
