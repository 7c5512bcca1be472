//go:build app

package apptest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// gorse runs `up --gorse` on a small catalogue and returns its address.
func gorseHome(t *testing.T, more string) string {
	t.Helper()
	h := newHome(t, "", noLLM)
	if more != "" {
		h.amend(t, "http: {listen: \"127.0.0.1:0\"", "http: {listen: \"127.0.0.1:0\", "+more)
	}
	up := start(t, "up", "--gorse", "-c", h.config)
	url := up.url(t)
	_, items := csvLog(t, 1, 1, 40)
	ok(t, "produce", items, "-c", h.config)
	eventually(t, "readiness", func() bool {
		resp, err := http.Get(strings.TrimSuffix(url, "/") + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return strings.TrimSuffix(url, "/")
}

// TestGorsesClientsWorkUnchanged: PyPI's pygorse where CORASTREAM_CLIENTS names a Python with it, npm's gorsejs where CORASTREAM_NODE names
// its node_modules. .ci/test.sh makes both.
func TestGorsesClientsWorkUnchanged(t *testing.T) {
	t.Parallel()
	python, modules := os.Getenv("CORASTREAM_CLIENTS"), os.Getenv("CORASTREAM_NODE")
	if python == "" && modules == "" {
		t.Skip("neither CORASTREAM_CLIENTS nor CORASTREAM_NODE is set (make them: .ci/clients/venv.sh .cache/clients, .ci/clients/npm.sh .cache/clients-npm)")
	}
	url := gorseHome(t, "")
	for _, c := range [][]string{{python, "gorse_client.py"}, {modules, "gorse_client.js"}} {
		t.Run(c[1], func(t *testing.T) {
			if c[0] == "" {
				t.Skip("not installed")
			}
			program := c[0]
			if strings.HasSuffix(c[1], ".js") {
				program = "node"
			}
			cmd := exec.CommandContext(t.Context(), program, filepath.Join("../../.ci/clients", c[1]), url)
			cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestGorsesPathsAreGuardedAndBounded: the token is asked for before anything is read, long lists of feedback are cut into pieces, and
// what is not Gorse's or has no counterpart is refused.
func TestGorsesPathsAreGuardedAndBounded(t *testing.T) {
	t.Parallel()
	const token = "canary-3f9a7c51d2e84b60"
	url := gorseHome(t, `token: "`+token+`"`)
	ask := func(method, path, body, key string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-Key", key)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, strings.TrimSpace(string(b))
	}
	var list []map[string]any
	for i := range 1234 {
		list = append(list, map[string]any{"FeedbackType": "star", "UserId": fmt.Sprint("u", i%7), "ItemId": fmt.Sprint("i", i%40), "Timestamp": fmt.Sprintf("2026-01-%02dT00:00:00Z", 1+i%28)})
	}
	many, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if code, text := ask("POST", "/api/feedback", string(many), token); code != 200 || text != `{"RowAffected":1234}` {
		t.Errorf("%d %s", code, text)
	}
	for _, c := range []struct {
		method, path, body, key string
		code                    int
		text                    string
	}{
		{"GET", "/api/popular?n=2", "", "", 401, "the token is missing"},
		{"POST", "/api/feedback", strings.Repeat("x", 1<<20), "wrong-token-0123456789", 401, "the token is wrong"},
		{"POST", "/api/feedback", `{"FeedbackType":"star"}`, token, 400, "not what Gorse takes"},
		{"POST", "/api/feedback", `[{"FeedbackType":"star","UserId":"","ItemId":"i1"}]`, token, 400, "user_id is missing"},
		{"GET", "/api/recommend/u1?n=600", "", token, 400, "more than 500"},
		{"GET", "/api/recommend/u1?n=x", "", token, 400, "not a whole number"},
		{"GET", "/api/dashboard/config", "", token, 404, "no such path"},
		{"DELETE", "/api/user/u1", "", token, 200, `{"RowAffected":1}`},
		{"GET", "/api/item/i1/feedback", "", token, 501, "not kept by item"},
		{"GET", "/api/health/ready", "", "", 200, "true"},
		{"GET", "/api/recommend/newcomer?n=3", "", token, 200, `["i`},
	} {
		if code, text := ask(c.method, c.path, c.body, c.key); code != c.code || !strings.Contains(text, c.text) {
			t.Errorf("%s %s: %d %.200s", c.method, c.path, code, text)
		}
	}
}
