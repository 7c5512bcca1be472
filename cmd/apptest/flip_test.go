//go:build app

package apptest

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/ingest/devbroker"
)

// flipped is a copy of a home in which one bit of one file is another.
type flipped struct {
	h          *home
	data, file string // the copied data folder, the file's name
	config     string
}

// run calls the program on the copy.
func (f *flipped) run(t *testing.T, args ...string) result {
	t.Helper()
	return call(t, append(args, "-c", f.config, "--data", f.data)...)
}

// TestAFlippedBitIsRefusedByNameOrChangesNothing: one bit of one file flips, of each kind that a data folder and its
// surroundings hold. The program refuses, naming the folder or the file, or everything is as it was: the digest of the
// state, the scores of the LLM. Never another vector without a word.
func TestFlippedBitsAreRefusedByNameOrChangeNothing(t *testing.T) {
	t.Parallel()
	flips, seed := dose(t, "FLIPS", 6)
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	h := newHome(t, b.Addr(), tinyConfig(tinyLLM(t, 1), ""))
	h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 150, nil))
	h.amend(t, "memory_limit_bytes: 67108864", "memory_limit_bytes: 33554432") // small buffers: several tables
	h.ungrouped(t)
	h.drain(t)
	w := newWorkload(seed, 60, 150)
	h.feedItems(t, w, w.items)
	for range 3 { // each clean end is a table
		h.feed(t, w, 700)
		h.drain(t)
	}
	snapshot := filepath.Join(t.TempDir(), "state.snap")
	ok(t, "store", "snapshot", snapshot, "-c", h.config)
	want := ok(t, "store", "digest", "-c", h.config).stdout
	score := []string{"score", "--user", "u2", "--item", "i1,i2,i3,i4,i5"}
	scores := ok(t, append(score, "-c", h.config, "--data", h.data)...).stdout
	killed := h.killedMidway(t, w)

	digest := func(t *testing.T, f *flipped) (result, string) { return f.run(t, "store", "digest"), want }
	rank := func(t *testing.T, f *flipped) (result, string) { return f.run(t, score...), scores }
	store := filepath.Join(h.data, "store")
	for _, c := range []struct {
		kind, from, pattern string
		into                string // where the file lies in the copy
		try                 func(*testing.T, *flipped) (result, string)
	}{
		{"table", store, "*.sst", "data/store", digest},
		{"list table", filepath.Join(store, "derived"), "*.snap", "data/store/derived", digest},
		{"manifest", store, "MANIFEST", "data/store", digest},
		{"key registry", store, "KEYREGISTRY", "data/store", digest},
		{"value log", store, "*.vlog", "data/store", digest},
		{"write-ahead file", filepath.Join(killed.data, "store"), "*.mem", "data/store", func(t *testing.T, f *flipped) (result, string) {
			return h.learnsOn(t, f, w)
		}},
		{"snapshot", filepath.Dir(snapshot), "state.snap", "data", func(t *testing.T, f *flipped) (result, string) {
			r := call(t, "store", "snapshot", f.file, "--restore", "-c", f.config, "--data", f.data+"-restored")
			if r.code != 0 {
				return r, ""
			}
			return call(t, "store", "digest", "-c", f.config, "--data", f.data+"-restored"), want
		}},
		{"checkpoint", filepath.Dir(h.setting(t, "checkpoint")), "*.safetensors", ".", rank},
		{"llm", filepath.Dir(h.setting(t, "llm")), "*.gguf", ".", rank},
		{"packed weights", filepath.Join(h.data, "llm"), "packed-*.w", "data/llm", rank},
		{"item cache", filepath.Join(h.data, "llm"), "items-*.kv", "data/llm", rank},
		{"configuration", filepath.Dir(h.config), "corastream.yaml", ".", digest},
	} {
		t.Run(c.kind, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, uint64(len(c.kind))))
			files, err := filepath.Glob(filepath.Join(c.from, c.pattern))
			if err != nil || len(files) == 0 {
				t.Fatalf("no %s in %s (%v)", c.pattern, c.from, err)
			}
			refused, same := 0, 0
			n := flips
			if c.kind == "write-ahead file" && !long() {
				n = 2 // each learns on and re-runs; store/damage_test.go has more of them
			}
			for range n {
				source := h
				if c.kind == "write-ahead file" {
					source = killed
				}
				f := copyHome(t, source)
				path := files[r.IntN(len(files))]
				data, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				used := len(bytes.TrimRight(data, "\x00"))
				if used == 0 {
					continue
				}
				at, bit := r.IntN(used), r.IntN(8)
				data[at] ^= 1 << bit
				f.file = filepath.Join(filepath.Dir(f.data), c.into, filepath.Base(path))
				if err := os.WriteFile(f.file, data, 0o600); err != nil {
					t.Fatal(err)
				}
				got, want := c.try(t, f)
				where := filepath.Base(path)
				switch {
				case got.code == 0 && got.stdout == want:
					same++
				case got.code == 0:
					t.Errorf("bit %d of byte %d of %s: no error, and\n%swas\n%s%s", bit, at, where, got.stdout, want, tailOf(got.stderr, 500))
				case got.code != 1 && got.code != 2 || strings.Contains(got.stderr, "goroutine "):
					t.Errorf("bit %d of byte %d of %s: exit %d\n%s", bit, at, where, got.code, tailOf(got.stderr, 3000))
				case !strings.Contains(got.stderr, filepath.Dir(f.data)) && !strings.Contains(got.stderr, where):
					t.Errorf("bit %d of byte %d of %s: the refusal names no file or folder: %s", bit, at, where, got.stderr)
				default:
					refused++
				}
				os.RemoveAll(filepath.Dir(f.data))
			}
			t.Logf("%s: %d refused, %d without effect", c.kind, refused, same)
		})
	}
}

// killedMidway is a copy of the home as kill -9 in mid-stream leaves it, with the log fed on.
func (h *home) killedMidway(t *testing.T, w *workload) *home {
	t.Helper()
	f := copyHome(t, h)
	k := *h
	k.data, k.config = f.data, f.config
	up := k.up(t)
	url := up.url(t)
	h.feed(t, w, 1500)
	eventually(t, "600 events", func() bool { return counter(url, "corastream_events_total") >= 600 })
	up.kill()
	return &k
}

// learnsOn: a damaged write-ahead file may take the store back to an earlier moment of the log; it then learns the rest
// again, and has to end where the log says. The result is that of the re-run, or the refusal.
func (h *home) learnsOn(t *testing.T, f *flipped, w *workload) (result, string) {
	t.Helper()
	if r := f.run(t, "up", "--exit-when-idle"); r.code != 0 {
		return r, ""
	}
	at := *h
	at.data, at.config = f.data, f.config
	at.exactly(t, w)
	r := f.run(t, "store", "rerun")
	if r.code == 0 {
		r.stdout = "equal"
	}
	return r, "equal"
}

// copyHome copies a home with its LLM, checkpoint and configuration into one folder.
func copyHome(t *testing.T, h *home) *flipped {
	t.Helper()
	dir, err := os.MkdirTemp("", "corastream-flip")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	f := &flipped{h: h, data: filepath.Join(dir, "data"), config: filepath.Join(dir, "corastream.yaml")}
	for _, part := range []string{"store", "llm"} {
		if err := os.CopyFS(filepath.Join(f.data, part), os.DirFS(filepath.Join(h.data, part))); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(h.config)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"checkpoint", "llm"} {
		from := h.setting(t, key)
		to := filepath.Join(dir, filepath.Base(from))
		content, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, content, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		b = bytes.ReplaceAll(b, []byte(from), []byte(to))
	}
	b = bytes.Replace(b, []byte("data: "+h.data), []byte("data: "+f.data), 1)
	if err := os.WriteFile(f.config, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// setting is the file that the configuration names for the llm or the checkpoint.
func (h *home) setting(t *testing.T, key string) string {
	t.Helper()
	cfg, err := node.Load(h.config)
	if err != nil {
		t.Fatal(err)
	}
	if key == "llm" {
		return cfg.LLM.File
	}
	return cfg.Checkpoint
}

// TestAFlippedBitInTheEmbeddedBrokersLogLosesNothingSilently: the log of a store that is not through with it has a bit
// flipped. What is learnt is all of the log, or the start or the reading is refused with a name.
func TestFlippedBitsInTheEmbeddedBrokersLogLoseNothingSilently(t *testing.T) {
	t.Parallel()
	flips, seed := dose(t, "FLIPS", 3)
	h := newHome(t, "", noLLM)
	w := newWorkload(seed, 40, 50)
	up := h.up(t)
	url := up.url(t)
	h.feed(t, w, 1000)
	eventually(t, "some events", func() bool { return counter(url, "corastream_events_total") >= 300 })
	h.feed(t, w, 1000)
	up.kill()
	killed, clean := t.TempDir(), t.TempDir() // a clean end writes more down
	if err := os.CopyFS(killed, os.DirFS(h.data)); err != nil {
		t.Fatal(err)
	}
	truth := h.truth(t, w, topicOf(t, h.standing(t), h.topics.interactions))
	if err := h.own.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(clean, os.DirFS(h.data)); err != nil {
		t.Fatal(err)
	}
	files := map[string][]string{}
	for _, whole := range []string{killed, clean} {
		err := filepath.WalkDir(filepath.Join(whole, "broker", "log"), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if st, err := d.Info(); err == nil && st.Size() > 0 {
					files[whole] = append(files[whole], path)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	r := rand.New(rand.NewPCG(seed, 12))
	refused, same := 0, 0
	for i := range flips {
		whole := []string{killed, clean}[i%2]
		f := *h
		f.data = filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(f.data, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		path := files[whole][r.IntN(len(files[whole]))]
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		at, bit := r.IntN(len(data)), r.IntN(8)
		data[at] ^= 1 << bit
		name, err := filepath.Rel(whole, path)
		if err == nil {
			err = os.WriteFile(filepath.Join(f.data, name), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		got := call(t, "up", "--exit-when-idle", "-c", h.config, "--data", f.data)
		if got.code != 0 {
			if refused++; strings.Contains(got.stderr, "goroutine ") || !strings.Contains(got.stderr, "fix:") && !strings.Contains(got.stderr, f.data) {
				t.Errorf("bit %d of byte %d of %s: exit %d\n%s", bit, at, name, got.code, tailOf(got.stderr, 1500))
			}
			continue
		}
		same++
		before := t.Failed()
		f.stateMatches(t, truth)
		if t.Failed() && !before {
			t.Errorf("bit %d of byte %d of %s: lost without a word\n%s", bit, at, name, tailOf(got.stderr, 1500))
		}
	}
	t.Logf("broker log: %d refused, %d without effect", refused, same)
}
