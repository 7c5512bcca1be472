//go:build app

package apptest

import (
	"fmt"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestSignalDrainsAndCommits: `up` that is asked to end commits what it has learnt, prints its summary as the last line
// and exits 0; the next start goes on right there.
func TestSignalDrainsAndCommits(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
	}{{"SIGINT", syscall.SIGINT}, {"SIGTERM", syscall.SIGTERM}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHome(t, "", noLLM)
			w := newWorkload(3, 50, 40)
			var good, bad, learnt, buried, repeated int
			for range 2 {
				up := h.up(t)
				url := up.url(t)
				lines := w.lines(2000)
				producer := h.producing(t, "interactions", 6000, lines...)
				eventually(t, "700 events", func() bool { return counter(url, "corastream_events_total") >= 700 })
				up.signal(c.signal)
				r := up.wait(t)
				if r.code != 0 || strings.Count(r.stdout, "\n") != 1 {
					t.Fatalf("%s: exit %d, standard output %q\n%s", c.name, r.code, r.stdout, r.stderr)
				}
				sum := r.last(t)
				learnt += number(t, sum, "events")
				buried += number(t, sum, "dead_letters")
				repeated += number(t, sum, "duplicates")
				up = h.up(t) // the producer goes on; this one is asked to end, too
				if r := producer.wait(t); !r.sent() {
					t.Fatalf("produce: exit %d\n%s", r.code, r.stderr)
				}
				up.url(t) // a process that was asked to end before it listens to signals dies of them
				up.signal(c.signal)
				sum = up.wait(t).last(t)
				learnt += number(t, sum, "events")
				buried += number(t, sum, "dead_letters")
				repeated += number(t, sum, "duplicates")
			}
			sum := h.drain(t)
			learnt += number(t, sum, "events")
			buried += number(t, sum, "dead_letters")
			repeated += number(t, sum, "duplicates")
			for _, m := range w.means {
				good += len(m.events)
				if m.bad != "" {
					bad++
				}
			}
			// A producer that lost its broker may send again what the log has: that is a repeat, or a second dead letter.
			if learnt < good || buried < bad {
				t.Errorf("%d events learnt and %d buried in all, want at least %d and %d", learnt, buried, good, bad)
			}
			again := h.drain(t)
			for _, key := range []string{"events", "duplicates", "dead_letters", "recommendations"} {
				if n := number(t, again, key); n != 0 {
					t.Errorf("a start with nothing new has %s %d", key, n)
				}
			}
			h.exactly(t, w)
			if rerun := ok(t, "store", "rerun", "-c", h.config).last(t); rerun["equal"] != true {
				t.Errorf("store rerun: %v", rerun)
			}
			t.Logf("%d learnt, %d repeats, %d dead letters", learnt, repeated, buried)
		})
	}
}

// TestBadRecordsBecomeDeadLetters: what can not be used goes to the dead letters with its reason and place, and the
// stream goes on.
func TestBadRecordsBecomeDeadLetters(t *testing.T) {
	eachBroker(t, func(t *testing.T, brokers string) {
		h := newHome(t, brokers, noLLM)
		up := h.up(t)
		url := up.url(t)
		cases := []struct{ reason, value string }{
			{"json", `{"user_id":"u1","item_id":`},
			{"json", `"just a string"`},
			{"no_user", `{"item_id":"i1","rating":5}`},
			{"no_item", `{"user_id":"u1","rating":5}`},
			{"nan", `{"user_id":"u1","item_id":"i1","rating":NaN}`},
			{"nan", `{"user_id":"u1","item_id":"i1","rating":"Infinity"}`},
			{"future", `{"user_id":"u1","item_id":"i1","rating":5,"timestamp":"2999-01-01T00:00:00Z"}`},
			{"time", `{"user_id":"u1","item_id":"i1","rating":5,"timestamp":"soon"}`},
			{"label", `{"user_id":"u1","item_id":"i1","label":7}`},
			{"kind", `{"user_id":"u1","item_id":"i1","type":"teleport"}`},
			{"ambiguous", `{"user_id":"u1","userId":"u2","item_id":"i1","rating":5}`},
			{"type", `{"user_id":{"a":1},"item_id":"i1","rating":5}`},
			{"id", `{"user_id":"u\u0000","item_id":"i1","rating":5}`},
			{"schema_registry", "\x00\x00\x00\x00\x01abc"},
			{"too_large", `{"user_id":"u1","item_id":"i1","rating":5,"note":"` + strings.Repeat("x", 10_000_000) + `"}`},
		}
		var records []*kgo.Record
		for _, c := range cases {
			records = append(records, &kgo.Record{Topic: h.topics.interactions, Key: []byte("u1"), Value: []byte(c.value)})
		}
		records = append(records, &kgo.Record{Topic: h.topics.interactions, Key: []byte("u1")}) // no value
		// All have one key, so this one lies behind them in the same partition.
		records = append(records, &kgo.Record{Topic: h.topics.interactions, Key: []byte("u1"), Value: []byte(`{"user_id":"u1","item_id":"i9","rating":5}`)})
		for _, r := range records { // one by one: the order of the cases is the order in the log
			send(t, h.address(), r)
		}
		eventually(t, "the good event behind them", func() bool { return counter(url, "corastream_events_total") == 1 })
		letters := map[int64]*kgo.Record{}
		for _, part := range topicOf(t, h.address(), h.topics.letters) {
			for _, r := range part {
				var offset int64
				if _, err := fmt.Sscan(headers(r)["offset"], &offset); err != nil {
					t.Fatalf("a dead letter without its offset: %v", headers(r))
				}
				letters[offset] = r
			}
		}
		for i, c := range append(cases, struct{ reason, value string }{"empty", ""}) {
			l := letters[int64(i)]
			if l == nil {
				t.Errorf("%s: no dead letter for offset %d: %.60q", c.reason, i, c.value)
				continue
			}
			got := headers(l)
			if got["reason"] != c.reason || got["topic"] != h.topics.interactions || got["detail"] == "" {
				t.Errorf("%.60q: reason %q, topic %q, detail %q; want reason %s", c.value, got["reason"], got["topic"], got["detail"], c.reason)
			}
			if c.reason == "too_large" {
				if len(l.Value) == 0 || !strings.HasPrefix(c.value, string(l.Value)) {
					t.Errorf("too_large: the letter's %d bytes are not the start of the record", len(l.Value))
				}
			} else if string(l.Value) != c.value || string(l.Key) != "u1" {
				t.Errorf("%s: the letter holds key %q, value %.60q", c.reason, l.Key, l.Value)
			}
		}
		if len(letters) != len(cases)+1 {
			t.Errorf("%d dead letters for %d bad records", len(letters), len(cases)+1)
		}
		if n := counter(url, `corastream_dead_letters_total{reason="nan"}`); n != 2 {
			t.Errorf("/metrics counts %d dead letters of reason nan, want 2", n)
		}
		shown := jsonLines(t, ok(t, "consume", "--dead-letters", "-c", h.config, "--bootstrap-server", h.address()).stdout)
		if len(shown) != len(letters) || shown[0]["reason"] == "" {
			t.Errorf("consume --dead-letters shows %d of %d", len(shown), len(letters))
		}
		up.signal(syscall.SIGTERM)
		sum := up.wait(t).last(t)
		if number(t, sum, "dead_letters") != len(letters) || number(t, sum, "events") != 1 {
			t.Errorf("summary: %v", sum)
		}
	})
}
