package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

const hello = `"messages":[{"role":"user","content":"hello there you"}]`

func TestModelAndUserPickTheWeights(t *testing.T) {
	f := newFixture(t, withLLM)
	for _, c := range []struct{ body, says, weights, user, model string }{
		{`{` + hello + `}`, "hello there you", "base", "", "smollm"},
		{`{` + hello + `,"model":"smollm"}`, "hello there you", "base", "", "smollm"},
		{`{` + hello + `,"model":"smollm","user":"anna"}`, "hello there you", "base", "", "smollm"},
		{`{` + hello + `,"model":"smollm:anna"}`, "HELLO THERE YOU", "user", "anna", "smollm:anna"},
		{`{` + hello + `,"model":"smollm:a:b"}`, "HELLO THERE YOU", "user", "a:b", "smollm:a:b"},
		{`{` + hello + `,"model":"smollm+cora:anna","user":"anna"}`, "HELLO THERE YOU", "user", "anna", "smollm+cora:anna"},
		{`{` + hello + `,"model":"smollm+cora","user":"anna"}`, "HELLO THERE YOU", "user", "anna", "smollm+cora"},
		{`{` + hello + `,"user":"anna"}`, "HELLO THERE YOU", "user", "anna", "smollm+cora"},
	} {
		var got ChatResponse
		f.call("POST", "/v1/chat/completions", c.body, &got)
		ch := got.Choices[0]
		if ch.Message == nil || ch.Message.Content != c.says || ch.Message.Role != "assistant" || *ch.FinishReason != "stop" || got.Model != c.model || got.Object != "chat.completion" {
			t.Errorf("%s: %+v %+v", c.body, got, ch.Message)
		}
		if w := got.Corastream; w.Weights != c.weights || w.UserID != c.user || (c.user != "") != strings.Contains(w.Note, "A_u") || w.Cold != (c.user == "a:b") {
			t.Errorf("%s: %+v", c.body, w)
		}
		if *got.Usage != (ChatUsage{1, 3, 4}) || !strings.HasPrefix(got.SystemFingerprint, "fp_sha256:llm") {
			t.Errorf("%s: %+v %s", c.body, got.Usage, got.SystemFingerprint)
		}
	}
	// Weights that are not to be had are an error, never the base model's answer.
	without := newFixture(t, func(_ *Config, d *Deps) { d.Speaker = byHand{} })
	if code, fail := without.failure("POST", "/v1/chat/completions", `{`+hello+`,"model":"smollm:anna"}`); code != 503 || fail.Code != "degraded" {
		t.Errorf("%d %+v", code, fail)
	}
}

// The item's column of W_A has no place in a conversation.
func TestAConversationTakesTheUsersPartAlone(t *testing.T) {
	var seen corastream.Dialogue
	f := newFixture(t, withLLM, func(_ *Config, d *Deps) {
		d.Generator = withColumn{}
		d.Speaker = speaker(func(_ context.Context, d corastream.Dialogue) (corastream.Reply, error) {
			seen = d
			return corastream.Reply{Finish: "stop"}, nil
		})
	})
	f.ok("POST", "/v1/chat/completions", `{`+hello+`,"model":"smollm:anna","seed":5,"temperature":0,"stop":"x","logit_bias":{"7":-2},"max_completion_tokens":9}`, &ChatResponse{})
	if seen.Weights == nil || seen.Weights.Item != nil || seen.Weights.ItemScale != 0 || seen.Projection == nil {
		t.Errorf("%+v", seen.Weights)
	}
	if seen.Seed != 5 || seen.Temperature != 0 || seen.TopP != 1 || len(seen.Stop) != 1 || seen.Bias[7] != -2 || seen.MaxTokens != 9 {
		t.Errorf("%+v", seen)
	}
	f.ok("POST", "/v1/chat/completions", `{`+hello+`,"max_tokens":100000}`, &ChatResponse{})
	if seen.Weights != nil || seen.Temperature != 1 || seen.MaxTokens != 512 {
		t.Errorf("%+v", seen)
	}
}

type withColumn struct{}

func (withColumn) Weights(_ context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	return []corastream.Weights{{Hidden: 1, Rank: 1, User: []float32{1}, Item: []float32{1}, ItemScale: 3}}, &corastream.Projection{Rank: 1}, nil
}

type speaker func(context.Context, corastream.Dialogue) (corastream.Reply, error)

func (s speaker) Speak(ctx context.Context, d corastream.Dialogue, _ func(corastream.Piece) error) (corastream.Reply, error) {
	return s(ctx, d)
}

// events reads a stream's data lines.
func events(t *testing.T, body string) (parts []ChatResponse, last string) {
	t.Helper()
	scan := bufio.NewScanner(strings.NewReader(body))
	for scan.Scan() {
		data, ok := strings.CutPrefix(scan.Text(), "data: ")
		if !ok {
			if scan.Text() != "" {
				t.Errorf("a line %q", scan.Text())
			}
			continue
		}
		if last = data; data == "[DONE]" || strings.HasPrefix(data, `{"error"`) {
			continue
		}
		var p ChatResponse
		if err := json.Unmarshal([]byte(data), &p); err != nil {
			t.Fatal(err)
		}
		parts = append(parts, p)
	}
	return parts, last
}

func TestAStreamTellsTheSameInParts(t *testing.T) {
	f := newFixture(t, withLLM)
	w := f.call("POST", "/v1/chat/completions", `{`+hello+`,"model":"smollm:anna","stream":true,"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":2,"max_tokens":2}`, nil)
	parts, last := events(t, w.Body.String())
	if w.Code != 200 || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") || last != "[DONE]" || len(parts) != 5 {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	text := ""
	for i, p := range parts {
		if p.ID != parts[0].ID || p.Object != "chat.completion.chunk" || p.Model != "smollm:anna" || (p.Corastream != nil) != (i == 0) || (p.Usage != nil) != (i == 4) {
			t.Errorf("part %d: %+v", i, p)
		}
		if i < 4 {
			text += p.Choices[0].Delta.Content
		}
		if i == 1 || i == 2 {
			if l := p.Choices[0].Logprobs; len(l.Content) != 1 || l.Content[0].Logprob != -.5 || len(l.Content[0].TopLogprobs) != 2 || len(l.Content[0].Bytes) != 6 {
				t.Errorf("part %d: %+v", i, l)
			}
		}
	}
	if text != "HELLO THERE " || parts[0].Choices[0].Delta.Role != "assistant" || *parts[3].Choices[0].FinishReason != "length" || *parts[4].Usage != (ChatUsage{1, 2, 3}) {
		t.Errorf("%q %s", text, w.Body)
	}
	// An error after the first part is the stream's last event; one before it is an error as any other.
	w = f.call("POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"so fail"}],"stream":true}`, nil)
	parts, last = events(t, w.Body.String())
	if w.Code != 200 || len(parts) != 2 || !strings.Contains(last, `"server_error"`) || strings.Contains(last, "broke") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if code, fail := f.failure("POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"fail"}],"stream":true}`); code != 500 || fail.Code != "internal" {
		t.Errorf("%d %+v", code, fail)
	}
}

func TestWhoeverGoesAwayFreesThePlaceForTheNext(t *testing.T) {
	f := newFixture(t, withLLM, freePort, func(c *Config, _ *Deps) {
		c.MaxGenerations, c.MaxGenerationQueue, c.QueueTimeoutMS = 1, 0, 60_000
		c.RequestTimeoutMS = 300 // a conversation may outlast it
	})
	f.run()
	ctx, leave := context.WithCancel(t.Context())
	body := `{"messages":[{"role":"user","content":"so wait"}],"stream":true}`
	req, err := http.NewRequestWithContext(ctx, "POST", f.URL()+"v1/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	line := bufio.NewReader(resp.Body)
	if s, err := line.ReadString('\n'); err != nil || !strings.Contains(s, "assistant") {
		t.Fatalf("%q %v", s, err)
	}
	// The place is taken and nobody may wait: 503 with Retry-After, in OpenAI's shape.
	w := f.call("POST", "/v1/chat/completions", `{`+hello+`}`, nil)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), `"overloaded"`) || !strings.Contains(w.Body.String(), `"server_error"`) {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	// Longer than a usual request may take: neither its deadline nor the connection's has ended the stream.
	time.Sleep(400 * time.Millisecond)
	if w := f.call("POST", "/v1/chat/completions", `{`+hello+`}`, nil); w.Code != 503 {
		t.Errorf("the first conversation is gone: %d", w.Code)
	}
	leave()
	resp.Body.Close()
	for {
		w := f.call("POST", "/v1/chat/completions", `{`+hello+`}`, nil)
		if w.Code == 200 {
			break
		}
		if t.Context().Err() != nil || w.Code != 503 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAConversationThatTakesTooLongIsEnded(t *testing.T) {
	f := newFixture(t, withLLM, func(c *Config, _ *Deps) { c.GenerationTimeoutMS = 100 })
	if code, fail := f.failure("POST", "/v1/chat/completions", `{"messages":[{"role":"user","content":"wait"}]}`); code != 504 || fail.Code != "timeout" {
		t.Errorf("%d %+v", code, fail)
	}
}

func TestModelsAreFoundByName(t *testing.T) {
	f := newFixture(t)
	for name, parent := range map[string]string{"smollm": "", "smollm+cora": "smollm", "smollm:anna": "smollm", "smollm+cora:x:y": "smollm+cora"} {
		var m modelLine
		f.call("GET", "/v1/models/"+name, "", &m)
		if m.ID != name || m.Parent != parent || m.Object != "model" {
			t.Errorf("%s: %+v", name, m)
		}
	}
	for _, name := range []string{"gpt", "smollm:"} {
		if code, fail := f.failure("GET", "/v1/models/"+name, ""); code != 404 || fail.Field != "model" {
			t.Errorf("%s: %d %+v", name, code, fail)
		}
	}
}
