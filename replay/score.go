package replay

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/corastream/corastream"
)

// llmScores runs the frozen LLM over all rows, in batches: logit(Yes) - logit(No).
func (c Config) llmScores(ctx context.Context, d Deps, model string, rows []row, seen []sight) ([]float64, error) {
	prompts := make([]corastream.Prompt, len(seen))
	for i := range seen {
		prompts[i] = seen[i].prompt
	}
	generator := d.Generator
	switch model {
	case LLM:
		generator = nil
	case CoraShuffled:
		shuffle(prompts, rows, c.Seed)
	case CoraBlank:
		blank, constant, err := d.Blank(ctx)
		if err != nil {
			return nil, fmt.Errorf("refit with one prompt: %w", err)
		}
		generator = blank
		for i := range prompts {
			prompts[i] = constant
		}
	}
	out := make([]float64, 0, len(seen))
	for from := 0; from < len(seen); from += c.BatchRows {
		to := min(from+c.BatchRows, len(seen))
		pairs := make([]corastream.Pair, 0, to-from)
		for _, s := range seen[from:to] {
			pairs = append(pairs, s.pair)
		}
		logits, err := scoreBatch(ctx, generator, d.Scorer, pairs, prompts[from:to])
		if err != nil {
			return nil, fmt.Errorf("rows %d to %d: %w", from+1, to, err)
		}
		out = append(out, logits...)
		d.progress("score "+model, to, len(seen))
	}
	return out, nil
}

// scoreBatch: pairs -> W_A -> frozen LLM -> logit(Yes)-logit(No). Without a generator the base model answers.
func scoreBatch(ctx context.Context, g corastream.Generator, s corastream.Scorer, pairs []corastream.Pair,
	prompts []corastream.Prompt,
) ([]float64, error) {
	var weights []corastream.Weights
	var projection *corastream.Projection
	if g != nil {
		var err error
		if weights, projection, err = g.Weights(ctx, pairs); err != nil {
			return nil, fmt.Errorf("generate weights: %w", err)
		}
	}
	logits, err := s.Score(ctx, prompts, weights, projection)
	if err != nil {
		return nil, fmt.Errorf("run the LLM: %w", err)
	}
	if len(logits) != len(prompts) {
		return nil, fmt.Errorf("the LLM scored %d of %d prompts", len(logits), len(prompts))
	}
	out := make([]float64, len(logits))
	for i, l := range logits {
		if out[i] = float64(l.Yes) - float64(l.No); out[i] != out[i] {
			return nil, fmt.Errorf("the score of item %q is not a number", prompts[i].ItemID)
		}
	}
	return out, nil
}

// shuffle gives each row another row's prompt: all rows of a split in one seeded ring, each taking its neighbour's.
func shuffle(prompts []corastream.Prompt, rows []row, seed uint64) {
	for _, test := range []bool{false, true} {
		var ring []int
		for i := range rows {
			if rows[i].test == test {
				ring = append(ring, i)
			}
		}
		rng := rand.New(rand.NewPCG(seed, 0x5f0e))
		rng.Shuffle(len(ring), func(i, j int) { ring[i], ring[j] = ring[j], ring[i] })
		if len(ring) == 0 {
			continue
		}
		first := prompts[ring[0]]
		for i := range len(ring) - 1 {
			prompts[ring[i]] = prompts[ring[i+1]]
		}
		prompts[ring[len(ring)-1]] = first
	}
}
