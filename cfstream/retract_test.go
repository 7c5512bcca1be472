package cfstream_test

import (
	"math"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
)

// TestALikeThatIsTakenBackLeavesCountsAndDemand: an unlike leaves what was before the like, but for the vectors, which move as for a
// negative; a like that became a dislike counts once; what is taken back twice counts once.
func TestALikeThatIsTakenBackLeavesCountsAndDemand(t *testing.T) {
	for _, kind := range []string{cfstream.Hybrid, cfstream.MF, cfstream.Bias, cfstream.LightGCN, cfstream.SASRec} {
		m := model(t, kind, nil)
		s := corastream.NewMemory()
		ev := func(n int, item, kind string, label float32) corastream.Event {
			e := event(int64(n), "u", item, label)
			e.Kind, e.Retract, e.Implicit = kind, kind == "unlike", false
			e.Time = time.Date(2024, 1, 1, 0, n, 0, 0, time.UTC)
			return e
		}
		apply := func(e corastream.Event) {
			t.Helper()
			if err := s.Apply(m, e); err != nil {
				t.Fatal(kind, err)
			}
		}
		for n := range 6 {
			apply(ev(n, []string{"a", "b", "c"}[n%3], "like", 1))
		}
		it, _ := s.Item("x")
		shared, _ := s.Shared()
		u, _ := s.User("u")
		users, all := u.Count, shared.Count
		apply(ev(10, "x", "like", 1))
		apply(ev(11, "x", "unlike", 0))
		apply(ev(12, "x", "unlike", 0))
		if it.Count != 0 || u.Count != users || shared.Count != all || !math.IsInf(float64(m.Demand(it)), -1) || len(u.History) != 6 {
			t.Errorf("%s: counts %d %d %d, demand %v, %d in the history", kind, it.Count, u.Count, shared.Count, m.Demand(it), len(u.History))
		}
		apply(ev(13, "x", "like", 1))
		liked := pairOf(t, m, s, "u", "x")
		apply(ev(14, "x", "dislike", 0))
		last := u.History[len(u.History)-1]
		if it.Count != 1 || len(u.History) != 7 || last.Label != 0 || !math.IsInf(float64(m.Demand(it)), -1) || slices.Contains(u.Liked(10), "x") {
			t.Errorf("%s: like, then dislike: count %d, history %v", kind, it.Count, u.History)
		}
		if now := pairOf(t, m, s, "u", "x"); !(now < liked) {
			t.Errorf("%s: a dislike moved the score from %v to %v", kind, liked, now)
		}
		late := ev(5, "a", "unlike", 0) // it happened after the first like of a, and before nothing of it
		apply(ev(20, "a", "like", 1))
		apply(late)
		if n := len(u.Liked(10)); n != 5 {
			t.Errorf("%s: a late retraction leaves %v", kind, u.Liked(10))
		}
	}
}

func pairOf(t *testing.T, m cfstream.Model, s *corastream.Memory, user, item string) float32 {
	t.Helper()
	p, err := corastream.PairOf(s, m, user, item)
	if err != nil {
		t.Fatal(err)
	}
	return p.Logit()
}

// TestSettledIsTheLogAsItStandsAtItsEnd whatever is taken back and given again.
func TestSettledIsTheLogAsItStandsAtItsEnd(t *testing.T) {
	e := func(user, item, kind string, label float32) corastream.Event {
		return corastream.Event{User: user, Item: item, Kind: kind, Label: label, Weight: 1, Retract: kind == "unlike"}
	}
	log := []corastream.Event{
		e("u", "a", "like", 1), e("u", "b", "like", 1), e("v", "a", "like", 1), e("u", "a", "unlike", 0), e("u", "b", "dislike", 0),
		e("u", "a", "like", 1), e("v", "b", "dislike", 0), e("v", "b", "like", 1), e("v", "c", "impression", 0),
	}
	got := corastream.Settled(log)
	want := []corastream.Event{log[2], log[4], log[5], log[6], log[7], log[8]}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if plain := log[5:]; &corastream.Settled(plain)[0] != &plain[0] {
		t.Error("a log that takes nothing back was copied")
	}
}
