package serve

import (
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
