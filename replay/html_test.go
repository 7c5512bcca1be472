package replay

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestReportIsOneFile: nothing is fetched and nothing runs when a report or a comparison is opened, and what comes from a caller is
// escaped.
func TestReportIsOneFile(t *testing.T) {
	c := Default()
	c.Models, c.Bootstraps, c.Mode, c.Freshness = []string{Popularity, Recent, ItemKNN}, 30, Prequential, []time.Duration{0, time.Hour}
	const hostile = `<script>alert("1")</script>`
	data := tinyData()
	data.Valid = data.Test[:7]
	for k, n := 1, len(data.Test); k < 20; k++ { // rows enough for several windows
		for _, ev := range data.Test[:n] {
			ev.Time = ev.Time.Add(time.Duration(k) * time.Hour)
			data.Test = append(data.Test, ev)
		}
	}
	r, err := Run(t.Context(), c, data, Deps{Manifest: map[string]string{"file": hostile}})
	if err != nil {
		t.Fatal(err)
	}
	compared, err := Compare(t.Context(), [2]Side{{Name: hostile, Config: c, Data: tinyData()}, {Name: "b", Config: c, Data: tinyData()}})
	if err != nil {
		t.Fatal(err)
	}
	outside := regexp.MustCompile(`(?i)<script|<link|<img|<iframe|@import|url\(|\bsrc=|https?:|//[a-z]`)
	for name, render := range map[string]func() ([]byte, error){"report": r.HTML, "compare": compared.HTML} {
		page, err := render()
		if err != nil {
			t.Fatal(err)
		}
		if bad := outside.FindString(string(page)); bad != "" {
			t.Errorf("%s.html holds %q", name, bad)
		}
		if !strings.Contains(string(page), "&lt;script&gt;") || strings.Contains(string(page), "ZgotmplZ") {
			t.Errorf("%s.html does not escape what it was given", name)
		}
		if strings.Count(string(page), "<svg") != strings.Count(string(page), "</svg>") || strings.Contains(string(page), "NaN") {
			t.Errorf("%s.html has a broken chart", name)
		}
	}
	page, err := r.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"valid rows", "test rows", "AUC over time", "The next item at other depths", "Slices", "Freshness", "AUC less frozen", "prefers-color-scheme:dark", "popularity"} {
		if !strings.Contains(string(page), part) {
			t.Errorf("the report lacks %q", part)
		}
	}
}

// TestAReportOfClicksAloneDrawsNoAUC: nor a calibration, which would lie on the upper edge whatever was said. With both labels it draws them.
func TestAReportOfClicksAloneDrawsNoAUC(t *testing.T) {
	for _, clicksAlone := range []bool{true, false} {
		r := &Report{Manifest: map[string]string{"models": Bias + "," + CF}, Test: map[string]Figures{}, Paired: map[string]Difference{}}
		auc := Number(.7)
		if clicksAlone {
			auc = Number(math.NaN())
		}
		for _, m := range []string{Bias, CF} {
			r.Test[m] = Figures{Rows: 9, AUC: auc, AUCCI: Range{auc, auc}, Quality: &Quality{Calibration: []Bin{{Rows: 9, Said: .4, Came: 1}}}}
		}
		r.Paired[CF+"-"+Bias] = Difference{AUC: auc - .69, AUCCI: Range{auc - .7, auc - .68}}
		page, err := r.HTML()
		if err != nil {
			t.Fatal(err)
		}
		for _, chart := range []string{"difference in AUC, 95", "calibration of " + CF} {
			if drawn := strings.Contains(string(page), chart); drawn == clicksAlone {
				t.Errorf("clicks alone: %v; %q is drawn: %v", clicksAlone, chart, drawn)
			}
		}
	}
}
