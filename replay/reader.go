package replay

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/corastream/corastream"
	"gonum.org/v1/gonum/mat"
)

// The reader answers "would any model do as well on these inputs, without an LLM?". It is a logistic regression on all that
// the generator sees and all that CF knows of the item:
//
//	e_u = [p_u, w+t_u], e_i = [q_i, c_i], their products entry by entry, mu+b_u+b_i, b_u, b_i, 1
//
// so z itself is one of the functions it can express. It is fitted as a checkpoint is: on embeddings from before each label.
// A CF model learns the first part of train (all epochs), then goes on prequentially through the last ReaderShare of it; the
// pairs seen on that way are the reader's rows. The ridge penalty is the one of readerPenalties with the best log loss on the
// last third of those rows, fitted on the first two; then all rows are used.

var readerPenalties = []float64{3, 30, 300, 3000}

const readerMinRows = 30

func (c Config) readerScores(ctx context.Context, data Data, d Deps, seen []sight) ([]float64, error) {
	train := slices.Clone(data.Train)
	slices.SortStableFunc(train, func(a, b corastream.Event) int { return a.Time.Compare(b.Time) })
	cut := int(float64(len(train)) * (1 - c.ReaderShare))
	if len(train)-cut < readerMinRows || cut == 0 {
		return nil, corastream.Usagef("models", "use a longer train file, or leave reader out",
			"reader needs %d rows in the last %g of train, and there are %d", readerMinRows, c.ReaderShare, len(train)-cut)
	}
	model, err := d.NewModel(CF)
	if err != nil {
		return nil, err
	}
	state := newState(data.Items)
	if err := fit(ctx, state, model, train[:cut], c.Epochs); err != nil {
		return nil, err
	}
	before, err := walk(ctx, state, model, train[cut:], true, 0, 0)
	if err != nil {
		return nil, err
	}
	x, y := make([][]float64, len(before)), make([]bool, len(before))
	for i := range before {
		x[i], y[i] = readerInputs(before[i].pair), train[cut+i].Positive()
	}
	d.progress("fit reader", 0, len(x))
	l, err := fitLogistic(x, y)
	if err != nil {
		return nil, err
	}
	d.progress("fit reader", len(x), len(x))
	out := make([]float64, len(seen))
	for i := range seen {
		out[i] = l.logit(readerInputs(seen[i].pair))
	}
	return out, nil
}

func readerInputs(p corastream.Pair) []float64 {
	u, it := p.User.Vec, p.Item.Vec
	n := min(len(u), len(it))
	x := make([]float64, 0, 3*n+3)
	for _, v := range u[:n] {
		x = append(x, float64(v))
	}
	for _, v := range it[:n] {
		x = append(x, float64(v))
	}
	for i := range n {
		x = append(x, float64(u[i])*float64(it[i]))
	}
	return append(x, float64(p.Mu)+float64(p.User.Bias)+float64(p.Item.Bias), float64(p.User.Bias), float64(p.Item.Bias))
}

// logistic is a fitted regression: logit = intercept + sum of weight*(x-mean)/spread.
type logistic struct {
	mean, spread, weight []float64
	intercept            float64
}

func (l logistic) logit(x []float64) float64 {
	z := l.intercept
	for j, v := range x {
		z += l.weight[j] * (v - l.mean[j]) / l.spread[j]
	}
	return z
}

// fitLogistic picks the penalty on the last third of the rows, then fits all of them.
func fitLogistic(x [][]float64, y []bool) (logistic, error) {
	cut := len(x) * 2 / 3
	best, bestLoss := 0.0, math.Inf(1)
	for _, penalty := range readerPenalties {
		l, err := fitRidge(x[:cut], y[:cut], penalty)
		if err != nil {
			return logistic{}, err
		}
		z := make([]float64, len(x)-cut)
		for i := range z {
			z[i] = l.logit(x[cut+i])
		}
		if loss := LogLoss(z, y[cut:]); loss < bestLoss {
			best, bestLoss = penalty, loss
		}
	}
	return fitRidge(x, y, best)
}

// fitRidge minimises the log loss plus penalty/2 times the squared weights (of standardised inputs, intercept free) by
// Newton's method; the problem is convex, so it ends at the one minimum.
func fitRidge(x [][]float64, y []bool, penalty float64) (logistic, error) {
	l := standardise(x)
	n := len(x[0]) + 1
	rows := make([][]float64, len(x))
	for i := range x {
		rows[i] = make([]float64, n)
		for j, v := range x[i] {
			rows[i][j] = (v - l.mean[j]) / l.spread[j]
		}
		rows[i][n-1] = 1
	}
	beta := make([]float64, n)
	for range 50 {
		hess, grad := newton(rows, y, beta, penalty)
		var chol mat.Cholesky
		if !chol.Factorize(hess) {
			return l, fmt.Errorf("reader: the inputs are degenerate (no curvature at penalty %g)", penalty)
		}
		var step mat.VecDense
		if err := chol.SolveVecTo(&step, mat.NewVecDense(n, grad)); err != nil {
			return l, fmt.Errorf("reader: %w", err)
		}
		largest := 0.0
		for j := range beta {
			beta[j] -= step.AtVec(j)
			largest = max(largest, math.Abs(step.AtVec(j)))
		}
		if largest < 1e-7 {
			break
		}
	}
	l.weight, l.intercept = beta[:n-1], beta[n-1]
	return l, nil
}

// newton returns Hessian and gradient at beta.
func newton(rows [][]float64, y []bool, beta []float64, penalty float64) (*mat.SymDense, []float64) {
	n := len(beta)
	hess, grad := make([]float64, n*n), make([]float64, n)
	for i, x := range rows {
		z := 0.0
		for j, v := range x {
			z += beta[j] * v
		}
		p := 1 / (1 + math.Exp(-z))
		g, w := p, p*(1-p)
		if y[i] {
			g--
		}
		for j, v := range x {
			grad[j] += g * v
			wv := w * v
			h := hess[j*n : j*n+n]
			for k := j; k < n; k++ {
				h[k] += wv * x[k]
			}
		}
	}
	for j := range n {
		hess[j*n+j] += 1e-9 // keeps the free intercept solvable when all labels agree
		if j < n-1 {
			hess[j*n+j] += penalty
			grad[j] += penalty * beta[j]
		}
	}
	return mat.NewSymDense(n, hess), grad
}

// standardise finds each input's mean and spread; one that never varies keeps spread 1 and so weighs nothing.
func standardise(x [][]float64) logistic {
	n := len(x[0])
	l := logistic{mean: make([]float64, n), spread: make([]float64, n)}
	for j := range n {
		for i := range x {
			l.mean[j] += x[i][j]
		}
		l.mean[j] /= float64(len(x))
		for i := range x {
			l.spread[j] += (x[i][j] - l.mean[j]) * (x[i][j] - l.mean[j])
		}
		if l.spread[j] = math.Sqrt(l.spread[j] / float64(len(x))); l.spread[j] < 1e-12 {
			l.spread[j] = 1
		}
	}
	return l
}
