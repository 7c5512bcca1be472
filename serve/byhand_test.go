package serve

import (
	"context"
	"fmt"
	"strings"

	"github.com/corastream/corastream"
)

// withLLM adds a generator and a scorer whose answer can be computed by hand: logit = length of the title times the
// user's weight, which is the number of letters in the user's id.
func withLLM(_ *Config, d *Deps) {
	d.Generator, d.Scorer, d.Text, d.Speaker, d.Rollout = byHand{}, byHand{}, byHand{}, byHand{}, byHand{}
}

type byHand struct{}

func (byHand) Weights(_ context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	out := make([]corastream.Weights, len(pairs))
	for i, p := range pairs {
		out[i] = corastream.Weights{Hidden: 1, Rank: 1, User: []float32{float32(len(p.UserID))}}
	}
	return out, &corastream.Projection{Rank: 1, Alpha: 1}, nil
}

func (byHand) Score(_ context.Context, prompts []corastream.Prompt, w []corastream.Weights, _ *corastream.Projection) ([]corastream.Logits, error) {
	out := make([]corastream.Logits, len(prompts))
	for i, p := range prompts {
		out[i].Yes = float32(len(p.Title)) * w[i].User[0] / 10
	}
	return out, nil
}

func (byHand) Token(text string) (int, bool) {
	return len(text), !strings.Contains(strings.TrimPrefix(text, " "), " ")
}

// LabelLogits: the logit of label k after a prompt is k*len(prompt)/100, more by the user's weight.
func (byHand) LabelLogits(_ context.Context, prompts []string, labels []int, w []corastream.Weights, _ *corastream.Projection) ([][]float32, int, error) {
	out, tokens := make([][]float32, len(prompts)), 0
	for i, p := range prompts {
		tokens += len(p)
		for _, k := range labels {
			x := float32(k*len(p)) / 100
			if w != nil {
				x *= w[i].User[0]
			}
			out[i] = append(out[i], x)
		}
	}
	return out, tokens, nil
}

// Change knows no checkpoint but takes every known action.
func (byHand) Change(_ context.Context, c RolloutRequest) error {
	if c.Action == "" {
		return corastream.Usagef("action", "choose one", "there is none")
	}
	return nil
}

func (byHand) Standing() RolloutStatus { return RolloutStatus{Mode: "off"} }

// Speak says the last message back, a word a token, to anybody with weights in capitals; "fail" and "wait" do as they say.
func (byHand) Speak(ctx context.Context, d corastream.Dialogue, each func(corastream.Piece) error) (corastream.Reply, error) {
	words := strings.SplitAfter(d.Messages[len(d.Messages)-1].Content, " ")
	r := corastream.Reply{PromptTokens: len(d.Messages), Finish: "stop"}
	for _, word := range words {
		if r.Tokens == d.MaxTokens {
			r.Finish = "length"
			break
		}
		switch word {
		case "fail":
			return r, fmt.Errorf("the model broke")
		case "wait":
			<-ctx.Done()
			return r, context.Cause(ctx)
		}
		if d.Weights != nil {
			word = strings.ToUpper(word)
		}
		t := corastream.Spoken{ID: int32(len(word)), Text: word, Logprob: -.5}
		for range d.Top {
			t.Top = append(t.Top, corastream.Spoken{Text: word, Logprob: -.5})
		}
		r.Tokens++
		if err := each(corastream.Piece{Text: word, Tokens: []corastream.Spoken{t}}); err != nil {
			return r, err
		}
	}
	return r, nil
}
