//go:build app

package apptest

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/corastream/corastream/ingest/devbroker"
)

// TestKillWhileTheListModelsTableIsWritten kills `up` at each place of writing the list model's table file, which its end does, and has
// it fail there. The next process restores the table from the file before and the steps since, and has the bytes of a re-run.
func TestKillWhileTheListModelsTableIsWritten(t *testing.T) {
	t.Parallel()
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	h := newHome(t, b.Addr(), noLLM)
	h.ungrouped(t)
	h.drain(t)
	w := newWorkload(3, 40, 80)
	h.feedItems(t, w, w.items)
	send(t, b.Addr(), &kgo.Record{Topic: h.topics.items, Key: []byte("nameless"), Value: []byte(`{"user_id":"u1"}`)})
	mustRerun := func(after string) {
		t.Helper()
		if r := ok(t, "store", "rerun", "-c", h.config).last(t); r["equal"] != true {
			t.Errorf("after %s: %v", after, r)
		}
	}
	h.feed(t, w, 200)
	h.drain(t) // a whole table file to begin with
	for range 2 {
		for _, name := range tableFailpoints {
			h.feed(t, w, 150)
			up := startFailing(t, name+"@1=kill", "up", "-c", h.config, "--exit-when-idle")
			wasHit(t, up, name, "kill")
			copied := copyTo(t, filepath.Join(h.data, "store"))
			mustRerun(name + "=kill")
			// A warning, no error: the steps are kept instead. Tables that are there already are tried to be removed again by the next.
			h.feed(t, w, 150)
			up = startFailing(t, name+"@1=error", "up", "-c", h.config, "--exit-when-idle")
			r := up.wait(t)
			up.killed = true
			if r.code != 0 || !strings.Contains(r.stderr, "failpoint "+name) || !strings.Contains(r.stderr, "could not be written") {
				t.Errorf("%s=error: exit %d\n%s", name, r.code, tailOf(r.stderr, 1500))
			}
			mustRerun(name + "=error")
			// The folder as the kill left it, with a bit flipped in every table file in turn: rebuilt, with the same bytes, or refused by name.
			want := digestOf(t, h, copied)
			files, err := filepath.Glob(filepath.Join(copied, "store", "derived", "*.snap"))
			if err != nil || len(files) == 0 {
				t.Fatalf("%s: no table files: %v", name, err)
			}
			for _, file := range files {
				again := copyTo(t, filepath.Join(copied, "store"))
				flipBit(t, filepath.Join(again, "store", "derived", filepath.Base(file)))
				if r := call(t, "store", "digest", "-c", h.config, "--data", again); r.code == 0 && r.last(t)["digest"] != want ||
					r.code != 0 && !strings.Contains(r.stderr, filepath.Join(again, "store")) {
					t.Errorf("%s: %s with another bit: exit %d, %s%s", name, filepath.Base(file), r.code, r.stdout, tailOf(r.stderr, 800))
				}
			}
		}
	}
	h.feed(t, w, 100)
	h.mustAgree(t, w, nil, "")
}

// copyTo copies a store into a data folder of its own.
func copyTo(t *testing.T, store string) string {
	t.Helper()
	data := t.TempDir()
	if err := os.CopyFS(filepath.Join(data, "store"), os.DirFS(store)); err != nil {
		t.Fatal(err)
	}
	return data
}

func digestOf(t *testing.T, h *home, data string) string {
	t.Helper()
	return ok(t, "store", "digest", "-c", h.config, "--data", copyTo(t, filepath.Join(data, "store"))).last(t)["digest"].(string)
}

// flipBit changes one bit of a file.
func flipBit(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[rand.IntN(len(b))] ^= 1 << rand.IntN(8)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
