package generator

import (
	"context"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// ListWeights writes the weights by which the frozen LLM itself ranks a list as v_u.C_i does. W_A(u) [hidden][1] is Decoder v_u, and
// the one row of P is the mean gradient g of Yes-No with respect to the top layer's o output, over |g|^2. To first order the Yes-No
// logit of item i then moves by v_u.C_i: W_A^T o_i reads it from the layer's state, and P writes it where the logit rises. Nothing in
// the LLM is trained.
type ListWeights struct {
	Hidden, Width int
	Decoder       []float32 // [Hidden][Width]
	Projection    *corastream.Projection
	// R2 is the share of the codes' variance that the decoder reads, Cosine the mean cosine of an item's gradient to g.
	R2, Cosine float64
}

// Backward is what FitListWeights asks of the frozen LLM: train.Backprop's method.
type Backward func(ctx context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection, labels []float32) (*corastream.Gradients, error)

// FitListWeights fits the decoder by ridge from answers [n][hidden], the inputs of o at slot, to codes [n][width], and takes the mean
// gradient over the prompts of these items, in batches of listBatch.
func FitListWeights(ctx context.Context, backward Backward, slot corastream.Slot, out int, prompts []corastream.Prompt, answers, codes [][]float32) (*ListWeights, error) {
	n := len(prompts)
	if n == 0 || len(answers) != n || len(codes) != n {
		return nil, fmt.Errorf("fit list weights: %d prompts, %d states, %d codes", n, len(answers), len(codes))
	}
	w := &ListWeights{Hidden: len(answers[0]), Width: len(codes[0])}
	if err := w.decode(answers, codes); err != nil {
		return nil, err
	}
	mean, cosine, err := meanGradient(ctx, backward, slot, out, prompts, answers)
	if err != nil {
		return nil, err
	}
	w.Cosine = cosine
	length := kernels.Dot(mean, mean)
	if !(length > 0) {
		return nil, fmt.Errorf("fit list weights: the gradient of layer %d is %v", slot.Layer, length)
	}
	kernels.Scale(1/length, mean)
	w.Projection = &corastream.Projection{Rank: 1, Alpha: 1, Adapt: corastream.AdaptLast, P: map[corastream.Slot][]float32{slot: mean}}
	return w, nil
}

const (
	listRidge = 1e-4 // of the states' mean square: little, since codes are made from these states
	listBatch = 64
)

// decode solves (X^T X + penalty I) M = X^T C.
func (w *ListWeights) decode(answers, codes [][]float32) error {
	n, d, m := len(answers), w.Hidden, w.Width
	x, y := make([]float32, n*d), make([]float32, n*m)
	mean := make([]float64, m)
	for i := range n {
		if len(answers[i]) != d || len(codes[i]) != m {
			return fmt.Errorf("fit list weights: item %d has a state of %d and a code of %d numbers, the first %d and %d", i, len(answers[i]), len(codes[i]), d, m)
		}
		copy(x[i*d:], answers[i])
		copy(y[i*m:], codes[i])
		for k, c := range codes[i] {
			mean[k] += float64(c) / float64(n)
		}
	}
	gram, right := make([]float32, d*d), make([]float32, d*m)
	kernels.Gemm(gram, d, x, d, x, d, d, d, n, true, false, false)
	kernels.Gemm(right, m, x, d, y, m, d, m, n, true, false, false)
	sym, rhs := mat.NewSymDense(d, nil), mat.NewDense(d, m, nil)
	trace := 0.0
	for i := range d {
		trace += float64(gram[i*d+i]) / float64(d)
	}
	for i := range d {
		for j := i; j < d; j++ {
			sym.SetSym(i, j, float64(gram[i*d+j]))
		}
		sym.SetSym(i, i, sym.At(i, i)+listRidge*trace)
		for j := range m {
			rhs.Set(i, j, float64(right[i*m+j]))
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(sym) {
		return fmt.Errorf("fit list weights: %d states of %d numbers are singular", n, d)
	}
	var coef mat.Dense
	if err := chol.SolveTo(&coef, rhs); err != nil {
		return fmt.Errorf("fit list weights: %w", err)
	}
	w.Decoder = make([]float32, d*m)
	for i := range w.Decoder {
		w.Decoder[i] = float32(coef.At(i/m, i%m))
	}
	got := make([]float32, n*m)
	kernels.Gemm(got, m, x, d, w.Decoder, m, n, m, d, false, false, false)
	var missed, all float64
	for i, v := range y {
		e, c := float64(got[i])-float64(v), float64(v)-mean[i%m]
		missed += e * e
		all += c * c
	}
	w.R2 = 1 - missed/max(all, 1e-30)
	return nil
}

// meanGradient is the mean over items of g_i [out], the gradient of the scored logit with respect to the slot's output. Backward
// gives dLoss/dP, the sum over rows of dLoss/dlogit (W_A^T x) g_i: with W_A = x_i / |x_i|^2 the middle is 1.
func meanGradient(ctx context.Context, backward Backward, slot corastream.Slot, out int, prompts []corastream.Prompt, answers [][]float32) (mean []float32, cosine float64, err error) {
	zero := &corastream.Projection{Rank: 1, Alpha: 1, Adapt: corastream.AdaptLast, P: map[corastream.Slot][]float32{slot: make([]float32, out)}}
	mean = make([]float32, out)
	var singles [][]float32
	for at := 0; at < len(prompts); at += listBatch {
		part := prompts[at:min(at+listBatch, len(prompts))]
		weights, labels := make([]corastream.Weights, len(part)), make([]float32, len(part))
		for i := range part {
			a := answers[at+i]
			weights[i] = corastream.Weights{Hidden: len(a), Rank: 1, User: make([]float32, len(a))}
			copy(weights[i].User, a)
			kernels.Scale(1/kernels.Dot(a, a), weights[i].User)
		}
		first, err := backward(ctx, part, weights, zero, labels)
		if err != nil {
			return nil, 0, fmt.Errorf("fit list weights: %w", err)
		}
		slope := make([]float32, len(part)) // of the row's loss: sigmoid(score) - label, never near 0
		for i, s := range first.Scores {
			if s < 0 {
				labels[i] = 1
			}
			slope[i] = float32(1/(1+math.Exp(-float64(s)))) - labels[i]
			kernels.Scale(1/slope[i], weights[i].User)
		}
		g, err := backward(ctx, part, weights, zero, labels)
		if err != nil {
			return nil, 0, fmt.Errorf("fit list weights: %w", err)
		}
		kernels.Axpy(float32(len(part))/float32(len(prompts)), g.DP[slot], mean) // the loss is a mean over the batch
		if at == 0 {                                                             // some items' own gradients, for the cosine
			for i := range min(8, len(part)) {
				one, err := backward(ctx, part[i:i+1], weights[i:i+1], zero, labels[i:i+1])
				if err != nil {
					return nil, 0, fmt.Errorf("fit list weights: %w", err)
				}
				singles = append(singles, one.DP[slot])
			}
		}
	}
	for _, s := range singles {
		cosine += float64(kernels.Dot(s, mean)) / math.Sqrt(float64(kernels.Dot(s, s))*float64(kernels.Dot(mean, mean))) / float64(len(singles))
	}
	return mean, cosine, nil
}

// User is W_A of a user's v_u [Width], for all candidates.
func (w *ListWeights) User(v []float32) []float32 {
	out := make([]float32, w.Hidden)
	for i := range out {
		out[i] = kernels.Dot(w.Decoder[i*w.Width:(i+1)*w.Width], v)
	}
	return out
}
