package llm

import (
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/corastream/corastream"
)

// CORASTREAM_GRADIENTS_OUT names a file that .ci/reference/gradients.py reads: pairs of the model CORASTREAM_LLM, in float32, with
// random weights, and the loss and gradients that Backward gives. The script asks PyTorch's autograd for the same.
func TestWriteGradientsForTheReference(t *testing.T) {
	path := os.Getenv("CORASTREAM_GRADIENTS_OUT")
	if path == "" {
		t.Skip("set CORASTREAM_GRADIENTS_OUT to the file to write, for .ci/reference/gradients.py")
	}
	m := realModel(t)
	type slot struct {
		Layer  int
		Target corastream.Target
		P, DP  []float32
	}
	type row struct {
		Tokens  []int32
		From    int // the first adapted token
		Label   float32
		W, DW   []float32 // [hidden][rank]
		Yes, No int32
	}
	type batch struct {
		Adapt corastream.Adapt
		Rank  int
		Alpha float32
		Loss  float32
		Rows  []row
		Slots []slot
	}
	var out []batch
	labels := []float32{1, 0, .25}
	for _, adapt := range []corastream.Adapt{corastream.AdaptAll, corastream.AdaptSuffix, corastream.AdaptLast} {
		const rank = 4
		ps, ws := pairs(m, len(labels), 2, rank, false, 5)
		p := project(m, rank, adapt, m.arch.layers-8, allTargets, 7)
		g, err := m.Backward(context.Background(), ps, ws, p, labels)
		if err != nil {
			t.Fatal(err)
		}
		b := batch{Adapt: adapt, Rank: rank, Alpha: p.Alpha, Loss: g.Loss}
		for i := range ps {
			r, err := m.Render(ps[i])
			if err != nil {
				t.Fatal(err)
			}
			from := map[corastream.Adapt]int{corastream.AdaptSuffix: r.Title, corastream.AdaptLast: len(r.Tokens) - 1}[adapt]
			dense := make([]float32, len(ws[i].User))
			ws[i].Dense(dense)
			b.Rows = append(b.Rows, row{r.Tokens, from, labels[i], dense, g.DW[i], r.Yes, r.No})
		}
		for s, v := range p.P {
			b.Slots = append(b.Slots, slot{s.Layer, s.Target, v, g.DP[s]})
		}
		out = append(out, b)
	}
	data, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
