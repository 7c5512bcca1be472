package llm

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/corastream/corastream"
)

// bce is the loss of one row.
func bce(z float64, y float32) float64 { return math.Log1p(math.Exp(z)) - float64(y)*z }

// Gradients of W_A and P are the slopes of the plain float64 forward pass, by central differences of 1e-5 (their own error is
// about 1e-9). Measured: largest difference 1e-5 of the largest gradient (float32 noise).
func TestGradientsEqualFiniteDifferences(t *testing.T) {
	numbers(t)
	for _, s := range []shape{tinyLlama, tinyQwen, tinyGemma, tinyGemmaWide, tinyQwen3, tinyBiased} {
		for _, adapt := range []corastream.Adapt{corastream.AdaptAll, corastream.AdaptSuffix, corastream.AdaptLast} {
			for _, history := range []bool{false, true} {
				for _, lowest := range []int{1, s.layers - 2, s.layers - 1} {
					if history && lowest == 1 || s.arch == "qwen3" && (history || lowest == 1) || s.biased && (history || lowest > 1) {
						continue // slow, and nothing new
					}
					t.Run(fmt.Sprintf("%s-%d-biased=%v/%s/history=%v/lowest=%d", s.arch, s.hidden, s.biased, adapt, history, lowest), func(t *testing.T) {
						checkGradients(t, s, adapt, history, lowest)
					})
				}
			}
		}
	}
}

func checkGradients(t *testing.T, s shape, adapt corastream.Adapt, history bool, lowest int) {
	m := s.open(t)
	ps, ws := pairs(m, 4, 2, 3, history, uint64(lowest))
	p := project(m, 3, adapt, lowest, allTargets, 13)
	labels := []float32{1, 0, .25, .7}
	g, err := m.Backward(context.Background(), ps, ws, p, labels)
	if err != nil {
		t.Fatal(err)
	}
	o := newOracle(t, m)
	yes, _ := m.prompts.tok.ID(" Yes")
	no, _ := m.prompts.tok.ID(" No")
	loss := func(i int, d *oracleDelta) float64 {
		ts, err := m.prompts.render(ps[i])
		if err != nil {
			t.Fatal(err)
		}
		d.from = map[corastream.Adapt]int{corastream.AdaptAll: 0, corastream.AdaptSuffix: ts.title, corastream.AdaptLast: len(ts.ids) - 1}[adapt]
		tr := o.forward(ts.ids, d)
		z := o.logit(tr, int(yes)) - o.logit(tr, int(no))
		return bce(z, labels[i]) / float64(len(ps))
	}
	const h = 1e-5
	slope := func(rows []int, v func(d *oracleDelta) *float64) float64 {
		var sum float64
		for _, i := range rows {
			d := deltaOf(ws[i], p, 0)
			x := v(d)
			*x += h
			up := loss(i, d)
			*x -= 2 * h
			sum += (up - loss(i, d)) / (2 * h)
		}
		return sum
	}
	var total float64
	for i := range ps {
		total += loss(i, deltaOf(ws[i], p, 0))
	}
	if math.Abs(total-float64(g.Loss)) > 1e-5*(1+total) {
		t.Errorf("loss %v, want %v", g.Loss, total)
	}
	rng := rand.New(rand.NewPCG(uint64(lowest), uint64(len(adapt))))
	var worst, top float64
	check := func(got float32, want float64) {
		worst, top = max(worst, math.Abs(float64(got)-want)), max(top, math.Abs(want))
	}
	for i := range ps {
		for range 3 {
			k := rng.IntN(len(g.DW[i]))
			check(g.DW[i][k], slope([]int{i}, func(d *oracleDelta) *float64 { return &d.a[k] }))
		}
	}
	if worst > 3e-5*top || top < 1e-4 {
		t.Errorf("dW_A: largest difference %g, largest gradient %g", worst, top)
	}
	if len(g.DP) != len(p.P) {
		t.Errorf("gradients of %d slots, want %d", len(g.DP), len(p.P))
	}
	worst, top = 0, 0
	for l := lowest; l < s.layers; l++ {
		for range 2 { // some targets of each layer; the cases together see them all many times
			targets := m.takes(allTargets)
			slot := corastream.Slot{Layer: l, Target: targets[rng.IntN(len(targets))]}
			k := rng.IntN(len(g.DP[slot]))
			check(g.DP[slot][k], slope([]int{0, 1, 2, 3}, func(d *oracleDelta) *float64 { return &d.p[slot][k] }))
		}
	}
	if worst > 3e-5*top || top < 1e-4 {
		t.Errorf("dP: largest difference %g, largest gradient %g", worst, top)
	}
}
