package simulation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	lists "github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/store"
)

// The log of this test: users take an item of the next theme, and from versionTurn on more of the same. A version is trained and
// promoted on the first part, and taken back on the second.
const (
	versionDir    = "CORASTREAM_VERSIONS_TEST_DIR"  // set: this process is the child of a crash test
	versionStop   = "CORASTREAM_VERSIONS_TEST_STOP" // it ends in order at this event
	versionLate   = "CORASTREAM_VERSIONS_TEST_LATE" // set: the LLM has read the catalogue when versionCoded events are learnt
	versionCoded  = 5000
	versionEvents = 9000
	versionTurn   = 6500
	versionItems  = 640
	versionThemes = 8
	versionBatch  = 40
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(versionDir); dir != "" {
		if err := versionChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func versionStore(dir string) (*store.Store, *lists.Model, error) {
	spec := lists.Default()
	spec.Neighbours, spec.History, spec.Repeats, spec.Factors, spec.EASEItems, spec.Codes = 16, 10, lists.RepeatsNo, 0, 0, versionThemes
	spec.TrainAfter, spec.TrainRows, spec.Judge = 3000, 4000, 600
	m, err := lists.New(spec)
	if err != nil {
		return nil, nil, err
	}
	c := store.Default()
	c.MemoryLimit, c.ReserveBytes, c.SyncWrites = 64<<20, 64<<20, false
	s, err := store.Open(dir, c, store.WithDerived(m))
	return s, m, err
}

func versionLearner() (cfstream.Model, error) { return cfstream.New(cfstream.DefaultFor("bias")) }

// versionLog is the whole log, the same in every process.
func versionLog() []corastream.Event {
	r := rand.New(rand.NewPCG(8, 8))
	last := make([]int, 150)
	taken := make([]int, len(last))
	names := make([]int, len(last))
	at := time.Unix(1e9, 0)
	out := make([]corastream.Event, versionEvents)
	for o := range out {
		at = at.Add(time.Minute)
		step := 1
		if o >= versionTurn {
			step = 0
		}
		u := r.IntN(len(last))
		i := r.IntN(versionItems)
		if taken[u] > 0 && r.IntN(8) > 0 {
			i = r.IntN(versionItems/versionThemes)*versionThemes + (last[u]+step)%versionThemes
		}
		out[o] = corastream.Event{
			Pos: corastream.Position{Topic: "events", Offset: int64(o)}, User: fmt.Sprintf("u%d.%d", u, names[u]), Item: fmt.Sprint("s", i),
			Kind: "click", Label: 1, Weight: 1, Time: at, Appended: at,
		}
		last[u] = i
		if taken[u]++; taken[u] == 12 { // somebody new comes
			taken[u] = 0
			names[u]++
		}
	}
	return out
}

func versionBatchAt(log []corastream.Event, from, to int64) corastream.Batch {
	p := corastream.Partition{Topic: "events"}
	return corastream.Batch{Events: log[from:to], Spans: []corastream.Span{{Partition: p, From: from, To: to}}}
}

func versionCatalogue() (b corastream.Batch, codes []corastream.Item) {
	r := rand.New(rand.NewPCG(9, 9))
	for i := range versionItems {
		it := corastream.Item{ID: fmt.Sprint("s", i), Title: fmt.Sprint("work ", i), Pos: corastream.Position{Topic: "items", Offset: int64(i)}}
		b.Items = append(b.Items, it)
		code := make([]float32, versionThemes)
		for k := range code {
			code[k] = float32(r.NormFloat64()) / 16
		}
		code[i%versionThemes]++
		corastream.QuantizeContent(code)
		codes = append(codes, corastream.Item{ID: it.ID, Code: code})
	}
	b.Spans = []corastream.Span{{Partition: corastream.Partition{Topic: "items"}, From: 0, To: versionItems}}
	return b, codes
}

// versionChild goes on with the log where the folder stands.
func versionChild(dir string) error {
	s, m, err := versionStore(dir)
	if err != nil {
		return err
	}
	cf, err := versionLearner()
	if err != nil {
		return err
	}
	stop := int64(versionEvents)
	if v := os.Getenv(versionStop); v != "" {
		if stop, err = strconv.ParseInt(v, 10, 64); err != nil {
			return err
		}
	}
	ctx := context.Background()
	items, codes := versionCatalogue()
	if next, _, err := s.Next(corastream.Partition{Topic: "items"}); err != nil {
		return err
	} else if next == 0 {
		if _, err := s.Commit(ctx, items, cf.Learn); err != nil {
			return err
		}
	}
	late := os.Getenv(versionLate) != ""
	log := versionLog()
	for {
		next, _, err := s.Next(corastream.Partition{Topic: "events"})
		if err != nil {
			return err
		}
		if late = late && next < versionCoded; !late && !m.Coded(fmt.Sprint("s", versionItems-1)) {
			if err := s.Code(ctx, codes); err != nil {
				return err
			}
		}
		for m.TellAgain() || os.Getenv(versionLate) != "" && m.Trial().Training && m.Trial().Passed == 0 { // as itemcodes.Keep does
			if m.TellAgain() {
				if err := s.Code(ctx, codes[:1]); err != nil {
					return err
				}
			}
		}
		if next >= stop {
			return s.Close()
		}
		if _, err := s.Commit(ctx, versionBatchAt(log, next, min(next+versionBatch, stop)), cf.Learn); err != nil {
			return err
		}
	}
}

// rerunVersions applies the journal of a store to an empty one, and returns the hash of its list model and its digest.
func rerunVersions(t *testing.T, from *store.Store, log []corastream.Event) (sum, digest string) {
	t.Helper()
	s, m, err := versionStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cf, err := versionLearner()
	if err != nil {
		t.Fatal(err)
	}
	items, _ := versionCatalogue()
	for line, err := range from.Journal(0) {
		switch {
		case err != nil:
		case line.Kind == store.KindCodes:
			err = s.Recode(t.Context(), line)
		case line.Spans[0].Topic == "items":
			_, err = s.Commit(t.Context(), items, cf.Learn)
		default:
			_, err = s.Commit(t.Context(), versionBatchAt(log, line.Spans[0].From, line.Spans[0].To), cf.Learn)
		}
		if err != nil {
			t.Fatalf("line %d: %v", line.Seq, err)
		}
	}
	if digest, err = s.Digest(); err != nil {
		t.Fatal(err)
	}
	return sumOf(t, m), digest
}

func sumOf(t *testing.T, m *lists.Model) string {
	t.Helper()
	var b bytes.Buffer
	if err := m.Save(&b); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(b.Bytes()))
}

// TestKillWhileAVersionIsTrainedPromotedOrTakenBackLosesNothing kills a process at each place in the life of a version of the LLM's
// part, and while the table that holds one under training is written. Each time the folder has the bytes of an uninterrupted re-run.
func TestKillWhileAVersionIsTrainedPromotedOrTakenBackLosesNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	binary := filepath.Join(t.TempDir(), "simulation.test")
	build := exec.Command("go", "test", "-c", "-tags", "failpoint", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	log := versionLog()
	for k, chain := range [][]struct{ at, stop string }{
		{{"llm.train@1=kill", ""}, {"table.write@1=kill", "+40"}},
		{{"llm.trained@1=kill", ""}},
		{{"llm.shadow@1=kill", ""}},
		{{"llm.promote@1=kill", ""}, {"table.written@1=kill", "+200"}, {"llm.takeback@1=kill", ""}, {"", ""}},
		{{"llm.train@1=kill", ""}, {"llm.shadow@1=kill", ""}, {"llm.promote@1=kill", ""}},
	} {
		dir := t.TempDir()
		for _, c := range chain {
			killVersions(t, binary, dir, c.at, c.stop, k == 4) // the last: codes come late
			checkVersions(t, dir, c.at, log)
		}
	}
}

// killVersions runs a child on the folder until the failpoint kills it, or to the end where there is none.
func killVersions(t *testing.T, binary, dir, at, stop string, late bool) {
	t.Helper()
	cmd := exec.Command(binary, "-test.run=^$")
	cmd.Env = append(os.Environ(), versionDir+"="+dir, "CORASTREAM_FAILPOINT="+at)
	if late {
		cmd.Env = append(cmd.Env, versionLate+"=1")
	}
	if more, ok := strings.CutPrefix(stop, "+"); ok {
		n, _ := strconv.Atoi(more)
		cmd.Env = append(cmd.Env, fmt.Sprint(versionStop, "=", versionNext(t, dir)+int64(n)))
	}
	out, err := cmd.CombinedOutput()
	name, _, _ := strings.Cut(at, "@")
	if at == "" && err != nil || at != "" && (err == nil || !strings.Contains(string(out), "failpoint "+name)) {
		t.Fatalf("%s: %v\n%s", at, err, out)
	}
}

// checkVersions holds the folder against a re-run of its journal.
func checkVersions(t *testing.T, dir, at string, log []corastream.Event) {
	t.Helper()
	s, m, err := versionStore(dir)
	if err != nil {
		t.Fatalf("%s: %v", at, err)
	}
	digest, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	trial := m.Trial()
	next, _, err := s.Next(corastream.Partition{Topic: "events"})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%q: %d events, version %d, training %v, rival %q, %d verdicts", at, next, trial.Version, trial.Training, trial.Rival, trial.Passed)
	if sum, again := rerunVersions(t, s, log); sum != sumOf(t, m) || again != digest {
		t.Errorf("%s: another state than a re-run's", at)
	}
	if at == "" {
		back := 0
		for _, v := range trial.Verdicts {
			t.Logf("version %d %s at event %d: %s", v.Version, v.Decision, v.At, v.Reason())
			if v.Decision == lists.TakenBack {
				back++
			}
		}
		if back == 0 || next != versionEvents {
			t.Errorf("after %d events no version was taken back", next)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func versionNext(t *testing.T, dir string) int64 {
	t.Helper()
	s, _, err := versionStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	next, _, err := s.Next(corastream.Partition{Topic: "events"})
	if err != nil {
		t.Fatal(err)
	}
	return next
}
