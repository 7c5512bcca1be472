package cfstream_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
)

// TestNewItemStartsFromWhatFewChoicesMean: where much-chosen items are liked more, an item nobody met is expected to be liked less than
// the much-chosen ones, though none of its own labels is known; and with count_rate 0 it stands at the average.
func TestNewItemStartsFromWhatFewChoicesMean(t *testing.T) {
	for rate, less := range map[float64]bool{1e-2: true, 0: false} {
		m, s := model(t, cfstream.Bias, func(s *cfstream.Spec) { s.CountRate = rate }), corastream.NewMemory()
		rng := rand.New(rand.NewPCG(1, 2))
		for n := range int64(4000) {
			item, label := fmt.Sprint("rare", n), float32(0)
			if rng.IntN(2) == 0 {
				item, label = fmt.Sprint("often", rng.IntN(5)), 1
			}
			if err := s.Apply(m, event(n, fmt.Sprint("u", n%50), item, label)); err != nil {
				t.Fatal(err)
			}
		}
		fresh, _ := s.Item("never met")
		e, err := m.ItemVector(s, fresh)
		if err != nil {
			t.Fatal(err)
		}
		known, _ := s.Item("often1")
		k, err := m.ItemVector(s, known)
		if err != nil {
			t.Fatal(err)
		}
		if e.Bias != 0 || k.Bias <= known.Bias == less {
			t.Errorf("count_rate %v: a new item's bias is %v, a known one's %v, its own part %v", rate, e.Bias, k.Bias, known.Bias)
		}
	}
}

// TestNewUsersBiasMovesFasterThanAKnownOnes: the first label says more than the hundredth, and the step never falls below bias_rate.
func TestNewUsersBiasMovesFasterThanAKnownOnes(t *testing.T) {
	m, s := model(t, cfstream.Bias, func(s *cfstream.Spec) { s.BiasDecay, s.MuRate, s.ItemBiasRate, s.CountRate = 0, 0, 0, 0 }), corastream.NewMemory()
	u, _ := s.User("u")
	for n := range int64(200) {
		was := float64(u.Bias)
		if err := s.Apply(m, event(n, "u", fmt.Sprint(n), float32(n%2))); err != nil {
			t.Fatal(err)
		}
		gradient := 1/(1+math.Exp(-was)) - float64(n%2)
		want := max(0.1, 0.3/(1+float64(n)/10))
		if got := (was - float64(u.Bias)) / gradient; math.Abs(got-want) > 1e-5 {
			t.Fatalf("event %d: a step of %v, want %v", n, got, want)
		}
	}
}

// TestEveryPassCountsTheLogOnce: the counts after several passes are those of one, for every kind, negatives aside.
func TestEveryPassCountsTheLogOnce(t *testing.T) {
	w := makeWorld(5, 10, 20, 300, 1, 1)
	for i := range w.events {
		w.events[i].Implicit = i%2 == 0
	}
	for _, kind := range cfstream.Kinds {
		s := w.state()
		if err := cfstream.Fit(context.Background(), s, model(t, kind, nil), w.events, 3); err != nil {
			t.Fatal(err)
		}
		users, items := map[string]uint32{}, map[string]uint32{}
		for _, ev := range w.events {
			users[ev.User]++
			items[ev.Item]++
		}
		for id, n := range users {
			if u, _ := s.User(id); u.Count != n {
				t.Errorf("%s: user %s counts %d events, made %d", kind, id, u.Count, n)
			}
		}
		for i := range s.Items() {
			if it, _ := s.ItemAt(uint32(i)); it.Count != items[it.ID] {
				t.Errorf("%s: item %s counts %d events, had %d", kind, it.ID, it.Count, items[it.ID])
			}
		}
		if shared, _ := s.Shared(); shared.Count != uint32(len(w.events)) {
			t.Errorf("%s: %d events in all, counted %d", kind, len(w.events), shared.Count)
		}
	}
}

// TestDemandFades: a like counts half after the half-life, whoever asks when, a dislike not at all, and a late like less.
func TestDemandFades(t *testing.T) {
	m := model(t, cfstream.Hybrid, func(s *cfstream.Spec) { s.DemandHalfLife = 24 * time.Hour })
	demander := m
	s, start := corastream.NewMemory(), time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	click := func(item string, days float64, label float32) {
		ev := event(0, "u", item, label)
		ev.Time = start.Add(time.Duration(days * 24 * float64(time.Hour)))
		if err := s.Apply(m, ev); err != nil {
			t.Fatal(err)
		}
	}
	demand := func(item string) float64 {
		it, _ := s.Item(item)
		return float64(demander.Demand(it))
	}
	click("old", 0, 1)
	click("old", 0, 1)
	click("new", 1, 1)
	click("disliked", 1, 0)
	if d := demand("old") - demand("new"); math.Abs(d) > 1e-5 {
		t.Errorf("two likes a half-life ago and one now differ by %v", d)
	}
	if !math.IsInf(demand("disliked"), -1) || !math.IsInf(demand("unknown"), -1) {
		t.Error("demand without a like")
	}
	click("late", 3, 1)
	click("late", 1, 1) // came two days late: 1 + 1/4 as of day 3
	click("on time", 3, 1)
	if d := math.Exp(demand("late") - demand("on time")); math.Abs(d-1.25) > 1e-5 {
		t.Errorf("a like and a late one count %v", d)
	}
}
