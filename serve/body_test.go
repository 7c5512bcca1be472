package serve

import (
	"strings"
	"testing"
)

// TestAnUnknownFieldSaysWhatWasProbablyMeant: the same letters, or the beginning of a field; not a guess beyond that.
func TestAnUnknownFieldSaysWhatWasProbablyMeant(t *testing.T) {
	f := newFixture(t, withLLM)
	for _, c := range []struct{ path, body, field, fix string }{
		{"/v1/recommend", `{"user":"anna"}`, "user", "write user_id, or leave it out"},
		{"/v1/recommend", `{"userId":"anna"}`, "userId", "write user_id, or"},
		{"/v1/recommend", `{"user_id":"anna","candidate":["i1"]}`, "candidate", "write candidates, or"},
		{"/v1/recommend", `{"user_id":"anna","limit":3}`, "limit", "leave it out"},
		{"/v1/recommend", `{"user_id":"anna","k":3}`, "k", "leave it out"},
		{"/v1/score", `{"userid":"anna","items":["i1"]}`, "userid", "write user_id, or"},
		{"/v1/rerank", `{"query":"anna","documents":["i1"],"topN":1}`, "topN", "write top_n, or"},
	} {
		code, fail := f.failure("POST", c.path, c.body)
		if code != 400 || fail.Code != "unknown_field" || fail.Field != c.field || !strings.HasPrefix(fail.Fix, c.fix) {
			t.Errorf("%s %s: %d %+v", c.path, c.body, code, fail)
		}
	}
}
