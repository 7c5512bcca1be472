//go:build app

package apptest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/adapter"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/serve/llm"
)

// everywhere makes a checkpoint adapt all six targets of every layer, on every token (`adapt: all`), with random P.
func everywhere(t *testing.T, config, kind string) func(*generator.Checkpoint) {
	return func(ck *generator.Checkpoint) {
		cfg, err := node.Load(config)
		if err != nil {
			t.Fatal(err)
		}
		m, err := llm.Open(cfg.LLM.File, cfg.LLM.Options)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		s := ck.Model.Spec
		s.Layers, s.Adapt, s.Rank = m.Info().Layers, corastream.AdaptAll, max(8, m.Info().Layers) // the linear path wants a column for each layer
		s.Targets = []corastream.Target{"q", "k", "v", "o", "gate", "up"}
		if kind == generator.InputsPaper {
			s.Inputs, s.Linear = kind, false
		}
		s.Alpha = float32(2 * s.Rank)
		if ck.Model, err = generator.NewModel(s, 6); err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(10, 10))
		ck.Projection = &corastream.Projection{Rank: s.Rank, Alpha: s.Alpha, Adapt: s.Adapt, P: map[corastream.Slot][]float32{}}
		for _, slot := range s.Slots(ck.Made.Layers) {
			p := make([]float32, s.Rank*m.TargetWidths()[slot.Target][1])
			for i := range p {
				p[i] = float32(.3 * r.NormFloat64())
			}
			ck.Projection.P[slot] = p
		}
	}
}

// exportedNote reads an export's corastream.json.
func exportedNote(t *testing.T, dir string) (n adapter.Note) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, adapter.NoteName))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// sameFiles compares two exports byte by byte.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	if x, y := names(t, a), names(t, b); !slices.Equal(x, y) {
		t.Fatalf("%v and %v", x, y)
	}
	for _, name := range names(t, a) {
		x, err1 := os.ReadFile(filepath.Join(a, name))
		y, err2 := os.ReadFile(filepath.Join(b, name))
		if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
			t.Errorf("%s differs (%v, %v)", name, err1, err2)
		}
	}
}

// TestExportFromUpAndFromTheFolder: a running `up` and its data folder export the same bytes, whose recorded score is
// what `score` gives. With CORASTREAM_EXPORT_OUT=DIR the LLM is the real one, and the pair and its model stay in DIR for
// .ci/reference/export.py.
func TestExportFromUpAndFromTheFolder(t *testing.T) {
	file, keep := "", os.Getenv("CORASTREAM_EXPORT_OUT")
	if keep == "" {
		file = tinyLLM(t, 1)
	} else {
		file = realLLM(t)
	}
	h := newHome(t, "", strings.Replace(tinyConfig(file, ""), "threads: 1", "threads: 1, numerics: f32", 1))
	h.amend(t, "http: {listen: \"127.0.0.1:0\"}", fmt.Sprintf("http: {listen: \"127.0.0.1:%d\"}", freePort(t)))
	h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 40, everywhere(t, h.config, "")))
	up := h.up(t)
	url := up.url(t)
	events, items := csvLog(t, 120, 6, 40)
	ok(t, "produce", items, "-c", h.config)
	eventually(t, "40 items", func() bool { return counter(url, "corastream_items_read_total") == 40 })
	ok(t, "produce", events, "-c", h.config)
	eventually(t, "120 events", func() bool { return counter(url, "corastream_events_total") == 120 })

	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	online := ok(t, "export", "--user", "u1", "--item", "i4", "--gguf", "--out", at("pair"), "-c", h.config).last(t)
	if !slices.Equal(names(t, at("pair")), []string{"README.md", "adapter.gguf", "adapter_config.json", "adapter_model.safetensors", "corastream.json"}) {
		t.Errorf("%v", names(t, at("pair")))
	}
	n := exportedNote(t, at("pair"))
	if n.Part != "pair" || n.Item != "i4" || n.Activate != nil || n.Versions.User == 0 || online["out"] != at("pair") || n.Check == nil || n.Check.Numbers != "f32" {
		t.Fatalf("%+v", n)
	}
	scored := ok(t, "score", "--user", "u1", "--item", "i4", "-c", h.config).stdout
	var answer struct{ Data []struct{ Score float64 } }
	if err := json.Unmarshal([]byte(scored), &answer); err != nil || len(answer.Data) != 1 || math.Abs(answer.Data[0].Score/float64(n.Check.P)-1) > 1e-6 {
		t.Errorf("score answers %s, the export says %v (%v)", scored, n.Check.P, err)
	}
	ok(t, "export", "--user", "u1", "--out", at("user"), "-c", h.config)
	if code, v := fetchJSON(t, "GET", url+"/v1/adapters/nobody", ""); code != 404 {
		t.Errorf("an unknown user over HTTP: %d %v", code, v)
	}
	if r := call(t, "export", "--user", "nobody", "--out", at("nobody"), "-c", h.config); r.code != 2 {
		t.Errorf("an unknown user: exit %d\n%s", r.code, r.stderr)
	}
	up.signal(syscall.SIGTERM)
	up.wait(t)

	offline := func(args ...string) result { return call(t, append(args, "-c", h.config, "--data", h.data)...) }
	export := func(args ...string) map[string]any {
		r := offline(append([]string{"export"}, args...)...)
		if r.code != 0 {
			t.Fatalf("export %v: exit %d\n%s", args, r.code, r.stderr)
		}
		return r.last(t)
	}
	export("--user", "u1", "--item", "i4", "--gguf", "--out", at("again"))
	sameFiles(t, at("pair"), at("again"))
	export("--user", "u1", "--out", at("again")) // over the pair's: the GGUF must go
	sameFiles(t, at("user"), at("again"))
	user := exportedNote(t, at("user"))
	if user.Part != "user" || user.Check != nil || !strings.Contains(strings.Join(user.Notes, " "), "b_i A_b is left out") {
		t.Errorf("%+v", user)
	}
	if readme, err := os.ReadFile(at("user/README.md")); err != nil || !bytes.Contains(readme, []byte("b_i A_b is left out")) {
		t.Errorf("README.md does not say what is left out: %s, %v", readme, err)
	}
	for name, args := range map[string][]string{
		"an unknown user": {"--user", "nobody", "--out", at("x")}, "an unknown item": {"--user", "u1", "--item", "i4000", "--out", at("x")},
		"no folder": {"--user", "u1"}, "a folder of something else": {"--user", "u1", "--out", h.data},
		"no checkpoint": {"--user", "u1", "--out", at("x"), "--llm", "off"},
	} {
		if r := offline(append([]string{"export"}, args...)...); r.code != 2 || !strings.Contains(r.stderr, "fix:") && name != "no folder" {
			t.Errorf("%s: exit %d, %s", name, r.code, r.stderr)
		}
	}
	if keep == "" {
		return
	}
	out := filepath.Join(keep, "real")
	if err := os.CopyFS(out, os.DirFS(at("pair"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, filepath.Join(out, "model.gguf")); err != nil {
		t.Fatal(err)
	}
}

// TestExportOfPairsAlone: with `inputs: paper` there is no user's part.
func TestExportOfPairsAlone(t *testing.T) {
	h := newHome(t, "", tinyConfig(tinyLLM(t, 1), ""))
	h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 40, everywhere(t, h.config, generator.InputsPaper)))
	events, items := csvLog(t, 30, 3, 10)
	up := h.up(t)
	url := up.url(t)
	ok(t, "produce", items, "-c", h.config)
	ok(t, "produce", events, "-c", h.config)
	eventually(t, "30 events", func() bool { return counter(url, "corastream_events_total") == 30 })
	up.signal(syscall.SIGTERM)
	up.wait(t)
	dir := t.TempDir()
	where := []string{"-c", h.config, "--data", h.data, "--out", filepath.Join(dir, "e")}
	if r := call(t, append([]string{"export", "--user", "u1"}, where...)...); r.code != 2 || !strings.Contains(r.stderr, "name an item") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	ok(t, append([]string{"export", "--user", "u1", "--item", "i1"}, where...)...)
	if n := exportedNote(t, filepath.Join(dir, "e")); n.Part != "pair" || n.Adapt != corastream.AdaptAll {
		t.Errorf("%+v", n)
	}
}
