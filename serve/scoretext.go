package serve

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/corastream/corastream"
)

// maxLabels bounds the labels of one text-form request.
const maxLabels = 64

// scoreText scores query+item prompts over label tokens.
func (s *Server) scoreText(ctx context.Context, q *ScoreRequest, out *ScoreResponse) error {
	if s.deps.Text == nil {
		return notHere("query", "send user_id and items without query", "this process has no LLM that reads raw text")
	}
	labels, err := s.labels(q)
	if err != nil {
		return err
	}
	prompts := make([]string, len(q.Items))
	for i, d := range q.Items {
		text := d.Text
		if text == "" {
			text = d.ID
		}
		if prompts[i] = *q.Query + text; q.ItemFirst {
			prompts[i] = text + *q.Query
		}
	}
	weights, projection, err := s.userWeights(ctx, string(q.UserID), len(prompts), out)
	if err != nil {
		return err
	}
	logits, tokens, err := s.deps.Text.LabelLogits(ctx, prompts, labels, weights, projection)
	if err != nil {
		return fmt.Errorf("score text: %w", asSent(err, q))
	}
	if len(logits) != len(prompts) {
		return fmt.Errorf("score text: %d prompts, %d answers", len(prompts), len(logits))
	}
	for i, row := range logits {
		p, err := labelScores(row, len(labels), q.ApplySoftmax == nil || *q.ApplySoftmax)
		if err != nil {
			return fmt.Errorf("score text: prompt %d: %w", i, err)
		}
		out.Scores = append(out.Scores, p)
		out.Data = append(out.Data, ScoredText{Index: i, Object: "score", Score: p[0]})
	}
	out.Usage = &usage{PromptTokens: tokens, TotalTokens: tokens}
	return nil
}

// asSent gives a refusal of the LLM the name of what the client sent: a prompt was made of an item, and a label may have come as a token.
func asSent(err error, q *ScoreRequest) error {
	var u *corastream.UsageError
	if !errors.As(err, &u) {
		return err
	}
	named := *u
	if rest, ok := strings.CutPrefix(u.Where, "prompts["); ok {
		named.Where = "items[" + rest
	}
	if rest, ok := strings.CutPrefix(u.Where, "labels["); ok && len(q.LabelTokenIDs) > 0 {
		named.Where = "label_token_ids[" + rest
	}
	return &named
}

func (s *Server) labels(q *ScoreRequest) ([]int, error) {
	if len(q.LabelTokenIDs) > 0 {
		if len(q.Labels) > 0 {
			return nil, badField("labels", "send labels or label_token_ids", "both name the labels")
		}
		if len(q.LabelTokenIDs) > maxLabels {
			return nil, badField("label_token_ids", fmt.Sprintf("send at most %d", maxLabels), "%d labels", len(q.LabelTokenIDs))
		}
		ids := make([]int, len(q.LabelTokenIDs))
		for i, id := range q.LabelTokenIDs {
			if ids[i] = int(id); id < 0 {
				return nil, badField(fmt.Sprintf("label_token_ids[%d]", i), "take it from the model's tokenizer", "%d is no token", id)
			}
		}
		return ids, nil
	}
	names := q.Labels
	if len(names) == 0 {
		names = []string{" Yes", " No"} // as behind "#Answer:": the tokens with the space are other ones than "Yes" and "No"
	}
	if len(names) > maxLabels {
		return nil, badField("labels", fmt.Sprintf("send at most %d", maxLabels), "%d labels", len(names))
	}
	ids := make([]int, len(names))
	for i, name := range names {
		id, ok := s.deps.Text.Token(name)
		if !ok {
			return nil, badField(fmt.Sprintf("labels[%d]", i), "choose a text that is one token of this model, or send label_token_ids", "%.40q is not exactly one token", name)
		}
		ids[i] = id
	}
	return ids, nil
}

// userWeights makes the user's W_A for items that are texts, without an id. It returns nil without
// a user.
func (s *Server) userWeights(ctx context.Context, user string, n int, out *ScoreResponse) ([]corastream.Weights, *corastream.Projection, error) {
	if user == "" {
		return nil, nil, nil
	}
	arm := s.arm(user)
	if s.deps.View == nil || s.deps.Predictor == nil || arm.Generator == nil {
		return nil, nil, notHere("user_id", "leave user_id out, or train a checkpoint for this LLM", "this process has no personal weights")
	}
	var one corastream.Pair
	if err := s.deps.View.View(ctx, func(st corastream.State) error {
		u, err := st.User(user)
		if err != nil {
			return err
		}
		if out.Cold = len(u.History) == 0; out.Cold {
			out.Note = coldNote
		}
		one, err = corastream.PairOf(st, s.deps.Predictor, user, "")
		return err
	}); err != nil {
		return nil, nil, err
	}
	pairs := make([]corastream.Pair, n)
	for i := range pairs {
		pairs[i] = one
	}
	w, p, err := corastream.MakeWeights(ctx, arm.Generator, pairs)
	if err != nil {
		return nil, nil, err
	}
	out.Arm, out.Checkpoint = arm.Name, arm.Versions.Generator
	return w, p, nil
}

// labelScores turns the logits of one prompt into the scores of the answer.
func labelScores(logits []float32, labels int, softmax bool) ([]float64, error) {
	if len(logits) != labels {
		return nil, fmt.Errorf("%d labels, %d logits", labels, len(logits))
	}
	top := math.Inf(-1)
	for _, l := range logits {
		if x := float64(l); math.IsNaN(x) || math.IsInf(x, 0) {
			return nil, fmt.Errorf("a logit is %v", l)
		}
		top = max(top, float64(l))
	}
	out := make([]float64, labels)
	var sum float64
	for i, l := range logits {
		if out[i] = float64(l); softmax {
			out[i] = math.Exp(float64(l) - top)
		}
		sum += out[i]
	}
	if softmax {
		for i := range out {
			out[i] /= sum
		}
	}
	return out, nil
}
