package llm

import (
	"slices"

	"github.com/corastream/corastream"
)

// RenderedPrompt is a prompt as the model reads it. Another implementation that is given it reaches the same score. The
// pieces of a template are tokenised one by one, so tokenising Text as a whole may split it differently.
type RenderedPrompt struct {
	Text   string
	Tokens []int32
	// Title is the index of the candidate's first token. `adapt: suffix` acts from there on.
	Title int
	// Lead are the template's own tokens right before the title; empty when it begins the prompt.
	Lead []int32
	// Yes and No are the ids of " Yes" and " No"; the score is read behind the last token.
	Yes, No int32
}

// Render makes the tokens of a prompt.
func (m *Model) Render(p corastream.Prompt) (RenderedPrompt, error) {
	t, err := m.prompts.render(p)
	if err != nil {
		return RenderedPrompt{}, err
	}
	tok := m.prompts.tok
	r := RenderedPrompt{Text: tok.Decode(t.ids), Tokens: slices.Clone(t.ids), Title: t.title}
	r.Yes, _ = tok.ID(" Yes") // Open refused a model without them
	r.No, _ = tok.ID(" No")
	form := m.prompts.item
	if len(p.History) > 0 {
		form = m.prompts.history
	}
	for i, part := range form.parts {
		if part.name != "title" || i == 0 || form.parts[i-1].text == "" {
			continue
		}
		if r.Lead = tok.EncodeNext(form.parts[i-1].text); i == 1 {
			r.Lead = tok.Encode(form.parts[0].text)
		}
	}
	return r, nil
}
