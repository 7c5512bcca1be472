package corastream

import "context"

// Message is one turn of a conversation.
type Message struct {
	Role    string // "system", "user" or "assistant"
	Content string
}

// Dialogue is a conversation and how to go on with it.
type Dialogue struct {
	Messages []Message
	// MaxTokens bounds the answer; 0: what the context has room for.
	MaxTokens int
	// Temperature 0 takes the most likely token; TopP keeps the most likely tokens that together have this probability
	// (1, or 0: all). Seed decides the draws: equal dialogues and seeds give equal answers.
	Temperature, TopP float32
	Seed              uint64
	// Frequency is taken from a token's logit for each time it was said before, Presence once (OpenAI's penalties).
	Frequency, Presence float32
	Bias                map[int32]float32 // added to the logits of these tokens
	Stop                []string          // the answer ends before the first of these texts
	Top                 int               // how many likely tokens are told beside each one said
	// Weights are one user's W_A, merged in; nil asks the frozen model. They act on the tokens that Projection.Adapt says:
	// `all` and `suffix` on every token, `last` on each token from which the next one is read.
	Weights    *Weights
	Projection *Projection
}

// Spoken is one token of an answer, with its log-probability before temperature, penalties and TopP.
type Spoken struct {
	ID      int32
	Text    string // its bytes: not always whole characters
	Logprob float32
	Top     []Spoken // the most likely tokens, best first; Top of these is nil
}

// Piece is a part of an answer that can not change any more: whole characters, and no beginning of a stop text.
type Piece struct {
	Text   string
	Tokens []Spoken
}

// Reply says how an answer ended.
type Reply struct {
	PromptTokens, Tokens int
	Finish               string // "stop": it was at its end or at a stop text; "length": MaxTokens or the context ended it
}

// Speaker goes on with conversations. each gets the answer piece by piece; its error ends the answer and is returned.
type Speaker interface {
	Speak(ctx context.Context, d Dialogue, each func(Piece) error) (Reply, error)
}
