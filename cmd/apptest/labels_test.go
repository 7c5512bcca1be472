//go:build app

package apptest

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// curl asks with the program of that name, and returns what it prints.
func curl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "--fail-with-body", "-H", "content-type: application/json"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("curl %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// ready waits until the server may be asked.
func ready(t *testing.T, url string) {
	t.Helper()
	eventually(t, "readiness", func() bool {
		resp, err := http.Get(url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// TestANewUsersLabelsDecideTheFirstList, with curl: also after a restart, and not once the user is erased.
func TestANewUsersLabelsDecideTheFirstList(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", noLLM)
	up := start(t, "up", "-c", h.config)
	url := strings.TrimSuffix(up.url(t), "/")
	_, items := csvLog(t, 1, 1, 40)
	ok(t, "produce", items, "-c", h.config)
	ready(t, url)
	var events []string
	for n := range 40 {
		user, label, item := fmt.Sprint("l", n), []string{"sailor", "cook"}[n%2], []string{"i3", "i4"}[n%2]
		events = append(events, fmt.Sprintf(`{"user_id":%q,"labels":[%q]}`, user, label), fmt.Sprintf(`{"user_id":%q,"item_id":%q,"type":"like"}`, user, item))
	}
	curl(t, "-d", "["+strings.Join(events, ",")+"]", url+"/v1/events?wait=learnt")
	first := func(user string) string {
		answer := curl(t, "-d", fmt.Sprintf(`{"user_id":%q,"n":1}`, user), url+"/v1/recommend")
		_, id, _ := strings.Cut(answer, `"item_id":"`)
		id, _, _ = strings.Cut(id, `"`)
		return id + " " + fmt.Sprint(strings.Contains(answer, `"cold":true`))
	}
	check := func(when string) {
		t.Helper()
		for label, want := range map[string]string{"sailor": "i3 false", "cook": "i4 false"} {
			if got := first("new-" + label); got != want {
				t.Errorf("%s: a new %s is listed %s, want %s", when, label, got, want)
			}
		}
	}
	for _, label := range []string{"sailor", "cook"} {
		if got := curl(t, "-X", "PUT", "-d", `{"labels":["`+label+`"]}`, url+"/v1/users/new-"+label+"?wait=learnt"); !strings.Contains(got, `"learnt":true`) {
			t.Errorf("PUT: %s", got)
		}
	}
	check("at once")
	up.signal(syscall.SIGTERM)
	up.wait(t)
	up = start(t, "up", "-c", h.config)
	url = strings.TrimSuffix(up.url(t), "/")
	ready(t, url)
	check("after a restart")
	if got := curl(t, url+"/v1/users/new-cook"); !strings.Contains(got, `"labels":["cook"]`) {
		t.Errorf("after a restart: %s", got)
	}
	curl(t, "-X", "DELETE", url+"/v1/users/new-cook")
	if got := first("new-cook"); !strings.HasSuffix(got, "true") {
		t.Errorf("an erased user is listed %s", got)
	}
}
