package store

import (
	"fmt"
	"testing"

	"github.com/corastream/corastream"
)

// A kill after Code loses nothing: the list model of the next start was told the same, and a re-run of the journal too.
func TestCodesComeBackAfterAKill(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(1<<30))
	var items, codes []corastream.Item
	for i := range 300 {
		id := fmt.Sprint("c", i)
		items = append(items, corastream.Item{ID: id, Title: "title of " + id, Fields: map[string]string{"genre": "x"}})
		codes = append(codes, corastream.Item{ID: id, Code: []float32{float32(i) * corastream.ContentStep, -1}})
	}
	if _, err := s.Commit(t.Context(), corastream.Batch{Items: items}, biasLearner); err != nil {
		t.Fatal(err)
	}
	codes = append(codes, corastream.Item{ID: "nobody", Code: []float32{1, 1}})
	if err := s.Code(t.Context(), codes); err != nil {
		t.Fatal(err)
	}
	commitAll(t, s, 0, 500, 250)
	if got := listOf(s).counts["coded c7"]; got != 1 {
		t.Fatalf("item c7 was told with a code %d times", got)
	}
	if listOf(s).counts["item nobody"] != 0 {
		t.Error("an unknown item was told")
	}
	again := killedCopy(t, s, withPairs(1<<30))
	if listOf(again).saved(t) != listOf(s).saved(t) {
		t.Error("the list model was told something else after a kill")
	}
	lines := 0
	for line, err := range s.Journal(0) {
		if err != nil {
			t.Fatal(err)
		}
		if line.Kind == KindCodes {
			lines += len(line.Items)
			if err := again.Recode(t.Context(), line); err != nil {
				t.Fatal(err)
			}
		}
	}
	if lines != 300 || listOf(again).counts["coded c7"] != 2 {
		t.Errorf("the journal has %d codes", lines)
	}
	if err := s.Code(t.Context(), []corastream.Item{{ID: "c1", Code: []float32{0.3}}}); err == nil {
		t.Error("a code off the grid was taken")
	}
}
