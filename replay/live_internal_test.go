package replay

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestTheMostLikedAreInOrderAfterEveryLike counts against a plain sort.
func TestTheMostLikedAreInOrderAfterEveryLike(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	likes := map[string]int{"i0": 3, "i1": 3, "i2": 1, "none": 0}
	m := newMostLiked(likes)
	for n := range 3000 {
		id := fmt.Sprint("i", r.IntN(1+n/20))
		m.add(id)
		likes[id]++
		got := m.top(len(likes), map[string]bool{"i3": true})
		want := slices.IsSortedFunc(got, func(a, b string) int { return likes[b] - likes[a] })
		have := len(likes) - 1 // none is never liked
		if likes["i3"] > 0 {
			have--
		}
		if !want || len(got) != have || slices.Contains(got, "i3") || len(m.top(2, nil)) != min(2, len(m.order)) {
			t.Fatalf("after %d: %v of %v", n, got, likes)
		}
	}
}
