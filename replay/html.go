package replay

import (
	"bytes"
	"fmt"
	"html/template"
	"math"
	"slices"
	"strings"
)

// HTML is report.html: the same figures for people, in one file without any outside resource.
func (r *Report) HTML() ([]byte, error) {
	page := struct {
		*Report
		Splits []splitView
	}{Report: r}
	for _, s := range []splitView{{Name: "valid", Figures: r.Valid, Paired: r.PairedValid}, {Name: "test", Figures: r.Test, Paired: r.Paired}} {
		if len(s.Figures) == 0 {
			continue
		}
		if s.Name == "valid" && len(r.Test) == 0 {
			s.Paired = r.Paired
		}
		for _, m := range r.models() {
			if _, ok := s.Figures[m]; ok {
				s.Models = append(s.Models, m)
			}
		}
		for name := range s.Figures[s.Models[0]].Slices {
			s.Slices = append(s.Slices, name)
		}
		slices.Sort(s.Slices)
		s.Curve = curve(s)
		page.Splits = append(page.Splits, s)
	}
	var b bytes.Buffer
	if err := reportPage.Execute(&b, page); err != nil {
		return nil, fmt.Errorf("write report.html: %w", err)
	}
	return b.Bytes(), nil
}

type splitView struct {
	Name    string
	Figures map[string]Figures
	Paired  map[string]Difference
	Models  []string
	Slices  []string
	Curve   template.HTML
}

var curveColours = []string{"#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0"}

// curve draws AUC over time, one line for each model. All text in it is ours or a number, so it needs no escaping.
func curve(s splitView) template.HTML {
	const width, height, left, bottom = 720.0, 260.0, 46.0, 24.0
	lo, hi := math.Inf(1), math.Inf(-1)
	points := map[string][]float64{}
	for _, m := range s.Models {
		for t := 1; t <= timeSlices; t++ {
			part, ok := s.Figures[m].Slices[fmt.Sprintf("time_%d_of_%d", t, timeSlices)]
			v := float64(part.AUC)
			if !ok {
				v = math.NaN()
			}
			points[m] = append(points[m], v)
			if !math.IsNaN(v) {
				lo, hi = min(lo, v), max(hi, v)
			}
		}
	}
	if lo > hi {
		return ""
	}
	lo, hi = math.Floor(lo*20)/20, math.Ceil(hi*20)/20
	if hi <= lo {
		hi = lo + 0.05
	}
	x := func(i int) float64 { return left + (width-left-10)*float64(i)/float64(timeSlices-1) }
	y := func(v float64) float64 { return 8 + (height-bottom-8)*(hi-v)/(hi-lo) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" role="img" aria-label="AUC over time">`, width, height)
	for v := lo; v <= hi+1e-9; v += 0.05 {
		fmt.Fprintf(&b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/><text x="4" y="%.1f">%.2f</text>`,
			left, width-10, y(v), y(v), y(v)+4, v)
	}
	for t := range timeSlices {
		fmt.Fprintf(&b, `<text x="%.1f" y="%g">%d</text>`, x(t)-3, height-6, t+1)
	}
	for i, m := range s.Models {
		var path []string
		for t, v := range points[m] {
			if !math.IsNaN(v) {
				path = append(path, fmt.Sprintf("%.1f,%.1f", x(t), y(v)))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"><title>%s</title></polyline>`,
			strings.Join(path, " "), curveColours[i%len(curveColours)], m)
	}
	b.WriteString("</svg><p>")
	for i, m := range s.Models {
		fmt.Fprintf(&b, `<span style="color:%s">&#9632;</span> %s &#160; `, curveColours[i%len(curveColours)], m)
	}
	b.WriteString("</p>")
	return template.HTML(b.String())
}

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
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
	"figures": func(s splitView, m string) Figures { return s.Figures[m] },
	"slice":   func(s splitView, m, name string) Slice { return s.Figures[m].Slices[name] },
}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>corastream replay</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:62rem;padding:0 1rem;color:#1b1e23;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem;font-variant-numeric:tabular-nums}
th,td{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #ddd}th:first-child,td:first-child{text-align:left}
small,.ci{color:#667}svg{width:100%;max-width:45rem}svg text{font:11px system-ui,sans-serif;fill:#667}.grid{stroke:#e4e6ea}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181c}th,td{border-color:#333}.grid{stroke:#333}}
</style></head><body>
<h1>corastream replay</h1>
<p>Mode <b>{{.Mode}}</b>. {{if eq .Mode "static"}}Every model learnt train alone.{{else}}Every row was scored, then learnt once its label's
delay ({{index .Manifest "label_delay"}}) was over.{{end}} UAUC is the mean of per-user AUC over users with both labels, "without b_u" the same
without the user's own bias in the score; NDCG@10 and HR@10 place each liked item among all items the user had not met by then. Intervals: 95 %,
{{index .Manifest "bootstraps"}} draws of users. Configurations scored on these rows: {{.Configurations}}. Figures of the two modes do not compare.</p>
{{range $s := .Splits}}<h2>{{.Name}} rows</h2>
<table><tr><th>model</th><th>rows</th><th>users</th><th>AUC</th><th></th><th>UAUC</th><th></th><th>without b_u</th><th>log loss</th><th>NDCG@10</th><th></th><th>HR@10</th></tr>
{{range .Models}}{{with figures $s .}}<tr><td>{{end}}{{.}}{{with figures $s .}}</td><td>{{.Rows}}</td><td>{{.Users}}</td><td>{{num .AUC}}</td>
<td class="ci">{{num (index .AUCCI 0)}} to {{num (index .AUCCI 1)}}</td><td>{{num .UAUC}}</td><td class="ci">{{num (index .UAUCCI 0)}} to
{{num (index .UAUCCI 1)}}</td><td>{{num .UAUCNoUserBias}}</td><td>{{num .LogLoss}}</td><td>{{num .NDCG10All}}</td>
<td class="ci">{{num (index .NDCG10AllCI 0)}} to {{num (index .NDCG10AllCI 1)}}</td><td>{{num .HR10All}}</td></tr>{{end}}
{{end}}</table>
{{if .Paired}}<h3>Paired differences</h3><table><tr><th>models</th><th>AUC</th><th></th><th>UAUC</th><th></th><th>NDCG@10</th><th></th><th>AUC of cold items</th><th></th></tr>
{{range $name, $d := .Paired}}<tr><td>{{$name}}</td><td>{{signed .AUC}}</td><td class="ci">{{signed (index .AUCCI 0)}} to {{signed (index .AUCCI 1)}}</td>
<td>{{signed .UAUC}}</td><td class="ci">{{signed (index .UAUCCI 0)}} to {{signed (index .UAUCCI 1)}}</td><td>{{signed .NDCG10All}}</td><td class="ci">{{signed (index .NDCG10AllCI 0)}} to {{signed (index .NDCG10AllCI 1)}}</td>
{{with index .Slices "item_cold"}}{{if .AUC}}<td>{{signed .AUC}}</td><td class="ci">{{signed (index .AUCCI 0)}} to {{signed (index .AUCCI 1)}}</td>{{end}}{{end}}</tr>
{{end}}</table>{{end}}
<h3>AUC over time (eighths of the rows)</h3>{{.Curve}}
<h3>Slices: AUC / UAUC</h3><table><tr><th>slice</th><th>rows</th><th>users</th>{{range .Models}}<th>{{.}}</th>{{end}}</tr>
{{range $name := .Slices}}<tr><td>{{$name}}</td>{{with slice $s (index $s.Models 0) $name}}<td>{{.Rows}}</td><td>{{.Users}}</td>{{end}}
{{range $m := $s.Models}}{{with slice $s $m $name}}<td>{{num .AUC}} / {{num .UAUC}}</td>{{end}}{{end}}</tr>
{{end}}</table>
{{end}}{{if .Freshness}}<h2>Freshness</h2><p>Every label learnt a delay after its row; the differences are against the same model with nothing learnt after train.</p>
<table><tr><th>model</th><th>rows</th><th>delay</th><th>AUC</th><th>UAUC</th><th>without b_u</th><th>NDCG@10</th><th>AUC less frozen</th><th></th><th>without b_u</th><th></th><th>NDCG@10</th><th></th></tr>
{{range .Freshness}}<tr><td>{{.Model}}</td><td>{{if .Test}}test{{else}}valid{{end}}</td><td>{{.Delay}}</td>{{with .Figures}}<td>{{num .AUC}}</td><td>{{num .UAUC}}</td><td>{{num .UAUCNoUserBias}}</td>
<td>{{num .NDCG10All}}</td>{{end}}{{with .LessFrost}}<td>{{signed .AUC}}</td><td class="ci">{{signed (index .AUCCI 0)}} to {{signed (index .AUCCI 1)}}</td>
<td>{{signed .UAUCNoUserBias}}</td><td class="ci">{{signed (index .UAUCNoUserBiasCI 0)}} to {{signed (index .UAUCNoUserBiasCI 1)}}</td>
<td>{{signed .NDCG10All}}</td><td class="ci">{{signed (index .NDCG10AllCI 0)}} to {{signed (index .NDCG10AllCI 1)}}</td>{{end}}</tr>
{{end}}</table>{{end}}
{{if .Seeds}}<h2>Spread over starts</h2><table><tr><th>model</th><th>rows</th><th>starts</th><th>AUC</th><th>sd</th><th>UAUC</th><th>sd</th><th>NDCG@10</th><th>sd</th></tr>
{{range .Seeds}}<tr><td>{{.Model}}</td><td>{{if .Test}}test{{else}}valid{{end}}</td><td>{{.Seeds}}</td><td>{{num .AUC.Mean}}</td><td>{{num .AUC.SD}}</td><td>{{num .UAUC.Mean}}</td><td>{{num .UAUC.SD}}</td>
<td>{{num .NDCG10All.Mean}}</td><td>{{num .NDCG10All.SD}}</td></tr>
{{end}}</table>{{end}}
<h2>Made from</h2><table>{{range $k, $v := .Manifest}}<tr><td>{{$k}}</td><td>{{$v}}</td></tr>{{end}}</table>
<p><small>{{range $k, $v := .Timing}}{{$k}} {{num $v}}; {{end}}</small></p>
</body></html>
`))
