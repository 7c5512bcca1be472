//go:build app

package apptest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReadingsAreShared: two processes with data folders of their own read one catalogue with one model at the same time, and keep one
// reading of each item. A third folder reads nothing. A damaged reading is made again, and that one alone.
func TestReadingsAreShared(t *testing.T) {
	const items = 60
	model, cache := tinyLLM(t, 11), t.TempDir()
	shop := func() (*home, *process) {
		h := newHome(t, "", tinyConfig(model, ""))
		return h, startWith(t, program, []string{"XDG_CACHE_HOME=" + cache}, "up", "-c", h.config)
	}
	coded := func(h *home, p *process) {
		t.Helper()
		p.url(t)
		h.produce(t, "items", itemLines(0, items)...)
		eventually(t, "all items to have a code", func() bool {
			_, st := fetchJSON(t, "GET", p.url(t)+"/v1/status", "")
			part, _ := st["llm"].(map[string]any)
			n, _ := part["coded_items"].(float64)
			return n == items
		})
	}
	reads := func(p *process) bool { return strings.Contains(p.stderr(), "read catalogue for lists") }
	kept := func() (string, int) {
		t.Helper()
		files, err := filepath.Glob(filepath.Join(cache, "corastream", "states-*.f32"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%v: %v", files, err)
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		size := 48 + 4*2*tinyHidden
		if over := (len(b) - 80) % size; over != 0 {
			t.Errorf("the file of states has %d bytes over", over)
		}
		return files[0], (len(b) - 80) / size
	}

	h1, first := shop()
	h2, second := shop()
	coded(h1, first)
	coded(h2, second)
	if _, n := kept(); n != items || !reads(first) {
		t.Errorf("two processes at once kept %d readings of %d items\n%s", n, items, first.stderr())
	}
	first.kill()
	second.kill()

	h3, third := shop()
	coded(h3, third)
	if reads(third) {
		t.Errorf("a second data folder read the catalogue again:\n%s", third.stderr())
	}
	third.kill()
	if _, err := os.Stat(filepath.Join(h3.data, "llm")); err == nil {
		t.Error("the data folder has readings of its own")
	}

	path, _ := kept()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1 // in the values of an item's state, or in its head: then what follows is made again too
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	h4, fourth := shop()
	coded(h4, fourth)
	if !reads(fourth) {
		t.Error("a damaged reading was not made again")
	}
	fourth.kill()
	h5, fifth := shop()
	coded(h5, fifth)
	if reads(fifth) {
		t.Errorf("what was damaged was not kept again:\n%s", fifth.stderr())
	}
}

// TestListLayersReadsThroughSomeLayersAlone: with llm.list_layers the states are half as wide and the lists have codes. A number that
// the model does not have is refused by its name.
func TestListLayersReadsThroughSomeLayersAlone(t *testing.T) {
	model := tinyLLM(t, 12)
	h := newHome(t, "", strings.Replace(tinyConfig(model, ""), "threads: 1", "threads: 1, list_layers: 2", 1))
	p := h.up(t)
	p.url(t)
	h.produce(t, "items", itemLines(0, 60)...)
	eventually(t, "all items to have a code", func() bool {
		_, st := fetchJSON(t, "GET", p.url(t)+"/v1/status", "")
		part, _ := st["llm"].(map[string]any)
		return part["coded_items"] == 60.
	})
	if got, want := stateBytes(t, filepath.Join(h.data, "llm")), int64(60*(48+4*tinyHidden)); got != want {
		t.Errorf("60 states take %d bytes, want %d", got, want)
	}
	p.kill()
	h.amend(t, "list_layers: 2", fmt.Sprint("list_layers: ", tinyLayers))
	if r := h.up(t).wait(t); r.code != 2 || !strings.Contains(r.stderr, "llm.list_layers") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}
