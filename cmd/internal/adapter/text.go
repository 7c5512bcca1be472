package adapter

import (
	"bytes"
	"fmt"

	"github.com/corastream/corastream"
)

// caveats say what a consumer gets, and what the format can not express.
func (n *Note) caveats(withGGUF bool) []string {
	out := []string{
		"The base model must be the one named here: another quantisation, or the unquantised original, scores differently.",
		"Feed token ids (corastream.json, check.tokens): a template's pieces are tokenised one by one, which a tokenizer given the whole text may do otherwise.",
		"These are the weights of one moment: the next event of the user makes new ones.",
	}
	if n.Part == "user" {
		out = append(out, "The user's part: A_u alone. The item's column b_i A_b is left out, so every candidate is scored as if its bias were 0, and scores and "+
			"order differ from this program's by what the item's popularity adds. Export with --item for a pair's own weights.")
	}
	if n.Check != nil && n.Check.Numbers != "f32" {
		out = append(out, fmt.Sprintf("The score recorded here was computed in %s: it differs from a float32 consumer's by the rounding. With llm.numerics f32 the two are equal "+
			"to within 1e-3 of the spread of the logits.", n.Check.Numbers))
	}
	const server = "llama.cpp's server, as of llama-cpp-python 0.3.36, starts an activated adapter one token before the invocation tokens"
	switch n.Adapt {
	case corastream.AdaptSuffix:
		if n.Activate == nil {
			out = append(out, "adapt: suffix, and the title begins the prompt: acting on all tokens is the same.")
			break
		}
		if n.Part == "pair" {
			out = append(out, "adapt: suffix. The weights act from the candidate's title on. The invocation tokens are this prompt from the title to its end, so PEFT "+
				"(alora_invocation_tokens) gives this program's score for this prompt and is the base model for any other.")
		} else {
			out = append(out, "adapt: suffix. The weights act from the candidate's title on, which no fixed tokens can name. The invocation tokens are the template's own "+
				"text right before the title, so a consumer gets the weights on those few tokens too: an approximation.")
		}
		if withGGUF {
			out = append(out, server+": one token more than meant. A program that calls the library is exact when it reads what comes before without the adapter and sets it then.")
		}
	case corastream.AdaptLast:
		out = append(out, "adapt: last. The weights act on the answer token alone: the last token of the answer mark, which is the invocation token. PEFT "+
			"(alora_invocation_tokens) starts at its last occurrence, so the first token after the prompt is scored exactly as here; on tokens generated after that the "+
			"weights act too, which this program never does.")
		if withGGUF {
			out = append(out, server+": there it acts on the last two tokens of the prompt, an approximation. A program that calls the library is exact when it reads all but "+
				"the last token without the adapter, sets it, and reads the last.")
		}
	}
	if n.Activate != nil {
		out = append(out, "A consumer that knows no activated LoRA ignores the invocation tokens and applies the weights to every token: that is another model, which was not trained.")
	}
	return out
}

// text is README.md, with the front matter that model hubs read.
func (n *Note) text(base string) []byte {
	var b bytes.Buffer
	whose := fmt.Sprintf("user %q", n.User)
	if n.Item != "" {
		whose += fmt.Sprintf(" and item %q", n.Item)
	}
	fmt.Fprintf(&b, "---\nlibrary_name: peft\nbase_model: %q\ntags: [lora, corastream]\n---\n# Collaborative weights of %s\n\n", base, whose)
	fmt.Fprintf(&b, "A LoRA adapter of rank %d, scale %g/%d, on %v of layers %v, made by corastream from the user's embedding (version %d) "+
		"by generator %s for the language model with SHA-256 %s.\n\n", n.Rank, n.Alpha, n.Rank, n.Targets, n.Layers, n.Versions.User, n.Versions.Generator, n.Versions.LLM)
	if c := n.Check; c != nil {
		fmt.Fprintf(&b, "Behind the prompt\n\n    %q\n\nthis program (numerics %s) finds the logits %g for \" Yes\" (token %d) and %g for \" No\" (token %d): P(Yes) = %.4f.\n\n",
			c.Prompt, c.Numbers, c.Yes, c.YesID, c.No, c.NoID, c.P)
	}
	for _, line := range n.Notes {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	return b.Bytes()
}
