package train

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/corastream/corastream/generator"
)

func smallSpec(kind, inputs string) generator.Spec {
	s := generator.DefaultSpec()
	s.Kind, s.Inputs, s.Linear = kind, inputs, inputs == generator.InputsUser
	s.Hidden, s.Rank, s.Layers, s.Taste, s.Factors, s.Width = 6, 3, 2, 3, 2, 5
	s.QFormer = generator.QFormerSpec{Queries: 3, Layers: 2, Heads: 2}
	return s
}

func kindsAndInputs(t *testing.T, f func(t *testing.T, s generator.Spec)) {
	for _, kind := range []string{generator.KindMLP, generator.KindQFormer} {
		for _, inputs := range []string{generator.InputsUser, generator.InputsPaper} {
			t.Run(kind+"/"+inputs, func(t *testing.T) { f(t, smallSpec(kind, inputs)) })
		}
	}
}

func normal(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// stirred is a model whose every trained tensor has values, so that no gradient is zero by its start.
func stirred(t *testing.T, s generator.Spec) *generator.Model {
	t.Helper()
	m, err := generator.NewModel(s, 7)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	for _, p := range m.Params {
		if p.Group != generator.Fixed {
			for i := range p.Data {
				p.Data[i] += float32(0.3 * r.NormFloat64())
			}
		}
	}
	return m
}

// TestServingForwardIsTheTrainedForward: what serving computes with kernels is what gorgonia differentiates, in every run.
func TestServingForwardIsTheTrainedForward(t *testing.T) {
	kindsAndInputs(t, func(t *testing.T, s generator.Spec) {
		const rows = 4
		m := stirred(t, s)
		before := m.Params.Clone()
		gr, _, err := newGraph(m, rows)
		if err != nil {
			t.Fatal(err)
		}
		defer gr.close()
		r := rand.New(rand.NewPCG(1, 2))
		in, lin := m.Inputs()
		for run := range 3 {
			x, l, up := normal(r, rows*in), normal(r, rows*lin), normal(r, rows*s.Size())
			if err := gr.run(x, l, up); err != nil {
				t.Fatal(err)
			}
			want := make([]float32, rows*s.Size())
			m.Forward(want, x, l, rows)
			got := gr.weights.Data().([]float32)
			for i := range want {
				// Measured: 6e-7 at most over 20 seeds.
				if d := math.Abs(float64(got[i] - want[i])); !(d <= 2e-6*(1+math.Abs(float64(want[i])))) {
					t.Fatalf("run %d, value %d: gorgonia %v, serving %v", run, i, got[i], want[i])
				}
			}
			for i, p := range m.Params {
				for j := range p.Data {
					if p.Data[j] != before[i].Data[j] {
						t.Fatalf("run %d changed %s[%d]", run, p.Name, j)
					}
				}
			}
		}
	})
}

// TestGradientsAgreeWithFiniteDifferences holds gorgonia's gradient of sum(W_A * D), in its third run, against central
// differences of the serving forward, for some entries of every tensor.
func TestGradientsAgreeWithFiniteDifferences(t *testing.T) {
	kindsAndInputs(t, func(t *testing.T, s generator.Spec) {
		const rows = 4
		m := stirred(t, s)
		gr, grads, err := newGraph(m, rows)
		if err != nil {
			t.Fatal(err)
		}
		defer gr.close()
		r := rand.New(rand.NewPCG(5, 6))
		in, lin := m.Inputs()
		var x, l, up []float32
		for range 3 {
			x, l, up = normal(r, rows*in), normal(r, rows*lin), normal(r, rows*s.Size())
			if err := gr.run(x, l, up); err != nil {
				t.Fatal(err)
			}
		}
		cost := func() float64 {
			w := make([]float32, rows*s.Size())
			m.Forward(w, x, l, rows)
			var sum float64
			for i := range w {
				sum += float64(w[i]) * float64(up[i])
			}
			return sum
		}
		for i, p := range m.Params {
			if p.Group == generator.Fixed {
				continue
			}
			for range 6 {
				j := r.IntN(len(p.Data))
				v := p.Data[j]
				slope := func(h float32) float64 {
					p.Data[j] = v + h
					up := cost()
					p.Data[j] = v - h
					down := cost()
					p.Data[j] = v
					return (up - down) / (2 * float64(h))
				}
				// Richardson: the cubic term cancels, so that the step may be large against float32's noise.
				want, got := (4*slope(1.0/256)-slope(1.0/128))/3, float64(grads[i][j])
				if !(math.Abs(want-got) <= 0.01*(0.1+math.Abs(want))) {
					t.Errorf("%s[%d]: gorgonia %v, differences %v", p.Name, j, got, want)
				}
			}
		}
	})
}

func BenchmarkGraph(b *testing.B) {
	for _, kind := range []string{generator.KindMLP, generator.KindQFormer} {
		b.Run(fmt.Sprintf("%s/32 rows", kind), func(b *testing.B) {
			s := generator.DefaultSpec()
			s.Kind, s.Hidden = kind, 576
			m, err := generator.NewModel(s, 1)
			if err != nil {
				b.Fatal(err)
			}
			gr, _, err := newGraph(m, 32)
			if err != nil {
				b.Fatal(err)
			}
			defer gr.close()
			in, lin := m.Inputs()
			r := rand.New(rand.NewPCG(1, 2))
			x, l, up := normal(r, 32*in), normal(r, 32*lin), normal(r, 32*s.Size())
			for b.Loop() {
				if err := gr.run(x, l, up); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
