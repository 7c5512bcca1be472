//go:build app

package apptest

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// TestEraseBesideARunningUp: the process that has the folder forgets the user, at once and for good: nothing of the user is served, what the
// log holds is not learnt again after a restart, and what the user does afterwards is.
func TestEraseBesideARunningUp(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", noLLM)
	h.amend(t, `http: {listen: "127.0.0.1:0"}`, fmt.Sprintf(`http: {listen: "127.0.0.1:%d"}`, freePort(t)))
	up := h.up(t)
	url := up.url(t)
	events, items := csvLog(t, 300, 20, 60)
	ok(t, "produce", items, "-c", h.config)
	ok(t, "produce", events, "-c", h.config)
	eventually(t, "the stream", func() bool { return counter(url, "corastream_events_total") == 300 })
	known := func(user string) int {
		code, _ := fetchJSON(t, "GET", url+"/v1/users/"+user, "")
		return code
	}
	if known("u3") != 200 {
		t.Fatal("u3 is not known")
	}
	other := t.TempDir() // another folder, whose process this is not
	if r := call(t, "erase", "u3", "-c", h.config, "--data", other); r.code == 0 || known("u3") != 200 {
		t.Errorf("erase in another folder: exit %d\n%s", r.code, r.stderr)
	}
	if code, v := fetchJSON(t, "DELETE", url+"/v1/users/u3?data=/nowhere", ""); code != 409 || known("u3") != 200 {
		t.Errorf("of another folder: %d %v", code, v)
	}
	if sum := ok(t, "erase", "u3", "-c", h.config).last(t); sum["erased"] != true {
		t.Errorf("erase: %v", sum)
	}
	if known("u3") != 404 || known("u4") != 200 {
		t.Errorf("u3 is answered with %d, u4 with %d", known("u3"), known("u4"))
	}
	for range 2 { // and over HTTP, which may be repeated
		if code, v := fetchJSON(t, "DELETE", url+"/v1/users/u4", ""); code != 200 || v["erased"] != true {
			t.Errorf("DELETE: %d %v", code, v)
		}
	}
	if code, v := fetchJSON(t, "POST", url+"/v1/events", `{"user_id":"u4","item_id":"i1","rating":5}`); code/100 != 2 {
		t.Fatalf("an event afterwards: %d %v", code, v)
	}
	eventually(t, "the event afterwards", func() bool { return known("u4") == 200 })
	up.signal(syscall.SIGTERM)
	if r := up.wait(t); r.code != 0 {
		t.Fatalf("up: exit %d\n%s", r.code, r.stderr)
	}
	if rerun := ok(t, "store", "rerun", "-c", h.config).last(t); rerun["equal"] != true {
		t.Errorf("%v", rerun)
	}
	up = h.up(t)
	if url = up.url(t); known("u3") != 404 {
		t.Error("u3 is back after a restart")
	}
	if _, v := fetchJSON(t, "GET", url+"/v1/users/u4/events", ""); v["total"] != 1. {
		t.Errorf("u4 has %v events", v["total"])
	}
	up.kill()
	// With nobody at the address, the message says what is wrong.
	up = start(t, "up", "-c", h.config, "--listen", "127.0.0.1:0")
	up.url(t)
	if r := call(t, "erase", "u5", "-c", h.config); r.code != 2 || lacks(r.stderr, "nobody answers at", "in use", "fix: ") != nil || strings.Contains(r.stderr, "goroutine ") {
		t.Errorf("erase beside an unknown address: exit %d\n%s", r.code, r.stderr)
	}
	up.kill()
}

// TestEraseDropsTheWeightsOfAUser: the W_A that the generator keeps of a user goes with the rest.
func TestEraseDropsTheWeightsOfAUser(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", tinyConfig(tinyLLM(t, 1), ""))
	h.amend(t, `checkpoint: ""`, `checkpoint: "`+untrained(t, h.config, 40, nil)+`"`)
	up := h.up(t)
	url := up.url(t)
	events, items := csvLog(t, 300, 20, 40)
	ok(t, "produce", items, "-c", h.config)
	ok(t, "produce", events, "-c", h.config)
	eventually(t, "the stream", func() bool {
		return counter(url, "corastream_events_total") == 300 && counter(url, "corastream_items_read_total") == 40
	})
	score := func(user string) {
		if code, v := fetchJSON(t, "POST", url+"/v1/score", `{"user_id":"`+user+`","items":["i1"]}`); code != 200 || v["degraded"] == "cf" {
			t.Fatalf("score: %d %v", code, v)
		}
	}
	kept := func() int { return counter(url, "corastream_weights_cache_entries") }
	score("u3")
	score("u4")
	before := kept()
	if code, v := fetchJSON(t, "DELETE", url+"/v1/users/u3", ""); code != 200 {
		t.Fatalf("DELETE: %d %v", code, v)
	}
	if after := kept(); before < 2 || after != before-1 {
		t.Errorf("weights of %v users are kept, of %v before", after, before)
	}
	up.kill()
}
