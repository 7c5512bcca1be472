package simulation

import (
	"context"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/store"
)

// setting reads a number from the environment.
func setting(t *testing.T, name string, usual int) int {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return usual
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		t.Fatalf("%s=%s: give a number", name, v)
	}
	return n
}

// TestSimulation runs CORASTREAM_SEEDS worlds (default 5, from CORASTREAM_FIRST on) of CORASTREAM_EVENTS records (1000), or
// the one world of CORASTREAM_SEED.
func TestSimulation(t *testing.T) {
	seeds, events, first := setting(t, "CORASTREAM_SEEDS", 5), setting(t, "CORASTREAM_EVENTS", 1000), setting(t, "CORASTREAM_FIRST", 1)
	if one := setting(t, "CORASTREAM_SEED", 0); one > 0 {
		first, seeds = one, 1
	}
	var script io.Writer
	if path := os.Getenv("CORASTREAM_TRACE"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		script = f
	}
	all := map[string]int{}
	began, steps := time.Now(), 0
	for seed := first; seed < first+seeds; seed++ {
		w := run(t, uint64(seed), events, script)
		if t.Failed() {
			break
		}
		for k, v := range w.counts {
			all[k] += v
		}
		steps += w.steps
		t.Logf("seed %d: trace %s, %d steps, %d lives, %d users, %d bad, %d repeats", seed, w.digest()[:16], w.steps, w.dirs,
			len(w.history), len(w.bad), w.repeats)
	}
	t.Logf("%d seeds of %d records, %d steps in %s:", seeds, events, steps, time.Since(began).Round(time.Millisecond))
	for _, k := range sorted(all) {
		t.Logf("  %-28s %d", k, all[k])
	}
	if seeds >= 5 && (all["kills"] == 0 || all["writes failed"] == 0 || all["redeliveries"] == 0 || all["disk failed after a write"] == 0) {
		t.Errorf("a fault never happened: %v", all)
	}
}

// TestTheSameSeedGivesTheSameTrace: without that, a failing seed could not be looked at again.
func TestTheSameSeedGivesTheSameTrace(t *testing.T) {
	for _, seed := range []uint64{3, 4, 246, 16} {
		a, b := run(t, seed, 500, nil), run(t, seed, 500, nil)
		if a.digest() != b.digest() || a.steps != b.steps {
			t.Errorf("seed %d: traces %s (%d steps) and %s (%d steps)", seed, a.digest(), a.steps, b.digest(), b.steps)
		}
	}
	if a, b := run(t, 5, 200, nil), run(t, 6, 200, nil); a.digest() == b.digest() {
		t.Error("two seeds gave one trace: the seed decides nothing")
	}
}

// run lives through one world and judges what is left of it.
func run(t *testing.T, seed uint64, events int, script io.Writer) *world {
	t.Helper()
	root, err := os.MkdirTemp("", "corastream-simulation")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(root)
	w := newWorld(t, seed, events, filepath.Join(root, "store"), script)
	for w.dirs < w.mix.lives && !w.live(false) && !t.Failed() {
		if w.left == 0 && w.rng.IntN(3) == 0 {
			break
		}
	}
	if !t.Failed() {
		w.live(true)
	}
	if !t.Failed() {
		w.judge()
	}
	return w
}

// judge holds the state and the topics against what was written to the log.
func (w *world) judge() {
	s, err := store.Open(w.dir, storeConfig(w), store.WithDerived(new(toldList)))
	if err != nil {
		w.t.Fatalf("seed %d: open: %v", w.seed, err)
	}
	defer s.Close()
	have, err := s.Digest()
	if err != nil {
		w.fail("digest: %v", err)
	}
	if again := w.rerun(s); again != have {
		w.fail("the state's digest is %s, that of the log applied again in journal order %s", have, again)
	}
	w.note("state %s", have)
	st, err := s.Stats()
	if err != nil || st.Debts != 0 || st.Requests != 0 || st.Unread != 0 && w.cf.Kind == "hybrid" {
		w.fail("%d users and %d requests are owed an answer, %d items are unread, %v", st.Debts, st.Requests, st.Unread, err)
	}
	for _, p := range w.parts {
		if next, _, _ := s.Next(p); next != int64(len(w.log[p])) {
			w.fail("%v was read to %d, the log ends at %d", p, next, len(w.log[p]))
		}
	}
	w.judgeUsers(s)
	for pos, reason := range w.bad {
		if w.letters[pos] != reason {
			w.fail("bad record %v (%s) has the letter %q", pos, reason, w.letters[pos])
		}
	}
	for pos, reason := range w.letters {
		if w.bad[pos] == "" {
			w.fail("good record %v is a dead letter, %s: %s", pos, reason, w.log[corastream.Partition{Topic: pos.Topic, ID: pos.Partition}][pos.Offset].value)
		}
	}
	for _, id := range sorted(w.requests) {
		if !w.answered[id] {
			w.fail("request %s has no answer", id)
		}
	}
	for it, err := range s.Items() {
		if err != nil {
			w.fail("items: %v", err)
			return
		}
		if w.titles[it.Item.ID] != (it.Title != "") || w.cf.Kind == "hybrid" && w.titles[it.Item.ID] != (it.Content != nil) {
			w.fail("item %s has title %q and content %v", it.Item.ID, it.Title, it.Content)
		}
		w.bounded("item "+it.Item.ID, it.Embedding)
	}
}

// judgeUsers: each user's history is the log's, each event once, and the last answer covers the last event.
func (w *world) judgeUsers(s *store.Store) {
	users := 0
	for u, err := range s.Users() {
		if err != nil {
			w.fail("users: %v", err)
			return
		}
		users++
		var got []string
		for _, h := range u.History {
			got = append(got, h.Item)
		}
		var want []string
		for _, k := range w.history[u.ID] {
			want = append(want, k.item)
		}
		if !slices.Equal(got, want) {
			w.fail("user %s has %v, the log has %v", u.ID, got, want)
		}
		if w.last[u.ID] != w.cause[u.ID] {
			w.fail("user %s: the last answer covers %v, the last event is %v", u.ID, w.last[u.ID], w.cause[u.ID])
		}
		w.bounded("user "+u.ID, u.Embedding)
	}
	if users != len(w.history) {
		w.fail("the state has %d users, the log %d", users, len(w.history))
	}
}

// bounded: skewed clocks and any order of events leave vectors that are numbers, and small ones.
func (w *world) bounded(of string, e corastream.Embedding) {
	for _, x := range append(slices.Clone(e.Vec), e.Bias) {
		if math.IsNaN(float64(x)) || math.Abs(float64(x)) > 100 {
			w.fail("%s has the value %v in its vector", of, x)
			return
		}
	}
}

// rerun applies the log in the journal's order to an empty store, in memory of no process that ever ran.
func (w *world) rerun(s *store.Store) string {
	c := storeConfig(w)
	c.MaxDirty = store.Default().MaxDirty // where transactions end must not matter
	fresh, err := store.Open(filepath.Join(filepath.Dir(w.dir), "again"), c, store.WithDerived(new(toldList)))
	if err != nil {
		w.t.Fatal(err)
	}
	defer fresh.Close()
	cf, err := cfstream.New(w.cf)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, decoder := context.Background(), ingest.NewDecoder(w.kafka)
	for line, err := range s.Journal(0) {
		if err == nil {
			switch line.Kind {
			case store.KindContent:
				err = fresh.Rejoin(ctx, line)
			case store.KindEvents:
				_, err = fresh.Commit(ctx, w.decode(decoder, line.Spans), cf.Learn)
			}
		}
		if err != nil {
			w.fail("journal line %d: %v", line.Seq, err)
			return ""
		}
	}
	again, err := fresh.Digest()
	if err != nil {
		w.fail("digest of the re-run: %v", err)
	}
	return again
}
