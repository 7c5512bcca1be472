package generator

import (
	"math/rand/v2"
	"testing"

	"github.com/corastream/corastream"
)

func smallSpec(kind, inputs string) Spec {
	s := DefaultSpec()
	s.Kind, s.Inputs, s.Linear = kind, inputs, inputs == InputsUser
	s.Hidden, s.Rank, s.Layers, s.Taste, s.Factors, s.Width = 6, 3, 2, 3, 2, 5
	s.QFormer = QFormerSpec{Queries: 3, Layers: 2, Heads: 2}
	return s
}

func normal(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func titles(r *rand.Rand, n, hidden int) []corastream.States {
	common := normal(r, 2*hidden)
	out := make([]corastream.States, n)
	for i := range out {
		out[i].Title = normal(r, 2*hidden)
		z := float32(r.NormFloat64())
		for j := range out[i].Title {
			out[i].Title[j] += 2 * z * common[j]
		}
	}
	return out
}

// smallCheckpoint is a rounded checkpoint with values everywhere.
func smallCheckpoint(t testing.TB, spec Spec, seed uint64) *Checkpoint {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	states := titles(r, 40, spec.Hidden)
	basis, err := FitBasis(states, spec.Taste)
	if err != nil {
		t.Fatal(err)
	}
	contents := make([][]float32, len(states))
	for i, s := range states {
		if contents[i], err = basis.Content(s); err != nil {
			t.Fatal(err)
		}
	}
	catalogue, err := CatalogueOf(contents)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewModel(spec, seed)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range m.Params {
		if p.Group != Fixed {
			for i := range p.Data {
				p.Data[i] += float32(0.3 * r.NormFloat64())
			}
		}
	}
	c := &Checkpoint{
		Made: Made{LLM: "llm", Template: "template", CF: "cf", Layers: 5}, Basis: basis, Model: m, Catalogue: catalogue,
		Projection: &corastream.Projection{Rank: spec.Rank, Alpha: spec.Alpha, Adapt: spec.Adapt, P: map[corastream.Slot][]float32{}},
		Figures:    map[string]float64{"valid.cora.auc": 0.75},
	}
	for _, slot := range spec.Slots(5) {
		c.Projection.P[slot] = normal(r, spec.Rank*4)
	}
	if err := c.Round(); err != nil {
		t.Fatal(err)
	}
	return c
}

// somePairs are candidates of a few users, each user's side equal in all of its pairs.
func somePairs(r *rand.Rand, spec Spec, users, items int) []corastream.Pair {
	var out []corastream.Pair
	k := spec.Factors + spec.Taste
	for u := range users {
		user := corastream.Embedding{Vec: normal(r, k), Bias: float32(r.NormFloat64()), Version: uint64(u + 1)}
		for i := range items {
			item := corastream.Embedding{Vec: normal(r, k), Bias: float32(r.NormFloat64()), Version: uint64(i + 1)}
			out = append(out, corastream.Pair{UserID: string(rune('a' + u)), ItemID: string(rune('A' + i)), Mu: 0.25, User: user, Item: item})
		}
	}
	return out
}

func eachKind(t *testing.T, f func(t *testing.T, s Spec)) {
	for _, kind := range []string{KindMLP, KindQFormer} {
		for _, inputs := range []string{InputsUser, InputsPaper} {
			t.Run(kind+"/"+inputs, func(t *testing.T) { f(t, smallSpec(kind, inputs)) })
		}
	}
}
