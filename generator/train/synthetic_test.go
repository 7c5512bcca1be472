package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// linearLLM is a differentiable stand-in with the mathematics of an adapted last layer: each item has frozen states x at
// every adapted slot, and Yes = base + scale * sum over slots of readout . P^T (W_A^T x).
type linearLLM struct {
	hidden, layers int
	out            map[corastream.Target]int
	x              map[string]map[corastream.Slot][]float32
	title          map[string][]float32
	readout        map[corastream.Slot][]float32
	base           map[string]float32
	calls          int
}

const latents = 3

// world is a catalogue whose titles say what the items are, users with tastes for it, and their log.
func world(seed uint64, users, items, events int) (Data, *linearLLM) {
	r := rand.New(rand.NewPCG(seed, 9))
	llm := &linearLLM{
		hidden: 12, layers: 5, out: map[corastream.Target]int{"q": 7, "o": 12}, x: map[string]map[corastream.Slot][]float32{},
		title: map[string][]float32{}, readout: map[corastream.Slot][]float32{}, base: map[string]float32{},
	}
	slots := testSpec().Slots(llm.layers)
	mixing := map[corastream.Slot][]float32{}
	for _, s := range slots {
		llm.readout[s] = normal(r, llm.out[s.Target])
		mixing[s] = normal(r, llm.hidden*(latents+1))
	}
	titleMixing := normal(r, 2*llm.hidden*latents)
	var d Data
	var latent [][]float32
	for i := range items {
		id := fmt.Sprintf("i%d", i)
		g := normal(r, latents)
		latent = append(latent, g)
		llm.base[id] = float32(0.1*r.NormFloat64() - 1)
		llm.x[id] = map[corastream.Slot][]float32{}
		for _, s := range slots {
			llm.x[id][s] = mix(r, mixing[s], append(append([]float32(nil), g...), 1), llm.hidden)
		}
		llm.title[id] = mix(r, titleMixing, g, 2*llm.hidden)
		d.Items = append(d.Items, corastream.Item{ID: id, Title: "title of " + id})
	}
	type person struct {
		bias  float64
		taste []float32
	}
	people := make([]person, users)
	common := normal(r, latents)
	for u := range people {
		people[u] = person{0.5 * r.NormFloat64(), normal(r, latents)}
		for k := range common {
			people[u].taste[k] = people[u].taste[k] + common[k]
		}
	}
	start := time.Unix(1_000_000_000, 0)
	for e := range events {
		u, i := r.IntN(users), r.IntN(items)
		z := people[u].bias
		for k, t := range people[u].taste {
			z += 0.8 * float64(t*latent[i][k])
		}
		ev := corastream.Event{User: fmt.Sprintf("u%d", u), Item: fmt.Sprintf("i%d", i), Weight: 1, Time: start.Add(time.Duration(e) * time.Minute)}
		if r.Float64() < 1/(1+math.Exp(-z)) {
			ev.Label = 1
		}
		d.Train = append(d.Train, ev)
	}
	cut := events * 8 / 10
	d.Train, d.Valid = d.Train[:cut:cut], d.Train[cut:]
	return d, llm
}

func mix(r *rand.Rand, m, g []float32, rows int) []float32 {
	y := make([]float32, rows)
	for i := range y {
		for k, v := range g {
			y[i] += m[i*len(g)+k] * v
		}
		y[i] += float32(0.1 * r.NormFloat64())
	}
	return y
}

func testSpec() generator.Spec {
	s := generator.DefaultSpec()
	s.Hidden, s.Rank, s.Layers, s.Taste, s.Width = 12, 4, 2, 4, 8
	s.Targets = []corastream.Target{"q", "o"}
	s.QFormer = generator.QFormerSpec{Queries: 2, Layers: 1, Heads: 2}
	return s
}

func (l *linearLLM) Encode(_ context.Context, items []corastream.Item) ([]corastream.States, error) {
	out := make([]corastream.States, len(items))
	for i, it := range items {
		out[i].Title = l.title[it.ID]
		for layer := l.layers - 2; layer < l.layers; layer++ {
			out[i].Answer = append(out[i].Answer, l.x[it.ID][corastream.Slot{Layer: layer, Target: "o"}])
		}
	}
	return out, nil
}

func (l *linearLLM) Score(_ context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection) ([]corastream.Logits, error) {
	out := make([]corastream.Logits, len(prompts))
	for i := range prompts {
		out[i] = corastream.Logits{Yes: l.logit(prompts[i], w[i], p) + 0.5, No: 0.5}
	}
	return out, nil
}

func (l *linearLLM) logit(prompt corastream.Prompt, w corastream.Weights, p *corastream.Projection) float32 {
	z := l.base[prompt.ItemID]
	for _, s := range testSpec().Slots(l.layers) {
		low, x := make([]float32, w.Rank), l.x[prompt.ItemID][s]
		for h, v := range x {
			for k := range low {
				low[k] += v * w.User[h*w.Rank+k]
			}
		}
		for k, v := range low {
			for o, r := range l.readout[s] {
				z += p.Scale() * v * p.P[s][k*len(l.readout[s])+o] * r
			}
		}
	}
	return z
}

func (l *linearLLM) Backward(_ context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection, labels []float32) (*corastream.Gradients, error) {
	l.calls++
	n := float32(len(prompts))
	g := &corastream.Gradients{DP: map[corastream.Slot][]float32{}}
	slots := testSpec().Slots(l.layers)
	for _, s := range slots {
		g.DP[s] = make([]float32, len(p.P[s]))
	}
	for i := range prompts {
		z := float64(l.logit(prompts[i], w[i], p))
		y := float64(labels[i])
		prob := 1 / (1 + math.Exp(-z))
		g.Scores = append(g.Scores, float32(z))
		g.Loss -= float32(y*math.Log(prob)+(1-y)*math.Log(1-prob)) / n
		dz := float32(prob-y) / n
		dw := make([]float32, len(w[i].User))
		for _, s := range slots {
			x, out := l.x[prompts[i].ItemID][s], len(l.readout[s])
			for k := range w[i].Rank {
				var down, low float32
				for o, r := range l.readout[s] {
					down += p.P[s][k*out+o] * r
				}
				for h, v := range x {
					dw[h*w[i].Rank+k] += dz * p.Scale() * v * down
					low += v * w[i].User[h*w[i].Rank+k]
				}
				for o, r := range l.readout[s] {
					g.DP[s][k*out+o] += dz * p.Scale() * low * r
				}
			}
		}
		g.DW = append(g.DW, dw)
	}
	return g, nil
}

// sgdCF is a small hybrid: z = mu + b_u + b_i + (w + t_u) . c_i by plain gradient steps.
type sgdCF struct{ m int }

func (c sgdCF) vec(e *corastream.Embedding) []float32 {
	if e.Vec == nil {
		e.Vec = make([]float32, c.m)
	}
	return e.Vec
}

func (c sgdCF) Learn(s corastream.State, ev corastream.Event) error {
	pair, err := corastream.PairOf(s, c, ev.User, ev.Item)
	if err != nil {
		return err
	}
	step := 0.05 * (ev.Label - float32(1/(1+math.Exp(-float64(pair.Logit())))))
	shared, _ := s.Shared()
	u, _ := s.User(ev.User)
	it, _ := s.Item(ev.Item)
	shared.Bias += 0.1 * step
	u.Bias += step
	it.Embedding.Bias += step
	for k, v := range it.Content {
		c.vec(shared)[k] += 0.3 * step * v
		c.vec(&u.Embedding)[k] += step * v
	}
	u.Version++
	it.Version++
	return nil
}

func (c sgdCF) UserVector(s corastream.State, u *corastream.UserState) (corastream.Embedding, error) {
	shared, err := s.Shared()
	if err != nil {
		return corastream.Embedding{}, err
	}
	t := append([]float32(nil), c.vec(&u.Embedding)...)
	for k, v := range c.vec(shared) {
		t[k] += v
	}
	return corastream.Embedding{Vec: t, Bias: u.Bias, Version: u.Version}, nil
}

func (c sgdCF) ItemVector(_ corastream.State, it *corastream.ItemState) (corastream.Embedding, error) {
	v := make([]float32, c.m)
	copy(v, it.Content)
	return corastream.Embedding{Vec: v, Bias: it.Embedding.Bias, Version: it.Version}, nil
}

func depsFor(llm *linearLLM) Deps {
	return Deps{
		LLM: LLM{
			Digest: "llm", Template: "template", Hidden: llm.hidden, Layers: llm.layers,
			In: map[corastream.Target]int{"q": llm.hidden, "o": llm.hidden}, Out: llm.out,
		},
		Encoder: llm, Backprop: llm, Scorer: llm, CFDigest: "cf",
		NewCF: func() (CF, error) { return sgdCF{testSpec().Taste}, nil },
	}
}

func testConfig() Config {
	c := Default()
	c.Spec = testSpec()
	c.Passes, c.Batch, c.WarmUp, c.Warm, c.Rate = 3, 16, 10, 0.4, 3e-3
	return c
}
