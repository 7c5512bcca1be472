package replay

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

//go:embed report.gohtml
var pageSource string

var pages = template.Must(template.New("report").Funcs(template.FuncMap{
	"num": func(n Number) string {
		if math.IsNaN(float64(n)) {
			return "–"
		}
		return fmt.Sprintf("%.4f", n)
	},
	"signed": func(n Number) string {
		if math.IsNaN(float64(n)) {
			return "–"
		}
		return fmt.Sprintf("%+.4f", n)
	},
	"ci":  func(r Range) string { return interval4(r, "%.4f") },
	"sci": func(r Range) string { return interval4(r, "%+.4f") },
	"sign": func(r Range) template.HTMLAttr {
		switch {
		case r[0] > 0:
			return ` class="good"`
		case r[1] < 0:
			return ` class="bad"`
		}
		return ""
	},
	"figures": func(s splitView, m string) Figures { return s.Figures[m] },
	"slice":   func(s splitView, m, name string) Slice { return s.Figures[m].Slices[name] },
	"colour":  func(models []string, m string) int { return slices.Index(models, m) % 10 },
	"sliceRows": func(s splitView, name string) int {
		for _, m := range s.Models {
			if n := s.Figures[m].Next; n != nil {
				return n.Slices[name].Rows
			}
		}
		return 0
	},
	"split":   splitName,
	"percent": func(n Number) string { return fmt.Sprintf("%.1f %%", 100*float64(n)) },
	"when":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") },
}).Parse(pageSource))

func interval4(r Range, form string) string {
	if math.IsNaN(float64(r[0])) || r == (Range{}) {
		return ""
	}
	return fmt.Sprintf(form+" to "+form, float64(r[0]), float64(r[1]))
}

type diagram struct {
	Model string
	Chart template.HTML
}

// splitView is one split's part of the page.
type splitView struct {
	Name                 string
	Figures              map[string]Figures
	Paired               map[string]Difference
	Pairs, Models        []string
	Slices               []string
	Ranked, Calibrated   bool
	Both                 bool // the rows have both labels
	Next                 bool // some model ranks
	Lists                template.HTML
	NextSlices           []string
	Cold                 bool // some pair has a difference on cold items
	Forest, Gains, Curve template.HTML
	Diagrams             []diagram
}

// HTML is report.html: the same figures for people, in one file without any outside resource or script.
func (r *Report) HTML() ([]byte, error) {
	page := struct {
		*Report
		Models    []string
		Splits    []splitView
		Fresh     []template.HTML
		Headlines []string
		First     string
		OneLabel  string
	}{Report: r, Models: r.models(), First: r.sentence(), OneLabel: r.oneLabel()}
	for _, s := range []splitView{{Name: "valid", Figures: r.Valid, Paired: r.PairedValid}, {Name: "test", Figures: r.Test, Paired: r.Paired}} {
		if len(s.Figures) == 0 {
			continue
		}
		if s.Name == "valid" && len(r.Test) == 0 {
			s.Paired = r.Paired
		}
		for _, m := range page.Models {
			if f, ok := s.Figures[m]; ok {
				s.Models = append(s.Models, m)
				s.Both = s.Both || !f.OneLabel
				s.Next = s.Next || f.Next != nil
			}
		}
		s.draw()
		page.Splits = append(page.Splits, s)
		if c := freshChart(page.Models, r.Freshness, s.Name == "test"); c != "" {
			page.Fresh = append(page.Fresh, c)
		}
	}
	page.Headlines = r.headlines()
	return render("report", page)
}

func render(name string, page any) ([]byte, error) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, page); err != nil {
		return nil, fmt.Errorf("write %s.html: %w", name, err)
	}
	return b.Bytes(), nil
}

// draw makes the split's charts.
func (s *splitView) draw() {
	for name := range s.Figures[s.Models[0]].Slices {
		if !strings.HasPrefix(name, "time_") { // the chart shows time in finer steps
			s.Slices = append(s.Slices, name)
		}
	}
	slices.Sort(s.Slices)
	s.drawNext()
	var levels, gains []whisker
	for i, m := range s.Models {
		f := s.Figures[m]
		levels = append(levels, whisker{m, i, f.AUC, f.AUCCI})
		s.Ranked = s.Ranked || f.Quality != nil && f.Ranking != nil
		if math.IsNaN(float64(f.AUC)) {
			continue // of one label alone there is nothing to say a probability against
		}
		if d := reliability(m, i, f.Quality); d != "" {
			s.Diagrams = append(s.Diagrams, diagram{m, d})
		}
	}
	s.Pairs = slices.SortedFunc(maps.Keys(s.Paired), func(a, b string) int { return s.pairOrder(a) - s.pairOrder(b) })
	for _, p := range s.Pairs {
		_, cold := s.Paired[p].Slices["item_cold"]
		s.Cold = s.Cold || cold
		if math.IsNaN(float64(s.Paired[p].AUC)) {
			continue
		}
		gains = append(gains, whisker{p, s.pairOrder(p) / 100, s.Paired[p].AUC, s.Paired[p].AUCCI})
	}
	s.Calibrated = len(s.Diagrams) > 0
	s.Forest, s.Gains, s.Curve = forest("AUC", levels, false), forest("difference in AUC", gains, true), timeChart(s.Models, s.Figures)
}

// drawNext makes the chart of the next-item figures.
func (s *splitView) drawNext() {
	var lists []whisker
	for i, m := range s.Models {
		n := s.Figures[m].Next
		if n == nil {
			continue
		}
		lists = append(lists, whisker{m, i, n.NDCG10, n.NDCG10CI})
		if s.NextSlices == nil {
			s.NextSlices = slices.Sorted(maps.Keys(n.Slices))
		}
	}
	s.Lists = forest("NDCG@10", lists, false)
}

// pairOrder orders pairs by their first model, then by their second.
func (s *splitView) pairOrder(pair string) int {
	for i, a := range s.Models {
		for j, b := range s.Models {
			if a+"-"+b == pair {
				return 100*i + j
			}
		}
	}
	return 100 * len(s.Models)
}

// headlines put the paired differences that matter into words.
func (r *Report) headlines() (out []string) {
	for _, pair := range []struct{ a, b, what string }{
		{CF, Bias, "what users and items have in common, beyond averages"},
		{Cora, CF, "what the language model adds to its CF teacher"},
		{Cora, CoraShuffled, "what reading the right title is worth"},
		{Cora, LLM, "what the generated weights are worth"},
	} {
		d, ok := r.Paired[pair.a+"-"+pair.b]
		if !ok || math.IsNaN(float64(d.AUC)) {
			continue
		}
		verdict := "no clear difference"
		if d.AUCCI[0] > 0 {
			verdict = pair.a + " is better"
		} else if d.AUCCI[1] < 0 {
			verdict = pair.b + " is better"
		}
		out = append(out, fmt.Sprintf("%s less %s (%s): %+.4f AUC, %s. %s.", pair.a, pair.b, pair.what, float64(d.AUC), interval4(d.AUCCI, "%+.4f"), strings.ToUpper(verdict[:1])+verdict[1:]))
	}
	return out
}

// HTML is compare.html.
func (c *Comparison) HTML() ([]byte, error) {
	var auc, uauc, ndcg []whisker
	for i, m := range c.Models {
		d := c.Differences[m]
		auc, uauc = append(auc, whisker{m, i, d.AUC, d.AUCCI}), append(uauc, whisker{m, i, d.UAUC, d.UAUCCI})
		ndcg = append(ndcg, whisker{m, i, d.NDCG10All, d.NDCG10AllCI})
	}
	return render("compare", struct {
		*Comparison
		Charts []template.HTML
	}{c, []template.HTML{forest("difference in AUC", auc, true), forest("difference in UAUC", uauc, true), forest("difference in NDCG@10", ndcg, true)}})
}
