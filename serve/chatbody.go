package serve

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"

	"github.com/corastream/corastream"
)

// ChatRequest is the body of POST /v1/chat/completions, as OpenAI's clients send it.
//
// The model and the user say whose weights answer. `model: base` is the frozen LLM. `model:
// base:USER` is the LLM with that user's weights merged in. Any other listed model, or none, takes
// the user from `user`. The weights are the user's part alone, A_u. The column of an item's bias
// is left out, since a conversation is about no item.
type ChatRequest struct {
	// base: the frozen LLM; base:USER: with this user's weights; any other of /v1/models, or none:
	// with the weights of user
	Model         string         `json:"model"`
	Messages      []chatMessage  `json:"messages" api:"required;min=1;max=messages"`
	User          string         `json:"user" api:"max=id"` // whose weights; not read for model base
	Stream        bool           `json:"stream"`            // answer as server-sent events: chunks, then [DONE]
	StreamOptions *streamOptions `json:"stream_options"`
	// at most the server's max_generated_tokens, which is the default
	MaxTokens           *whole   `json:"max_tokens" api:"min=1"`
	MaxCompletionTokens *whole   `json:"max_completion_tokens" api:"min=1"` // as max_tokens, by its newer name
	Temperature         *float64 `json:"temperature" api:"min=0;max=2"`     // default 1; 0 takes the most likely token
	TopP                *float64 `json:"top_p" api:"min=0;max=1"`           // default 1
	// Seed makes answers repeatable: equal seeds give equal answers of one system_fingerprint.
	// Default: a random one.
	Seed             *whole             `json:"seed"`
	Stop             stopTexts          `json:"stop"`                                // the answer ends before the first of these
	N                *whole             `json:"n" api:"min=1;max=1"`                 // one answer is given
	Logprobs         bool               `json:"logprobs"`                            // tell each token with its log-probability
	TopLogprobs      *whole             `json:"top_logprobs" api:"min=0;max=likely"` // and so many likely ones; needs logprobs
	FrequencyPenalty *float64           `json:"frequency_penalty" api:"min=-2;max=2"`
	PresencePenalty  *float64           `json:"presence_penalty" api:"min=-2;max=2"`
	LogitBias        map[string]float64 `json:"logit_bias" api:"max=biases;each.min=-100;each.max=100"` // by token id
	ResponseFormat   *responseFormat    `json:"response_format"`

	Tools     []json.RawMessage `json:"tools" api:"max=0"`     // refused unless empty: this server calls no tools
	Functions []json.RawMessage `json:"functions" api:"max=0"` // refused unless empty: this server calls no tools

	ToolChoice        any `json:"tool_choice"`         // accepted, changes nothing
	ParallelToolCalls any `json:"parallel_tool_calls"` // accepted, changes nothing
	Store             any `json:"store"`               // accepted, changes nothing
	Metadata          any `json:"metadata"`            // accepted, changes nothing
	ServiceTier       any `json:"service_tier"`        // accepted, changes nothing
	ReasoningEffort   any `json:"reasoning_effort"`    // accepted, changes nothing
	SafetyIdentifier  any `json:"safety_identifier"`   // accepted, changes nothing
	PromptCacheKey    any `json:"prompt_cache_key"`    // accepted, changes nothing
}

type streamOptions struct {
	IncludeUsage       bool `json:"include_usage"`
	IncludeObfuscation bool `json:"include_obfuscation"` // accepted, never done
}

type responseFormat struct {
	Type       string `json:"type" api:"notnull;enum=text"`
	JSONSchema any    `json:"json_schema"` // refused with its type: answers are plain text
	Schema     any    `json:"schema"`      // the same
}

// chatMessage is one message. An answer that a client sends back has further fields, which are
// null here.
type chatMessage struct {
	Role         string            `json:"role" api:"required;enum=system|developer|user|assistant"`
	Content      chatContent       `json:"content" api:"required"`
	Name         string            `json:"name"`                   // accepted, told to nobody
	ToolCalls    []json.RawMessage `json:"tool_calls" api:"max=0"` // refused unless empty: this server calls no tools
	ToolCallID   string            `json:"tool_call_id"`
	Refusal      any               `json:"refusal"`     // accepted, changes nothing
	Annotations  any               `json:"annotations"` // accepted, changes nothing
	Audio        any               `json:"audio"`       // accepted, changes nothing
	FunctionCall any               `json:"function_call" api:"form=null"`
}

// chatContent is a text, or a list of {"type": "text", "text": ...}.
type chatContent struct {
	text string
	set  bool
}

// UnmarshalJSON accepts both forms.
func (c *chatContent) UnmarshalJSON(raw []byte) error {
	switch {
	case string(raw) == "null":
		return nil
	case raw[0] == '"':
		c.set = true
		return json.Unmarshal(raw, &c.text)
	case raw[0] != '[':
		return wrongType[chatContent](raw)
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if err := json.Unmarshal(raw, &parts); err != nil {
		return wrongType[chatContent](raw)
	}
	for i, p := range parts {
		if p.Type != "text" || p.Text == nil {
			return badField(fmt.Sprintf("[%d]", i), `send a string, or [{"type": "text", "text": "..."}]`, "content of type %.40q can not be read", p.Type)
		}
		c.text += *p.Text
	}
	c.set = true
	return nil
}

// stopTexts is one text or a list of them.
type stopTexts []string

// UnmarshalJSON accepts both forms and null.
func (s *stopTexts) UnmarshalJSON(raw []byte) error {
	if raw[0] == '"' {
		*s = make(stopTexts, 1)
		return json.Unmarshal(raw, &(*s)[0])
	}
	if string(raw) == "null" {
		return nil
	}
	var all []string
	if raw[0] != '[' || json.Unmarshal(raw, &all) != nil {
		return wrongType[stopTexts](raw)
	}
	*s = all
	return nil
}

// Bounds of a conversation, beside max_body_bytes.
const (
	maxStops     = 16
	maxStopBytes = 256
	maxLikely    = 20  // top_logprobs
	maxBiases    = 300 // logit_bias
	maxMessages  = 1000
)

// dialogue checks a request and says what is asked of the LLM.
func (s *Server) dialogue(q *ChatRequest) (d corastream.Dialogue, err error) {
	if len(q.Messages) == 0 {
		return d, &Failure{Status: 400, Code: "missing_field", Field: "messages", Message: "it is missing or empty", Fix: "send at least one message"}
	}
	if len(q.Messages) > maxMessages {
		return d, badField("messages", fmt.Sprintf("send at most %d", maxMessages), "%d messages", len(q.Messages))
	}
	for i, m := range q.Messages {
		at := fmt.Sprintf("messages[%d]", i)
		role := m.Role
		switch role {
		case "developer":
			role = "system"
		case "system", "user", "assistant":
		default:
			return d, badField(at+".role", "use system, developer, user or assistant", "%.40q is no role here", role)
		}
		if len(m.ToolCalls) > 0 || m.FunctionCall != nil {
			return d, badField(at+".tool_calls", "leave it out", "this server calls no tools")
		}
		if !m.Content.set {
			return d, &Failure{Status: 400, Code: "missing_field", Field: at + ".content", Message: "it is missing", Fix: "give a text"}
		}
		d.Messages = append(d.Messages, corastream.Message{Role: role, Content: m.Content.text})
	}
	if len(q.Tools)+len(q.Functions) > 0 {
		return d, notHere("tools", "leave them out", "this server calls no tools")
	}
	if q.ResponseFormat != nil && q.ResponseFormat.Type != "text" && q.ResponseFormat.Type != "" {
		return d, notHere("response_format", `leave it out, or send {"type": "text"}`, "answers are plain text")
	}
	if q.N != nil && *q.N != 1 {
		return d, badField("n", "send 1, or leave it out", "%d answers wanted", *q.N)
	}
	if d.MaxTokens, err = s.maxTokens(q); err != nil {
		return d, err
	}
	number := func(field string, v *float64, def, lo, hi float64) float32 {
		if v == nil {
			return float32(def)
		}
		if err == nil && !(*v >= lo && *v <= hi) {
			err = badField(field, fmt.Sprintf("choose from %g to %g", lo, hi), "%g is out of range", *v)
		}
		return float32(*v)
	}
	d.Temperature, d.TopP = number("temperature", q.Temperature, 1, 0, 2), number("top_p", q.TopP, 1, 0, 1)
	d.Frequency, d.Presence = number("frequency_penalty", q.FrequencyPenalty, 0, -2, 2), number("presence_penalty", q.PresencePenalty, 0, -2, 2)
	if err != nil {
		return d, err
	}
	if len(q.Stop) > maxStops {
		return d, badField("stop", fmt.Sprintf("send at most %d", maxStops), "%d texts", len(q.Stop))
	}
	for i, text := range q.Stop {
		if text == "" || len(text) > maxStopBytes {
			return d, badField(fmt.Sprintf("stop[%d]", i), fmt.Sprintf("send 1 to %d bytes", maxStopBytes), "%d bytes", len(text))
		}
	}
	d.Stop = q.Stop
	if q.TopLogprobs != nil {
		if n := *q.TopLogprobs; n < 0 || n > maxLikely || n > 0 && !q.Logprobs {
			return d, badField("top_logprobs", fmt.Sprintf("choose from 0 to %d, with logprobs: true", maxLikely), "%d", n)
		}
		d.Top = int(*q.TopLogprobs)
	}
	if len(q.LogitBias) > maxBiases {
		return d, badField("logit_bias", fmt.Sprintf("send at most %d", maxBiases), "%d tokens", len(q.LogitBias))
	}
	for id, b := range q.LogitBias {
		n, err := strconv.ParseInt(id, 10, 32)
		if err != nil || n < 0 || !(math.Abs(b) <= 100) {
			return d, badField("logit_bias", "map token ids to numbers from -100 to 100", "%.20q: %g", id, b)
		}
		if d.Bias == nil {
			d.Bias = map[int32]float32{}
		}
		d.Bias[int32(n)] = float32(b)
	}
	return d, nil
}

func (s *Server) maxTokens(q *ChatRequest) (int, error) {
	n := s.cfg.MaxGeneratedTokens
	for field, v := range map[string]*whole{"max_tokens": q.MaxTokens, "max_completion_tokens": q.MaxCompletionTokens} {
		if v == nil {
			continue
		}
		if *v < 1 {
			return 0, badField(field, "ask for at least 1", "%d tokens wanted", *v)
		}
		n = min(n, int(*v))
	}
	return n, nil
}

// textBytes are a token's bytes, as OpenAI lists them.
func textBytes(text string) []int {
	out := make([]int, len(text))
	for i, b := range []byte(text) {
		out[i] = int(b)
	}
	return out
}
