package cfstream_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
)

// dense is LightGCN as the paper writes it: E(l) = D^-1/2 A D^-1/2 E(l-1) over one matrix of users and items, then the mean.
func dense(own map[string][]float64, edges [][2]string, layers int) map[string][]float64 {
	degree := map[string]float64{}
	for _, e := range edges {
		degree[e[0]]++
		degree[e[1]]++
	}
	mean, now := map[string][]float64{}, own
	for id, v := range own {
		mean[id] = slices.Clone(v)
	}
	for range layers {
		next := map[string][]float64{}
		for id, v := range own {
			next[id] = make([]float64, len(v))
		}
		for _, e := range edges {
			norm := 1 / math.Sqrt(degree[e[0]]*degree[e[1]])
			for i := range next[e[0]] {
				next[e[0]][i] += norm * now[e[1]][i]
				next[e[1]][i] += norm * now[e[0]][i]
			}
		}
		for id, v := range next {
			for i, x := range v {
				mean[id][i] += x
			}
		}
		now = next
	}
	for _, v := range mean {
		for i := range v {
			v[i] /= float64(layers + 1)
		}
	}
	return mean
}

// TestFitEndsWithThePapersPropagation holds what Fit leaves against the dense formula, for one to four hops, with likes that
// occur twice and dislikes that are no edges.
func TestFitEndsWithThePapersPropagation(t *testing.T) {
	w := makeWorld(11, 12, 30, 400, 0, 1)
	for layers := 1; layers <= 4; layers++ {
		m := model(t, cfstream.LightGCN, func(s *cfstream.Spec) { s.Layers = layers })
		s := w.state()
		if err := cfstream.Fit(context.Background(), s, m, w.events, 2); err != nil {
			t.Fatal(err)
		}
		own, edges, known := map[string][]float64{}, [][2]string{}, map[[2]string]bool{}
		take := func(id string, v []float32) {
			own[id] = make([]float64, 6)
			for i := range own[id] {
				own[id][i] = float64(v[i])
			}
		}
		for _, ev := range w.events {
			u, _ := s.User(ev.User)
			it, _ := s.Item(ev.Item)
			take(ev.User, u.Vec)
			take(ev.Item, it.Vec)
			if e := [2]string{ev.User, ev.Item}; ev.Positive() && !known[e] {
				known[e] = true
				edges = append(edges, e)
			}
		}
		want := dense(own, edges, layers)
		check := func(id string, got []float32) {
			for i, x := range got {
				if math.Abs(float64(x)-want[id][i]) > 1e-5 {
					t.Fatalf("%d layers, %s: %v, want %v", layers, id, got, want[id])
				}
			}
		}
		for id := range own {
			if id[0] == 'u' {
				u, _ := s.User(id)
				e, err := m.UserVector(s, u)
				if err != nil {
					t.Fatal(err)
				}
				check(id, e.Vec)
				continue
			}
			it, _ := s.Item(id)
			e, err := m.ItemVector(s, it)
			if err != nil {
				t.Fatal(err)
			}
			check(id, e.Vec)
		}
	}
}

// TestALikePropagatesAlongItsEdgeAlone: the first like of a new user gives them the item's vector at once; a dislike, and the same
// like again, propagate nothing; a third party's vector stays as it was.
func TestALikePropagatesAlongItsEdgeAlone(t *testing.T) {
	m := model(t, cfstream.LightGCN, func(s *cfstream.Spec) { s.Layers, s.FactorRate, s.FactorDecay = 1, 1e-9, 1e-9 })
	s := corastream.NewMemory()
	vec := func(id string) []float32 {
		u, _ := s.User(id)
		e, err := m.UserVector(s, u)
		if err != nil {
			t.Fatal(err)
		}
		return e.Vec
	}
	tell := func(n int64, user, item string, label float32) {
		if err := s.Apply(m, event(n, user, item, label)); err != nil {
			t.Fatal(err)
		}
	}
	tell(0, "a", "i", 0)
	tell(1, "b", "i", 1)
	b := vec("b")
	it, _ := s.Item("i")
	u, _ := s.User("a")
	for k := range b {
		if want := u.Vec[k] / 2; math.Abs(float64(vec("a")[k]-want)) > 1e-6 {
			t.Errorf("a dislike moved the user: %v", vec("a"))
		}
	}
	own, _ := s.User("b")
	for k := range b {
		if want := (own.Vec[k] + it.Vec[k]) / 2; math.Abs(float64(b[k]-want)) > 1e-6 {
			t.Fatalf("after a first like e_u = %v, want (p_u + q_i)/2 in place %d: %v", b, k, want)
		}
	}
	tell(2, "b", "i", 1)
	if again := vec("b"); !closeTo(again, b) {
		t.Errorf("the same like again: %v, was %v", again, b)
	}
	a := vec("a")
	tell(3, "c", "i", 1)
	if !closeTo(vec("a"), a) || !closeTo(vec("b"), b) {
		t.Error("a like of another user moved these")
	}
}

func closeTo(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Abs(float64(x-y)) < 1e-5 })
}

// TestGraphLearnsWhoLikesWhat: only the product of hidden signs decides, as for mf.
func TestGraphLearnsWhoLikesWhat(t *testing.T) {
	w := makeWorld(2, 40, 40, 8000, 0, 1.5)
	bias := w.prequentialLoss(t, model(t, cfstream.Bias, nil), 4)
	for name, m := range map[string]cfstream.Model{
		"lightgcn": model(t, cfstream.LightGCN, nil),
		"hybrid":   model(t, cfstream.Hybrid, func(s *cfstream.Spec) { s.Factors, s.Layers = 6, 2 }),
	} {
		if loss := w.prequentialLoss(t, m, 4); loss > bias-0.05 {
			t.Errorf("log loss of %s %.4f, of bias %.4f: want a gain of 0.05", name, loss, bias)
		}
	}
}

// TestSequenceModelReadsTheLastItems: a user likes an item when it is of the kind of the one they saw last; biases and
// factors of a user can not know that.
func TestSequenceModelReadsTheLastItems(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var w world
	for i := range 20 {
		w.items = append(w.items, corastream.Item{ID: fmt.Sprint("i", i)})
	}
	last := map[int]int{}
	for n := range 12000 {
		u, i := rng.IntN(30), rng.IntN(20)
		label := float32(0)
		if last[u]%2 == i%2 {
			label = 1
		}
		if rng.IntN(10) == 0 {
			label = 1 - label
		}
		last[u] = i
		w.events = append(w.events, event(int64(n), fmt.Sprint("u", u), fmt.Sprint("i", i), label))
	}
	mf := w.prequentialLoss(t, model(t, cfstream.MF, nil), 4)
	seq := w.prequentialLoss(t, model(t, cfstream.SASRec, func(s *cfstream.Spec) { s.FactorRate, s.BlockRate, s.BlockDecay, s.Window = 0.05, 0.05, 1e-4, 4 }), 8)
	if seq > mf-0.15 {
		t.Errorf("log loss of sasrec %.4f, of mf %.4f: want a gain of 0.15", seq, mf)
	}
}

// TestFrozenSequenceModelDoesNotMove: e_u is what the user's last learnt event made of it, so an evaluation that learns nothing
// is not refreshed by histories.
func TestFrozenSequenceModelDoesNotMove(t *testing.T) {
	w := makeWorld(12, 5, 20, 300, 0, 1)
	m := model(t, cfstream.SASRec, nil)
	s := w.state()
	if err := cfstream.Fit(context.Background(), s, m, w.events, 2); err != nil {
		t.Fatal(err)
	}
	u, _ := s.User("u1")
	before := slices.Clone(u.Vec)
	u.Remember(event(1000, "u1", "i3", 1), 0)
	e, err := m.UserVector(s, u)
	if err != nil || !slices.Equal(e.Vec, before) {
		t.Errorf("%v, was %v (%v)", e.Vec, before, err)
	}
	if err := m.Learn(s, event(1001, "u1", "i4", 1)); err != nil {
		t.Fatal(err)
	}
	if slices.Equal(u.Vec, before) {
		t.Error("an event did not move the user's vector")
	}
}

// TestSeedsDrawOtherStarts: what starts at random differs by seed and is the same for one seed.
func TestSeedsDrawOtherStarts(t *testing.T) {
	w := makeWorld(13, 6, 20, 200, 0, 1)
	for _, kind := range []string{cfstream.MF, cfstream.LightGCN, cfstream.SASRec} {
		start := func(seed uint64) string {
			s := w.state()
			m := model(t, kind, func(s *cfstream.Spec) { s.Seed = seed })
			if err := cfstream.Fit(context.Background(), s, m, w.events, 1); err != nil {
				t.Fatal(err)
			}
			return digest(t, s, []string{"u0", "u1"})
		}
		if one, again, two := start(1), start(1), start(2); one != again || one == two {
			t.Errorf("%s: seeds 1, 1, 2 give %s, %s, %s", kind, one, again, two)
		}
	}
}
