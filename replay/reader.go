package replay

import (
	"context"
	"fmt"
	"math"

	"github.com/corastream/corastream"
	"gonum.org/v1/gonum/mat"
)

// The reader answers "would any model do as well on these inputs, without an LLM?". It is a logistic regression on all that
// the generator sees and all that CF knows of the item:
//
//	e_u = [p_u, w+t_u], e_i = [q_i, c_i], their products entry by entry, mu+b_u+b_i, b_u, b_i, 1
//
// z itself is one of the functions it can express, and the ridge pulls it there: logit = z + weights.inputs, weights small. (Pulled
// to zero instead, it must find z again from a few thousand rows, and reads .01 to .02 AUC worse than CF on ML-1M.) It is fitted
// as a checkpoint is: on embeddings from before each label. A CF model learns the first part of train (all epochs), then goes on
// prequentially through the last ReaderShare of it; the pairs seen on that way are the reader's rows. Each of the four groups of
// inputs is divided by its own root mean square, so that one penalty fits all: of readerPenalties, the one with the best log
// loss on the last third of those rows when fitted on the first two; then all rows are used.

var readerPenalties = []float64{10, 100, 1000, 10000, 100000}

const readerMinRows = 30

// reader fits it on the last part of train, then scores the rows.
func (e *evaluation) reader(ctx context.Context, seen []sight) (outcome, error) {
	before, y, err := e.lastOfTrain(ctx, Reader)
	if err != nil {
		return outcome{}, err
	}
	x, z := make([][]float64, len(before)), make([]float64, len(before))
	for i := range before {
		x[i], z[i] = readerInputs(before[i].pair), before[i].score
	}
	e.deps.progress("fit reader", 0, len(x))
	scale := groupScale(x)
	for i := range x {
		divide(x[i], scale)
	}
	l, err := fitReader(x, z, y)
	if err != nil {
		return outcome{}, err
	}
	e.deps.progress("fit reader", len(x), len(x))
	o := outcome{logit: true, score: make([]float64, len(seen)), alone: make([]float64, len(seen))}
	for i := range seen {
		in := readerInputs(seen[i].pair)
		divide(in, scale)
		o.score[i] = l.logit(in, seen[i].score)
		// b_u is in three places: in z, in mu+b_u+b_i and alone.
		n, b := len(in), float64(seen[i].pair.User.Bias)
		o.alone[i] = b * (1 + l.weight[n-3]/scale[n-3] + l.weight[n-2]/scale[n-2])
	}
	return o, nil
}

// lastOfTrain are the rows that models on top of CF are fitted on: what a CF model that has learnt the first part of train
// sees on its way through the last one, learning each row after it was seen.
func (e *evaluation) lastOfTrain(ctx context.Context, model string) ([]sight, []bool, error) {
	train := e.data.Train
	cut := int(float64(len(train)) * (1 - e.ReaderShare))
	if len(train)-cut < readerMinRows || cut == 0 {
		return nil, nil, corastream.Usagef("models", "use a longer train file, or leave "+model+" out",
			"%s needs %d rows in the last %g of train, and there are %d", model, readerMinRows, e.ReaderShare, len(train)-cut)
	}
	k, err := e.contender(ctx, CF, 0)
	if err != nil {
		return nil, nil, err
	}
	if err := k.fit(ctx, train[:cut]); err != nil {
		return nil, nil, err
	}
	before, err := walk(ctx, k, train[cut:], walking{learn: true, progress: func(done, total int) { e.deps.progress("walk the last of train for "+model, done, total) }})
	if err != nil {
		return nil, nil, err
	}
	y := make([]bool, len(before))
	for i := range y {
		y[i] = train[cut+i].Positive()
	}
	return before, y, nil
}

// readerInputs are [e_u, e_i, e_u*e_i, the three biases].
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

// groupScale is each input's divisor: the root mean square of its group, 1 where a group is all zero. One scale for a group, and
// not one for each input: w+t_u hardly varies between users, and scaling that little up would read its drift as a signal.
func groupScale(x [][]float64) []float64 {
	n := len(x[0])
	width := (n - 3) / 3
	out := make([]float64, n)
	for _, group := range [][2]int{{0, width}, {width, 2 * width}, {2 * width, 3 * width}, {3 * width, n}} {
		sum := 0.0
		for i := range x {
			for _, v := range x[i][group[0]:group[1]] {
				sum += v * v
			}
		}
		rms := math.Sqrt(sum / float64(len(x)) / float64(max(1, group[1]-group[0])))
		if rms < 1e-12 {
			rms = 1
		}
		for j := group[0]; j < group[1]; j++ {
			out[j] = rms
		}
	}
	return out
}

func divide(x, by []float64) {
	for j := range x {
		x[j] /= by[j]
	}
}

// logistic is a fitted regression: logit = offset + weight.x + intercept.
type logistic struct {
	weight    []float64
	intercept float64
}

func (l logistic) logit(x []float64, offset float64) float64 {
	z := offset + l.intercept
	for j, v := range x {
		z += l.weight[j] * v
	}
	return z
}

// fitReader picks the penalty on the last third of the rows, then fits all of them.
func fitReader(x [][]float64, offset []float64, y []bool) (logistic, error) {
	cut := len(x) * 2 / 3
	best, bestLoss := 0.0, math.Inf(1)
	for _, penalty := range readerPenalties {
		l, err := fitRidge(x[:cut], offset[:cut], y[:cut], penalty)
		if err != nil {
			return logistic{}, err
		}
		z := make([]float64, len(x)-cut)
		for i := range z {
			z[i] = l.logit(x[cut+i], offset[cut+i])
		}
		if loss := LogLoss(z, y[cut:]); loss < bestLoss {
			best, bestLoss = penalty, loss
		}
	}
	return fitRidge(x, offset, y, best)
}

// fitRidge minimises the log loss plus penalty/2 times the squared weights (the intercept is free) by Newton's method; the
// problem is convex, so it ends at the one minimum.
func fitRidge(x [][]float64, offset []float64, y []bool, penalty float64) (logistic, error) {
	n := len(x[0]) + 1
	rows := make([][]float64, len(x))
	for i := range x {
		rows[i] = append(append(make([]float64, 0, n), x[i]...), 1)
	}
	beta := make([]float64, n)
	for range 50 {
		hess, grad := newton(rows, offset, y, beta, penalty)
		var chol mat.Cholesky
		if !chol.Factorize(hess) {
			return logistic{}, fmt.Errorf("reader: the inputs are degenerate (no curvature at penalty %g)", penalty)
		}
		var step mat.VecDense
		if err := chol.SolveVecTo(&step, mat.NewVecDense(n, grad)); err != nil {
			return logistic{}, fmt.Errorf("reader: %w", err)
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
	return logistic{weight: beta[:n-1], intercept: beta[n-1]}, nil
}

// newton returns Hessian and gradient at beta.
func newton(rows [][]float64, offset []float64, y []bool, beta []float64, penalty float64) (*mat.SymDense, []float64) {
	n := len(beta)
	hess, grad := make([]float64, n*n), make([]float64, n)
	for i, x := range rows {
		z := offset[i]
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
