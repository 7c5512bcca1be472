package llm

import (
	"context"
	"fmt"
	"slices"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// maxTextBytes bounds a raw prompt for each token that fits: longer ones are refused before they are tokenised.
const maxTextBytes = 64

// Token returns the id of a text that is exactly one token of the vocabulary: " Yes" is another token than "Yes".
func (m *Model) Token(text string) (int, bool) {
	id, ok := m.prompts.tok.ID(text)
	return int(id), ok
}

// TextTokens returns the tokens of a raw prompt as LabelLogits reads it.
func (m *Model) TextTokens(text string) []int32 {
	if m.prompts.tok.AddBOS() {
		return append([]int32{m.prompts.tok.BOS()}, m.prompts.tok.Encode(text)...)
	}
	return m.prompts.tok.Encode(text)
}

// PromptTokens returns the tokens of a prompt as Score reads it.
func (m *Model) PromptTokens(p corastream.Prompt) ([]int32, error) {
	t, err := m.prompts.render(p)
	return slices.Clone(t.ids), err
}

// LabelLogits reads raw prompts and returns the next-token logits of the label tokens [prompts][labels], and how many prompt
// tokens there were. Nothing in a prompt is taken for a control token. Weights, one for each prompt, act as in Score; nil ones
// read the base model. A raw text has no title: `adapt: suffix` acts on the whole text, as `all` does, and `last` on its last
// token. What prompts share at their beginning is computed once, as far as no delta reaches it.
func (m *Model) LabelLogits(ctx context.Context, prompts []string, labels []int, w []corastream.Weights, p *corastream.Projection) ([][]float32, int, error) {
	d, err := m.newDelta(len(prompts), w, p, false)
	if err != nil {
		return nil, 0, err
	}
	ts := make([]tokens, len(prompts))
	count := 0
	for i, text := range prompts {
		if ts[i], err = m.readText(i, text); err != nil {
			return nil, 0, err
		}
		count += len(ts[i].ids)
	}
	rows, err := m.headRows(labels)
	if err != nil {
		return nil, 0, err
	}
	out := make([][]float32, len(prompts))
	for _, c := range m.batches(ascending(len(ts)), ts, d) {
		err := m.whole(ctx, ts, c, d, func(p *pass, x []float32, order []int) {
			h := m.arch.hidden
			y := p.workers[0].norm[:h]
			for i, j := range order {
				kernels.RMSNorm(y, x[i*h:(i+1)*h], m.outNorm, m.arch.eps)
				out[j] = make([]float32, len(rows))
				for k, row := range rows {
					out[j][k] = kernels.Dot(y, row)
				}
			}
		})
		if err != nil {
			return nil, 0, err
		}
	}
	return out, count, nil
}

// readText tokenises prompt i.
func (m *Model) readText(i int, text string) (t tokens, err error) {
	limit := m.opts.ContextTokens
	bad := func(what string, args ...any) (tokens, error) {
		return t, corastream.Usagef(fmt.Sprintf("prompts[%d]", i), "shorten it, or raise llm.context_tokens", what, args...)
	}
	if len(text) > maxTextBytes*limit {
		return bad("%d bytes are more than %d tokens hold", len(text), limit)
	}
	t.ids = m.TextTokens(text)
	if len(t.ids) == 0 {
		return t, corastream.Usagef(fmt.Sprintf("prompts[%d]", i), "send a text", "it is empty")
	}
	if len(t.ids) > limit {
		return bad("%d tokens, the limit is %d", len(t.ids), limit)
	}
	t.titleEnd = len(t.ids)
	return t, nil
}

// headRows are rows of the LM head.
func (m *Model) headRows(ids []int) ([][]float32, error) {
	head, err := m.head()
	if err != nil {
		return nil, err
	}
	rows := make([][]float32, len(ids))
	for i, id := range ids {
		if id < 0 || id >= m.arch.vocab {
			return nil, corastream.Usagef(fmt.Sprintf("labels[%d]", i), "take it from the model's tokenizer", "token %d; the vocabulary has %d", id, m.arch.vocab)
		}
		rows[i] = make([]float32, m.arch.hidden)
		if err := head.Row(rows[i], id); err != nil {
			return nil, err
		}
	}
	return rows, nil
}
