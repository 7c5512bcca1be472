package mix

import (
	"bytes"
	"math"
	"testing"

	"github.com/corastream/corastream"
)

// TestWhatIsTakenBackLeavesTheSums: of one more like, taken back, the pairs, the counts and the shares keep nothing but rounding; a
// second retraction finds nothing to take.
func TestWhatIsTakenBackLeavesTheSums(t *testing.T) {
	m, w := learnt(t, small(), 3000, true)
	twin := mustNew(t, small())
	if err := twin.Load(bytes.NewReader(saved(t, m))); err != nil {
		t.Fatal(err)
	}
	m.Learn(corastream.Step{Item: "brand new", Positive: true, Time: w.now, Recent: w.users[0][:20]})
	now := append([]corastream.Interaction{{Item: "brand new", Label: 1, Time: w.now}}, w.users[0][:20]...)
	before := saved(t, m)
	m.Learn(corastream.Step{Item: "never taken", Retract: true, Time: w.now, Recent: now})
	if n := m.number["never taken"]; int(n) != len(m.items)-1 {
		t.Fatalf("item %d of %d", n, len(m.items))
	}
	if bytes.Equal(before, saved(t, m)) {
		t.Error("an item that came by a retraction alone is not known")
	}
	m.Learn(corastream.Step{Item: "brand new", Retract: true, Time: w.now, Recent: now})
	x := m.number["brand new"]
	if n := len(m.covisit.lists[x].ids); n != 0 {
		t.Errorf("%d neighbours are left", n)
	}
	for i := range twin.covisit.lists {
		if m.covisit.lists[i].find(x) >= 0 {
			t.Errorf("item %d still has the neighbour", i)
		}
	}
	for h := range m.popular.count {
		if c := m.popular.count[h][x]; c != 0 || math.Abs(m.popular.sum[h]-twin.popular.sum[h]) > 1e-6*twin.popular.sum[h] {
			t.Errorf("count %d: %v is left, sum %v, was %v", h, c, m.popular.sum[h], twin.popular.sum[h])
		}
	}
	k := m.sources[2].(*quality)
	if k.likes[x] != 1 || k.events[x] != 2 {
		t.Errorf("share %v of %v", k.likes[x], k.events[x])
	}
	again := saved(t, m)
	m.Learn(corastream.Step{Item: "brand new", Retract: true, Time: w.now, Recent: now[1:]})
	if !bytes.Equal(again, saved(t, m)) {
		t.Error("taken back twice")
	}
}

// TestTakingBackInTheMiddleNeverGoesBelowNothing: any order of likes and retractions leaves finite sums of 0 or more, and lists.
func TestTakingBackInTheMiddleNeverGoesBelowNothing(t *testing.T) {
	m, w := learnt(t, small(), 500, true)
	for n := range 3000 {
		u, st := w.next(m.Window())
		m.Learn(st)
		if n%3 > 0 {
			continue
		}
		h := w.users[u]
		gone := h[w.r.IntN(len(h))].Item
		m.Learn(corastream.Step{Item: gone, Retract: true, Likes: n%2 == 0, Time: w.now, Recent: h[:min(len(h), m.Window())]})
		var kept []corastream.Interaction
		for _, x := range h {
			if x.Item != gone || n%2 == 0 && x.Label < 0.5 {
				kept = append(kept, x)
			}
		}
		w.users[u] = kept
	}
	bad := func(x float64) bool { return !(x >= 0) || math.IsInf(x, 0) }
	for i := range m.items {
		l := &m.covisit.lists[i]
		for k := range l.ids {
			if bad(float64(l.sym[k])) || bad(float64(l.rest[k][0])) || bad(float64(l.rest[k][3])) {
				t.Fatalf("item %d: sums %v %v", i, l.sym[k], l.rest[k])
			}
		}
		for h := range m.popular.count {
			if bad(m.popular.count[h][i]) || bad(float64(m.covisit.n[i])) {
				t.Fatalf("item %d: count %v, events %v", i, m.popular.count[h][i], m.covisit.n[i])
			}
		}
	}
	if list := m.Rank(corastream.Query{Recent: w.users[0], Now: w.now, N: 10}); len(list) != 10 {
		t.Errorf("%d items", len(list))
	}
	twin := mustNew(t, small())
	if err := twin.Load(bytes.NewReader(saved(t, m))); err != nil || !bytes.Equal(saved(t, twin), saved(t, m)) {
		t.Errorf("loaded, another state: %v", err)
	}
}

func mustNew(t testing.TB, spec Spec) *Model {
	t.Helper()
	m, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
