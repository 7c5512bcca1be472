package serve

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

func TestEveryRouteAsksForTheToken(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) { c.Token = token })
	for _, rt := range f.routes() {
		for _, c := range []struct {
			name    string
			headers []string
			let     bool
		}{
			{"none", nil, rt.public},
			{"wrong", []string{"Authorization", "Bearer " + token + "x"}, rt.public},
			{"a prefix", []string{"X-API-Key", token[:len(token)-1]}, rt.public},
			{"basic", []string{"Authorization", "Basic " + token}, rt.public},
			{"bearer", []string{"Authorization", "Bearer " + token}, true},
			{"lower case", []string{"Authorization", "bearer " + token}, true},
			{"key", []string{"X-API-Key", token}, true},
		} {
			w := f.call(rt.method, example(rt), "", nil, c.headers...)
			if let := w.Code != http.StatusUnauthorized; let != c.let {
				t.Errorf("%s %s with %s: %d %s", rt.method, rt.path, c.name, w.Code, w.Body)
			}
			if w.Code == http.StatusUnauthorized && (w.Header().Get("WWW-Authenticate") == "" || !strings.Contains(w.Body.String(), `"code":"unauthorized"`)) {
				t.Errorf("%s %s: %s", rt.method, rt.path, w.Body)
			}
		}
	}
}

// TestOnlyWhoIsLetInGetsASpan: a stranger could have as many kept as he likes; pages, probes and metrics have none.
func TestOnlyWhoIsLetInGetsASpan(t *testing.T) {
	var spans []string
	f := newFixture(t, withLLM, func(c *Config, d *Deps) {
		c.Token = token
		d.Span = func(r *http.Request, route string) (context.Context, func(int)) {
			return r.Context(), func(status int) { spans = append(spans, fmt.Sprint(r.Method, " ", route, " ", status)) }
		}
	})
	auth := []string{"Authorization", "Bearer " + token}
	for _, path := range []string{"/v1/recommend", "/v1/nothing"} {
		f.call("POST", path, `{"user_id":"anna"}`, nil)
		f.call("POST", path, `{"user_id":"anna"}`, nil, "X-API-Key", "wrong")
	}
	f.call("PUT", "/v1/recommend", "", nil) // answered to anybody: there is no such method
	for _, path := range []string{"/", "/healthz", "/metrics", "/openapi.json"} {
		f.call("GET", path, "", nil, auth...)
	}
	if len(spans) > 0 {
		t.Errorf("%v", spans)
	}
	f.call("POST", "/v1/recommend", `{"user_id":"anna"}`, nil, auth...)
	f.call("POST", "/v1/recommend", `{"user_id":""}`, nil, auth...)
	f.call("GET", "/v1/users/nobody", "", nil, auth...)
	want := []string{"POST /v1/recommend 200", "POST /v1/recommend 400", "GET /v1/users/{id} 404"}
	if fmt.Sprint(spans) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", spans, want)
	}
}

func TestEveryRouteNamesTheMethodsItHas(t *testing.T) {
	f := newFixture(t)
	for _, rt := range f.routes() {
		for _, method := range []string{"PUT", "DELETE", "PATCH", "OPTIONS"} {
			if slices.ContainsFunc(f.routes(), func(other route) bool { return other.method == method && other.path == rt.path }) {
				continue
			}
			w := f.call(method, example(rt), "", nil)
			if w.Code != http.StatusMethodNotAllowed || !strings.Contains(w.Header().Get("Allow"), rt.method) || !strings.Contains(w.Body.String(), `"method_not_allowed"`) {
				t.Errorf("%s %s: %d, Allow %q: %s", method, rt.path, w.Code, w.Header().Get("Allow"), w.Body)
			}
		}
	}
	if code, fail := f.failure("GET", "/v2/nothing", ""); code != http.StatusNotFound || fail.Code != "not_found" {
		t.Errorf("an unknown path: %d %+v", code, fail)
	}
}

func TestEveryBodyIsUnderstoodInFullOrRefused(t *testing.T) {
	f := newFixture(t, withLLM)
	valid := map[string]string{
		"/v1/recommend": `{"user_id":"anna"}`,
		"/v1/score":     `{"user_id":"anna","items":["i1"]}`,
		"/v1/rerank":    `{"query":"anna","documents":["i1"]}`,
		"/v2/rerank":    `{"query":"anna","documents":["i1"]}`,
		"/v1/events":    `{"user_id":"anna","item_id":"i3"}`,
		"/v1/items":     `{"item_id":"i3","title":"Casablanca"}`,

		"/v1/dead-letters/resend": `{"id":"0-17"}`,

		"/v1/users/{id}/merge": `{"from":"bob"}`,

		"/v1/rollout":          `{"action":"canary","share":0.1}`,
		"/v1/chat/completions": `{"messages":[{"role":"user","content":"hi"}]}`,
	}
	main := f.routes()
	for i, rt := range append(main, f.adminRoutes()...) {
		if rt.method != "POST" {
			continue
		}
		if i >= len(main) { // from here on ask the admin address
			f.handler = f.adminMux()
		}
		if rt.id == "validate" {
			continue // a file may hold anything
		}
		body := valid[rt.path]
		if body == "" {
			t.Fatalf("%s has no valid body in this test", rt.path)
		}
		if w := f.call("POST", example(rt), body, nil); w.Code/100 != 2 {
			t.Errorf("%s: %d %s", rt.path, w.Code, w.Body)
		}
		for _, c := range []struct {
			name, body, kind string
			status           int
			code             string
		}{
			{"no body", "", "application/json", 400, "bad_json"},
			{"blank", " \n", "application/json", 400, "bad_json"},
			{"not JSON", "user=anna", "application/json", 400, "bad_json"},
			{"cut off", body[:len(body)-1], "application/json", 400, "bad_json"},
			{"two objects", body + body, "application/json", 400, "bad_json"},
			{"a number", "7", "application/json", 400, "bad_field"},
			{"not UTF-8", "{\"user_id\":\"\xff\"}", "application/json", 400, "bad_json"},
			{"too deep", strings.Repeat("[", 20000), "application/json", 400, "bad_json"},
			{"too large", `{"user_id":"` + strings.Repeat("a", 70000) + `"}`, "application/json", 413, "too_large"},
			{"a form", body, "application/x-www-form-urlencoded", 415, "unsupported_media_type"},
			{"text", body, "text/plain", 415, "unsupported_media_type"},
			{"no type", body, "", 415, "unsupported_media_type"},
		} {
			code, fail := f.failure("POST", rt.path, c.body, "Content-Type", c.kind)
			if code != c.status || fail.Code != c.code {
				t.Errorf("%s, %s: %d %+v, want %d %s", rt.path, c.name, code, fail, c.status, c.code)
			}
		}
	}
}

// TestBadFieldsAreNamed: every refusal says which field it is about, and what to do.
func TestBadFieldsAreNamed(t *testing.T) {
	f := newFixture(t, withLLM, func(c *Config, _ *Deps) { c.MaxCandidates = 3 })
	long := strings.Repeat("x", 257)
	for _, c := range []struct {
		path, body, field string
		status            int
	}{
		{"/v1/recommend", `{}`, "user_id", 400},
		{"/v1/recommend", `null`, "user_id", 400},
		{"/v1/recommend", `{"user_id":7.5}`, "user_id", 400},
		{"/v1/recommend", `{"user_id":"` + long + `"}`, "user_id", 400},
		{"/v1/recommend", `{"user_id":"a","n":-1}`, "n", 400},
		{"/v1/recommend", `{"user_id":"a","n":4}`, "n", 400},
		{"/v1/recommend", `{"user_id":"a","n":1.5}`, "n", 400},
		{"/v1/recommend", `{"user_id":"a","n":99999999999999999999}`, "n", 400},
		{"/v1/recommend", `{"user_id":"a","exclude":"i1"}`, "exclude", 400},
		{"/v1/recommend", `{"user_id":"a","exclude":["i1",""]}`, "exclude[1]", 400},
		{"/v1/recommend", `{"user_id":"a","candidates":["1","2","3","4"]}`, "candidates", 400},
		{"/v1/recommend", `{"user_id":"a","candidates":["1"],"exclude":["1"]}`, "candidates", 400},
		{"/v1/recommend", `{"user_id":"a","user":"b"}`, "user", 400},
		{"/v1/recommend", `{"user_id":"a","request_id":"` + long + `"}`, "request_id", 400},
		{"/v1/score", `{"items":["i1"]}`, "user_id", 400},
		{"/v1/score", `{"user_id":"a"}`, "items", 400},
		{"/v1/score", `{"user_id":"a","items":[]}`, "items", 400},
		{"/v1/score", `{"user_id":"a","items":[""]}`, "items[0]", 400},
		{"/v1/score", `{"user_id":"a","items":[7.5]}`, "items[0]", 400},
		{"/v1/score", `{"user_id":"a","items":["i1",{"name":"x"}]}`, "items[1].name", 400},
		{"/v1/score", `{"user_id":"a","items":["1","2","3","4"]}`, "items", 400},
		{"/v1/score", `{"user_id":"a","items":["1"],"labels":["Yes"]}`, "query", 400},
		{"/v1/score", `{"user_id":"a","items":["1"],"model":"gpt"}`, "model", 404},
		{"/v1/score", `{"query":"q","items":["1"],"labels":["not one token"]}`, "labels[0]", 400},
		{"/v1/score", `{"query":"q","items":["1"],"label_token_ids":[1,-2]}`, "label_token_ids[1]", 400},
		{"/v1/score", `{"query":"q","items":["1"],"label_token_ids":[1],"labels":["a"]}`, "labels", 400},
		{"/v1/score", `{"query":7,"items":["1"]}`, "query", 400},
		{"/v1/rerank", `{"documents":["i1"]}`, "query", 400},
		{"/v1/rerank", `{"query":["anna"],"documents":["i1"]}`, "query", 400},
		{"/v1/rerank", `{"query":{"name":"anna"},"documents":["i1"]}`, "query.name", 400},
		{"/v1/rerank", `{"query":"anna","documents":["i1",["i1"]]}`, "documents[1]", 400},
		{"/v1/rerank", `{"query":"anna","documents":[{}]}`, "documents[0]", 400},
		{"/v1/rerank", `{"query":"anna","documents":["i1",{"id":7.5}]}`, "documents[1].id", 400},
		{"/v1/rerank", `{"query":"anna","documents":[{"name":"x"}],"rank_fields":["title"]}`, "documents[0]", 400},
		{"/v1/rerank", `{"query":"anna","documents":["i1"],"rank_fields":["title",5]}`, "rank_fields[1]", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"},{"role":"user","text":"hi"}]}`, "messages[1].text", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_schema","json_schema":{"name":"x"}}}`, "response_format", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"stream_options":{"usage":true}}`, "stream_options.usage", 400},
		{"/v1/rerank", `{"query":null,"documents":["i1"]}`, "query", 400},
		{"/v1/rerank", `{"query":"anna","documents":["i1"],"top_n":1.5}`, "top_n", 400},
		{"/v1/recommend", `{"user_id":"a","n":"3"}`, "n", 400},
		{"/v1/rerank", `{"query":"anna"}`, "documents", 400},
		{"/v1/rerank", `{"query":"anna","documents":["1","2","3","4"]}`, "documents", 400},
		{"/v1/rerank", `{"query":"anna","documents":["i1"],"top_n":0}`, "top_n", 400},
		{"/v1/chat/completions", `{}`, "messages", 400},
		{"/v1/chat/completions", `{"messages":[]}`, "messages", 400},
		{"/v1/chat/completions", `{"messages":"hi"}`, "messages", 400},
		{"/v1/chat/completions", `{"messages":[{"content":"hi"}]}`, "messages[0].role", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"tool","content":"hi"}]}`, "messages[0].role", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user"}]}`, "messages[0].content", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":7}]}`, "messages[0].content", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":[{"type":"text","text":"see"},{"type":"image_url","image_url":{}}]}]}`, "messages[0].content[1]", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"assistant","content":"x","tool_calls":[{}]}]}`, "messages[0].tool_calls", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"model":"gpt-9"}`, "model", 404},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"model":"smollm+cora"}`, "user", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"model":"smollm:a","user":"b"}`, "user", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"model":"smollm:"}`, "model", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"temperature":2.5}`, "temperature", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"temperature":"hot"}`, "temperature", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"top_p":-1}`, "top_p", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_tokens":0}`, "max_tokens", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"max_completion_tokens":-1}`, "max_completion_tokens", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"n":2}`, "n", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"stop":7}`, "stop", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"stop":["a",""]}`, "stop[1]", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"top_logprobs":3}`, "top_logprobs", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"logprobs":true,"top_logprobs":21}`, "top_logprobs", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"frequency_penalty":3}`, "frequency_penalty", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"presence_penalty":-3}`, "presence_penalty", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"logit_bias":{"x":1}}`, "logit_bias", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"logit_bias":{"5":101}}`, "logit_bias", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"tools":[{}]}`, "tools", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"response_format":{"type":"json_object"}}`, "response_format", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"best_of":3}`, "best_of", 400},
		{"/v1/chat/completions", `{"messages":[{"role":"user","content":"hi"}],"seed":1.5}`, "seed", 400},
		{"/v1/recommend", `{"user_id":"a","allow":{"year":[]}}`, "allow.year", 400},
		{"/v1/recommend", `{"user_id":"a","deny":{"year":[""]}}`, "deny.year[0]", 400},
		{"/v1/recommend", `{"user_id":"a","deny":["year"]}`, "deny", 400},
		{"/v1/events", `[]`, "body", 400},
		{"/v1/events", `[{},7]`, "[1]", 400},
		{"/v1/events", `[{},{},{},{}]`, "body", 400},
	} {
		code, fail := f.failure("POST", c.path, c.body)
		if code != c.status || fail.Field != c.field || fail.Fix == "" {
			t.Errorf("%s %.60s: %d %+v, want %d naming %q", c.path, c.body, code, fail, c.status, c.field)
		}
	}
	for _, path := range []string{"/v1/users/" + long, "/v1/items/%FF"} {
		if code, fail := f.failure("GET", path, ""); code != 400 || fail.Field != "id" {
			t.Errorf("%.30s: %d %+v", path, code, fail)
		}
	}
}

func TestForeignNamesAndPagesAreRefused(t *testing.T) {
	open := newFixture(t, func(c *Config, _ *Deps) { c.AllowedHosts = []string{"demo.internal"} })
	locked := newFixture(t, func(c *Config, _ *Deps) { c.Token = token })
	body := `{"user_id":"anna"}`
	for _, c := range []struct {
		name    string
		f       *fixture
		status  int
		headers []string
	}{
		{"an address of this machine", open, 200, []string{"Host", "127.0.0.1:8642"}},
		{"IPv6", open, 200, []string{"Host", "[::1]:8642"}},
		{"localhost", open, 200, []string{"Host", "LOCALHOST"}},
		{"an allowed name", open, 200, []string{"Host", "demo.internal:80"}},
		{"a name that points here", open, 403, []string{"Host", "evil.example"}},
		{"another address", open, 403, []string{"Host", "10.0.0.1"}},
		{"any name, with the token", locked, 200, []string{"Host", "api.example", "X-API-Key", token}},
		{"another site's page", open, 403, []string{"Origin", "https://evil.example"}},
		{"another site's page, by fetch metadata", open, 403, []string{"Sec-Fetch-Site", "cross-site"}},
		{"our own page", open, 200, []string{"Sec-Fetch-Site", "same-origin"}},
	} {
		if w := c.f.call("POST", "/v1/recommend", body, nil, c.headers...); w.Code != c.status {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	}
}
