package generator

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// linearLLM is an LLM whose logit is bias + g_i.o for the top layer's output o, with a gradient of each item near a common one.
type linearLLM struct {
	at      map[string]int
	answers [][]float32
	g       [][]float32
	bias    []float32
	slot    corastream.Slot
}

func (l *linearLLM) logit(prompt corastream.Prompt, w corastream.Weights, p *corastream.Projection) float32 {
	i := l.at[prompt.ItemID]
	return l.bias[i] + p.Scale()*kernels.Dot(w.User, l.answers[i])*kernels.Dot(p.P[l.slot], l.g[i])
}

func (l *linearLLM) backward(_ context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection, labels []float32) (*corastream.Gradients, error) {
	dp := make([]float32, len(l.g[0]))
	out := &corastream.Gradients{DP: map[corastream.Slot][]float32{l.slot: dp}}
	for k, prompt := range prompts {
		s := l.logit(prompt, w[k], p)
		i := l.at[prompt.ItemID]
		slope := float32(1/(1+math.Exp(-float64(s)))) - labels[k]
		kernels.Axpy(slope*p.Scale()*kernels.Dot(w[k].User, l.answers[i])/float32(len(prompts)), l.g[i], dp)
		out.Scores = append(out.Scores, s)
	}
	return out, nil
}

// The weights have an LLM that is linear in its top layer move each item's logit by v_u.C_i, but for what the decoder misses and for how
// far the item's gradient is from the mean. Logits lie far from 0 on both sides, where a careless slope would vanish.
func TestListWeightsMoveTheLogitByTheCode(t *testing.T) {
	const items, hidden, width, out = 300, 40, 6, 24
	r := rand.New(rand.NewPCG(2, 2))
	normal := func(n int, scale float64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64() * scale)
		}
		return v
	}
	l := &linearLLM{at: map[string]int{}, slot: corastream.Slot{Layer: 3, Target: corastream.TargetO}}
	common, base := normal(out, 1), normal(hidden, .02)
	var prompts []corastream.Prompt
	for i := range items {
		id := string(rune('a'+i/26)) + string(rune('a'+i%26))
		l.at[id] = i
		prompts = append(prompts, corastream.Prompt{ItemID: id})
		a := normal(hidden, 1)
		kernels.Axpy(1, base, a)
		g := normal(out, .05)
		kernels.Axpy(1, common, g)
		l.answers, l.g, l.bias = append(l.answers, a), append(l.g, g), append(l.bias, float32(r.NormFloat64()*12))
	}
	coder, err := FitCoder(l.answers, width)
	if err != nil {
		t.Fatal(err)
	}
	codes := make([][]float32, items)
	for i, a := range l.answers {
		if codes[i], err = coder.Code(a); err != nil {
			t.Fatal(err)
		}
	}
	w, err := FitListWeights(t.Context(), l.backward, l.slot, out, prompts, l.answers, codes)
	if err != nil {
		t.Fatal(err)
	}
	if w.R2 < .95 || w.Cosine < .99 {
		t.Errorf("R2 %v, cosine %v", w.R2, w.Cosine)
	}
	var missed, all float64
	for range 20 {
		v := normal(width, 1)
		user := corastream.Weights{Hidden: hidden, Rank: 1, User: w.User(v)}
		for i, p := range prompts {
			want := float64(kernels.Dot(v, codes[i]))
			got := float64(l.logit(p, user, w.Projection) - l.bias[i])
			missed += (got - want) * (got - want)
			all += want * want
		}
	}
	share := math.Sqrt(missed / all)
	t.Logf("R2 %.4f, cosine %.4f, differ by %.4f", w.R2, w.Cosine, share)
	if share > .1 { // measured: .054, of gradients that differ by .05 of their length and a decoder of R2 .998
		t.Errorf("the logits differ from v_u.C_i by %.4f of their size", share)
	}
	if _, err := FitListWeights(t.Context(), l.backward, l.slot, out, prompts[:5], l.answers, codes); err == nil {
		t.Error("five prompts for 300 states were taken")
	}
}
