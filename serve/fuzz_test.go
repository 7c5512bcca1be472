package serve

import (
	"encoding/json"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream/cmd/bounded"
)

// FuzzBodies sends anything to every route that takes a body: the answer is JSON, and never the server's fault.
func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		`{"user_id":"anna","n":3,"exclude":["i1"],"candidates":["i2"],"explain":true}`, `{"user_id":"anna","items":["i1",{"text":"T"},{"id":"x"}]}`,
		`{"query":"q","items":["a","b"],"label_token_ids":[3,4],"apply_softmax":false,"item_first":true}`, `{"query":"anna","documents":["i1",{"text":"x"}],"top_n":1,"return_documents":true}`,
		`[{"user_id":"anna","item_id":"i1"},{}]`, `{"query":{"user_id":"anna"},"documents":[null]}`, `{"query":"q","items":["a","a","a",{"text":"a"}]}`, `{"user_id":"anna","items":["i1","i1","a","a"]}`, `{"query":"anna","documents":["i1","i1","x","x"]}`, `{"n":1e400}`, `{"items":[{"id":7}]}`, `null`, `[]`, `"x"`, `{`, "\ufeff{}",
		`{"user_id":"\ud800"}`, `{"USER_ID":"anna","user_id":"bob"}`, `{"label_token_ids":[9223372036854775808],"query":"","items":[""]}`, strings.Repeat(`{"a":`, 500), `{"query":null,"items":null}`,
		`{"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}],"model":"smollm:anna","stop":["a"],"stream":true,"logprobs":true}`,
	} {
		for route := range uint8(5) {
			f.Add(route, []byte(body))
		}
	}
	t := &testing.T{}
	fix := newFixture(t, withLLM, func(c *Config, _ *Deps) { c.MaxBodyBytes, c.RatePerSecond = 4096, 0 })
	paths := []string{"/v1/recommend", "/v1/score", "/v1/rerank", "/v1/events", "/v1/chat/completions"}
	f.Fuzz(func(t *testing.T, route uint8, body []byte) {
		r := httptest.NewRequest("POST", paths[int(route)%len(paths)], strings.NewReader(string(body)))
		r.Host = "localhost"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		bounded.Parse(t, len(body), func() { fix.Handler().ServeHTTP(w, r) })
		if strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
			return
		}
		if w.Code >= 500 || !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s %q: %d %s", r.URL, body, w.Code, w.Body)
		}
		var out struct{ Error json.RawMessage }
		if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || (w.Code >= 400) != (out.Error != nil) {
			t.Fatalf("%s %q: %d %s", r.URL, body, w.Code, w.Body)
		}
		fix.sent.events = nil
	})
}

// FuzzRateLimiter: whatever the clock does, nobody gets more than the burst at once and everybody gets on in the end.
func FuzzRateLimiter(f *testing.F) {
	f.Add(int64(0), int64(1), int64(-5), uint8(3))
	f.Add(int64(math.MaxInt64), int64(math.MinInt64), int64(0), uint8(1))
	f.Fuzz(func(t *testing.T, a, b, c int64, burst uint8) {
		l := newLimiter(10, int(burst)+1)
		for _, at := range []int64{a, b, c} {
			let := 0
			now := unixNano(at)
			for range int(burst) + 3 {
				if wait := l.take("x", now); wait == 0 {
					let++
				} else if wait < 0 || wait > 1e9 {
					t.Fatalf("wait %v", wait)
				}
			}
			if let > int(burst)+1 {
				t.Fatalf("%d let through", let)
			}
		}
		if l.take("x", unixNano(a).AddDate(1000, 0, 0)); l.take("y", unixNano(a)) != 0 {
			t.Fatal("a new client must be let in")
		}
	})
}

func unixNano(n int64) time.Time { return time.Unix(0, n) }
