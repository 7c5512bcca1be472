//go:build app

package apptest

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/ingest"
)

// TestWhatIsExportedIsProducedAgain: events of every sort and a catalogue come back as they were, from a folder, from beside a running
// `up`, and through another folder; whoever was erased stays away.
func TestWhatIsExportedIsProducedAgain(t *testing.T) {
	t.Parallel()
	events := strings.Join([]string{
		`{"user_id":"u1","item_id":"i1","type":"click","id":"c-1","timestamp":"2026-01-02T03:04:05.678Z"}`,
		`{"user_id":"u1","item_id":"i2","rating":2,"timestamp":1767323046}`,
		`{"user_id":"u2","item_id":"i2","label":0.25,"type":"watched","timestamp":1767323047}`,
		`{"user_id":"u2","items":["i1","i3"],"clicked":["i3"],"type":"impression","timestamp":1767323048,"id":"shown-1"}`,
		`{"user_id":"u2","item_id":"i3","type":"retract","timestamp":1767323049}`,
		`{"UserId":"u3","ItemId":"i\"1\"","FeedbackType":"like","Timestamp":"2026-01-02T03:04:10Z"}`,
		`{"user_id":"gone","item_id":"i1","type":"click","timestamp":1767323050}`,
		`{"user_id":"","item_id":"i1","type":"click"}`,
	}, "\n")
	items := strings.Join([]string{
		`{"item_id":"i1","title":"An old title"}`, `{"item_id":"i2","title":"Two","withdrawn":true,"fields":{"genre":"a|b"}}`,
		`{"item_id":"i1","title":"One \u00fc","brand":"x"}`,
	}, "\n")
	h := newHome(t, "", noLLM)
	file := func(name string) string { return filepath.Join(t.TempDir(), name) }
	if r := call(t, "produce", write(t, "events.jsonl", events), "-c", h.config); r.code != 1 {
		t.Fatalf("a bad record was taken: %s", r.stderr)
	}
	ok(t, "produce", write(t, "items.jsonl", items), "-c", h.config)
	h.drain(t)
	ok(t, "erase", "gone", "-c", h.config)
	out := file("out.jsonl")
	if n := ok(t, "export", "events", "--out", out, "-c", h.config).last(t); number(t, n, "records") != 7 || number(t, n, "erased") != 1 || number(t, n, "bad") != 1 || n["file"] != out {
		t.Errorf("%v", n)
	}
	catalogue := file("items.jsonl")
	if n := ok(t, "export", "items", "--out", catalogue, "-c", h.config).last(t); number(t, n, "records") != 2 {
		t.Errorf("%v", n)
	}
	read := func(path string) (out []corastream.Event) {
		all, err := datafile.Events(ingest.Default(), path, "x")
		if err != nil {
			t.Fatal(err)
		}
		for _, ev := range all {
			ev.Pos, ev.Appended, ev.Time = corastream.Position{}, time.Time{}, ev.Time.UTC()
			out = append(out, ev)
		}
		return out
	}
	good := write(t, "good.jsonl", strings.Join(strings.Split(events, "\n")[:6], "\n"))
	want := read(good)
	if got := read(out); !sameEvents(got, want) {
		t.Errorf("events: %+v\nwant %+v", got, want)
	}
	cat, err := datafile.Items(ingest.Default(), catalogue)
	if err != nil || len(cat) != 2 || cat[0].Title != "One ü" || cat[0].Fields["brand"] != "x" || !cat[1].Withdrawn || cat[1].Fields["genre"] != "a|b" {
		t.Errorf("items: %+v %v", cat, err)
	}

	again := newHome(t, "", noLLM)
	up := again.up(t)
	up.url(t)
	ok(t, "produce", catalogue, "-c", again.config)
	ok(t, "produce", out, "-c", again.config)
	third := ok(t, "export", "events", "-c", again.config).stdout
	copied := write(t, "copied.jsonl", third)
	if got := read(copied); !sameEvents(got, want) {
		t.Errorf("beside a running up: %+v", got)
	}
	up.kill()
	if r := call(t, "export", "events", "--out", file("events.csv"), "-c", h.config); r.code != 2 {
		t.Errorf("a name that produce does not know was taken: %s", r.stderr)
	}
	if r := call(t, "export", "items", "--out", filepath.Join(file("no"), "x.jsonl"), "-c", h.config); r.code != 2 {
		t.Errorf("%d %s", r.code, r.stderr)
	}
	if left, _ := os.ReadDir(filepath.Dir(out)); len(left) != 1 {
		t.Errorf("files are left beside the export: %v", left)
	}
}

// sameEvents compares logs whose users lie on several partitions: each user's events in their order.
func sameEvents(a, b []corastream.Event) bool {
	by := func(events []corastream.Event) map[string][]corastream.Event {
		out := map[string][]corastream.Event{}
		for _, ev := range events {
			out[ev.User] = append(out[ev.User], ev)
		}
		return out
	}
	return reflect.DeepEqual(by(a), by(b))
}
