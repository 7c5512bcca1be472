package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// ChatResponse is an answer of POST /v1/chat/completions. Where object is "chat.completion.chunk"
// it is a part of one.
type ChatResponse struct {
	ID      string `json:"id"`
	Object  string `json:"object" api:"enum=chat.completion|chat.completion.chunk"`
	Created int64  `json:"created"` // unix seconds
	Model   string `json:"model"`
	// the LLM and the checkpoint: equal ones and an equal seed give equal answers
	SystemFingerprint string       `json:"system_fingerprint"`
	Choices           []ChatChoice `json:"choices"`
	Usage             *ChatUsage   `json:"usage,omitempty"`
	// Corastream says whose weights answered; in a stream it comes with the first part.
	Corastream *ChatWeights `json:"corastream,omitempty"`
}

// ChatChoice is the one answer of a ChatResponse, or a part of it.
type ChatChoice struct {
	Index    int           `json:"index"`
	Message  *ChatText     `json:"message,omitempty"`
	Delta    *ChatText     `json:"delta,omitempty"`
	Logprobs *ChatLogprobs `json:"logprobs"`
	// FinishReason is "stop" (the answer ended, or a stop text came) or "length" (max_tokens or
	// the context is used up).
	FinishReason *string `json:"finish_reason"`
}

// ChatText is text that the assistant writes.
type ChatText struct {
	Role    string `json:"role,omitempty" api:"enum=assistant"`
	Content string `json:"content"`
}

// ChatLogprobs are the tokens of a text, with their log-probabilities.
type ChatLogprobs struct {
	Content []ChatToken `json:"content"`
}

// ChatToken is one token, and the most likely tokens in its place.
type ChatToken struct {
	Token       string      `json:"token"`
	Logprob     float32     `json:"logprob"` // before temperature, penalties and top_p
	Bytes       []int       `json:"bytes"`
	TopLogprobs []ChatToken `json:"top_logprobs,omitempty"`
}

// ChatUsage counts the tokens of a conversation and of its answer.
type ChatUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// ChatWeights says whose weights were merged into the LLM for an answer.
type ChatWeights struct {
	// Weights are "base" (the frozen LLM alone) or "user" (with the user's part A_u, without the
	// column of an item's bias).
	Weights string `json:"weights" api:"enum=base|user"`
	UserID  string `json:"user_id,omitempty"`
	Cold    bool   `json:"cold,omitempty"` // nothing is known of the user
	// the share of a rollout that the user fell in: active or canary
	Arm        string               `json:"arm,omitempty"`
	Checkpoint string               `json:"checkpoint,omitempty"` // its digest; absent when degraded
	Versions   *corastream.Versions `json:"versions,omitempty"`
	Note       string               `json:"note,omitempty"`
}

// answering writes one answer, whole or as server-sent events.
type answering struct {
	s       *Server
	w       http.ResponseWriter
	control *http.ResponseController
	q       *ChatRequest
	whose   *ChatWeights
	head    ChatResponse

	began  bool
	text   strings.Builder
	tokens []ChatToken
}

// piece takes the next part of the answer from the LLM: it sends the part, or keeps it until the
// end.
func (a *answering) piece(p corastream.Piece) error {
	if !a.q.Stream {
		a.text.WriteString(p.Text)
		if a.q.Logprobs {
			a.tokens = append(a.tokens, chatTokens(p.Tokens, a.q.TopLogprobs != nil)...)
		}
		return nil
	}
	if err := a.begin(); err != nil {
		return err
	}
	c := ChatChoice{Delta: &ChatText{Content: p.Text}}
	if a.q.Logprobs {
		c.Logprobs = &ChatLogprobs{chatTokens(p.Tokens, a.q.TopLogprobs != nil)}
	}
	return a.send(ChatResponse{Choices: []ChatChoice{c}})
}

func chatTokens(tokens []corastream.Spoken, top bool) []ChatToken {
	out := make([]ChatToken, len(tokens))
	for i, t := range tokens {
		out[i] = ChatToken{Token: strings.ToValidUTF8(t.Text, "\ufffd"), Logprob: t.Logprob, Bytes: textBytes(t.Text)}
		if top {
			out[i].TopLogprobs = chatTokens(t.Top, false)
		}
	}
	return out
}

// begin opens the stream. Its first part names the assistant and says whose weights answer.
func (a *answering) begin() error {
	if a.began {
		return nil
	}
	a.began = true
	h := a.w.Header()
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy must not collect what is meant to flow
	a.w.WriteHeader(http.StatusOK)
	return a.send(ChatResponse{Choices: []ChatChoice{{Delta: &ChatText{Role: "assistant"}}}, Corastream: a.whose})
}

// patience is how long a client may take to accept one part.
const patience = 15 * time.Second

func (a *answering) send(part ChatResponse) error {
	part.ID, part.Object, part.Created, part.Model = a.head.ID, "chat.completion.chunk", a.head.Created, a.head.Model
	part.SystemFingerprint = a.head.SystemFingerprint
	body, err := json.Marshal(part)
	if err != nil {
		return err
	}
	return a.event(body)
}

func (a *answering) event(body []byte) error {
	a.control.SetWriteDeadline(time.Now().Add(patience)) //nolint:errcheck // a recorder in a test has none
	if _, err := fmt.Fprintf(a.w, "data: %s\n\n", body); err != nil {
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	if err := a.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("%w: %w", context.Canceled, err)
	}
	return nil
}

func (a *answering) end(r corastream.Reply) error {
	use := &ChatUsage{PromptTokens: r.PromptTokens, CompletionTokens: r.Tokens, TotalTokens: r.PromptTokens + r.Tokens}
	if a.q.Stream {
		if err := a.begin(); err != nil {
			return err
		}
		if err := a.send(ChatResponse{Choices: []ChatChoice{{Delta: &ChatText{}, FinishReason: &r.Finish}}}); err != nil {
			return err
		}
		if a.q.StreamOptions != nil && a.q.StreamOptions.IncludeUsage {
			if err := a.send(ChatResponse{Choices: []ChatChoice{}, Usage: use}); err != nil {
				return err
			}
		}
		return a.event([]byte("[DONE]"))
	}
	out := a.head
	out.Object, out.Usage, out.Corastream = "chat.completion", use, a.whose
	choice := ChatChoice{Message: &ChatText{Role: "assistant", Content: a.text.String()}, FinishReason: &r.Finish}
	if a.q.Logprobs {
		choice.Logprobs = &ChatLogprobs{append([]ChatToken{}, a.tokens...)}
	}
	out.Choices = []ChatChoice{choice}
	a.control.SetWriteDeadline(time.Now().Add(patience)) //nolint:errcheck // a recorder in a test has none
	writeJSON(a.w, http.StatusOK, out)
	return nil
}

// failed answers with an error. Once the stream has begun the status has been sent, so the error
// is the stream's last event.
func (a *answering) failed(err error) error {
	if !a.began {
		a.control.SetWriteDeadline(time.Now().Add(patience)) //nolint:errcheck // a recorder in a test has none
		return err
	}
	f := failureOf(err)
	body, encodeErr := json.Marshal(openAIFailure{openAIError(f)})
	if encodeErr == nil && f.Status != statusGone {
		a.event(body) //nolint:errcheck // the client is gone; there is nobody left to tell
	}
	return err
}
