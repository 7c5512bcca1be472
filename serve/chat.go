package serve

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// ChatResponse is an answer of POST /v1/chat/completions, or with Object "chat.completion.chunk" a part of one.
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

// ChatChoice is the one answer, or a part of it.
type ChatChoice struct {
	Index    int           `json:"index"`
	Message  *ChatText     `json:"message,omitempty"`
	Delta    *ChatText     `json:"delta,omitempty"`
	Logprobs *ChatLogprobs `json:"logprobs"`
	// FinishReason is "stop" (the answer ended, or a stop text came) or "length" (max_tokens or
	// the context is used up).
	FinishReason *string `json:"finish_reason"`
}

// ChatText is what was said.
type ChatText struct {
	Role    string `json:"role,omitempty" api:"enum=assistant"`
	Content string `json:"content"`
}

// ChatLogprobs are the tokens of a text.
type ChatLogprobs struct {
	Content []ChatToken `json:"content"`
}

// ChatToken is one token, and the likeliest in its place.
type ChatToken struct {
	Token       string      `json:"token"`
	Logprob     float32     `json:"logprob"` // before temperature, penalties and top_p
	Bytes       []int       `json:"bytes"`
	TopLogprobs []ChatToken `json:"top_logprobs,omitempty"`
}

// ChatUsage counts tokens.
type ChatUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
}

// ChatWeights says whose weights were merged in.
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

const userPartNote = "these are the user's weights A_u alone: the column of an item's bias is left out"

func (s *Server) chat(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Speaker == nil {
		return missing("a language model", "give the serve stage a GGUF file")
	}
	var q ChatRequest
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	d, err := s.dialogue(&q)
	if err != nil {
		return err
	}
	user, model, err := s.speaksAs(&q)
	if err != nil {
		return err
	}
	if d.Seed, err = seedOf(q.Seed); err != nil {
		return err
	}
	// Reading the body is over: its deadline must not end the answer, but a client that goes away still does.
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Time{}) //nolint:errcheck // a recorder in a test has none
	if err := s.talk.enter(r.Context()); err != nil {
		return err
	}
	defer s.talk.leave()
	whose, err := s.merge(r.Context(), user, &d)
	if err != nil {
		return err
	}
	a := &answering{s: s, w: w, control: control, q: &q, whose: whose, head: ChatResponse{
		ID: "chatcmpl-" + rand.Text(), Created: s.deps.Now().Unix(), Model: model, SystemFingerprint: s.fingerprint(whose),
	}}
	reply, err := s.deps.Speaker.Speak(r.Context(), d, a.piece)
	s.metrics.tokens.Add(float64(reply.Tokens))
	if err != nil {
		s.metrics.answers.WithLabelValues(whose.Weights, "failed").Inc()
		return a.failed(chatFailure(err))
	}
	s.metrics.answers.WithLabelValues(whose.Weights, reply.Finish).Inc()
	return a.end(reply)
}

// chatFailure: what a model can not do with a conversation is the request's fault, and named; a model without a template is not.
func chatFailure(err error) error {
	var u *corastream.UsageError
	if errors.As(err, &u) && !strings.HasPrefix(u.Where, "messages") && u.Where != "logit_bias" {
		return &Failure{Status: http.StatusNotImplemented, Code: "not_available", Message: "this model can not hold conversations: " + u.What, Fix: u.Fix, cause: err}
	}
	return fmt.Errorf("speak: %w", err)
}

// speaksAs reads off a request whose weights answer ("": the frozen LLM's own) and what the answer calls the model.
func (s *Server) speaksAs(q *ChatRequest) (user, model string, err error) {
	var all []Model
	if s.deps.Models != nil {
		all = s.deps.Models()
	}
	if q.User != "" {
		if err := s.checkID("user", q.User); err != nil {
			return "", "", err
		}
	}
	if q.Model == "" {
		if q.User == "" && len(all) > 0 {
			return "", all[0].ID, nil
		}
		return q.User, s.modelName(), nil
	}
	for _, m := range all {
		switch {
		case m.ID == q.Model && m.Parent == "":
			return "", m.ID, nil
		case m.ID == q.Model && q.User == "":
			return "", "", &Failure{Status: http.StatusBadRequest, Code: "missing_field", Field: "user", Message: "this model answers with a user's weights, and no user is named",
				Fix: fmt.Sprintf("send user, or model %q with the user's id; model %q is the LLM without weights", all[0].ID+":USER", all[0].ID)}
		case m.ID == q.Model:
			return q.User, m.ID, nil
		}
	}
	for _, m := range all {
		if id, ok := strings.CutPrefix(q.Model, m.ID+":"); ok {
			if err := s.checkID("model", id); err != nil {
				return "", "", err
			}
			if q.User != "" && q.User != id {
				return "", "", badField("user", "leave it out, or name one user in both", "model names user %.80q, and user is %.80q", id, q.User)
			}
			return id, q.Model, nil
		}
	}
	if err := s.checkModel(q.Model); err != nil {
		return "", "", err
	}
	return q.User, q.Model, nil
}

// merge puts the user's weights into the dialogue.
func (s *Server) merge(ctx context.Context, user string, d *corastream.Dialogue) (*ChatWeights, error) {
	if user == "" {
		return &ChatWeights{Weights: "base", Versions: s.llmVersion()}, nil
	}
	arm := s.arm(user)
	if s.deps.View == nil || s.deps.Predictor == nil || arm.Generator == nil {
		return nil, fmt.Errorf("weights of a user: %w", corastream.ErrDegraded)
	}
	out := &ChatWeights{Weights: "user", UserID: user, Arm: arm.Name, Checkpoint: arm.Versions.Generator, Note: userPartNote}
	versions := arm.Versions
	pair := make([]corastream.Pair, 1)
	if err := s.deps.View.View(ctx, func(st corastream.State) error {
		u, err := st.User(user)
		if err != nil {
			return err
		}
		versions.User = u.Version
		if out.Cold = len(u.History) == 0; out.Cold {
			out.Note = "nothing is known of this user yet: these are the weights of anybody; " + userPartNote
		}
		pair[0], err = corastream.PairOf(st, s.deps.Predictor, user, "")
		return err
	}); err != nil {
		return nil, err
	}
	if g, ok := arm.Generator.(interface{ PerPair() bool }); ok && g.PerPair() {
		return nil, notHere("model", "ask for the model without weights", "with this checkpoint every pair of user and item has weights of its own: there is no user's part")
	}
	weights, projection, err := arm.Generator.Weights(ctx, pair)
	if err != nil {
		return nil, fmt.Errorf("generate weights: %w", err)
	}
	mine := weights[0]
	mine.Item, mine.ItemScale = nil, 0
	d.Weights, d.Projection, out.Versions = &mine, projection, &versions
	return out, nil
}

// arm is the user's share of a rollout; without one, the checkpoint in use.
func (s *Server) arm(user string) corastream.Arm {
	if s.deps.Arms != nil {
		return s.deps.Arms.Arm(user)
	}
	a := corastream.Arm{Generator: s.deps.Generator}
	if s.deps.Versions != nil {
		a.Versions = s.deps.Versions()
	}
	return a
}

func (s *Server) llmVersion() *corastream.Versions {
	v := corastream.Versions{}
	if s.deps.Versions != nil {
		v.LLM = s.deps.Versions().LLM
	}
	return &v
}

func (s *Server) fingerprint(c *ChatWeights) string {
	if c.Versions == nil {
		return "fp"
	}
	short := func(digest string) string { return digest[:min(12, len(digest))] }
	name := "fp_" + short(c.Versions.LLM)
	if c.Checkpoint != "" {
		name += "_" + short(c.Checkpoint)
	}
	return name
}

func seedOf(given *whole) (uint64, error) {
	if given != nil {
		return uint64(*given), nil
	}
	var b [8]byte
	_, err := rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:]), err
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

// piece takes the next part.
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

// failed tells an error. Once the stream has begun its status is out, so the error is its last event.
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
