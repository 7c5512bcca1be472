package generator

import (
	"fmt"
	"math"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// Coder makes item codes C_i [Out] for lists out of states of the frozen LLM, [In] numbers an item: standardised columns, the first Out
// principal components, each divided by the square root of its spread, and all by one number so that their root mean square
// length is 1. Whitening by half is between plain components, of which the first say all, and full whitening, which
// raises the noise of the last.
type Coder struct {
	In, Out    int
	Mean       []float32 // [In]
	Scale      []float32 // [In]
	Components []float32 // [Out][In]
}

// codeSpare keeps a column that hardly varies from being blown up: this part of the largest spread is added to each.
const codeSpare = 1e-3

// FitCoder fits codes of out numbers to the answer states of a catalogue, rows of one width. Deterministic.
func FitCoder(answers [][]float32, out int) (*Coder, error) {
	n := len(answers)
	if n < 2 {
		return nil, fmt.Errorf("fit item codes: %d items span nothing", n)
	}
	d := len(answers[0])
	out = min(out, d, n-1)
	c := &Coder{In: d, Out: out, Mean: make([]float32, d), Scale: make([]float32, d), Components: make([]float32, out*d)}
	mean, spread := make([]float64, d), make([]float64, d)
	for r, a := range answers {
		if len(a) != d {
			return nil, fmt.Errorf("fit item codes: state %d has %d numbers, the first has %d", r, len(a), d)
		}
		for i, v := range a {
			mean[i] += float64(v) / float64(n)
		}
	}
	top := 0.0
	for _, a := range answers {
		for i, v := range a {
			x := float64(v) - mean[i]
			spread[i] += float64(x*x) / float64(n)
		}
	}
	for i := range spread {
		spread[i] = math.Sqrt(spread[i])
		if math.IsNaN(spread[i]) || math.IsInf(spread[i], 0) {
			return nil, fmt.Errorf("fit item codes: number %d of the answer states is not finite", i)
		}
		top = max(top, spread[i])
	}
	if !(top > 0) {
		return nil, fmt.Errorf("fit item codes: all %d answer states are equal", n)
	}
	for i := range spread {
		c.Mean[i], c.Scale[i] = float32(mean[i]), float32(1/(spread[i]+float64(codeSpare*top)))
	}
	x := make([]float32, n*d)
	for r, a := range answers {
		for i, v := range a {
			x[r*d+i] = (v - c.Mean[i]) * c.Scale[i]
		}
	}
	cov := make([]float32, d*d)
	kernels.Gemm(cov, d, x, d, x, d, d, d, n, true, false, false)
	kernels.Scale(1/float32(n), cov)
	values, vectors, err := topComponents(cov, d, out)
	if err != nil {
		return nil, err
	}
	total := 0.0
	for _, v := range values {
		total += math.Sqrt(max(v, 0))
	}
	rms := math.Sqrt(total)
	for j := range out {
		top := 0.0
		for i := range d {
			if v := vectors.At(i, j); math.Abs(v) > math.Abs(top) {
				top = v
			}
		}
		f := math.Copysign(1/(math.Sqrt(math.Sqrt(max(values[j], 1e-12)))*rms), top)
		for i := range d {
			c.Components[j*d+i] = float32(vectors.At(i, j) * f)
		}
	}
	return c, nil
}

// Code is C_i of an answer state, on the grid of corastream.QuantizeContent, so that equal states give equal bytes.
func (c *Coder) Code(answer []float32) ([]float32, error) {
	if len(answer) != c.In {
		return nil, fmt.Errorf("%w: an answer state of %d numbers, the codes were made for %d", corastream.ErrMismatch, len(answer), c.In)
	}
	x := make([]float64, c.In)
	for i, v := range answer {
		x[i] = (float64(v) - float64(c.Mean[i])) * float64(c.Scale[i])
	}
	out := make([]float32, c.Out)
	for j := range out {
		var sum float64
		for i, w := range c.Components[j*c.In : (j+1)*c.In] {
			sum += float64(x[i] * float64(w))
		}
		out[j] = float32(sum)
	}
	corastream.QuantizeContent(out)
	return out, nil
}

// Sound says that the parts fit together, as after a file was read.
func (c *Coder) Sound() bool {
	return c.In > 0 && c.Out > 0 && len(c.Mean) == c.In && len(c.Scale) == c.In && len(c.Components) == c.In*c.Out
}
