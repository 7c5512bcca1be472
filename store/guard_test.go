package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
)

// lockedBuffer may be written and read from several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestFullDiskPausesWritesAndNotReads: below the reserve Commit waits and says why; it goes on by itself, or ends with ctx.
func TestFullDiskPausesWritesAndNotReads(t *testing.T) {
	var logs lockedBuffer
	s := mustOpen(t, t.TempDir(), testConfig(), WithLogger(zerolog.New(&logs).Level(zerolog.DebugLevel)))
	mustCommit(t, s, run(0, 0, 10, 5, 5))
	var free, looks atomic.Int64
	free.Store(s.cfg.ReserveBytes - 1)
	s.guard.every = time.Millisecond
	s.guard.free = func(string) (int64, bool, error) { looks.Add(1); return free.Load(), true, nil }

	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { _, err := s.Commit(ctx, run(0, 10, 20, 5, 5), biasLearner); result <- err }()
	for looks.Load() < 5 {
		time.Sleep(time.Millisecond)
	}
	select {
	case err := <-result:
		t.Fatalf("Commit did not wait: %v", err)
	default:
	}
	err := s.View(context.Background(), func(st corastream.State) error { _, err := st.User("u0-0"); return err })
	if err != nil {
		t.Errorf("a read: %v", err)
	}
	if _, err := s.Snapshot(ctx, t.TempDir()+"/s"); err != nil {
		t.Errorf("a small snapshot while half the reserve is there: %v", err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled Commit gave %v", err)
	}
	go func() { _, err := s.Commit(context.Background(), run(0, 10, 20, 5, 5), biasLearner); result <- err }()
	for before := looks.Load(); looks.Load() < before+5; {
		time.Sleep(time.Millisecond)
	}
	free.Store(math.MaxInt64)
	if err := <-result; err != nil {
		t.Errorf("after space is back: %v", err)
	}
	for _, part := range []string{"almost full", "reserve_bytes", "space is back"} {
		if !strings.Contains(logs.String(), part) {
			t.Errorf("the log does not say %q: %s", part, logs.String())
		}
	}
}

// folder is what lies in one, with sizes.
func folder(t *testing.T, dir string) (all string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if st, err := e.Info(); err == nil {
			all += fmt.Sprintln(e.Name(), st.Size())
		}
	}
	return all
}

// TestAMergeWaitsForRoom: on a full disk a merge of tables waits before it writes one, says so, and goes on by itself. Closing meanwhile leaves
// the buffers in the write-ahead file, and a start from there has everything.
func TestAMergeWaitsForRoom(t *testing.T) {
	c := testConfig()
	c.MemoryLimit, c.ReserveBytes = 32<<20, 32<<20
	var logs lockedBuffer
	dir := t.TempDir()
	db, g, err := openFolder(dir, c, zerolog.New(&logs))
	if err != nil {
		t.Fatal(err)
	}
	var free atomic.Int64
	free.Store(math.MaxInt64)
	g.every = time.Millisecond
	g.free = func(string) (int64, bool, error) { return free.Load(), true, nil }
	keys := 0
	write := func() { // 1 MiB
		t.Helper()
		wb := db.NewWriteBatch()
		for range 1024 {
			keys++
			if err := wb.Set(fmt.Appendf(nil, "k%06d", keys*7919%1_000_003), bytes.Repeat([]byte{byte(keys)}, 1024)); err != nil {
				t.Fatal(err)
			}
		}
		if err := wb.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	merged := func(db *badger.DB) (n int) {
		for _, l := range db.Levels()[1:] {
			n += l.NumTables
		}
		return n
	}
	until := func(what string, yes func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !yes(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s did not happen; %+v\n%s", what, db.Levels(), logs.String())
			}
		}
	}
	for n := 0; merged(db) == 0; n++ {
		if write(); n > 100 {
			t.Fatalf("nothing was merged: %+v", db.Levels())
		}
	}

	free.Store(c.ReserveBytes/4 - 1)
	for n := 0; g.waiting.Load() == 0; n++ { // fewer tables than those at which Badger stalls writes
		if write(); n > 8 {
			t.Fatalf("no merge waits: does Badger still say %q before each table?", gathered)
		}
		time.Sleep(100 * time.Millisecond)
	}
	at := merged(db)
	time.Sleep(50 * time.Millisecond)
	if now := merged(db); now > at {
		t.Errorf("%d tables, then %d: a merge went on", at, now)
	}
	if !strings.Contains(logs.String(), "merging of tables waits") {
		t.Errorf("the log does not say so: %s", logs.String())
	}
	free.Store(math.MaxInt64)
	until("a merge once there is room", func() bool { return g.waiting.Load() == 0 && db.Levels()[0].NumTables < 5 })

	free.Store(0)
	write()
	if err := g.closeBadger(db); err != nil {
		t.Errorf("closing on a full disk: %v", err)
	}
	if !strings.Contains(logs.String(), "which the next start does") {
		t.Errorf("the log does not say how it was closed: %s", logs.String())
	}
	for still := 0; still < 10; still++ { // what was being merged when the disk got full ends
		before := folder(t, dir)
		if time.Sleep(20 * time.Millisecond); folder(t, dir) != before {
			still = 0
		}
	}
	after := t.TempDir() // as a new process would find it: this one still has the folder's lock
	if err := os.CopyFS(after, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again, g, err := openFolder(after, c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	have := 0
	err = again.View(func(txn *badger.Txn) error {
		return scan(txn, nil, nil, func([]byte, *badger.Item) (bool, error) { have++; return true, nil })
	})
	if err != nil || have != keys {
		t.Errorf("%d of %d keys are there, %v", have, keys, err)
	}
	free.Store(math.MaxInt64)
	if err := errors.Join(g.closeBadger(again), db.Close()); err != nil {
		t.Error(err)
	}
}

// TestFailedWriteStopsAllFurtherOnes: what is in memory may no longer be what is on the disk.
func TestFailedWriteStopsAllFurtherOnes(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, testConfig())
	mustCommit(t, s, run(0, 0, 10, 5, 5))
	want := digest(t, s)
	if err := s.db.Close(); err != nil { // the disk is gone
		t.Fatal(err)
	}
	onlyOffsets := corastream.Batch{Spans: []corastream.Span{{Partition: corastream.Partition{Topic: topic}, From: 10, To: 20}}}
	_, first := s.Commit(context.Background(), onlyOffsets, biasLearner)
	if first == nil || errors.Is(first, ErrFailed) {
		t.Errorf("the failing write: %v", first)
	}
	if _, err := s.Commit(context.Background(), run(0, 10, 20, 5, 5), biasLearner); !errors.Is(err, ErrFailed) {
		t.Errorf("a later write: %v", err)
	}
	if err := s.Settle(context.Background(), []corastream.Owed{{User: "u0-0", Seq: 1}}); !errors.Is(err, ErrFailed) {
		t.Errorf("a settlement: %v", err)
	}
	again := mustOpen(t, dir, testConfig())
	if digest(t, again) != want {
		t.Error("the failed write left something")
	}
}

// TestConfigNamesAllProblems at once.
func TestConfigNamesAllProblems(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	err := Config{HistoryLimit: 0, DedupeHorizon: -1, DedupeLimit: 0, MemoryLimit: 1, MaxDirty: 1, ReserveBytes: -1, UserTTL: 1, JournalLimit: 5}.Validate()
	for _, key := range []string{"history_limit", "dedupe_horizon", "dedupe_limit", "memory_limit_bytes", "max_dirty", "reserve_bytes", "user_ttl", "journal_limit"} {
		if err == nil || !strings.Contains(err.Error(), "store."+key) {
			t.Errorf("%s is not named: %v", key, err)
		}
	}
	if _, err := Open(t.TempDir(), Config{}); err == nil {
		t.Error("a store was opened with an empty configuration")
	}
}

// TestErasureLeavesNothingToRead, now and after a replay from the first offset, while the other users stay as they are.
func TestErasureLeavesNothingToRead(t *testing.T) {
	clock := sec(1_000_000)
	c := testConfig()
	c.HistoryLimit = 100
	dir := t.TempDir()
	s := mustOpen(t, dir, c, WithClock(func() time.Time { return clock }))
	ctx := context.Background()
	const user = "u0-1"
	mustCommit(t, s, run(0, 0, 2000, 8, 20))
	mustCommit(t, s, corastream.Batch{Requests: []corastream.Request{{ID: "r", User: user}, {ID: "q", User: "u0-2"}}})
	if err := s.Erase(ctx, user); err != nil {
		t.Fatal(err)
	}
	if err := s.Erase(ctx, "never seen"); err != nil {
		t.Fatal(err)
	}
	gone := func(s *Store) {
		t.Helper()
		for k, v := range raw(t, s) {
			if k[0] != pItem && (strings.Contains(k, user) || strings.Contains(v, user)) {
				t.Errorf("still there: %s", keyName([]byte(k)))
			}
		}
		noProblems(t, s)
	}
	gone(s)
	list, err := s.Owed(100)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range list {
		if o.User == user {
			t.Errorf("still owed: %+v", o)
		}
	}
	if len(list) != 8 { // seven users and a request
		t.Errorf("%d debts are left, want 8", len(list))
	}
	s.Close()
	s = mustOpen(t, dir, c)
	mustCommit(t, s, run(0, 0, 2000, 8, 20)) // below the watermark
	gone(s)

	fresh := mustOpen(t, t.TempDir(), c) // all is learnt again, but for what was erased
	var erasures []Erasure
	for e, err := range s.Erasures() {
		if err != nil {
			t.Fatal(err)
		}
		erasures = append(erasures, e)
	}
	if err := fresh.EraseAll(ctx, erasures...); err != nil || len(erasures) != 2 {
		t.Fatalf("%v: %d erasures", err, len(erasures))
	}
	mustCommit(t, fresh, run(0, 0, 2000, 8, 20))
	gone(fresh)
	later := click(user, 2000, 2_000_000) // the user came back: that is learnt
	if done := mustCommit(t, s, later); done.Learnt != 1 {
		t.Errorf("an event after the erasure: %+v", done)
	}
}

// TestSilentUsersAreForgotten after the TTL, measured on the log's own clock: at once for readers, from the disk soon.
func TestSilentUsersAreForgotten(t *testing.T) {
	c := testConfig()
	c.UserTTL, c.HistoryLimit = time.Hour, 100
	dir := t.TempDir()
	told := map[string]bool{}
	s := mustOpen(t, dir, c, WithForgotten(func(user string) { told[user] = true }))
	mustCommit(t, s, run(0, 0, 1000, 8, 20)) // takes 1000 s of the log's time, each user is seen to the end
	version := func(user string) (v uint64) {
		t.Helper()
		err := s.View(context.Background(), func(st corastream.State) error {
			u, err := st.User(user)
			v = u.Version
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	old := version("u0-0")
	if old == 0 {
		t.Fatal("u0-0 is not known")
	}
	list := owed(t, s, 100)
	mustCommit(t, s, click("late", 1000, 1000+3500))
	if version("u0-0") != old {
		t.Error("forgotten too early")
	}
	mustCommit(t, s, click("late", 1001, 1000+3700))
	if version("u0-0") != 0 {
		t.Error("not forgotten")
	}
	for u, err := range s.Users() {
		if err != nil {
			t.Fatal(err)
		}
		if u.ID != "late" {
			t.Errorf("%s is still listed", u.ID)
		}
	}
	if got := len(owed(t, s, 100)); got != 9 {
		t.Errorf("%d debts, want 9: a debt outlives the TTL", got)
	}
	back := click("u0-0", 1002, 1000+3701)
	mustCommit(t, s, back)
	if version("u0-0") != 1 {
		t.Errorf("came back with version %d", version("u0-0"))
	}
	noProblems(t, s)
	sum := digest(t, s)
	settle(t, s, list...)
	settle(t, s, owed(t, s, 100)...)
	noProblems(t, s)
	for i := range int64(2 * sweepEvery) {
		mustCommit(t, s, corastream.Batch{Spans: []corastream.Span{{Partition: corastream.Partition{Topic: "x"}, From: i, To: i + 1}}})
	}
	noProblems(t, s)
	if len(told) != 7 || told["late"] || told["u0-0"] { // who came back came before the sweep
		t.Errorf("told of %v", told)
	}
	if st, _ := s.Stats(); st.Users != 2 {
		t.Errorf("%d users are on the disk, want 2", st.Users)
	}
	before := map[string]bool{}
	for k := range raw(t, s) {
		before[k] = true
	}
	for k := range before {
		if k[0] == pHistory && !strings.HasPrefix(k[1:], "late") && !strings.HasPrefix(k[1:], "u0-0") {
			t.Errorf("left behind: %s", keyName([]byte(k)))
		}
	}
	s.Close()
	s = mustOpen(t, dir, c)
	x := digest(t, s)
	again := mustOpen(t, t.TempDir(), c)
	for _, b := range []corastream.Batch{run(0, 0, 1000, 8, 20), click("late", 1000, 1000+3500), click("late", 1001, 1000+3700), back} {
		mustCommit(t, again, b)
	}
	if digest(t, again) != sum {
		t.Error("the same log gave another state before the sweep")
	}
	mustCommit(t, again, corastream.Batch{Spans: []corastream.Span{{Partition: corastream.Partition{Topic: "x"}, From: 0, To: 2 * sweepEvery}}})
	if digest(t, again) != x {
		t.Error("sweeping changed the state")
	}
}

// TestJournalLimitKeepsTheNewestLines.
func TestJournalLimitKeepsTheNewestLines(t *testing.T) {
	c := testConfig()
	c.JournalLimit = 1000
	s := mustOpen(t, t.TempDir(), c)
	for i := range int64(1020) {
		mustCommit(t, s, corastream.Batch{Spans: []corastream.Span{{Partition: corastream.Partition{Topic: "x"}, From: i, To: i + 1}}})
	}
	lines := journal(t, s)
	if len(lines) != 1000 || lines[0].Seq != 21 || lines[999].Seq != 1020 {
		t.Errorf("%d lines, from %d", len(lines), lines[0].Seq)
	}
}
