package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/rs/zerolog"
)

// pairs is a list model that counts items and pairs of items, and a sum over all it was told in order: a step that is
// lost, doubled, changed or out of its place shows.
type pairs struct {
	mu     sync.Mutex
	window int
	counts map[string]uint64
	order  uint64
	steps  []corastream.Step // kept when keep is set
	keep   bool
	broken error // what Save fails with
}

func newPairs() *pairs { return &pairs{window: 5, counts: map[string]uint64{}} }

// withPairs keeps a list model whose table is written after so many events.
func withPairs(every int) Option { return withList(newPairs(), every) }

func withList(p *pairs, every int) Option {
	return func(s *Store) { WithDerived(p)(s); s.derived.every = every }
}

func listOf(s *Store) *pairs { return s.derived.Derived.(*pairs) }

func (p *pairs) Window() int { return p.window }

func (p *pairs) Rank(corastream.Query) []corastream.Candidate { return nil }

func (p *pairs) told(what ...any) {
	h := fnv.New64a()
	binary.Write(h, binary.LittleEndian, p.order)
	fmt.Fprintf(h, "%v", what)
	p.order = h.Sum64()
}

func (p *pairs) Describe(it corastream.Item) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts["item "+it.ID]++
	if it.Code != nil {
		p.counts["coded "+it.ID]++
		p.told(it.Code)
	}
	p.told(it.ID, it.Title, it.Fields, it.Withdrawn, it.Removed)
}

func (p *pairs) Learn(st corastream.Step) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[st.Item]++
	for _, x := range st.Recent {
		p.counts[x.Item+" "+st.Item]++
	}
	p.told(st)
	if p.keep {
		p.steps = append(p.steps, st)
	}
}

func (p *pairs) Save(w io.Writer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broken != nil {
		return p.broken
	}
	var b []byte
	b = appendU64(b, p.order)
	for _, k := range slices.Sorted(maps.Keys(p.counts)) {
		b = appendUvarint(appendString(b, k), p.counts[k])
	}
	_, err := w.Write(b)
	return err
}

func (p *pairs) Load(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	in := reader{b: b}
	p.order, p.counts = in.u64(), map[string]uint64{}
	for len(in.b) > 0 {
		k := in.string()
		p.counts[k] = in.uvarint()
	}
	return in.done(nil)
}

func (p *pairs) saved(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	if err := p.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// settled waits for the table file being written.
func settled(s *Store) {
	s.writer.Lock()
	defer s.writer.Unlock()
	if s.derived.saving != nil {
		s.saved(<-s.derived.saving)
	}
}

func commitAll(t testing.TB, s *Store, from, to, size int64) {
	t.Helper()
	for ; from < to; from += size {
		mustCommit(t, s, run(0, from, min(to, from+size), 80, 60))
		settled(s)
	}
}

// stepRecords are the transactions with step records on the disk.
func stepRecords(t testing.TB, s *Store) (seqs []uint64) {
	t.Helper()
	sn, err := s.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.release()
	if err := scanValues(sn, func(key, _ []byte) {
		if key[0] == pSteps && len(key) == 13 {
			if seq := binary.BigEndian.Uint64(key[1:]); len(seqs) == 0 || seqs[len(seqs)-1] != seq {
				seqs = append(seqs, seq)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	return seqs
}

// killedCopy is the folder as a kill would leave it now, opened. Badger may be moving files meanwhile: a copy that caught
// it at that is made again.
func killedCopy(t testing.TB, s *Store, opts ...Option) *Store {
	t.Helper()
	for tries := 0; ; tries++ {
		dir := filepath.Join(t.TempDir(), "copy")
		err := os.CopyFS(dir, os.DirFS(s.dir))
		var k *Store
		if err == nil {
			k, err = Open(dir, s.cfg, opts...)
		}
		if err == nil {
			t.Cleanup(func() { k.Close() })
			return k
		}
		if tries == 9 {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestStepsAreWhatMemoryWouldTell: each event comes once, in order, with what its user had taken before it.
func TestStepsAreWhatMemoryWouldTell(t *testing.T) {
	list := newPairs()
	list.keep = true
	c := testConfig()
	c.HistoryLimit, c.MaxDirty = 20, 60
	s := mustOpen(t, t.TempDir(), c, withList(list, 1<<30))
	const n = 3000
	commitAll(t, s, 0, n, 250)
	type user struct {
		history []corastream.Interaction
		ids     map[string]bool
		labels  []string
	}
	users := map[string]*user{}
	var want []corastream.Step
	taken, labelled := 0, 0
	for o := range int64(n) {
		ev := eventAt(0, o, 80, 60)
		u := users[ev.User]
		if u == nil {
			u = &user{ids: map[string]bool{}}
			users[ev.User] = u
		}
		if ev.ID != "" && u.ids[ev.ID] {
			continue
		}
		u.ids[ev.ID] = true
		if ev.OfUser() {
			if u.labels = nil; len(ev.Labels) > 0 {
				u.labels, labelled = ev.Labels, labelled+1
			}
			continue
		}
		state := corastream.UserState{History: u.history}
		if (ev.Retract || ev.Opposes()) && slices.ContainsFunc(u.history, ev.TakesBack) {
			taken++
			want = append(want, corastream.Step{Item: ev.Item, Retract: true, Likes: !ev.Retract, Time: ev.Time, Recent: state.Recent(list.window), Labels: u.labels})
			u.history = slices.DeleteFunc(slices.Clone(u.history), ev.TakesBack)
		}
		if ev.Retract {
			continue
		}
		st := corastream.Step{Item: ev.Item, Positive: ev.Positive(), Time: ev.Time, Labels: u.labels}
		st.Met = slices.ContainsFunc(u.history, func(x corastream.Interaction) bool { return x.Item == ev.Item })
		st.Recent = (&corastream.UserState{History: u.history}).Recent(list.window)
		want = append(want, st)
		u.history = append(u.history, corastream.Interaction{Item: ev.Item, Label: ev.Label, Time: ev.Time})
		u.history = u.history[max(0, len(u.history)-c.HistoryLimit):]
	}
	if len(list.steps) != len(want) || taken < 20 || labelled < 20 {
		t.Fatalf("%d steps, want %d, %d of them taking back", len(list.steps), len(want), taken)
	}
	for i := range want {
		if !reflect.DeepEqual(list.steps[i], want[i]) {
			t.Fatalf("step %d: %+v, want %+v", i, list.steps[i], want[i])
		}
	}
}

// TestListModelIsTheSameHoweverItCame: batches of any size, transactions that were split, kills, table files and a
// re-run from the journal give one state and one digest.
func TestListModelIsTheSameHoweverItCame(t *testing.T) {
	c := testConfig()
	const n = 4000
	s := mustOpen(t, t.TempDir(), c, withPairs(1<<30))
	commitAll(t, s, 0, n, n/4)
	want, sum := listOf(s).saved(t), digest(t, s)
	if again := rerun(t, s); listOf(again).saved(t) != want || digest(t, again) != sum {
		t.Error("a re-run differs")
	}
	for _, size := range []int64{1, 37, 900} {
		small := c
		small.MaxDirty = 50 // a batch becomes several transactions
		x := mustOpen(t, t.TempDir(), small, withPairs(300))
		end := int64(n)
		if size == 1 {
			end = 500
		}
		for from := int64(0); from < end; from += size * 5 {
			commitAll(t, x, from, min(end, from+size*5), size)
			if from%(size*20) == 0 {
				k := killedCopy(t, x, withPairs(300))
				if listOf(k).saved(t) != listOf(x).saved(t) {
					t.Fatalf("size %d: after a kill at %d the list model differs", size, from)
				}
				noProblems(t, k)
				k.Close()
			}
		}
		if end < n {
			commitAll(t, x, end, n, 100)
		}
		if listOf(x).saved(t) != want || digest(t, x) != sum {
			t.Errorf("batches of %d give another state", size)
		}
		x.Close()
		x = mustOpen(t, x.dir, small, withPairs(300))
		if listOf(x).saved(t) != want || x.derived.events != 0 {
			t.Errorf("batches of %d: closed and opened, another state, or %d events applied again", size, x.derived.events)
		}
	}
}

// TestCatalogueReachesTheListModel once for each change of text or standing, and not for contents.
func TestCatalogueReachesTheListModel(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(1<<30))
	put := func(it corastream.Item) { mustCommit(t, s, corastream.Batch{Items: []corastream.Item{it}}) }
	item := corastream.Item{ID: "a", Title: "A", Fields: map[string]string{"k": "v"}}
	for range 3 {
		put(item)
	}
	if err := s.Join(context.Background(), readAll([]corastream.Item{item})); err != nil {
		t.Fatal(err)
	}
	if n := listOf(s).counts["item a"]; n != 1 {
		t.Errorf("described %d times, want once", n)
	}
	item.Withdrawn = true
	put(item)
	item.Title = "B"
	put(item)
	put(corastream.Item{ID: "a", Removed: true})
	put(corastream.Item{ID: "never", Removed: true})
	if got := listOf(s).counts; got["item a"] != 4 || got["item never"] != 0 {
		t.Errorf("described %v", got)
	}
	if k := killedCopy(t, s, withPairs(1)); listOf(k).saved(t) != listOf(s).saved(t) {
		t.Error("after a kill another state")
	}
}

// TestFailedCommitTeachesNothing: neither one that the learner refuses, nor one whose write fails.
func TestFailedCommitTeachesNothing(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(1<<30))
	commitAll(t, s, 0, 1200, 200) // some users have sets of what they met
	before := listOf(s).saved(t)
	b := run(0, 1200, 1400, 80, 60)
	left := 100
	_, err := s.Commit(context.Background(), b, func(st corastream.State, ev corastream.Event) error {
		if left--; left == 0 {
			return errors.New("no")
		}
		return biasLearner(st, ev)
	})
	if err == nil || listOf(s).saved(t) != before {
		t.Errorf("%v; the list model moved", err)
	}
	commitAll(t, s, 1200, 1400, 200)
	o := mustOpen(t, t.TempDir(), testConfig(), withPairs(1<<30))
	commitAll(t, o, 0, 1400, 200)
	if listOf(s).saved(t) != listOf(o).saved(t) {
		t.Error("after the failure another state")
	}
}

// logBuffer is a log to which Badger's goroutines write too.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func tableFiles(t testing.TB, s *Store) []uint64 {
	t.Helper()
	list, err := s.tables()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestTableFilesBoundTheSteps: two files are kept, and the steps that both hold go.
func TestTableFilesBoundTheSteps(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(300))
	commitAll(t, s, 0, 4100, 20)
	files := tableFiles(t, s)
	if len(files) != 2 {
		t.Fatalf("table files %v", files)
	}
	seqs := stepRecords(t, s)
	if seqs[0] != files[1]+1 || seqs[len(seqs)-1] != s.snap.seq {
		t.Errorf("steps of transactions %d to %d, table files of %v, last transaction %d", seqs[0], seqs[len(seqs)-1], files, s.snap.seq)
	}
	if s.mark.trimmed != files[1] {
		t.Errorf("mark %+v", s.mark)
	}
	noProblems(t, s)
}

func flip(t testing.TB, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if at < 0 {
		at += int64(len(b))
	}
	b[at] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamagedTableFileFallsBack to the one before, with a warning, and is an ErrCorrupt when that one is damaged too.
func TestDamagedTableFileFallsBack(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(300))
	commitAll(t, s, 0, 2000, 20)
	want := listOf(s).saved(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files := tableFiles(t, s)
	path := func(k int) string { return filepath.Join(s.tableDir(), tableName(files[k])) }
	whole, err := os.ReadFile(path(0))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{0, 8, 12, 20, tableHead, int64(len(whole)) / 2, -32, -1} {
		flip(t, path(0), at)
		var log logBuffer
		x := mustOpen(t, s.dir, s.cfg, withPairs(1<<30), WithLogger(zerolog.New(&log)))
		if listOf(x).saved(t) != want || !strings.Contains(log.String(), path(0)) {
			t.Errorf("byte %d: another state, or no warning: %s", at, log.String())
		}
		if r, err := x.Check(context.Background()); err != nil || r.Found != 1 || !strings.Contains(fmt.Sprint(r.Problems), path(0)) {
			t.Errorf("byte %d: check: %v, %v", at, err, r.Problems)
		}
		x.failed = errors.New("leave the files as they are")
		x.Close()
		if err := os.WriteFile(path(0), whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(path(0), int64(len(whole))-7); err != nil {
		t.Fatal(err)
	}
	flip(t, path(1), 40)
	_, err = Open(s.dir, s.cfg, withPairs(1))
	if !errors.Is(err, corastream.ErrCorrupt) || !strings.Contains(err.Error(), path(0)) || !strings.Contains(err.Error(), tableFix) {
		t.Errorf("both damaged: %v", err)
	}
	if err := os.RemoveAll(s.tableDir()); err != nil {
		t.Fatal(err)
	}
	if _, err = Open(s.dir, s.cfg, withPairs(1)); !errors.Is(err, corastream.ErrCorrupt) {
		t.Errorf("both gone: %v", err)
	}
}

// TestAFolderLearntWithoutAListModelIsRefusedByName: such a model would know nothing of the events that came before it.
func TestAFolderLearntWithoutAListModelIsRefusedByName(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	mustCommit(t, s, run(0, 0, 10, 80, 60))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.dir, s.cfg, withPairs(300)); !errors.Is(err, corastream.ErrMismatch) || !strings.Contains(err.Error(), s.dir) {
		t.Errorf("%v", err)
	}
}

// foreign is a list model that can not read any table: another build saved them.
type foreign struct{ *pairs }

func (foreign) Load(io.Reader) error {
	return fmt.Errorf("load: %w: saved as 2, read as 3", corastream.ErrFormat)
}

// TestATableOfAnotherBuildIsMadeAnewFromItsSteps while all steps are there, and is refused by name once some are gone.
func TestATableOfAnotherBuildIsMadeAnewFromItsSteps(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(1<<30))
	commitAll(t, s, 0, 500, 20)
	want := listOf(s).saved(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(tableFiles(t, s)) == 0 {
		t.Fatal("no table file was left behind")
	}
	x := mustOpen(t, s.dir, s.cfg, WithDerived(foreign{newPairs()}))
	if got := x.derived.Derived.(foreign).saved(t); got != want {
		t.Errorf("made anew: %s, want %s", got, want)
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	y := mustOpen(t, s.dir, s.cfg, withPairs(1<<30)) // the table that the new build left behind
	if got := listOf(y).saved(t); got != want {
		t.Errorf("after it: %s, want %s", got, want)
	}
	y.Close()

	s = mustOpen(t, t.TempDir(), testConfig(), withPairs(300))
	commitAll(t, s, 0, 2000, 20)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(s.dir, s.cfg, WithDerived(foreign{newPairs()}))
	if !errors.Is(err, corastream.ErrFormat) || !strings.Contains(err.Error(), "saved as 2") || !strings.Contains(err.Error(), tableFix) {
		t.Errorf("steps are gone: %v", err)
	}
}

// TestDamagedStepRecordIsRefused, with its name, and found by Check.
func TestDamagedStepRecordIsRefused(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(1<<30))
	commitAll(t, s, 0, 200, 20)
	key := stepKey(3, 0)
	value, err := get(s.snap.txn, key)
	if err != nil || value == nil {
		t.Fatal(err)
	}
	value[len(value)/2] ^= 1
	if err := s.update(context.Background(), func(w *work) error { w.raw(key, value); return w.close(nil, nil) }); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Check(context.Background()); err != nil || r.Found != 1 {
		t.Errorf("check: %v, %v", err, r.Problems)
	}
	s.failed = errors.New("no table file")
	s.Close()
	_, err = Open(s.dir, s.cfg, withPairs(1))
	if !errors.Is(err, corastream.ErrCorrupt) || !strings.Contains(err.Error(), "steps 0 of transaction 3") || !strings.Contains(err.Error(), tableFix) {
		t.Errorf("%v", err)
	}
}

// TestKillWhileATableFileIsWritten leaves what was there before, whatever part of the file there is.
func TestKillWhileATableFileIsWritten(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(300))
	commitAll(t, s, 0, 1500, 20)
	want := listOf(s).saved(t)
	files := tableFiles(t, s)
	b, err := os.ReadFile(filepath.Join(s.tableDir(), tableName(files[0])))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, len(b) / 2, len(b)} {
		tmp := filepath.Join(s.tableDir(), tableName(s.snap.seq)+".tmp")
		if err := os.WriteFile(tmp, b[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		k := killedCopy(t, s, withPairs(300))
		if listOf(k).saved(t) != want {
			t.Errorf("%d bytes: another state", n)
		}
		k.Close()
		list, err := os.ReadDir(k.tableDir())
		if err != nil || len(list) != 2 {
			t.Errorf("after the next table file: %v, %v", list, err)
		}
	}
}

// TestTableFileThatCannotBeWrittenIsAWarning: commits go on, the steps stay, and the next one succeeds.
func TestTableFileThatCannotBeWrittenIsAWarning(t *testing.T) {
	now := epoch
	var log logBuffer
	list := newPairs()
	s := mustOpen(t, t.TempDir(), testConfig(), withList(list, 100), WithClock(func() time.Time { return now }), WithLogger(zerolog.New(&log)))
	list.broken = errors.New("no room in memory")
	commitAll(t, s, 0, 500, 50)
	if n := strings.Count(log.String(), list.broken.Error()); n != 1 {
		t.Errorf("%d warnings in one minute", n)
	}
	list.broken = nil
	free := s.guard.free
	s.guard.free = func(string) (int64, bool, error) { return s.cfg.ReserveBytes, true, nil }
	now = now.Add(tableRetry)
	s.derived.size = s.cfg.ReserveBytes
	commitAll(t, s, 500, 600, 50)
	if len(tableFiles(t, s)) > 0 || len(stepRecords(t, s)) < 12 {
		t.Errorf("table files %v, %d step records", tableFiles(t, s), len(stepRecords(t, s)))
	}
	s.guard.free = free
	now = now.Add(tableRetry)
	commitAll(t, s, 600, 700, 50)
	if len(tableFiles(t, s)) != 1 {
		t.Errorf("table files %v", tableFiles(t, s))
	}
}

// TestErasureRemovesSteps: after it a table file is made, and no step record from before it stays.
func TestErasureRemovesSteps(t *testing.T) {
	for _, files := range []int{0, 1, 2} {
		s := mustOpen(t, t.TempDir(), testConfig(), withPairs(map[int]int{0: 1 << 30, 1: 600, 2: 300}[files]))
		commitAll(t, s, 0, 1000, 50)
		if n := len(tableFiles(t, s)); n != files {
			t.Fatalf("%d table files, want %d", n, files)
		}
		if err := s.Erase(context.Background(), "u0-1"); err != nil {
			t.Fatal(err)
		}
		settled(s)
		erased := s.mark.erased
		before := listOf(s).saved(t)
		if k := killedCopy(t, s, withPairs(300)); listOf(k).saved(t) != before {
			t.Error("after a kill another state")
		}
		commitAll(t, s, 1000, 1300, 20)
		if seqs := stepRecords(t, s); seqs[0] < erased {
			t.Errorf("steps of transaction %d, the erasure is %d", seqs[0], erased)
		}
		if err := s.Erase(context.Background(), "u0-2"); err != nil { // soon after the first: it waits, but for Close
			t.Fatal(err)
		}
		erased = s.mark.erased
		want := listOf(s).saved(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, s.dir, s.cfg, withPairs(300))
		if seqs := stepRecords(t, s); len(seqs) > 0 && seqs[0] < erased || listOf(s).saved(t) != want {
			t.Errorf("after closing: steps of %v, the erasure is %d", seqs, erased)
		}
		noProblems(t, s)
		if again := rerun(t, s); digest(t, again) != digest(t, s) {
			t.Error("a re-run differs")
		}
	}
}

// TestErasureWithoutTheListModel is made up for by the next opening with it; learning without it is refused.
func TestErasureWithoutTheListModel(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(1<<30))
	commitAll(t, s, 0, 300, 50)
	s.Close()
	s = mustOpen(t, s.dir, s.cfg)
	if err := s.Erase(context.Background(), "u0-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(context.Background(), run(0, 300, 310, 80, 60), biasLearner); !errors.Is(err, corastream.ErrMismatch) {
		t.Errorf("learnt without the list model: %v", err)
	}
	if _, err := s.Snapshot(context.Background(), filepath.Join(t.TempDir(), "snap")); !errors.Is(err, corastream.ErrMismatch) {
		t.Errorf("a snapshot without the list model: %v", err)
	}
	s.Close()
	s = mustOpen(t, s.dir, s.cfg, withPairs(1<<30))
	s.Close()
	s = mustOpen(t, s.dir, s.cfg, withPairs(1<<30))
	if seqs := stepRecords(t, s); len(seqs) > 0 {
		t.Errorf("steps of %v", seqs)
	}
	plain := mustOpen(t, t.TempDir(), testConfig())
	commitAll2(t, plain)
	plain.Close()
	if _, err := Open(plain.dir, plain.cfg, withPairs(1)); !errors.Is(err, corastream.ErrMismatch) {
		t.Errorf("a store that learnt without one: %v", err)
	}
}

func commitAll2(t *testing.T, s *Store) { mustCommit(t, s, run(0, 0, 10, 80, 60)) }

// TestSnapshotCarriesTheListModel, and the restored store goes on as the first.
func TestSnapshotCarriesTheListModel(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, t.TempDir(), testConfig(), withPairs(300))
	commitAll(t, s, 0, 1000, 50)
	path := filepath.Join(t.TempDir(), "snap")
	info, err := s.Snapshot(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "restored")
	if got, err := Restore(ctx, path, dir, s.cfg); err != nil || got != info {
		t.Fatalf("%v; restored %+v, written %+v", err, got, info)
	}
	r := mustOpen(t, dir, s.cfg, withPairs(300))
	if digest(t, r) != digest(t, s) || len(stepRecords(t, r)) != 0 {
		t.Error("restored, another state, or steps")
	}
	noProblems(t, r)
	for _, x := range []*Store{s, r} {
		commitAll(t, x, 1000, 1500, 50)
	}
	if digest(t, r) != digest(t, s) {
		t.Error("the restored store went another way")
	}
}

// TestMetIsRightForLongHistories, cut ones too.
func TestMetIsRightForLongHistories(t *testing.T) {
	var m metSets
	m.limit = 3000
	users := []*userRec{{}, {}, {}}
	for i := range 4000 {
		for k, u := range users {
			u.ID = fmt.Sprint(k)
			item := fmt.Sprint(i * (k + 1) * 7919 % 1500)
			want := slices.ContainsFunc(u.History, func(x corastream.Interaction) bool { return x.Item == item })
			if got := m.met(u, item); got != want {
				t.Fatalf("user %d, event %d: met %v", k, i, got)
			}
			u.remember(item, corastream.Event{Time: epoch}, 1000)
			if i%97 != 0 { // now and then a write fails, and the record is as before
				m.note(u)
			}
		}
	}
	if m.size > m.limit+2000 {
		t.Errorf("%d entries, the limit is %d", m.size, m.limit)
	}
}

// BenchmarkMet is the cost of one event's Met and Recent by the length of the user's history; `scan` is without the set.
func BenchmarkMet(b *testing.B) {
	for _, n := range []int{16, 64, 256, 512, 1024, 4000} {
		u := &userRec{}
		u.ID = "u"
		for i := range n {
			u.remember(fmt.Sprintf("item-%06d", i*7919%100000), corastream.Event{Time: epoch, Label: 1}, 4096)
		}
		b.Run(fmt.Sprintf("history=%d/met", n), func(b *testing.B) {
			m := metSets{limit: 1 << 20}
			for range metScans {
				m.met(u, "item-100001")
			}
			for b.Loop() {
				m.met(u, "item-100001")
			}
		})
		b.Run(fmt.Sprintf("history=%d/scan", n), func(b *testing.B) {
			for b.Loop() {
				u.find("item-100001", 0)
			}
		})
		b.Run(fmt.Sprintf("history=%d/make", n), func(b *testing.B) {
			for b.Loop() {
				m := metSets{limit: 1 << 20, users: map[string]*metSet{"u": {scans: metScans}}}
				m.met(u, "item-100001")
			}
		})
	}
}

// TestFindSaysWhatSearchingSays: in histories that are cut, taken from and loaded anew, of ids whose tags collide.
func TestFindSaysWhatSearchingSays(t *testing.T) {
	u := &userRec{}
	for i := range 6000 {
		item := fmt.Sprint(i * 7919 % 900) // 900 items have 256 tags
		from := i % 7 * len(u.History) / 7
		want := slices.IndexFunc(u.History[from:], func(x corastream.Interaction) bool { return x.Item == item })
		if want >= 0 {
			want += from
		}
		if got := u.find(item, from); got != want {
			t.Fatalf("event %d: %d, want %d", i, got, want)
		}
		ev := corastream.Event{Item: item, Time: epoch.Add(time.Duration(i) * time.Second), Kind: "rating"}
		if got, want := u.firstTakenBack(&ev), ev.FirstTakenBack(u.History); got != want || want != slices.IndexFunc(u.History, ev.TakesBack) {
			t.Fatalf("event %d: taken back from %d on, want %d", i, got, want)
		}
		switch {
		case i%911 == 0: // taken back
			u.History, u.tags = slices.Delete(slices.Clone(u.History), 0, len(u.History)/3), nil
		case i%1201 == 0: // loaded
			c := *u
			c.tags, u = nil, &c
		}
		ev.Label = float32(i % 2)
		u.remember(item, ev, 700)
	}
}
