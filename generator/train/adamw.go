package train

import (
	"math"

	"github.com/corastream/corastream/generator"
)

// adamw is AdamW (Loshchilov and Hutter 2019) over named slices, one pass over memory for each.
type adamw struct {
	slots []*slot
	step  int
}

// slot is one trained slice with its gradient and moments.
type slot struct {
	name          string
	data, grad    []float32
	first, second []float32
	rate, decay   float64
}

const (
	beta1   = 0.9
	beta2   = 0.999
	adamEps = 1e-8
)

func (o *adamw) add(name string, group generator.Group, data, grad []float32, cfg *Config) {
	s := &slot{
		name: name, data: data, grad: grad, first: make([]float32, len(data)), second: make([]float32, len(data)),
		rate: cfg.Rate, decay: cfg.Decay,
	}
	switch group {
	case generator.LinearPath:
		s.rate = cfg.LinearRate
	case generator.Scalar:
		s.decay = 0
	}
	o.slots = append(o.slots, s)
}

// length of the whole gradient.
func (o *adamw) length() float64 {
	var sum float64
	for _, s := range o.slots {
		for _, g := range s.grad {
			sum += float64(g) * float64(g)
		}
	}
	return math.Sqrt(sum)
}

// update moves every slice against its gradient, scaled down to length clip; schedule multiplies the rates.
func (o *adamw) update(schedule, clip float64) {
	o.step++
	scale := float32(1)
	if l := o.length(); l > clip {
		scale = float32(clip / l)
	}
	rates, c2 := o.rates(o.step, schedule)
	for k, s := range o.slots {
		rate, keep := rates[2*k], rates[2*k+1]
		first, second, data := s.first[:len(s.grad)], s.second[:len(s.grad)], s.data[:len(s.grad)]
		for i, g := range s.grad {
			g *= scale
			m := float32(beta1)*first[i] + float32(1-beta1)*g
			v := float32(beta2)*second[i] + float32(1-beta2)*g*g
			first[i], second[i] = m, v
			data[i] = keep*data[i] - rate*m/(float32(math.Sqrt(float64(v*c2)))+adamEps)
		}
	}
}

// rates gives, for an update by number, each slice's rate and what it keeps of itself, side by side, and the second moments' factor.
func (o *adamw) rates(step int, schedule float64) (rates []float32, c2 float32) {
	c1 := 1 / (1 - math.Pow(beta1, float64(step)))
	for _, s := range o.slots {
		rates = append(rates, float32(schedule*s.rate*c1), float32(1-schedule*s.rate*s.decay))
	}
	return rates, float32(1 / (1 - math.Pow(beta2, float64(step))))
}

// schedule is a linear warm-up, then a cosine to 0 at total steps.
func schedule(step, warmUp, total int) float64 {
	if step < warmUp {
		return float64(step+1) / float64(warmUp)
	}
	if total <= warmUp {
		return 1
	}
	return 0.5 * (1 + math.Cos(math.Pi*float64(step-warmUp)/float64(total-warmUp)))
}
