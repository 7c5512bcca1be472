package serve

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestADeadLetterIsShownAndSentAgainOnce(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) { c.Token = token })
	key := []string{"Authorization", "Bearer " + token}
	var got LettersResponse
	f.ok("GET", "/v1/dead-letters?n=5", "", &got, key...)
	l := got.Letters[0]
	if l.ID != "0-17" || l.Topic != "events" || l.Offset != 3 || l.Reason != "no_user" || l.Preview != `{"item_id":"i1"}` || l.Bytes != 16 || l.Again != nil {
		t.Fatalf("%+v", l)
	}
	const again = `{"id":"0-17"}`
	if status, _ := f.failure("POST", "/v1/dead-letters/resend", again); status != http.StatusUnauthorized || f.letters.sent > 0 {
		t.Errorf("without the token: %d", status)
	}
	if status, _ := f.failure("POST", "/v1/dead-letters/resend", again, append(key, "Origin", "https://evil.example")...); status != http.StatusForbidden || f.letters.sent > 0 {
		t.Errorf("from another site's page: %d", status)
	}
	var sent ResendResponse
	f.ok("POST", "/v1/dead-letters/resend", again, &sent, key...)
	if sent.Topic != "events" || sent.Offset != 20 {
		t.Errorf("%+v", sent)
	}
	if status, fail := f.failure("POST", "/v1/dead-letters/resend", again, key...); status != http.StatusConflict || fail.Code != "sent_again" || f.letters.sent != 1 {
		t.Errorf("sent a second time: %d %+v", status, fail)
	}
	f.ok("GET", "/v1/dead-letters", "", &got, key...)
	if at := got.Letters[0].Again; at == nil || !at.Equal(time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", got.Letters[0])
	}
	for body, want := range map[string]int{`{"id":"0-18"}`: 404, `{"id":"17"}`: 400, `{"id":"-1-2"}`: 400, `{"id":"99999999999-1"}`: 400, `{}`: 400} {
		if status, _ := f.failure("POST", "/v1/dead-letters/resend", body, key...); status != want {
			t.Errorf("%s: %d, want %d", body, status, want)
		}
	}
	for path, field := range map[string]string{"/v1/dead-letters?n=0": "n", "/v1/dead-letters?page=2": "page"} {
		if status, fail := f.failure("GET", path, "", key...); status != 400 || fail.Field != field {
			t.Errorf("%s: %d %+v", path, status, fail)
		}
	}
}

func TestAnUploadIsLookedThroughWithinBounds(t *testing.T) {
	f := newFixture(t)
	const csv = "user_id,item_id\nu,a\n"
	for _, c := range []struct{ path, kind, name string }{
		{"/v1/validate?name=clicks.csv", "text/csv", "clicks.csv"},
		{"/v1/validate?name=../../etc/passwd", "application/octet-stream", "passwd"},
		{"/v1/validate?name=C:%5Cfiles%5Citems.tsv", "text/tab-separated-values; charset=utf-8", "items.tsv"},
		{"/v1/validate?name=-", "application/x-ndjson", "upload.jsonl"},
		{"/v1/validate", "application/json", "upload.json"},
	} {
		var got Survey
		f.ok("POST", c.path, csv, &got, "Content-Type", c.kind)
		if got.Source != c.name || got.Events != 2 || got.Findings[0].Level != "error" || got.OK {
			t.Errorf("%s: %+v", c.path, got)
		}
	}
	for _, c := range []struct {
		path, body, kind, field string
		status                  int
	}{
		{"/v1/validate", csv, "text/plain", "Content-Type", 415},
		{"/v1/validate", csv, "multipart/form-data; boundary=x", "Content-Type", 415},
		{"/v1/validate", "\x1f\x8b\x08\x00", "text/csv", "body", 400},
		{"/v1/validate", strings.Repeat("x", maxUpload+1), "text/csv", "", 413},
		{"/v1/validate?file=x", csv, "text/csv", "file", 400},
		{"/v1/validate?name=" + strings.Repeat("x", 300), csv, "text/csv", "name", 400},
		{"/v1/validate", "", "text/csv", "upload.csv", 400},
	} {
		if status, fail := f.failure("POST", c.path, c.body, "Content-Type", c.kind); status != c.status || fail.Field != c.field {
			t.Errorf("%s %s: %d %+v", c.path, c.kind, status, fail)
		}
	}
}
