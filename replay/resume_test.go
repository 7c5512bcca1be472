package replay

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestReplayGoesOnWhereItWasStopped: what a stopped run had scored is not scored again, and the report is the same bytes; a
// damaged file, other data or other settings are scored anew.
func TestReplayGoesOnWhereItWasStopped(t *testing.T) {
	c := Default()
	c.Models, c.Bootstraps, c.Mode = []string{Popularity, Recent, ItemKNN}, 20, Prequential
	run := func(ctx context.Context, c Config, data Data, dir string) (*Report, []string, error) {
		var steps []string
		r, err := Run(ctx, c, data, Deps{Resume: dir, Progress: func(step string, done, total int) {
			if done == total {
				steps = append(steps, step)
			}
		}})
		return r, steps, err
	}
	plain, _, err := run(t.Context(), c, tinyData(), "")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "resume")
	ctx, stop := context.WithCancel(t.Context())
	_, err = Run(ctx, c, tinyData(), Deps{Resume: dir, Progress: func(step string, _, _ int) {
		if step == "learn "+ItemKNN {
			stop()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the stopped run: %v", err)
	}
	again, steps, err := run(t.Context(), c, tinyData(), dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"resume " + Popularity, "resume " + Recent, "learn " + ItemKNN}; len(steps) < 3 || steps[0] != want[0] || steps[1] != want[1] || steps[2] != want[2] {
		t.Errorf("steps %v, want %v", steps, want)
	}
	same := func(a, b *Report) bool {
		a.Timing, b.Timing = nil, nil
		x, err := a.JSON()
		if err != nil {
			t.Fatal(err)
		}
		y, err := b.JSON()
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Equal(x, y)
	}
	if !same(plain, again) {
		t.Error("a resumed replay reports something else")
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		b[len(b)/2] ^= 1
		if err := os.WriteFile(f, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if again, steps, err = run(t.Context(), c, tinyData(), dir); err != nil || steps[0] != "learn "+Popularity || !same(plain, again) {
		t.Errorf("damaged files: %v, %v", steps, err)
	}
	other := tinyData()
	other.Train[0].Label = 1 - other.Train[0].Label
	if _, steps, err = run(t.Context(), c, other, dir); err != nil || steps[0] != "learn "+Popularity {
		t.Errorf("other data: %v, %v", steps, err)
	}
	c.HalfLife *= 2
	if _, steps, err = run(t.Context(), c, tinyData(), dir); err != nil || steps[0] != "learn "+Popularity {
		t.Errorf("other settings: %v, %v", steps, err)
	}
}

// TestCompareIsPaired: a side against itself differs by nothing in every draw; against another rate it has an interval, and what the
// two reports say is what is subtracted.
func TestCompareIsPaired(t *testing.T) {
	c := Default()
	c.Models, c.Bootstraps, c.Mode = []string{Popularity, Recent}, 50, Prequential
	side := func(name string, c Config) Side { return Side{Name: name, Config: c, Data: tinyData()} }
	same, err := Compare(t.Context(), [2]Side{side("a", c), side("b", c)})
	if err != nil {
		t.Fatal(err)
	}
	for m, d := range same.Differences {
		if d.AUC != 0 || d.AUCCI != (Range{}) || d.NDCG10AllCI != (Range{}) {
			t.Errorf("%s against itself: %+v", m, d)
		}
	}
	quick := c
	quick.HalfLife = quick.HalfLife / 40000
	got, err := Compare(t.Context(), [2]Side{side("a", c), side("b", quick)})
	if err != nil {
		t.Fatal(err)
	}
	if d := got.Differences[Recent]; d.AUC != got.FirstFigures[Recent].AUC-got.SecondFigures[Recent].AUC || d.AUCCI[0] > d.AUC || d.AUCCI[1] < d.AUC || d.AUC == 0 {
		t.Errorf("recent: %+v", d)
	}
	dir := t.TempDir()
	if err := got.Write(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"compare.json", "compare.html", "first/report.html", "second/report.json"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	other := side("b", c)
	other.Data.Test[3].Label = 1 - other.Data.Test[3].Label
	if _, err := Compare(t.Context(), [2]Side{side("a", c), other}); err == nil {
		t.Error("rows that differ were paired")
	}
}
