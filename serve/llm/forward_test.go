package llm

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/corastream/corastream"
)

// score of the oracle: logits of " Yes" and " No" of every prompt.
func oracleScore(t testing.TB, m *Model, o *oracle, ps []corastream.Prompt, ws []corastream.Weights, p *corastream.Projection) [][2]float64 {
	yes, _ := m.prompts.tok.ID(" Yes")
	no, _ := m.prompts.tok.ID(" No")
	out := make([][2]float64, len(ps))
	for i := range ps {
		ts, err := m.prompts.render(ps[i])
		if err != nil {
			t.Fatal(err)
		}
		var d *oracleDelta
		if ws != nil {
			from := map[corastream.Adapt]int{corastream.AdaptAll: 0, corastream.AdaptSuffix: ts.title, corastream.AdaptLast: len(ts.ids) - 1}
			d = deltaOf(ws[i], p, from[p.Adapt])
		}
		tr := o.forward(ts.ids, d)
		out[i] = [2]float64{o.logit(tr, int(yes)), o.logit(tr, int(no))}
	}
	return out
}

// compare returns the largest difference and how far the oracle's answers spread.
func compare(got []corastream.Logits, want [][2]float64) (worst, spread float64) {
	lo, hi := math.Inf(1), math.Inf(-1)
	for i, w := range want {
		worst = max(worst, math.Abs(float64(got[i].Yes)-w[0]), math.Abs(float64(got[i].No)-w[1]))
		lo, hi = min(lo, w[0]), max(hi, w[0])
	}
	return worst, hi - lo
}

// Scores in every adapt mode, through caches and shared prefixes, are those of a plain forward pass with the delta at those
// positions alone. Measured: the largest difference is 8e-6 of the spread of the logits (float32 noise).
func TestScoreEqualsPlainForward(t *testing.T) {
	numbers(t)
	for _, s := range []shape{tinyLlama, tinyQwen, tinyGemma, tinyGemmaWide, tinyQwen3, tinyBiased} {
		for _, adapt := range []corastream.Adapt{corastream.AdaptAll, corastream.AdaptSuffix, corastream.AdaptLast} {
			for _, history := range []bool{false, true} {
				for lowest := range s.layers {
					t.Run(fmt.Sprintf("%s-%d/%s/history=%v/lowest=%d", s.arch, s.hidden, adapt, history, lowest), func(t *testing.T) {
						m := s.open(t)
						ps, ws := pairs(m, 12, 3, 4, history, 9)
						p := project(m, 4, adapt, lowest, allTargets, 11)
						want := oracleScore(t, m, newOracle(t, m), ps, ws, p)
						for range 2 { // the second time from the cache
							got, err := m.Score(context.Background(), ps, ws, p)
							if err != nil {
								t.Fatal(err)
							}
							if worst, spread := compare(got, want); worst > 2.5e-5*spread || spread < 1 {
								t.Fatalf("largest difference %g, spread %g", worst, spread)
							}
						}
					})
				}
			}
		}
	}
}
