package serve

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/corastream/corastream"
)

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
