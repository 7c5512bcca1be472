//go:build app

package apptest

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/corastream/corastream/ingest/devbroker"
)

// TestSecretsShowNowhere puts a canary into every secret of the configuration and looks for it in all that the program
// says: logs at the lowest level, the configuration as printed, errors, pages and profiles.
func TestSecretsShowNowhere(t *testing.T) {
	t.Parallel()
	const canary = "canary-0f1e2d3c4b5a6978"
	b, err := devbroker.Start(devbroker.Options{Users: []devbroker.User{{Mechanism: "SCRAM-SHA-512", Name: "ann", Password: canary}}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h := newHome(t, b.Addr(), noLLM+"log: {level: trace, format: json}\n")
	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	h.amend(t, "http: {listen: \"127.0.0.1:0\"}", "http: {listen: \"127.0.0.1:0\", token: "+canary+", admin_listen: \""+admin+"\"}")
	h.amend(t, "  max_batch_events: 300", "  max_batch_events: 300\n  sasl: {mechanism: SCRAM-SHA-512, user: ann, password: "+canary+"}")
	up := h.up(t)
	url := up.url(t)
	said := map[string]string{}
	for _, path := range []string{"/metrics", "/readyz", "/healthz", "/debug/pprof/goroutine?debug=2", "/debug/pprof/heap?debug=1", "/debug/pprof/cmdline", "/debug/pprof/allocs?debug=1"} {
		_, said["admin "+path] = page(http.DefaultClient, "http://"+admin+path)
	}
	for _, path := range []string{"/", "/openapi.json", "/v1/status", "/v1/models", "/v1/users/u1"} { // the last three are refused
		_, body := page(http.DefaultClient, url+path)
		said[path] = body
	}
	said["config print"] = ok(t, "config", "print", "-c", h.config).stdout
	said["doctor"] = call(t, "doctor", "-c", h.config).stdout
	up.signal(syscall.SIGTERM)
	r := up.wait(t)
	said["up"] = r.stdout + r.stderr
	h.amend(t, "sasl: {mechanism: SCRAM-SHA-512", "sasl: {mechanism: SCRAM-SHA-256") // one the user has not
	wrong := call(t, "doctor", "-c", h.config)
	said["doctor with a wrong login"] = wrong.stdout + wrong.stderr
	h.amend(t, "mechanism: SCRAM-SHA-256", "nonsense: 1, mechanism: SCRAM-SHA-256")
	wrong = call(t, "up", "-c", h.config)
	said["an unknown key beside it"] = wrong.stdout + wrong.stderr
	for where, text := range said {
		if strings.Contains(text, canary) {
			t.Errorf("%s shows a secret: %.300s", where, text[max(0, strings.Index(text, canary)-200):])
		}
		if text == "" {
			t.Errorf("%s said nothing at all: is it read rightly?", where)
		}
	}
}
