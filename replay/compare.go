package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Side is one of the configurations that Compare holds against each other. Its data must hold the same rows.
type Side struct {
	Name   string
	Config Config
	Data   Data
	Deps   Deps
}

// Comparison is compare.json: two configurations over the same rows, model by model.
type Comparison struct {
	First  string `json:"first"`
	Second string `json:"second"`
	// Rows are "test" or "valid", whichever the differences are over (test where there are both).
	Rows string `json:"rows"`
	// Models that both sides ran, in order.
	Models []string `json:"models"`
	// Differences are the first less the second, on the same bootstrap draws of users.
	Differences map[string]Difference `json:"differences"`
	// FirstFigures and SecondFigures are each side's own.
	FirstFigures  map[string]Figures `json:"first_figures"`
	SecondFigures map[string]Figures `json:"second_figures"`

	Reports [2]*Report `json:"-"`
}

// Compare replays two sides and pairs their scores row by row.
func Compare(ctx context.Context, sides [2]Side) (*Comparison, error) {
	var runs [2]*evaluation
	c := &Comparison{First: sides[0].Name, Second: sides[1].Name, Rows: "valid", Differences: map[string]Difference{}}
	var given [2]map[string]outcome
	for i, s := range sides {
		e, outcomes, err := evaluate(ctx, s.Config, s.Data, s.Deps)
		if err == nil {
			c.Reports[i], err = e.finish(ctx, outcomes)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
		runs[i], given[i] = e, outcomes
	}
	if err := sameRows(runs[0].rows, runs[1].rows, sides); err != nil {
		return nil, err
	}
	for _, m := range sides[0].Config.Models {
		if slices.Contains(sides[1].Config.Models, m) {
			c.Models = append(c.Models, m)
		}
	}
	if len(c.Models) == 0 {
		return nil, corastream.Usagef("models", "name a model for both", "%s and %s have no model in common", c.First, c.Second)
	}
	test := len(runs[0].data.Test) > 0
	if test {
		c.Rows = "test"
	}
	c.FirstFigures, c.SecondFigures = c.Reports[0].Valid, c.Reports[1].Valid
	if test {
		c.FirstFigures, c.SecondFigures = c.Reports[0].Test, c.Reports[1].Test
	}
	p := partOf(runs[0].rows, test)
	var all []measured
	for _, m := range c.Models {
		for side := range sides {
			all = append(all, measure(p.of(given[side][m]), p))
		}
	}
	draws := bootstrap(all, p.user, sides[0].Config.Bootstraps, sides[0].Config.Seed)
	for i, m := range c.Models {
		c.Differences[m] = difference(c.FirstFigures[m], c.SecondFigures[m], draws[2*i], draws[2*i+1])
	}
	return c, nil
}

func sameRows(a, b []row, sides [2]Side) error {
	same := len(a) == len(b)
	for i := 0; same && i < len(a); i++ {
		x, y := a[i], b[i]
		same = x.User == y.User && x.Item == y.Item && x.Label == y.Label && x.Time.Equal(y.Time) && x.test == y.test
	}
	if !same {
		return corastream.Usagef(sides[1].Name, "give both the same kafka.rating_threshold, kafka.kinds and kafka.fields",
			"%s and %s understand the log differently, so their rows can not be paired", sides[0].Name, sides[1].Name)
	}
	return nil
}

// Write makes dir/compare.json, dir/compare.html and each side's report under dir/first and dir/second.
func (c *Comparison) Write(dir string) error {
	for i, name := range []string{"first", "second"} {
		if err := c.Reports[i].Write(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write comparison: %w", err)
	}
	page, err := c.HTML()
	if err != nil {
		return err
	}
	for name, b := range map[string][]byte{"compare.json": append(b, '\n'), "compare.html": page} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return fmt.Errorf("write comparison: %w", err)
		}
	}
	return nil
}

// Table is the comparison for a terminal.
func (c *Comparison) Table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s less %s, %s rows [95%%]\n%-15s %-26s %-26s %-26s\n", c.First, c.Second, c.Rows, "model", "AUC", "UAUC", "NDCG@10")
	for _, m := range c.Models {
		d := c.Differences[m]
		fmt.Fprintf(&b, "%-15s %-26s %-26s %-26s\n", m, withRange(d.AUC, d.AUCCI), withRange(d.UAUC, d.UAUCCI), withRange(d.NDCG10All, d.NDCG10AllCI))
	}
	return b.String()
}

// finish judges what a run came to.
func (e *evaluation) finish(ctx context.Context, outcomes map[string]outcome) (r *Report, err error) {
	r = e.Config.report(e.given, e.deps, e.rows, outcomes)
	if r.Freshness, err = e.freshness(ctx); err != nil {
		return nil, err
	}
	if r.Seeds, err = e.seeds(ctx); err != nil {
		return nil, err
	}
	if r.OffPolicy, err = e.offPolicy(ctx); err != nil {
		return nil, err
	}
	for _, models := range e.done {
		r.Configurations += len(models)
	}
	e.timing.add("events_per_s", e.timing.eventsPerS())
	e.timing.add("seconds", time.Since(e.began).Seconds())
	r.Timing = e.timing.figures
	return r, nil
}
