//go:build app

package apptest

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/corastream/corastream/ingest/devbroker"
)

// TestDoctorNamesTheCauseAndTheFix: for each trouble of the field guide, one line that says what is wrong and what to do.
func TestDoctorNamesTheCauseAndTheFix(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	standing := func(t *testing.T, o devbroker.Options) string {
		b, err := devbroker.Start(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b.Addr()
	}
	learnt := func(t *testing.T, brokers string) *home { // a store with offsets
		h := newHome(t, brokers, noLLM)
		up := h.up(t)
		url := up.url(t)
		h.produce(t, "interactions", newWorkload(1, 20, 20).lines(50)...)
		eventually(t, "events", func() bool { return counter(url, "corastream_events_total") > 30 })
		up.signal(syscall.SIGTERM)
		up.wait(t)
		return h
	}
	for _, c := range []struct {
		name string
		home func(t *testing.T) *home
		says []string
	}{
		{"broker unreachable", func(t *testing.T) *home { return newHome(t, nobody, noLLM) }, []string{"BAD  kafka", nobody, "fix: nobody listens there"}},
		{"name unknown", func(t *testing.T) *home { return newHome(t, "kafka.invalid:9092", noLLM) }, []string{"BAD  kafka", "kafka.invalid", "fix: the name is not known"}},
		{"login expected", func(t *testing.T) *home {
			return newHome(t, standing(t, devbroker.Options{Users: []devbroker.User{{Mechanism: "SCRAM-SHA-512", Name: "ann", Password: "s3cret"}}}), noLLM)
		}, []string{"BAD  kafka", "fix: the broker asks for a login: set kafka.sasl"}},
		{"collector away", func(t *testing.T) *home {
			return newHome(t, standing(t, devbroker.Options{}), noLLM)
		}, []string{"BAD  traces", "127.0.0.1:9", "fix: start the collector"}},
		{"topics missing", func(t *testing.T) *home { return newHome(t, standing(t, devbroker.Options{}), noLLM) }, []string{"BAD  kafka", ".interactions", "fix: create the topic"}},
		{"another cluster", func(t *testing.T) *home {
			h := learnt(t, standing(t, devbroker.Options{}))
			other := standing(t, devbroker.Options{})
			h.amend(t, "brokers: ["+h.brokers+"]", "brokers: ["+other+"]")
			h.brokers = other
			topics := newWorkload(2, 5, 5)
			u := h.data
			h.data = t.TempDir()
			h.amend(t, "data: "+u, "data: "+h.data) // another process makes the topics there
			up := h.up(t)
			up.url(t)
			h.produce(t, "interactions", topics.lines(5)...)
			up.signal(syscall.SIGTERM)
			up.wait(t)
			h.amend(t, "data: "+h.data, "data: "+u)
			return h
		}, []string{"BAD  kafka", "gap in the log", "fix: point brokers at the old cluster"}},
		{"disk low", func(t *testing.T) *home {
			h := learnt(t, standing(t, devbroker.Options{}))
			h.amend(t, "reserve_bytes: 67108864", "reserve_bytes: 1125899906842624")
			return h
		}, []string{"BAD  data", "learning waits below", "fix: free some space"}},
		{"data folder of somebody else", func(t *testing.T) *home {
			h := newHome(t, standing(t, devbroker.Options{}), noLLM)
			if err := os.WriteFile(h.data, []byte("a file"), 0o600); err != nil {
				t.Fatal(err)
			}
			return h
		}, []string{"BAD  data", "fix: give a folder"}},
		{"another CF model", func(t *testing.T) *home {
			h := learnt(t, standing(t, devbroker.Options{}))
			h.amend(t, "factors: 8", "factors: 9")
			return h
		}, []string{"BAD  cf", "mismatch", "fix: set cf in the configuration back"}},
		{"wrong model", func(t *testing.T) *home {
			h := newHome(t, nobody, tinyConfig(tinyLLM(t, 1), ""))
			h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 40, nil))
			other := tinyLLM(t, 2)
			b, err := os.ReadFile(h.config)
			if err != nil {
				t.Fatal(err)
			}
			file := strings.SplitN(strings.SplitN(string(b), "llm: {file: ", 2)[1], ",", 2)[0]
			h.amend(t, file, other)
			return h
		}, []string{"BAD  checkpoint", "mismatch", "fix: "}},
		{"no model file", func(t *testing.T) *home {
			return newHome(t, nobody, "llm: {file: "+filepath.Join(t.TempDir(), "none.gguf")+"}\n")
		}, []string{"BAD  llm", "none.gguf", "make fetch"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := c.home(t)
			var env []string
			if c.name == "collector away" {
				env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9"}
			}
			r := startWith(t, program, env, "doctor", "-c", h.config).wait(t)
			if missing := lacks(r.stdout, c.says...); r.code != 1 || len(missing) > 0 {
				t.Errorf("exit %d, does not say %q:\n%s%s", r.code, missing, r.stdout, tailOf(r.stderr, 500))
			}
		})
	}
}

// TestErasureSurvivesAReplayFromTheFirstOffset: the log still holds the user's events. The store they were erased from
// does not learn them again, nor does a new one that was given its erasures.
func TestErasureSurvivesAReplayFromTheFirstOffset(t *testing.T) {
	t.Parallel()
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	h := newHome(t, b.Addr(), noLLM)
	const canary = "canary-user-7f3a"
	up := h.up(t)
	url := up.url(t)
	h.produce(t, "items", itemLines(0, 20)...)
	var lines []string
	for i := range 30 {
		lines = append(lines, fmt.Sprintf(`{"user_id":"%s","item_id":"i%d","rating":5,"id":"c%d"}`, canary, i%20, i), fmt.Sprintf(`{"user_id":"other","item_id":"i%d","rating":4,"id":"o%d"}`, i%20, i))
	}
	h.produce(t, "interactions", lines...)
	eventually(t, "all events", func() bool { return counter(url, "corastream_events_total") == 60 })
	up.signal(syscall.SIGTERM)
	up.wait(t)
	ok(t, "erase", canary, "-c", h.config)
	holds := func(when string, events int) {
		t.Helper()
		r := ok(t, "store", "rerun", "-c", h.config).last(t)
		if r["equal"] != true {
			t.Errorf("%s: store rerun: %v", when, r)
		}
		up := h.up(t)
		url := up.url(t)
		code, body := fetchJSON(t, "GET", url+"/v1/users/"+canary, "")
		if code != 404 && fmt.Sprint(body["history"]) != "[]" && body["history"] != nil {
			t.Errorf("%s: the user is there: %d %v", when, code, body)
		}
		if code, _ := fetchJSON(t, "GET", url+"/v1/users/other", ""); code != 200 {
			t.Errorf("%s: the other user is gone: %d", when, code)
		}
		up.signal(syscall.SIGTERM)
		if sum := up.wait(t).last(t); number(t, sum, "events") != events {
			t.Errorf("%s: %d events learnt, want %d", when, number(t, sum, "events"), events)
		}
	}
	holds("after the erasure", 0)
	// A new folder learns the log from its first offset.
	old := h.data
	h.data = filepath.Join(t.TempDir(), "new")
	h.amend(t, "data: "+old, "data: "+h.data)
	if r := ok(t, "erase", "--from", old, "-c", h.config).last(t); r["erasures"] != 1.0 {
		t.Errorf("erase --from: %v", r)
	}
	sum := h.drain(t)
	if n := number(t, sum, "events"); n != 30 {
		t.Errorf("the new folder learnt %d events, want the other user's 30", n)
	}
	holds("in the new folder", 0)
	// Written anew, no file of the state names the user.
	snap := filepath.Join(t.TempDir(), "state.snap")
	if v := ok(t, "store", "snapshot", snap, "-c", h.config).last(t); len(fmt.Sprint(v["sha256"])) != 64 || v["records"] == nil {
		t.Errorf("snapshot: %v", v)
	}
	clean := filepath.Join(t.TempDir(), "clean")
	h.amend(t, "data: "+h.data, "data: "+clean)
	ok(t, "store", "snapshot", snap, "--restore", "-c", h.config)
	for _, dir := range []string{filepath.Dir(snap), clean} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if strings.Contains(string(b), canary) {
				t.Errorf("%s still holds the user's id", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
