package llm

import (
	"math"
	"testing"

	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// tinyGolden are the scores (Yes less No) of the tiny model of Q4_1 weights, from generic Go on amd64; most is the difference allowed, of
// the scores' root mean square: three times what was measured over the levels of amd64 and, under qemu-user, of arm64. In bf16 and
// int8 another order of a sum rounds an activation of the next layer to another value.
var tinyGolden = []struct {
	numerics string
	most     float64
	scores   []float64
}{
	{"f32", 5.4e-6, []float64{-17.4902115, 4.39701986, 3.66876554}},
	{"bf16", .011, []float64{-17.6192245, 4.4336524, 3.74545002}},
	{"int8", .013, []float64{-17.8352375, 4.57720089, 3.49973488}},
}

// TestScoresOfTheTinyModelAreTheSameOnEveryLevel holds every level of the kernels, on every processor, to stored scores.
func TestScoresOfTheTinyModelAreTheSameOnEveryLevel(t *testing.T) {
	before := kernels.Level()
	defer func() { must(kernels.SetLevel(before)) }()
	for _, level := range kernels.Levels() {
		must(kernels.SetLevel(level))
		for _, g := range tinyGolden {
			o := tinyOptions()
			o.Numerics = g.numerics
			got := someScores(t, openFile(t, tinyFile(t, gguf.Q4_1), o))
			if len(got) != len(g.scores) {
				t.Errorf("%s: %d scores, not %d", g.numerics, len(got), len(g.scores))
				for _, l := range got {
					t.Logf("%.9g", float64(l.Yes-l.No))
				}
				continue
			}
			var off, size float64
			for i, l := range got {
				d := float64(l.Yes-l.No) - g.scores[i]
				off, size = max(off, math.Abs(d)), size+g.scores[i]*g.scores[i]/float64(len(got))
			}
			off /= math.Sqrt(size)
			t.Logf("%s, %s: off by at most %.2g of their size", level, g.numerics, off)
			if !(off < g.most) {
				t.Errorf("%s, %s: off by %.2g of their size, over %.2g", level, g.numerics, off, g.most)
			}
		}
	}
}
