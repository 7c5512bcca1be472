//go:build app

package apptest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/corastream/corastream/generator"
)

// ranking is the items of an answer, with their scores.
func ranking(t *testing.T, answer map[string]any) (out []string) {
	t.Helper()
	items, _ := answer["items"].([]any)
	for _, x := range items {
		it, _ := x.(map[string]any)
		out = append(out, fmt.Sprintf("%v %.5f", it["item_id"], it["score"]))
	}
	return out
}

// csvLog is a log of n ratings and the catalogue to it, as CSV files.
func csvLog(t *testing.T, n, users, items int) (events, catalogue string) {
	t.Helper()
	var e, c strings.Builder
	e.WriteString("user_id,item_id,rating,timestamp\n")
	for i := range n {
		fmt.Fprintf(&e, "u%d,i%d,%d,%d\n", i*7%users, i*i%items, 1+(i*i%items+i*7%users)%5, firstTime+i)
	}
	c.WriteString("item_id,title,genre\n")
	for i := range items {
		fmt.Fprintf(&c, "i%d,%q,g%d\n", i, title(i), i%5)
	}
	return write(t, "events.csv", e.String()), write(t, "items.csv", c.String())
}

// TestEveryWayToAskAgrees runs `up` without a checkpoint: everything that asks it, over Kafka, HTTP and from the data
// folder afterwards, gets the same answers, and all of them say that they are degraded.
func TestEveryWayToAskAgrees(t *testing.T) {
	t.Parallel()
	h := newHome(t, "", noLLM)
	web := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	h.amend(t, "http: {listen: \"127.0.0.1:0\"}", "http: {listen: \""+web+"\"}")
	up := h.up(t)
	url := up.url(t)
	events, items := csvLog(t, 600, 20, 60)
	if n := number(t, ok(t, "produce", items, "-c", h.config).last(t), "produced"); n != 60 {
		t.Errorf("%d items produced", n)
	}
	if n := number(t, ok(t, "produce", events, "-c", h.config).last(t), "produced"); n != 600 {
		t.Errorf("%d events produced", n)
	}
	eventually(t, "600 events", func() bool { return counter(url, "corastream_events_total") == 600 })

	t.Run("http", func(t *testing.T) {
		if code, v := fetchJSON(t, "GET", url+"/healthz", ""); code != 200 || v["status"] != "ok" {
			t.Errorf("/healthz: %d %v", code, v)
		}
		var v map[string]any
		eventually(t, "readiness", func() bool {
			var code int
			code, v = fetchJSON(t, "GET", url+"/readyz", "")
			return code == 200
		})
		if v["status"] != "ready" || lacks(fmt.Sprint(v), "the probability of a like is that of cf", "broker", "state") != nil {
			t.Errorf("/readyz: %v", v)
		}
		for path, want := range map[string][]string{
			"/metrics":      {"corastream_events_total 600", "corastream_freshness_seconds_bucket", "corastream_recommendations_total", "corastream_lag_events"},
			"/":             {"<html"},
			"/openapi.json": {"/v1/recommend"},
		} {
			resp, err := http.Get(url + path)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != 200 {
				t.Errorf("%s: %s, %v", path, resp.Status, err)
			}
			if missing := lacks(string(b), want...); missing != nil {
				t.Errorf("%s lacks %q", path, missing)
			}
			if path == "/metrics" && strings.Contains(string(b), "u1") && strings.Contains(string(b), `user="`) {
				t.Error("/metrics has user ids in labels")
			}
		}
		if code, v := fetchJSON(t, "POST", url+"/v1/recommend", `{"user":"u1"}`); code != 400 || v["error"] == nil {
			t.Errorf("a wrong field: %d %v", code, v)
		}
	})

	_, online := fetchJSON(t, "POST", url+"/v1/recommend", `{"user_id":"u1","n":5}`)
	want := ranking(t, online)
	if len(want) != 5 || online["degraded"] != "" {
		t.Fatalf("/v1/recommend: %v", online)
	}
	for _, x := range online["items"].([]any) {
		if it := x.(map[string]any); it["title"] == "" || it["title"] == nil {
			t.Errorf("an item without a title: %v", it)
		}
	}
	same := func(how string, answer map[string]any) {
		t.Helper()
		if got := ranking(t, answer); !reflect.DeepEqual(got, want) || answer["degraded"] == "cf" {
			t.Errorf("%s answers %v, degraded %v; HTTP answers %v", how, got, answer["degraded"], want)
		}
	}
	same("recommend beside up", ok(t, "recommend", "--user", "u1", "-n", "5", "-c", h.config).last(t))
	kafka := ok(t, "requests", "--user", "u1", "-n", "5", "-c", h.config).last(t)
	same("requests", kafka)
	if !strings.HasPrefix(fmt.Sprint(kafka["request_id"]), "cli-") || kafka["id"] == "" {
		t.Errorf("requests: %v", kafka)
	}
	first, _ := online["items"].([]any)[0].(map[string]any)["item_id"].(string)
	scored := ok(t, "score", "--user", "u1", "--item", first, "-c", h.config).last(t)
	if scored["degraded"] != "cf" {
		t.Errorf("score beside up: %v", scored)
	}
	consumed := jsonLines(t, ok(t, "consume", "-c", h.config, "--limit", "7").stdout)
	if len(consumed) != 7 || consumed[0]["user_id"] == nil || consumed[0]["degraded"] == "cf" {
		t.Errorf("consume --limit 7: %d lines, %v", len(consumed), consumed)
	}
	_, before := fetchJSON(t, "POST", url+"/v1/recommend", `{"user_id":"fresh","n":5}`)
	if code, v := fetchJSON(t, "POST", url+"/v1/events?wait=learnt", `{"user_id":"fresh","item_id":"i1","rating":5}`); code != 200 || v["learnt"] != true {
		t.Errorf("/v1/events: %d %v", code, v)
	}
	if n := counter(url, "corastream_events_total"); n != 601 {
		t.Errorf("an event that was waited for is not learnt: %v events", n)
	}
	if _, after := fetchJSON(t, "POST", url+"/v1/recommend", `{"user_id":"fresh","n":5}`); before["cold"] != true || after["cold"] == true || reflect.DeepEqual(ranking(t, after), ranking(t, before)) {
		t.Errorf("the next list is made without the event: %v", after)
	}
	if code, v := fetchJSON(t, "POST", url+"/v1/events", `{"user_id":"fresh","rating":5}`); code != 400 {
		t.Errorf("a bad event over HTTP: %d %v", code, v)
	}
	_, online = fetchJSON(t, "POST", url+"/v1/recommend", `{"user_id":"u1","n":5}`)
	want = ranking(t, online)
	up.signal(syscall.SIGTERM)
	if sum := up.wait(t).last(t); sum["degraded"] == "cf" || number(t, sum, "events") != 601 || number(t, sum, "recommendations") < 20 {
		t.Errorf("summary: %v", sum)
	}

	where := []string{"-c", h.config, "--data", h.data}
	offline := func(args ...string) map[string]any { return ok(t, append(args, where...)...).last(t) }
	same("recommend from the folder", offline("recommend", "--user", "u1", "-n", "5"))
	if s := offline("score", "--user", "u1", "--item", first); s["item_id"] != first || s["degraded"] != "cf" {
		t.Errorf("score from the folder: %v", s)
	}
	if r := ok(t, append([]string{"doctor"}, where...)...); strings.Contains(r.stdout, "BAD") {
		t.Errorf("doctor: %s", r.stdout)
	}

	digest := offline("store", "digest")["digest"]
	snap := filepath.Join(t.TempDir(), "backup.snap")
	offline("store", "snapshot", snap)
	copied := filepath.Join(t.TempDir(), "copy")
	ok(t, "store", "snapshot", snap, "--restore", "-c", h.config, "--data", copied)
	if again := ok(t, "store", "digest", "-c", h.config, "--data", copied).last(t)["digest"]; again != digest || digest == "" {
		t.Errorf("the restored state has digest %v, the original %v", again, digest)
	}
	same("recommend from the restored folder", ok(t, "recommend", "--user", "u1", "-n", "5", "-c", h.config, "--data", copied).last(t))
	if r := call(t, "store", "snapshot", snap, "--restore", "-c", h.config, "--data", copied); r.code == 0 {
		t.Error("a snapshot was restored over a store")
	}

	offline("erase", "u1")
	if after := offline("store", "digest")["digest"]; after == digest {
		t.Error("erasing a user left the digest as it was")
	}
	if r := offline("recommend", "--user", "u1", "-n", "5"); r["cold"] != true {
		t.Errorf("an erased user is known: %v", r)
	}
	if r := offline("store", "rerun"); r["equal"] != true {
		t.Errorf("re-run after an erasure: %v", r)
	}
	if sum := h.drain(t); number(t, sum, "events") != 0 {
		t.Errorf("a start after an erasure learns again: %v", sum)
	}
}

// TestCheckpointRanksUntilTheCatalogueIsAnother: with a checkpoint for these items answers are the LLM's; when its
// training catalogue was another one, they are CF's and say so.
func TestCheckpointRanksUntilTheCatalogueIsAnother(t *testing.T) {
	for name, c := range map[string]struct {
		ranked string
		change func(*generator.Checkpoint)
	}{
		"the same": {"", nil},
		"another": {"cf", func(ck *generator.Checkpoint) {
			for i := range ck.Catalogue.Mean {
				ck.Catalogue.Mean[i] += 20 * ck.Catalogue.Spread[i]
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "", tinyConfig(tinyLLM(t, 1), ""))
			h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 100, c.change))
			up := h.up(t)
			url := up.url(t)
			events, items := csvLog(t, 300, 10, 100)
			ok(t, "produce", items, "-c", h.config)
			eventually(t, "100 items", func() bool { return counter(url, "corastream_items_read_total") == 100 })
			ok(t, "produce", events, "-c", h.config)
			eventually(t, "300 events", func() bool { return counter(url, "corastream_events_total") == 300 })
			_, a := fetchJSON(t, "POST", url+"/v1/recommend", `{"user_id":"u1"}`)
			if a["degraded"] != c.ranked || len(ranking(t, a)) != 10 {
				t.Fatalf("/v1/recommend: %v", a)
			}
			_, ready := fetchJSON(t, "GET", url+"/readyz", "")
			if strings.Contains(fmt.Sprint(ready), "is that of cf") != (c.ranked == "cf") {
				t.Errorf("/readyz: %v", ready)
			}
			if c.ranked == "" {
				for _, x := range a["items"].([]any) {
					if it := x.(map[string]any); it["score"] == it["cf"] {
						t.Errorf("the score is CF's: %v", it)
					}
				}
				answer := oneClick(t, h, url)
				if answer == a["versions"].(map[string]any)["user"] {
					t.Errorf("a click left the user's version at %v", answer)
				}
			}
			_, online := fetchJSON(t, "POST", url+"/v1/recommend", `{"user_id":"u2"}`)
			up.signal(syscall.SIGTERM)
			sum := up.wait(t).last(t)
			if got, _ := sum["degraded"].(string); got != c.ranked {
				t.Errorf("summary: %v", sum)
			}
			offline := ok(t, "recommend", "--user", "u2", "-c", h.config, "--data", h.data).last(t)
			if !reflect.DeepEqual(ranking(t, offline), ranking(t, online)) {
				t.Errorf("from the folder: %v, from up: %v", ranking(t, offline), ranking(t, online))
			}
			// A second start finds the catalogue read.
			again := h.up(t)
			if n := counter(again.url(t), "corastream_items_read_total"); n != 0 {
				t.Errorf("a second start read %d items again", n)
			}
			again.kill()
			if r := ok(t, "store", "rerun", "-c", h.config).last(t); r["equal"] != true {
				t.Errorf("store rerun: %v", r)
			}
		})
	}
}

// oneClick sends a click of u1 and returns the user's version in the next recommendation.
func oneClick(t *testing.T, h *home, url string) any {
	t.Helper()
	h.produce(t, "interactions", `{"user_id":"u1","item_id":"i3","rating":1,"id":"the-click"}`)
	eventually(t, "the click", func() bool { return counter(url, "corastream_events_total") == 301 })
	_, b := fetchJSON(t, "POST", url+"/v1/recommend", `{"user_id":"u1"}`)
	v, _ := b["versions"].(map[string]any)
	return v["user"]
}

// TestDemoCheckpointRanksWithTheRealLLM: the checkpoint of the repository fits the LLM that `make fetch` gets.
func TestDemoCheckpointRanksWithTheRealLLM(t *testing.T) {
	t.Parallel()
	file, checkpoint := realLLM(t), demoCheckpoint(t)
	h := newHome(t, "", "")
	args := []string{"-c", h.config, "--llm", file, "--checkpoint", checkpoint}
	up := start(t, append([]string{"up", "--exit-when-idle"}, args...)...)
	events, items := csvLog(t, 60, 6, 20)
	up.url(t)
	ok(t, "produce", items, "-c", h.config)
	ok(t, "produce", events, "-c", h.config)
	up.wait(t)
	up = start(t, append([]string{"up", "--exit-when-idle"}, args...)...) // what came after the first one found the log idle
	up.wait(t)
	r := ok(t, append([]string{"recommend", "--user", "u1", "--data", h.data}, args...)...).last(t)
	if r["degraded"] != "" || len(ranking(t, r)) == 0 {
		t.Errorf("recommend: %v", r)
	}
	other := ok(t, append([]string{"recommend", "--user", "u2", "--data", h.data}, args...)...).last(t)
	if reflect.DeepEqual(ranking(t, r), ranking(t, other)) {
		t.Errorf("two users with different histories get the same: %v", ranking(t, r))
	}
	if b, err := json.Marshal(r["versions"]); err != nil || lacks(string(b), "generator", "llm") != nil {
		t.Errorf("versions: %s, %v", b, err)
	}
}
