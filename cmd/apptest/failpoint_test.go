//go:build app

package apptest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/corastream/corastream/ingest/devbroker"
)

// streamFailpoints are passed by `up` while a stream flows, with up to how often a run lets the process pass before it is
// hit; commandFailpoints are passed by the commands named, clusterFailpoints by a cluster's members.
var (
	streamFailpoints = map[string]int{
		"ingest.fetched": 6, "ingest.handed": 4, "ingest.applied": 3, "sink.bury": 2, "sink.buried": 2,
		"store.opened": 1, "store.commit": 12, "store.committed": 12, "store.installed": 8, "store.join": 1,
		"sink.publish": 6, "sink.published": 6, "store.settle": 5, "llm.cached": 9,
	}
	commandFailpoints = []string{"llm.packed", "store.erase", "snapshot.block", "snapshot.written", "restore.written", "restore.renamed"}
	tableFailpoints   = []string{"table.write", "table.written", "table.kept"}                            // store: TestKillAtEveryPlaceOfTheListModel
	versionFailpoints = []string{"llm.train", "llm.trained", "llm.shadow", "llm.promote", "llm.takeback"} // simulation: TestKillWhileAVersionIsTrained...
	clusterFailpoints = []string{"changelog.append", "changelog.appended", "replica.settle"}
)

// failing is the program with failpoints in it, built when first needed.
var failing = sync.OnceValues(func() (string, error) { return build("corastream-failpoint", "-tags", "failpoint") })

// startFailing starts a command that is hit at a failpoint: "NAME@N=kill" or "NAME@N=error".
func startFailing(t *testing.T, at string, args ...string) *process {
	t.Helper()
	binary, err := failing()
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, binary, []string{"CORASTREAM_FAILPOINT=" + at}, args...)
}

// startSplitting is startFailing with so small transactions that each batch becomes several.
func startSplitting(t *testing.T, at string, args ...string) *process {
	t.Helper()
	binary, err := failing()
	if err != nil {
		t.Fatal(err)
	}
	return startWith(t, binary, []string{"CORASTREAM_FAILPOINT=" + at, "CORASTREAM_MAX_DIRTY=60"}, args...)
}

// wasHit waits for the end of a command and holds it to have ended as the failpoint says.
func wasHit(t *testing.T, p *process, name, action string) {
	t.Helper()
	r := p.wait(t)
	p.killed = true // what it logged is of no use
	if !strings.Contains(r.stderr, "failpoint "+name) || r.code != map[string]int{"kill": -1, "error": 1}[action] {
		t.Fatalf("%s=%s: exit %d\n%s", name, action, r.code, tailOf(r.stderr, 1500))
	}
}

// TestFailpointsAreListedAndCostNothing: the tables above name every place in the code, and the program that people run has
// none of them in it.
func TestFailpointsAreListedAndCostNothing(t *testing.T) {
	var found []string
	pattern := regexp.MustCompile(`Failpoint\("([a-z.]+)"\)`)
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range pattern.FindAllSubmatch(b, -1) {
			found = append(found, string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	listed := slices.Concat(slices.Collect(maps.Keys(streamFailpoints)), commandFailpoints, tableFailpoints, versionFailpoints, clusterFailpoints)
	slices.Sort(found)
	slices.Sort(listed)
	if !slices.Equal(found, listed) {
		t.Errorf("in the code: %v\nin the tables: %v", found, listed)
	}
	b, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range append(listed, "CORASTREAM_FAILPOINT") {
		pkg, _, _ := strings.Cut(what, ".")
		if slices.Contains([]string{"ingest", "store", "llm", "table"}, pkg) { // a type may have that name
			continue
		}
		if strings.Contains(string(b), what) {
			t.Errorf("the program without the tag contains %q", what)
		}
	}
}

// TestAFailpointInTheStreamLosesAndDoublesNothing kills `up` at each failpoint, and has it fail there, again and again on
// one data folder, with a frozen LLM, and then holds everything that is left against what was sent.
func TestAFailpointInTheStreamLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	runs, seed := dose(t, "RUNS", 2)
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	r := rand.New(rand.NewPCG(seed, 41))
	names := slices.Sorted(maps.Keys(streamFailpoints))
	for from := 0; from < runs; from += 4 { // a fresh folder now and then, so that a failure is near its cause
		h := newFailingHome(t, b.Addr())
		w := newWorkload(seed+uint64(from), 30, 600)
		var requests []string
		for run := from; run < min(runs, from+4); run++ {
			r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
			for i, name := range names {
				action := []string{"kill", "error"}[(run+i)%2]
				if name == "llm.cached" { // a cache that can not be written is no error
					action = "kill"
				}
				at := fmt.Sprintf("%s@%d=%s", name, 1+r.IntN(streamFailpoints[name]), action)
				t.Log(at)
				id := fmt.Sprint("request-", run, "-", i)
				requests = append(requests, id)
				h.feed(t, w, 100)
				h.feedItems(t, w, 8)
				send(t, b.Addr(), &kgo.Record{Topic: h.topics.requests, Value: []byte(fmt.Sprintf(`{"user_id":"u1","request_id":"%s","n":3}`, id))})
				up := startSplitting(t, at, "up", "-c", h.config)
				for n := 0; n < 60 && !up.ends(200*time.Millisecond); n++ { // until enough flowed to pass the place so often
					h.feed(t, w, 30)
				}
				wasHit(t, up, name, action)
			}
		}
		h.feedItems(t, w, w.items)
		h.mustAgree(t, w, requests, "")
	}
}

// newFailingHome has a frozen LLM.
func newFailingHome(t *testing.T, brokers string) *home {
	t.Helper()
	h := newHome(t, brokers, tinyConfig(tinyLLM(t, 1), ""))
	h.amend(t, "checkpoint: \"\"", "checkpoint: "+untrained(t, h.config, 150, nil))
	h.ungrouped(t)
	h.drain(t) // makes the topics
	send(t, brokers, &kgo.Record{Topic: h.topics.items, Key: []byte("nameless"), Value: []byte(`{"user_id":"u1"}`)})
	return h
}

// TestAFailpointInACommandLeavesTheOldOrTheNew kills the commands that write whole files, and has them fail: what they
// were to replace is still there or has been replaced, never half of it, and the same command then does its work.
func TestAFailpointInACommandLeavesTheOldOrTheNew(t *testing.T) {
	t.Parallel()
	runs, _ := dose(t, "RUNS", 1)
	b, err := devbroker.Start(devbroker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	h := newFailingHome(t, b.Addr())
	w := newWorkload(7, 30, 40)
	h.feedItems(t, w, w.items)
	h.feed(t, w, 600)
	h.drain(t)
	digest := func(data string) string {
		t.Helper()
		return ok(t, "store", "digest", "-c", h.config, "--data", data).last(t)["digest"].(string)
	}
	want := digest(h.data)
	whole := filepath.Join(t.TempDir(), "whole.snap")
	ok(t, "store", "snapshot", whole, "-c", h.config)
	for run := range runs {
		for _, action := range []string{"kill", "error"} {
			command := func(name string, args ...string) {
				t.Helper()
				wasHit(t, startSplitting(t, name+"@1="+action, append(args, "-c", h.config)...), name, action)
			}
			// A snapshot: the file is absent, and later the old one, until a whole one is there.
			file := filepath.Join(t.TempDir(), "state.snap")
			for _, name := range []string{"snapshot.block", "snapshot.written"} {
				command(name, "store", "snapshot", file)
				if _, err := os.Stat(file); err == nil {
					t.Errorf("%s=%s: a snapshot that was not finished is there", name, action)
				}
			}
			ok(t, "store", "snapshot", file, "-c", h.config)
			command("snapshot.written", "store", "snapshot", file)
			// Restoring it: the folder is absent or whole. This is also how erased bytes leave the disk.
			data := filepath.Join(t.TempDir(), "restored")
			if err := os.Mkdir(data, 0o700); err != nil {
				t.Fatal(err)
			}
			command("restore.written", "store", "snapshot", file, "--restore", "--data", data)
			if _, err := os.Stat(filepath.Join(data, "store")); err == nil {
				t.Errorf("restore.written=%s: a store that was not finished is there", action)
			}
			command("restore.renamed", "store", "snapshot", file, "--restore", "--data", data)
			if got := digest(data); got != want {
				t.Errorf("restore.renamed=%s: digest %s, want %s", action, got, want)
			}
			// Erasing a user: nothing or all of it.
			command("store.erase", "erase", "u1", "--data", data)
			if got := digest(data); got != want {
				t.Errorf("store.erase=%s: digest %s, want %s", action, got, want)
			}
			command("store.committed", "erase", "u1", "--data", data)
			gone := digest(data)
			ok(t, "erase", "u1", "-c", h.config, "--data", data)
			if got := digest(data); gone == want || got != gone {
				t.Errorf("store.committed=%s: after the erasure that was killed %s, after another %s, before %s", action, gone, got, want)
			}
			// Packed weights: made again, and the same scores.
			score := []string{"score", "--user", "u2", "--item", "i1,i2,i3", "--data", h.data, "-c", h.config}
			before := ok(t, score...).stdout
			packed, err := filepath.Glob(filepath.Join(h.data, "llm", "packed-*.w"))
			if err != nil || len(packed) != 1 {
				t.Fatalf("packed weights: %v, %v", packed, err)
			}
			if err := os.Remove(packed[0]); err != nil {
				t.Fatal(err)
			}
			if action == "kill" { // a cache that can not be written is no error
				command("llm.packed", score[:len(score)-2]...)
				if _, err := os.Stat(packed[0]); err == nil {
					t.Error("llm.packed=kill: packed weights that were not finished are there")
				}
			}
			if got := ok(t, score...).stdout; got != before {
				t.Errorf("llm.packed=%s: scores %s, before %s", action, got, before)
			}
		}
		t.Logf("round %d done", run+1)
	}
	if got := digest(h.data); got != want {
		t.Errorf("the commands changed the state: %s, want %s", got, want)
	}
}
