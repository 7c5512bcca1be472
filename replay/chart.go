package replay

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// Charts are drawn here as inline SVG, so that a report is one file. Colours are classes of the page's style sheet (s0 to s9), so
// that they follow the reader's light or dark theme. Text in them is ours, a number, or escaped.

// frame is a chart's coordinate system.
type frame struct {
	b                        strings.Builder
	width, height            float64
	left, right, top, bottom float64
	x0, x1, y0, y1           float64
}

func newFrame(label string, width, height float64) *frame {
	f := &frame{width: width, height: height, left: 48, right: 14, top: 10, bottom: 30}
	fmt.Fprintf(&f.b, `<svg viewBox="0 0 %g %g" width="%g" role="img" aria-label="%s">`, width, height, width, template.HTMLEscapeString(label))
	return f
}

func (f *frame) x(v float64) float64 {
	return f.left + (f.width-f.left-f.right)*(v-f.x0)/(f.x1-f.x0)
}

func (f *frame) y(v float64) float64 {
	return f.top + (f.height-f.top-f.bottom)*(f.y1-v)/(f.y1-f.y0)
}

// rangeY sets the vertical range to hold lo..hi and some air.
func (f *frame) rangeY(lo, hi float64) {
	if air := (hi - lo) * 0.06; air > 0 {
		lo, hi = lo-air, hi+air
	} else {
		lo, hi = lo-0.01, hi+0.01
	}
	f.y0, f.y1 = lo, hi
}

// ticks are at most n+1 round values within lo..hi.
func ticks(lo, hi float64, n int) (out []float64, digits int) {
	if !(hi > lo) {
		return nil, 0
	}
	step := math.Pow(10, math.Floor(math.Log10((hi-lo)/float64(n))))
	for _, k := range []float64{1, 2, 5, 10} {
		if (hi-lo)/(step*k) <= float64(n) {
			step *= k
			break
		}
	}
	for k := math.Ceil(lo/step - 1e-9); k*step <= hi+1e-9*step; k++ {
		out = append(out, k*step)
	}
	return out, max(0, int(math.Ceil(-math.Log10(step)-1e-9)))
}

func (f *frame) gridY(name string) {
	at, digits := ticks(f.y0, f.y1, 6)
	for _, v := range at {
		fmt.Fprintf(&f.b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="end" x="%.1f" y="%.1f">%.*f</text>`,
			f.left, f.width-f.right, f.y(v), f.y(v), f.left-6, f.y(v)+4, digits, v+0)
	}
	fmt.Fprintf(&f.b, `<text class="mid axis" transform="translate(12 %.1f) rotate(-90)">%s</text>`, (f.height-f.bottom+f.top)/2, name)
}

func (f *frame) gridX(name string, most int) {
	at, digits := ticks(f.x0, f.x1, most)
	for _, v := range at {
		fmt.Fprintf(&f.b, `<line class="grid" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/><text class="mid" x="%.1f" y="%.1f">%.*f</text>`,
			f.x(v), f.x(v), f.top, f.height-f.bottom, f.x(v), f.height-f.bottom+14, digits, v+0)
	}
	f.axisX(name)
}

func (f *frame) axisX(name string) {
	fmt.Fprintf(&f.b, `<text class="mid axis" x="%.1f" y="%.1f">%s</text>`, (f.left+f.width-f.right)/2, f.height-2, name)
}

func (f *frame) labelX(at float64, text string) {
	fmt.Fprintf(&f.b, `<text class="mid" x="%.1f" y="%.1f">%s</text>`, f.x(at), f.height-f.bottom+14, template.HTMLEscapeString(text))
}

// line draws a polyline with a dot and its value at every point; NaN breaks it.
func (f *frame) line(colour int, xs, ys []float64, tell func(i int) string) {
	var run []string
	flush := func() {
		if len(run) > 1 {
			fmt.Fprintf(&f.b, `<polyline class="line s%d" points="%s"/>`, colour%10, strings.Join(run, " "))
		}
		run = nil
	}
	for i := range xs {
		if math.IsNaN(ys[i]) {
			flush()
			continue
		}
		run = append(run, fmt.Sprintf("%.1f,%.1f", f.x(xs[i]), f.y(ys[i])))
	}
	flush()
	for i := range xs {
		if !math.IsNaN(ys[i]) {
			fmt.Fprintf(&f.b, `<circle class="dot s%d" cx="%.1f" cy="%.1f" r="2.6"><title>%s</title></circle>`, colour%10, f.x(xs[i]), f.y(ys[i]), template.HTMLEscapeString(tell(i)))
		}
	}
}

func (f *frame) end() template.HTML { return template.HTML(f.b.String() + "</svg>") }

// bounds of the numbers among v.
func boundsOf(v ...float64) (lo, hi float64, ok bool) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for _, x := range v {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			lo, hi = min(lo, x), max(hi, x)
		}
	}
	return lo, hi, lo <= hi
}

// interval of a forest plot.
type whisker struct {
	name   string
	colour int
	at     Number
	ci     Range
}

// forest draws intervals one under another. With zero, the line of no difference is drawn, and what does not touch it is solid.
func forest(label string, rows []whisker, zero bool) template.HTML {
	if len(rows) == 0 {
		return ""
	}
	var all []float64
	for _, r := range rows {
		all = append(all, float64(r.at), float64(r.ci[0]), float64(r.ci[1]))
	}
	if zero {
		all = append(all, 0)
	}
	lo, hi, ok := boundsOf(all...)
	if !ok {
		return ""
	}
	const pitch = 24.0
	f := newFrame(label, 720, 44+pitch*float64(len(rows)))
	f.left = 170
	f.rangeY(lo, hi)
	f.x0, f.x1 = f.y0, f.y1
	f.y0, f.y1 = float64(len(rows)), 0
	f.gridX(label+", 95 % interval", 7)
	if zero {
		fmt.Fprintf(&f.b, `<line class="zero" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, f.x(0), f.x(0), f.top, f.height-f.bottom)
	}
	for i, r := range rows {
		y := f.top + pitch*(float64(i)+0.5)
		fmt.Fprintf(&f.b, `<text class="end name" x="%.1f" y="%.1f">%s</text>`, f.left-10, y+4, template.HTMLEscapeString(r.name))
		if math.IsNaN(float64(r.at)) {
			continue
		}
		open := ""
		if zero && !(r.ci[0] > 0 || r.ci[1] < 0) {
			open = " open"
		}
		fmt.Fprintf(&f.b, `<g class="whisker s%d%s"><title>%s: %s</title>`, r.colour%10, open, template.HTMLEscapeString(r.name), withRange(r.at, r.ci))
		if !math.IsNaN(float64(r.ci[0])) {
			fmt.Fprintf(&f.b, `<line x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, f.x(float64(r.ci[0])), f.x(float64(r.ci[1])), y, y)
		}
		fmt.Fprintf(&f.b, `<circle cx="%.1f" cy="%.1f" r="4.5"/></g>`, f.x(float64(r.at)), y)
	}
	return f.end()
}

// timeChart is AUC over the windows of the rows.
func timeChart(models []string, figures map[string]Figures) template.HTML {
	var all []float64
	n := 0
	for _, m := range models {
		if q := figures[m].Quality; q != nil {
			n = max(n, len(q.Curve))
			for _, w := range q.Curve {
				all = append(all, float64(w.AUC))
			}
		}
	}
	lo, hi, ok := boundsOf(all...)
	if !ok || n < 2 {
		return ""
	}
	f := newFrame("AUC over time", 900, 320)
	f.x0, f.x1 = 0, float64(n-1)
	f.rangeY(lo, hi)
	f.right = 40
	days := "Jan 2 2006"
	curve := figures[models[0]].Quality.Curve
	if last := curve[n-1].Until; last.Sub(curve[0].Until).Hours() < 72 {
		days = "Jan 2 15:04"
	}
	before := ""
	for k := range 6 {
		i := k * (n - 1) / 5
		if text := curve[i].Until.UTC().Format(days); text != before {
			f.labelX(float64(i), text)
			before = text
		}
	}
	f.gridY("AUC")
	f.axisX("time of each window's last row (windows hold equally many rows)")
	for c, m := range models {
		q := figures[m].Quality
		if q == nil {
			continue
		}
		xs, ys := make([]float64, len(q.Curve)), make([]float64, len(q.Curve))
		for i, w := range q.Curve {
			xs[i], ys[i] = float64(i), float64(w.AUC)
		}
		f.line(c, xs, ys, func(i int) string {
			w := q.Curve[i]
			return fmt.Sprintf("%s: %v on %d rows until %s", m, w.AUC, w.Rows, w.Until.UTC().Format("2006-01-02 15:04"))
		})
	}
	return f.end()
}

// reliability is a model's diagram: what it said against what came, a dot's area being its rows.
func reliability(model string, colour int, q *Quality) template.HTML {
	if q == nil || len(q.Calibration) == 0 {
		return ""
	}
	f := newFrame("calibration of "+model, 280, 280)
	f.x0, f.x1, f.y0, f.y1 = 0, 1, 0, 1
	f.gridY("liked")
	f.gridX("said", 6)
	fmt.Fprintf(&f.b, `<line class="zero" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, f.x(0), f.y(0), f.x(1), f.y(1))
	most := 0
	var xs, ys []float64
	for _, b := range q.Calibration {
		most = max(most, b.Rows)
		if b.Rows > 0 {
			xs, ys = append(xs, float64(b.Said)), append(ys, float64(b.Came))
		}
	}
	f.line(colour, xs, ys, func(int) string { return "" })
	for _, b := range q.Calibration {
		if b.Rows > 0 {
			fmt.Fprintf(&f.b, `<circle class="area s%d" cx="%.1f" cy="%.1f" r="%.1f"><title>said %v, came %v, %d rows</title></circle>`, colour%10,
				f.x(float64(b.Said)), f.y(float64(b.Came)), 3+9*math.Sqrt(float64(b.Rows)/float64(most)), b.Said, b.Came, b.Rows)
		}
	}
	return f.end()
}

// freshGain is what a delay's chart shows: NDCG@10 less frozen, or AUC where nothing was ranked.
func freshGain(d *Difference) (Number, Range) {
	if math.IsNaN(float64(d.NDCG10)) {
		return d.AUC, d.AUCCI
	}
	return d.NDCG10, d.NDCG10CI
}

// freshChart is what each label delay is worth against learning nothing after train.
func freshChart(models []string, fresh []Fresh, test bool) template.HTML {
	var delays []string
	var all []float64
	label := "AUC less frozen"
	for _, f := range fresh {
		if f.Test == test && f.LessFrost != nil {
			known := false
			for _, d := range delays {
				known = known || d == f.Delay
			}
			if !known {
				delays = append(delays, f.Delay)
			}
			gain, ci := freshGain(f.LessFrost)
			all = append(all, float64(gain), float64(ci[0]), float64(ci[1]))
			if !math.IsNaN(float64(f.LessFrost.NDCG10)) {
				label = "NDCG@10 less frozen"
			}
		}
	}
	lo, hi, ok := boundsOf(append(all, 0)...)
	if !ok || len(delays) == 0 {
		return ""
	}
	f := newFrame(label+", by label delay", 720, 280)
	f.x0, f.x1 = -0.5, float64(len(delays))-0.5
	f.rangeY(lo, hi)
	f.gridY(label)
	fmt.Fprintf(&f.b, `<line class="zero" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, f.left, f.width-f.right, f.y(0), f.y(0))
	for i, d := range delays {
		f.labelX(float64(i), d)
	}
	f.axisX("delay after which a label is learnt")
	for c, m := range models {
		var xs, ys []float64
		for i, d := range delays {
			for _, r := range fresh {
				if r.Model != m || r.Delay != d || r.Test != test || r.LessFrost == nil {
					continue
				}
				at := float64(i) + (float64(c)-float64(len(models)-1)/2)*0.5/float64(len(models))
				gain, ci := freshGain(r.LessFrost)
				xs, ys = append(xs, at), append(ys, float64(gain))
				if !math.IsNaN(float64(ci[0])) {
					fmt.Fprintf(&f.b, `<line class="line s%d" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, c%10, f.x(at), f.x(at), f.y(float64(ci[0])), f.y(float64(ci[1])))
				}
			}
		}
		f.line(c, xs, ys, func(i int) string { return fmt.Sprintf("%s: %+.4f", m, ys[i]) })
	}
	return f.end()
}
