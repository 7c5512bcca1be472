package replay

import (
	"context"
	"math"

	"github.com/corastream/corastream"
)

// The stack asks what the frozen LLM's own opinion adds to CF: a logistic regression on z and logit(Yes)-logit(No) with W_A = 0,
// pulled to z. It is fitted as the reader is, on embeddings from before each label.

func (e *evaluation) stack(ctx context.Context, seen []sight) (outcome, error) {
	before, y, err := e.lastOfTrain(ctx, Stack)
	if err != nil {
		return outcome{}, err
	}
	fitOn, err := e.stackInputs(ctx, "read train for stack", before)
	if err != nil {
		return outcome{}, err
	}
	mean, deviation := spread(fitOn)
	x, z := make([][]float64, len(before)), make([]float64, len(before))
	for i := range before {
		z[i] = before[i].score
		x[i] = []float64{z[i], (fitOn[i] - mean) / deviation}
	}
	l, err := fitReader(x, z, y)
	if err != nil {
		return outcome{}, err
	}
	own, err := e.stackInputs(ctx, "score stack", seen)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{logit: true, score: make([]float64, len(seen)), alone: make([]float64, len(seen))}
	for i := range seen {
		o.score[i] = l.logit([]float64{seen[i].score, (own[i] - mean) / deviation}, seen[i].score)
		o.alone[i] = seen[i].alone * (1 + l.weight[0])
	}
	return o, nil
}

// stackInputs is the base LLM's answer for each row. Without a history a prompt is its item's, and is asked once.
func (e *evaluation) stackInputs(ctx context.Context, step string, seen []sight) ([]float64, error) {
	var pairs []corastream.Pair
	var prompts []corastream.Prompt
	at := make([]int, len(seen))
	known := map[string]int{}
	for i := range seen {
		p := seen[i].prompt
		n, ok := known[p.ItemID]
		if !ok || len(p.History) > 0 {
			n = len(prompts)
			known[p.ItemID] = n
			pairs, prompts = append(pairs, seen[i].pair), append(prompts, p)
		}
		at[i] = n
	}
	asked, err := e.scoreAll(ctx, step, corastream.Unadapted{}, pairs, prompts)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(seen))
	for i := range out {
		out[i] = asked[at[i]]
	}
	return out, nil
}

// spread is mean and standard deviation, the latter 1 when all are equal.
func spread(v []float64) (mean, deviation float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		deviation += (x - mean) * (x - mean) / float64(len(v))
	}
	if deviation = math.Sqrt(deviation); deviation < 1e-12 {
		deviation = 1
	}
	return mean, deviation
}
