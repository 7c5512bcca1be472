package replay_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/replay"
)

// movieLens finds MovieLens-100K, which `make fetch` puts into .cache.
func movieLens(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("CORASTREAM_ML100K")
	if dir == "" {
		dir = filepath.Join("..", ".cache", "ml-100k")
	}
	if _, err := os.Stat(filepath.Join(dir, "ml-100k.inter")); err != nil {
		t.Skip("no MovieLens-100K: run `make fetch`, or set CORASTREAM_ML100K to its folder")
	}
	return dir
}

// TestBiasesOnMovieLens holds the yardstick to what an independent implementation measured on the real log: biases, last 20 %
// of the rows in time order, each learnt at once: .756/.683. Here rows of one second are held back until all are scored and the
// rates are ours, so it may differ by .01.
func TestBiasesOnMovieLens(t *testing.T) {
	dir := movieLens(t)
	events, err := replay.ReadEvents(filepath.Join(dir, "ml-100k.inter"), "ml-100k", replay.DefaultRatingThreshold)
	if err != nil {
		t.Fatal(err)
	}
	items, err := replay.ReadItems(filepath.Join(dir, "ml-100k.item"))
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != 100000 || len(items) != 1682 || items[0].Title != "Toy Story" || items[0].Fields["year"] != "1995" {
		t.Fatalf("%d events, %d items, the first %+v", len(events), len(items), items[0])
	}
	slices.SortStableFunc(events, func(a, b corastream.Event) int { return a.Time.Compare(b.Time) })
	data := replay.Data{Items: items, Train: events[:80000], Valid: events[80000:]}
	d := replay.Deps{NewModel: func(string, uint64) (replay.Model, error) { return cfstream.New(cfstream.DefaultFor(cfstream.Bias)) }}
	c := quick(replay.Prequential, replay.Bias)
	c.Epochs = 3
	r := run(t, c, data, d)
	fresh := r.Valid[replay.Bias]
	t.Logf("prequential %.4f/%.4f in %.2f s", fresh.AUC, fresh.UAUC, r.Timing["seconds"])
	if fresh.AUC < 0.746 || fresh.UAUC < 0.673 || fresh.AUC > 0.78 {
		t.Errorf("AUC %.4f, UAUC %.4f, want about .756/.683", fresh.AUC, fresh.UAUC)
	}
	c.LabelDelay = 24 * time.Hour
	if day := run(t, c, data, d).Valid[replay.Bias]; day.AUC > fresh.AUC-0.01 {
		t.Errorf("labels a day late give AUC %.4f, at once %.4f: the delay does nothing", day.AUC, fresh.AUC)
	}
}
