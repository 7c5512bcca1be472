package serve

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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

// TestCandidatesAreTheExactTop compares with the definition; all values are multiples of 1/16 below 2^10, so sums are
// exact in any order and ties are real ties.
// A popular item is one that many liked: neither one that many were shown, nor one that its only visitor liked.
func TestPopularCountsLikes(t *testing.T) {
	f := newFixture(t)
	for i, c := range []struct {
		count uint32
		bias  float32
	}{{1000, -3}, {1, 3}, {200, 1}, {60, .5}, {0, 0}, {300, 1}} {
		it, err := f.store.m.Item(fmt.Sprintf("i%d", i+1))
		if err != nil {
			t.Fatal(err)
		}
		it.Count, it.Bias, it.Version = c.count, c.bias, it.Version+1
		it.Withdrawn = i == 5
	}
	if err := f.retriever.Rebuild(f.store.m); err != nil {
		t.Fatal(err)
	}
	found, err := f.retriever.Candidates(corastream.Query{N: 4, Skip: func(id string) bool { return id == "i4" }})
	var got []string
	for _, c := range found {
		if got = append(got, c.Item); c.Source != corastream.SourcePopular {
			t.Errorf("%+v", c)
		}
	}
	if want := []string{"i3", "i1", "i2", "i5"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, want %v: %v", got, want, err)
	}
	var _ corastream.Retriever = f.retriever
}

// findIn looks for somebody with a history: a stranger without a vector would get what is popular.
func findIn(r *Retriever, user corastream.Embedding, n int, skip func(string) bool) (ids []string, err error) {
	found, err := r.Candidates(corastream.Query{User: user, Recent: []corastream.Interaction{{Item: "met"}}, N: n, Skip: skip})
	for _, c := range found {
		ids = append(ids, c.Item)
	}
	return ids, err
}

func TestCandidatesAreTheExactTop(t *testing.T) {
	for _, c := range []struct{ items, dim, n int }{
		{0, 4, 5}, {1, 4, 5}, {7, 1, 7}, {1000, 8, 10}, {1024, 64, 20}, {1025, 7, 1}, {40000, 8, 500}, {3000, 0, 10},
	} {
		m := randomItems(c.items, c.dim, uint64(c.items+c.dim))
		for i := 0; i < c.items; i += 11 {
			it, _ := m.ItemAt(uint32(i))
			it.Withdrawn = i%2 == 0
			it.Title = ""
		}
		r := NewRetriever(DefaultRetrieverConfig(), stored{}, nil)
		if err := r.Rebuild(m); err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(7, 7))
		for q := range 5 {
			vec := make([]float32, c.dim+q-2+max(0, 2-q-c.dim)) // shorter, equal and longer than the rows
			for j := range vec {
				vec[j] = float32(rng.IntN(9)-4) / 4
			}
			skip := func(id string) bool { return strings.HasSuffix(id, "3") }
			if q == 0 {
				skip = nil
			}
			got, err := findIn(r, corastream.Embedding{Vec: vec}, c.n, skip)
			if err != nil {
				t.Fatal(err)
			}
			if want := naive(m, vec, c.n, skip); !slices.Equal(got, want) {
				t.Fatalf("%+v query %d: got %v, want %v", c, q, got, want)
			}
		}
	}
}

func TestZeroVectorsGiveTheHighestBiases(t *testing.T) {
	m := corastream.NewMemory()
	putItem(m, "a", 0.1, 0, 0)
	putItem(m, "b", 0.9, 0, 0)
	putItem(m, "c", 0.5, 1, 1)
	r := NewRetriever(DefaultRetrieverConfig(), stored{}, nil)
	if err := r.Rebuild(m); err != nil {
		t.Fatal(err)
	}
	for _, vec := range [][]float32{nil, {0, 0}} {
		got, err := findIn(r, corastream.Embedding{Vec: vec}, 3, nil)
		if err != nil || !slices.Equal(got, []string{"b", "c", "a"}) {
			t.Errorf("got %v, %v", got, err)
		}
	}
}

func TestMovedItemsAreFoundWhereTheyNowAre(t *testing.T) {
	m := corastream.NewMemory()
	for _, id := range []string{"a", "b", "c"} {
		putItem(m, id, 0, 1)
	}
	untitled, _ := m.Item("untitled")
	untitled.Version, untitled.Vec = 1, []float32{9}
	r := NewRetriever(DefaultRetrieverConfig(), stored{}, nil)
	if err := r.Rebuild(m); err != nil {
		t.Fatal(err)
	}
	find := func() string {
		t.Helper()
		ids, err := findIn(r, corastream.Embedding{Vec: []float32{1}}, 10, nil)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(ids, " ")
	}
	steps := []struct {
		name string
		do   func()
		want string
	}{
		{"start", func() {}, "a b c"},
		{"b's bias grows", func() { putItem(m, "b", 5, 1) }, "b a c"},
		{"c is withdrawn", func() { it := putItem(m, "c", 9, 1); it.Withdrawn = true }, "b a"},
		{"c comes back", func() { it := putItem(m, "c", 9, 1); it.Withdrawn = false }, "c b a"},
		{"b is removed", func() { it := putItem(m, "b", 5, 1); it.Removed, it.Title = true, "" }, "c a"},
		{"a wider vector", func() { putItem(m, "d", 0, 3, 7) }, "c d a"},
		{"the untitled gets content", func() { untitled.Content = []float32{1}; untitled.Version++ }, "c untitled d a"},
		{"a NaN vector is not offered", func() { putItem(m, "d", 0, float32(math.NaN()), 7) }, "c untitled a"},
		{"an older view comes late", func() { it := putItem(m, "c", -9, 1); it.Version = 1 }, "c untitled a"},
	}
	for _, s := range steps {
		s.do()
		if err := r.Moved(m, []string{"a", "b", "c", "d", "untitled", "never seen"}); err != nil {
			t.Fatal(err)
		}
		if got := find(); got != s.want {
			t.Errorf("%s: got %q, want %q", s.name, got, s.want)
		}
		if live, _, _ := r.Sizes(); live != len(strings.Fields(s.want)) {
			t.Errorf("%s: %d live items, want %d", s.name, live, len(strings.Fields(s.want)))
		}
	}
}

func TestUntitledItemsAreOfferedOnlyWhenAskedFor(t *testing.T) {
	m := corastream.NewMemory()
	it, _ := m.Item("bare")
	it.Version, it.Bias = 1, 1
	cfg := DefaultRetrieverConfig()
	for _, c := range []struct {
		untitled bool
		want     int
	}{{false, 0}, {true, 1}} {
		cfg.Untitled = c.untitled
		r := NewRetriever(cfg, stored{}, nil)
		if err := r.Rebuild(m); err != nil {
			t.Fatal(err)
		}
		if ids, _ := findIn(r, corastream.Embedding{}, 5, nil); len(ids) != c.want {
			t.Errorf("untitled: %v: got %v", c.untitled, ids)
		}
	}
}

func TestRetrieverBounds(t *testing.T) {
	cfg := DefaultRetrieverConfig()
	cfg.MaxItems, cfg.MaxCandidates = 3, 2
	r := NewRetriever(cfg, stored{}, nil)
	if err := r.Rebuild(randomItems(5, 2, 1)); err != nil {
		t.Fatal(err)
	}
	if live, _, overflow := r.Sizes(); live != 3 || overflow != 2 {
		t.Errorf("live %d, overflow %d", live, overflow)
	}
	var usage *corastream.UsageError
	for _, n := range []int{-1, 3} {
		if _, err := findIn(r, corastream.Embedding{}, n, nil); !errors.As(err, &usage) {
			t.Errorf("n=%d: %v", n, err)
		}
	}
	if _, err := findIn(r, corastream.Embedding{Vec: []float32{float32(math.Inf(1))}}, 1, nil); !errors.Is(err, corastream.ErrCorrupt) {
		t.Errorf("an infinite query: %v", err)
	}
	if err := (RetrieverConfig{}).Validate(); err == nil || strings.Count(err.Error(), "range") != 3 {
		t.Errorf("Validate must report three problems: %v", err)
	}
}

func TestNearestIsByCosine(t *testing.T) {
	m := corastream.NewMemory()
	putItem(m, "long", 0, 10, 10)
	putItem(m, "right", 9, 1, 0)
	putItem(m, "zero", 99, 0, 0)
	putItem(m, "away", 99, -1, -1)
	r := NewRetriever(DefaultRetrieverConfig(), stored{}, nil)
	if err := r.Rebuild(m); err != nil {
		t.Fatal(err)
	}
	near, err := r.Nearest([]float32{3, 3}, 10, nil)
	if err != nil || len(near) != 3 || near[0].Item != "long" || near[1].Item != "right" || near[2].Item != "away" {
		t.Fatalf("got %v, %v", near, err)
	}
	for i, want := range []float64{1, math.Sqrt2 / 2, -1} {
		if math.Abs(float64(near[i].Cosine)-want) > 1e-6 {
			t.Errorf("cosine %d is %v, want %v", i, near[i].Cosine, want)
		}
	}
	if near, err := r.Nearest([]float32{0, 0}, 10, nil); err != nil || len(near) != 0 {
		t.Errorf("a zero direction points nowhere: %v, %v", near, err)
	}
}

// TestScanAndMoveSideBySide moves items between two places where they score the same sum of row parts, so a torn row
// would give a score that no whole row has. Run with -race it also checks the locks.
func TestScanAndMoveSideBySide(t *testing.T) {
	const items = 1100 // two blocks
	m := corastream.NewMemory()
	for i := range items {
		putItem(m, fmt.Sprint(i), 0, 1, 0)
	}
	r := NewRetriever(DefaultRetrieverConfig(), stored{}, nil)
	if err := r.Rebuild(m); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		defer close(stop)
		for round := range 6 {
			dim := 2 + round/3 // rows widen half way
			for i := range items {
				vec := make([]float32, dim)
				vec[(round+i)%2] = 1
				putItem(m, fmt.Sprint(i), 0, vec...)
				if err := r.Moved(m, []string{fmt.Sprint(i)}); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				near, err := r.Nearest([]float32{1, 1}, 100, nil)
				if err != nil || len(near) != 100 {
					t.Errorf("%d found, %v", len(near), err)
					return
				}
				for _, n := range near {
					if math.Abs(float64(n.Cosine)-math.Sqrt2/2) > 1e-6 {
						t.Errorf("a torn row: cosine %v", n.Cosine)
						return
					}
				}
			}
		})
	}
	wg.Wait()
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

// inDemand knows of some items how much they are liked of late.
type inDemand struct {
	stored
	of map[string]float32
}

func (d inDemand) Demand(it *corastream.ItemState) float32 {
	if v, ok := d.of[it.ID]; ok {
		return v
	}
	return float32(math.Inf(-1))
}

// TestDemandLiftsWhatIsLikedOfLate: candidates come by score plus weight times how far below the most demanded item they are,
// the never liked standing 8 below; a weight of 0 leaves demand out, and what is withdrawn stays hidden whatever its demand.
func TestDemandLiftsWhatIsLikedOfLate(t *testing.T) {
	m := corastream.NewMemory()
	putItem(m, "best", 3, 1, 0)
	putItem(m, "good", 2, 1, 0)
	putItem(m, "wanted", 1, 1, 0)
	putItem(m, "gone", 3, 1, 0).Withdrawn = true
	predict := inDemand{of: map[string]float32{"wanted": 1000, "good": 998.5, "gone": 1001}}
	for weight, want := range map[float64][]string{0: {"best", "good", "wanted"}, .5: {"good", "wanted", "best"}, 1: {"wanted", "good", "best"}} {
		cfg := DefaultRetrieverConfig()
		cfg.Demand = weight
		r := NewRetriever(cfg, predict, predict.Demand)
		if err := r.Rebuild(m); err != nil {
			t.Fatal(err)
		}
		got, err := findIn(r, corastream.Embedding{Vec: []float32{0, 0}}, 3, nil)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("weight %v: %v, %v, want %v", weight, got, err, want)
		}
		putItem(m, "wide", 0, 0, 0, 0, 1) // rows are widened, and keep their demand
		if err := r.Moved(m, []string{"wide"}); err != nil {
			t.Fatal(err)
		}
		if got, err = findIn(r, corastream.Embedding{Vec: []float32{0, 0}}, 3, nil); err != nil || !slices.Equal(got, want) {
			t.Errorf("weight %v, widened: %v, %v, want %v", weight, got, err, want)
		}
		m.Put(corastream.Item{ID: "wide", Removed: true})
	}
}
