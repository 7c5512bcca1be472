package serve

import (
	"bytes"
	"compress/gzip"
	"slices"
	"strings"
	"testing"
)

// TestAPageMayAskWhereItIsAllowed: CORS for the origins that the configuration names and for no other; off by default.
func TestAPageMayAskWhereItIsAllowed(t *testing.T) {
	const shop = "https://shop.example"
	off := newFixture(t)
	on := newFixture(t, func(c *Config, _ *Deps) { c.AllowedOrigins = []string{shop} })
	event := `{"user_id":"anna","item_id":"i3","type":"click"}`
	for _, c := range []struct {
		name, method, origin, kind string
		f                          *fixture
		status                     int
		allowed                    bool
	}{
		{"asked first", "OPTIONS", shop, "", on, 204, true},
		{"asked first, by another", "OPTIONS", "https://evil.example", "", on, 403, false},
		{"asked first, by default", "OPTIONS", shop, "", off, 403, false},
		{"posted", "POST", shop, "application/json", on, 202, true},
		{"by sendBeacon", "POST", shop, "text/plain;charset=UTF-8", on, 202, true},
		{"by sendBeacon of another", "POST", "https://evil.example", "text/plain", on, 403, false},
		{"text without an origin", "POST", "", "text/plain", on, 415, false},
		{"posted, by default", "POST", shop, "application/json", off, 403, false},
	} {
		headers := []string{"Content-Type", c.kind, "Access-Control-Request-Method", "POST"}
		if c.origin != "" {
			headers = append(headers, "Origin", c.origin)
		}
		w := c.f.call(c.method, "/v1/events", event, nil, headers...)
		got := w.Header().Get("Access-Control-Allow-Origin")
		if w.Code != c.status && !(c.status == 403 && c.method == "OPTIONS" && w.Code == 405) || (got == c.origin && got != "") != c.allowed {
			t.Errorf("%s: %d %q %s", c.name, w.Code, got, w.Body)
		}
	}
}

// TestEventsComeAsClientsSendThem: packed, a line each, and to a path with a slash behind it.
func TestEventsComeAsClientsSendThem(t *testing.T) {
	one, two := `{"user_id":"anna","item_id":"i3"}`, `{"user_id":"bob","item_id":"i4","type":"like"}`
	var packed, large bytes.Buffer
	for _, p := range []struct {
		to   *bytes.Buffer
		text string
	}{{&packed, one}, {&large, "[" + strings.Repeat(" ", 1<<20) + one + "]"}} {
		z := gzip.NewWriter(p.to)
		if _, err := z.Write([]byte(p.text)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	f := newFixture(t)
	for _, c := range []struct {
		name, path, body string
		headers          []string
		status           int
		events           []string
	}{
		{"lines", "/v1/events", one + "\n\n" + two + "\r\n", []string{"Content-Type", "application/x-ndjson"}, 202, []string{one, two}},
		{"lines, sent as JSON", "/v1/events", one + "\n" + two, nil, 400, nil},
		{"a bad line", "/v1/events", one + "\n{", []string{"Content-Type", "application/x-ndjson"}, 400, nil},
		{"packed", "/v1/events", packed.String(), []string{"Content-Encoding", "gzip"}, 202, []string{one}},
		{"packed, too large inside", "/v1/events", large.String(), []string{"Content-Encoding", "gzip"}, 413, nil},
		{"not packed", "/v1/events", one, []string{"Content-Encoding", "gzip"}, 400, nil},
		{"packed in another way", "/v1/events", one, []string{"Content-Encoding", "br"}, 415, nil},
		{"a slash", "/v1/events/", one, nil, 202, []string{one}},
		{"a byte order mark", "/v1/events", "\ufeff" + one, nil, 202, []string{one}},
	} {
		f.sent.events = nil
		w := f.call("POST", c.path, c.body, nil, c.headers...)
		if w.Code != c.status || !slices.Equal(f.sent.events, c.events) {
			t.Errorf("%s: %d %s, sent %q", c.name, w.Code, w.Body, f.sent.events)
		}
	}
}
