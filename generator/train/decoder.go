package train

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// ridgeRows is the number of rows that Config.Ridge is stated for.
const ridgeRows = 6000

// startLinear sets the linear path to a decoder of the LLM's states: column j of W_A becomes
// M_j[:, :m] t + M_j[:, m] (mu+b_u+b_i), where the blocks M_j [hidden][m+1], one for each adapted layer, come from one ridge
// regression of [c_i, 1] on the o-projection's inputs (States.Answer: those of gate and up where o's are not hidden wide) at the
// answer token of those layers, side by side. The blocks add up to
// the read-out, so that sum_j A_j^T o_j is about z_h. No label is used. Items weigh by how often the rows name them.
// Returned is the share of the contents' variance that it explains, on the items it was fitted to.
func (r *runner) startLinear(rows []row) (float64, error) {
	spec := &r.model.Spec
	n, h, m := spec.Layers, spec.Hidden, spec.Taste
	counts := map[string]float64{}
	for i := range rows {
		counts[rows[i].pair.ItemID]++
	}
	var weights []float64
	var states []corastream.States
	var contents [][]float32
	for i, it := range r.items {
		if it.Content != nil {
			weights = append(weights, counts[it.ID]+1) // an item nobody has named yet shall be read as well
			states, contents = append(states, r.states[i]), append(contents, it.Content)
		}
	}
	x, scale, err := designMatrix(states, weights, n, h)
	if err != nil {
		return 0, err
	}
	coef, fit, err := ridge(x, contents, weights, n*h, m, r.cfg.Ridge)
	if err != nil {
		return 0, err
	}
	lin := r.model.Params.Get("lin.weight").Data
	size := spec.Size()
	for j := range n {
		for row := range h {
			k := j*h + row
			for c := range m + 1 {
				lin[c*size+row*spec.Rank+j] = float32(coef.At(k, c) * scale[k])
			}
		}
	}
	return fit, nil
}

// designMatrix is sqrt(weight) * state/spread, [items][layers*hidden], and 1/spread.
func designMatrix(states []corastream.States, weights []float64, layers, hidden int) ([]float32, []float64, error) {
	d := layers * hidden
	raw := make([]float32, len(states)*d)
	for i, s := range states {
		if len(s.Answer) < layers {
			return nil, nil, fmt.Errorf("the encoder reads %d layers at the answer token, the linear path needs %d", len(s.Answer), layers)
		}
		for l, o := range s.Answer[len(s.Answer)-layers:] {
			if len(o) != hidden {
				return nil, nil, corastream.Usagef("generator.linear", "set train: {generator: {linear: false}}",
					"this LLM's answer states have %d numbers, W_A has %d rows: no decoder to start from", len(o), hidden)
			}
			copy(raw[i*d+l*hidden:], o)
		}
	}
	var total float64
	for _, w := range weights {
		total += w
	}
	scale := make([]float64, d)
	for k := range d {
		var mean, square float64
		for i, w := range weights {
			v := float64(raw[i*d+k])
			mean += w * v / total
			square += w * v * v / total
		}
		if variance := square - mean*mean; variance > 1e-12*(1+square) {
			scale[k] = 1 / math.Sqrt(variance)
		}
	}
	for i, w := range weights {
		root := math.Sqrt(w)
		for k := range d {
			raw[i*d+k] = float32(float64(raw[i*d+k]) * scale[k] * root)
		}
	}
	return raw, scale, nil
}

// ridge solves (X^T X + penalty I) B = X^T Y for Y = sqrt(weight) [c, 1].
func ridge(x []float32, contents [][]float32, weights []float64, d, m int, penalty float64) (*mat.Dense, float64, error) {
	n := len(contents)
	y := make([]float32, n*(m+1))
	var total float64
	for i, c := range contents {
		root := math.Sqrt(weights[i])
		for k, v := range c {
			y[i*(m+1)+k] = float32(root * float64(v))
		}
		y[i*(m+1)+m] = float32(root)
		total += weights[i]
	}
	gram, right := make([]float32, d*d), make([]float32, d*(m+1))
	kernels.Gemm(gram, d, x, d, x, d, d, d, n, true, false, false)
	kernels.Gemm(right, m+1, x, d, y, m+1, d, m+1, n, true, false, false)
	sym, rhs := mat.NewSymDense(d, nil), mat.NewDense(d, m+1, nil)
	for i := range d {
		for j := i; j < d; j++ {
			sym.SetSym(i, j, float64(gram[i*d+j]))
		}
		sym.SetSym(i, i, sym.At(i, i)+penalty*total/ridgeRows)
		for j := range m + 1 {
			rhs.Set(i, j, float64(right[i*(m+1)+j]))
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(sym) {
		return nil, 0, fmt.Errorf("fit the decoder: %d states of %d numbers are singular: raise train.ridge", n, d)
	}
	coef := new(mat.Dense)
	if err := chol.SolveTo(coef, rhs); err != nil {
		return nil, 0, fmt.Errorf("fit the decoder: %w", err)
	}
	return coef, explained(x, y, coef, n, d, m), nil
}

// explained is the share of the contents' variance (weighted) that the decoder reads.
func explained(x, y []float32, coef *mat.Dense, n, d, m int) float64 {
	b, got := make([]float32, d*(m+1)), make([]float32, n*(m+1))
	for i := range b {
		b[i] = float32(coef.At(i/(m+1), i%(m+1)))
	}
	kernels.Gemm(got, m+1, x, d, b, m+1, n, m+1, d, false, false, false)
	var missed, all float64
	for i := range y {
		if i%(m+1) < m {
			e := float64(got[i]) - float64(y[i])
			missed += e * e
			all += float64(y[i]) * float64(y[i])
		}
	}
	return 1 - missed/all
}
