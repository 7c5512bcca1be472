package replay

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestRanksOnMovieLensAreTheReferences holds the ranks of popularity against .ci/reference/next_item.py to the digit, whose ranks are
// also those of the Python prototype of the list model: row by row, in mode prequential at two delays, and frozen.
func TestRanksOnMovieLensAreTheReferences(t *testing.T) {
	dir := os.Getenv("CORASTREAM_ML100K")
	if dir == "" {
		dir = filepath.Join("..", ".cache", "ml-100k")
	}
	if _, err := os.Stat(filepath.Join(dir, "live.csv")); err != nil {
		t.Skip("no MovieLens-100K: run `make fetch`, or set CORASTREAM_ML100K to its folder")
	}
	b, err := os.ReadFile("testdata/next.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]struct {
		Rows                int
		Sum, NDCG10, SHA256 any
	}
	if err := json.Unmarshal(b, &want); err != nil || len(want) != 3 {
		t.Fatal(len(want), err)
	}
	var d Data
	if d.Items, err = ReadItems(filepath.Join(dir, "items.csv")); err != nil {
		t.Fatal(err)
	}
	if d.Train, err = ReadEvents(filepath.Join(dir, "train.csv"), "train", 0); err != nil {
		t.Fatal(err)
	}
	if d.Test, err = ReadEvents(filepath.Join(dir, "live.csv"), "live", 0); err != nil {
		t.Fatal(err)
	}
	for name, ref := range want {
		c := Default()
		c.Models, c.Mode, c.Bootstraps = []string{Popularity}, Prequential, 0
		if name == frozen {
			c.Mode = Static
		} else if c.LabelDelay, err = time.ParseDuration(name); err != nil {
			t.Fatal(err)
		}
		e, outcomes, err := evaluate(t.Context(), c, d, Deps{})
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		sum, rows := 0.0, 0
		ranks := outcomes[Popularity].ranks
		for i := range ranks.above {
			if ranks.above[i] != notRanked {
				fmt.Fprintf(h, "%.1f\n", ranks.place(i))
				sum, rows = sum+ranks.place(i), rows+1
			}
		}
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != ref.SHA256 || sum != ref.Sum || rows != ref.Rows {
			t.Errorf("%s: %d ranks, their sum %v, digest %s, want %+v", name, rows, sum, got, ref)
		}
		r, err := e.finish(t.Context(), outcomes)
		if err != nil {
			t.Fatal(err)
		}
		if n := r.Test[Popularity].Next; n.Task != TaskUnseen || math.Abs(float64(n.NDCG10)-ref.NDCG10.(float64)) > 1e-12 {
			t.Errorf("%s: task %s, NDCG@10 %v, want %v", name, n.Task, float64(n.NDCG10), ref.NDCG10)
		}
	}
}
