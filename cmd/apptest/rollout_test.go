//go:build app

package apptest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve"
)

// TestARolloutFromShadowToPromotionAndBack runs a tiny LLM with a checkpoint in use and another one to try, over HTTP as an
// operator would, and starts again in the middle: what was changed holds.
func TestARolloutFromShadowToPromotionAndBack(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", tinyConfig(tinyLLM(t, 1), ""))
	dir := t.TempDir()
	place := func(name string, change func(*generator.Checkpoint)) string {
		path := filepath.Join(dir, name)
		if err := os.Rename(untrained(t, h.config, 40, change), path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	active := place("active.safetensors", nil)
	place("new.safetensors", func(c *generator.Checkpoint) {
		for _, p := range c.Projection.P {
			for i := range p {
				p[i] = -8 * p[i]
			}
		}
	})
	place("foreign.safetensors", func(c *generator.Checkpoint) { c.Made.LLM = "another" })
	h.amend(t, `checkpoint: ""`, `checkpoint: "`+active+`"`)
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	admin := "http://" + address + "/"
	h.amend(t, `http: {listen: "127.0.0.1:0"}`, `http: {listen: "127.0.0.1:0", rate_per_second: 0, admin_listen: "`+address+`"}`)
	// session starts the program and ends it in good order.
	session := func(do func(url string)) {
		t.Helper()
		up := h.up(t)
		do(up.url(t) + "/")
		up.signal(syscall.SIGTERM)
		if r := up.wait(t); r.code != 0 {
			t.Fatalf("up: exit %d\n%s", r.code, tailOf(r.stderr, 1500))
		}
	}
	standing := func(url string) (s serve.RolloutStatus) {
		t.Helper()
		_, v := fetchJSON(t, "GET", url+"v1/rollout", "")
		b, err := json.Marshal(v)
		if err == nil {
			err = json.Unmarshal(b, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	change := func(body string, want int) map[string]any {
		t.Helper()
		code, v := fetchJSON(t, "POST", admin+"v1/rollout", body)
		if code != want {
			t.Fatalf("%s: %d %v", body, code, v)
		}
		return v
	}
	users := make([]string, 60)
	for i := range users {
		users[i] = fmt.Sprint("u", i)
	}
	// arms asks all users, twice and in two ways.
	arms := func(url string, digests map[string]string) map[string]string {
		t.Helper()
		out := map[string]string{}
		for _, u := range users {
			for range 2 {
				_, v := fetchJSON(t, "POST", url+"v1/recommend", `{"user_id":"`+u+`","n":3}`)
				arm, _ := v["arm"].(string)
				if out[u] != "" && out[u] != arm || v["checkpoint"] != digests[arm] || v["degraded"] != "" {
					t.Fatalf("%s: %v, was %q", u, v, out[u])
				}
				out[u] = arm
			}
			if _, v := fetchJSON(t, "POST", url+"v1/score", `{"user_id":"`+u+`","items":["i1"]}`); v["arm"] != out[u] || v["checkpoint"] != digests[out[u]] {
				t.Fatalf("%s: /v1/score %v, /v1/recommend %s", u, v, out[u])
			}
		}
		return out
	}
	count := func(arms map[string]string, name string) (n int) {
		for _, a := range arms {
			if a == name {
				n++
			}
		}
		return n
	}
	var old, fresh string
	var half map[string]string

	session(func(url string) {
		events, items := csvLog(t, 300, 60, 40)
		ok(t, "produce", items, "-c", h.config)
		ok(t, "produce", events, "-c", h.config)
		eventually(t, "the stream", func() bool {
			return counter(strings.TrimSuffix(url, "/"), "corastream_events_total") == 300 && counter(strings.TrimSuffix(url, "/"), "corastream_items_read_total") == 40
		})
		_, v := fetchJSON(t, "GET", url+"v1/rollout", "")
		old, _ = v["active"].(map[string]any)["checkpoint"].(string)
		if v["mode"] != "off" || v["candidate"] != nil || v["previous"] != nil || old == "" {
			t.Fatalf("%v", v)
		}
		for body, field := range map[string]string{
			`{"action":"begin"}`:  "action",
			`{"action":"canary"}`: "share",
			`{"action":"canary","share":1,"checkpoint":"new.safetensors"}`: "share",
			`{"action":"shadow","share":0.5}`:                              "share",
			`{"action":"shadow"}`:                                          "checkpoint",
			`{"action":"promote"}`:                                         "action",
			`{"action":"rollback"}`:                                        "action",
			`{"action":"shadow","checkpoint":"../active.safetensors"}`:     "checkpoint",
			`{"action":"shadow","checkpoint":"nothing.safetensors"}`:       "checkpoint",
			`{"action":"shadow","checkpoint":"foreign.safetensors"}`:       "checkpoint",
		} {
			if v := change(body, 400); v["error"].(map[string]any)["field"] != field {
				t.Errorf("%s: %v", body, v)
			}
		}
		v = change(`{"action":"shadow","checkpoint":"new.safetensors"}`, 200)
		fresh, _ = v["candidate"].(map[string]any)["checkpoint"].(string)
		if v["mode"] != "shadow" || fresh == "" || fresh == old {
			t.Fatalf("%v", v)
		}
		digests := map[string]string{"active": old, "canary": fresh}
		if n := count(arms(url, digests), "active"); n != len(users) {
			t.Errorf("a shadow answers %d users", len(users)-n)
		}
		eventually(t, "shadows", func() bool { return standing(url).Shadow.Slates > 0 })
		if f := standing(url).Shadow; f.Compared < f.Slates || f.MeanAbsDiff == 0 || f.Failed > 0 {
			t.Errorf("%+v", f)
		}
		change(`{"action":"canary","share":0.5}`, 200)
		half = arms(url, digests)
		if n := count(half, "canary"); n < 15 || n > 45 {
			t.Errorf("half of %d users are %d", len(users), n)
		}
		// What is published counts for its arm, and so does what follows on it.
		h.produce(t, "interactions", func() (lines []string) {
			for _, u := range users {
				lines = append(lines, `{"user_id":"`+u+`","item_id":"i1","rating":5,"timestamp":1700000000}`)
			}
			return lines
		}()...)
		eventually(t, "new answers", func() bool {
			s := standing(url)
			return s.Active.Recommendations > 0 && s.Candidate.Recommendations > 0
		})
		if code, v := fetchJSON(t, "GET", url+"v1/status", ""); code != 200 || lacks(fmt.Sprint(v), "arm_recommendations", "canary") != nil {
			t.Errorf("%d %v", code, v)
		}
	})
	session(func(url string) {
		digests := map[string]string{"active": old, "canary": fresh}
		if s := standing(url); s.Mode != "canary" || s.Share != .5 || s.Candidate.Checkpoint != fresh {
			t.Fatalf("after a start: %+v", s)
		}
		if again := arms(url, digests); fmt.Sprint(again) != fmt.Sprint(half) {
			t.Errorf("after a start the arms are %v, were %v", again, half)
		}
		change(`{"action":"canary","share":0.8}`, 200)
		more := arms(url, digests)
		for u, arm := range half {
			if arm == "canary" && more[u] != "canary" {
				t.Errorf("%s fell out of a growing canary", u)
			}
		}
		// The last steps as an operator types them.
		rollout := func(args ...string) map[string]any {
			t.Helper()
			out := ok(t, append([]string{"rollout", "-c", h.config}, args...)...).stdout
			var v map[string]any
			if err := json.Unmarshal([]byte(out), &v); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			return v
		}
		if v := rollout("status"); v["mode"] != "canary" || v["share"] != .8 {
			t.Errorf("%v", v)
		}
		if r := call(t, "rollout", "canary", "../x", "--share", "0.5", "-c", h.config); r.code != 2 || !strings.Contains(r.stderr, "without a folder") {
			t.Errorf("exit %d: %s", r.code, r.stderr)
		}
		v := rollout("promote")
		if v["active"].(map[string]any)["checkpoint"] != fresh || v["previous"].(map[string]any)["checkpoint"] != old || v["candidate"] != nil {
			t.Errorf("%v", v)
		}
		if n := count(arms(url, map[string]string{"active": fresh}), "active"); n != len(users) {
			t.Errorf("%d users after the promotion", n)
		}
	})
	session(func(url string) {
		if s := standing(url); s.Active.Checkpoint != fresh || s.Previous.Checkpoint != old {
			t.Fatalf("after a start: %+v", s)
		}
		if v := change(`{"action":"rollback"}`, 200); v["previous"] != nil {
			t.Errorf("%v", v)
		}
		change(`{"action":"rollback"}`, 400) // whoever presses twice does not get the new one back
		arms(url, map[string]string{"active": old})
	})
	// Another configuration holds over what was kept.
	h.amend(t, `checkpoint: "`+active+`"`, `checkpoint: "`+filepath.Join(dir, "new.safetensors")+`"`)
	session(func(url string) {
		if s := standing(url); s.Mode != "off" || s.Active.Checkpoint != fresh || s.Candidate != nil || s.Previous != nil {
			t.Fatalf("%+v", s)
		}
	})
}
