package corastream

import (
	"context"
	"errors"
	"fmt"
	"math"
)

// ScorePairs is the way of every score, whoever asks: pairs -> W_A -> frozen LLM -> logits, one for each prompt. prompts[i] belongs to
// pairs[i]. Recommend, the HTTP server, replay and a rollout's shadow all come here, so that one place decides what a usable score is.
// The error is ErrDegraded where there is no generator or no LLM, or where the generator may not be used; any other error is a failure.
// A score that is not a number is a failure too, and so is another number of scores than of prompts.
func ScorePairs(ctx context.Context, g Generator, s Scorer, pairs []Pair, prompts []Prompt) ([]Logits, error) {
	if s == nil {
		return nil, ErrDegraded
	}
	weights, projection, err := MakeWeights(ctx, g, pairs)
	if err != nil {
		return nil, err
	}
	logits, err := s.Score(ctx, prompts, weights, projection)
	if err != nil {
		return nil, fmt.Errorf("score: %w", err)
	}
	if len(logits) != len(prompts) {
		return nil, fmt.Errorf("score: %d prompts, %d scores", len(prompts), len(logits))
	}
	for i, l := range logits {
		if math.IsNaN(float64(l.P())) {
			return nil, fmt.Errorf("score of item %q is not a number", prompts[i].ItemID)
		}
	}
	return logits, nil
}

// MakeWeights is the first half of ScorePairs, for those who use W_A in another way than on a prompt of an item, such as a
// conversation. A nil generator is ErrDegraded.
func MakeWeights(ctx context.Context, g Generator, pairs []Pair) ([]Weights, *Projection, error) {
	if g == nil {
		return nil, nil, ErrDegraded
	}
	weights, projection, err := g.Weights(ctx, pairs)
	if err != nil {
		return nil, nil, fmt.Errorf("generate weights: %w", err)
	}
	return weights, projection, nil
}

// Unadapted is the Generator of the frozen LLM as it is: no weights, and so the same score for every user.
type Unadapted struct{}

// Weights implements Generator.
func (Unadapted) Weights(context.Context, []Pair) ([]Weights, *Projection, error) {
	return nil, nil, nil
}

// Failed says whether an error of ScorePairs is a failure, which is worth a warning and a count. Otherwise the CF score was to be
// expected, as where there is no checkpoint.
func Failed(err error) bool { return err != nil && !errors.Is(err, ErrDegraded) }

// P is the CF probability that the user likes the item.
func (p Pair) P() float32 { return sigmoid(p.Logit()) }

// LikedTitles are the titles of the last n items that the user liked, oldest first, as a `history` prompt has them. Items without a
// title are left out.
func LikedTitles(s State, u *UserState, n int) ([]string, error) {
	if n == 0 {
		return nil, nil
	}
	var titles []string
	for _, id := range u.Liked(n) {
		it, err := s.Item(id)
		if err != nil {
			return nil, err
		}
		if it.Title != "" {
			titles = append(titles, it.Title)
		}
	}
	return titles, nil
}

func sigmoid(z float32) float32 { return float32(1 / (1 + math.Exp(-float64(z)))) }
