package serve

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/corastream/corastream"
)

// stored hands out the vectors as they lie in the state.
type stored struct{}

func (stored) UserVector(_ corastream.State, u *corastream.UserState) (corastream.Embedding, error) {
	return corastream.Embedding{Vec: u.Vec, Bias: u.Bias, Version: u.Version}, nil
}

func (stored) ItemVector(_ corastream.State, it *corastream.ItemState) (corastream.Embedding, error) {
	return corastream.Embedding{Vec: it.Vec, Bias: it.Bias, Version: it.Version}, nil
}

func putItem(m *corastream.Memory, id string, bias float32, vec ...float32) *corastream.ItemState {
	it, _ := m.Item(id)
	it.Title, it.Bias, it.Vec = "Title of "+id, bias, vec
	it.Version++
	return it
}

func randomItems(n, dim int, seed uint64) *corastream.Memory {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := corastream.NewMemory()
	for i := range n {
		vec := make([]float32, dim)
		for j := range vec {
			vec[j] = float32(math.Round(rng.NormFloat64()*4) / 4) // coarse, so that ties happen
		}
		putItem(m, fmt.Sprintf("item-%05d", i), float32(rng.IntN(5))/4, vec...)
	}
	return m
}

// naive is the definition: score everything, sort.
func naive(m *corastream.Memory, vec []float32, n int, skip func(string) bool) []string {
	var all []hit
	for seq := range m.Items() {
		it, _ := m.ItemAt(uint32(seq))
		if it.Withdrawn || it.Removed || it.Title == "" && it.Content == nil || skip != nil && skip(it.ID) {
			continue
		}
		score := it.Bias
		for j := range min(len(vec), len(it.Vec)) {
			score += vec[j] * it.Vec[j]
		}
		all = append(all, hit{score, it.ID})
	}
	slices.SortFunc(all, func(a, b hit) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.id, b.id)) })
	ids := []string{}
	for _, h := range all[:min(n, len(all))] {
		ids = append(ids, h.id)
	}
	return ids
}

// findIn looks for somebody with a history: a stranger without a vector would get what is popular.
func findIn(r *Retriever, user corastream.Embedding, n int, skip func(string) bool) (ids []string, err error) {
	found, err := r.Candidates(corastream.Query{User: user, Recent: []corastream.Interaction{{Item: "met"}}, N: n, Skip: skip})
	for _, c := range found {
		ids = append(ids, c.Item)
	}
	return ids, err
}

func TestCandidatesAllocateTheResultAlone(t *testing.T) {
	r := NewRetriever(DefaultRetrieverConfig(), stored{}, nil)
	if err := r.Rebuild(randomItems(2000, 16, 3)); err != nil {
		t.Fatal(err)
	}
	user := corastream.Embedding{Vec: make([]float32, 16)}
	user.Vec[3] = 1
	query := corastream.Query{User: user, N: 20}
	if n := testing.AllocsPerRun(100, func() {
		if _, err := r.Candidates(query); err != nil {
			t.Fatal(err)
		}
	}); n > 1 {
		t.Errorf("%v allocations, want 1", n)
	}
}

func BenchmarkCandidates(b *testing.B) {
	for _, items := range []int{10_000, 100_000, 1_000_000} {
		for _, workers := range []int{1, 2} {
			b.Run(fmt.Sprintf("items=%d/workers=%d", items, workers), func(b *testing.B) {
				cfg := DefaultRetrieverConfig()
				cfg.Workers = workers
				r := NewRetriever(cfg, stored{}, nil)
				if err := r.Rebuild(randomItems(items, 64, 3)); err != nil {
					b.Fatal(err)
				}
				user := corastream.Embedding{Vec: make([]float32, 64)}
				for i := range user.Vec {
					user.Vec[i] = float32(i%7) - 3
				}
				query := corastream.Query{User: user, N: 20}
				b.ReportAllocs()
				b.ResetTimer()
				for b.Loop() {
					if _, err := r.Candidates(query); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
