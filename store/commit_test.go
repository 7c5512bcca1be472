package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

func digest(t testing.TB, s *Store) string {
	t.Helper()
	d, err := s.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// raw is every key and value on the disk, to see that not a byte changed.
func raw(t testing.TB, s *Store) map[string]string {
	t.Helper()
	out := map[string]string{}
	sn, err := s.acquire()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.release()
	err = scanValues(sn, func(k, v []byte) { out[string(k)] = string(v) })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func noProblems(t testing.TB, s *Store) {
	t.Helper()
	r, err := s.Check(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.Problems {
		t.Error(p)
	}
}

// TestBatchBordersDoNotMatter: the same log in batches of any size, interrupted by restarts, gives one digest.
func TestBatchBordersDoNotMatter(t *testing.T) {
	const n, users, items = 3000, 60, 40
	var want string
	for _, size := range []int64{1, 7, 100, n} {
		dir, c := t.TempDir(), testConfig()
		c.HistoryLimit = 100 // some users pass it
		s := mustOpen(t, dir, c)
		for o := int64(0); o < n; o += size {
			mustCommit(t, s, run(0, o, min(o+size, n), users, items))
			if size == 100 && o%500 == 0 {
				s.Close()
				s = mustOpen(t, dir, c)
			}
		}
		noProblems(t, s)
		got := digest(t, s)
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("batches of %d: digest %s, batches of 1: %s", size, got, want)
		}
		s.Close()
		if got = digest(t, mustOpen(t, dir, c)); got != want {
			t.Errorf("batches of %d, reopened: digest %s, want %s", size, got, want)
		}
	}
}

// TestStateAgreesWithMemory: the store and the in-memory state of replay and training hold the same after the same events.
func TestStateAgreesWithMemory(t *testing.T) {
	const n = 2000
	c := testConfig()
	c.HistoryLimit, c.DedupeHorizon = 50, 0 // Memory does not drop repeats
	dir := t.TempDir()
	s := mustOpen(t, dir, c)
	m := corastream.NewMemory()
	m.HistoryLimit = c.HistoryLimit
	b := run(0, 0, n, 20, 30)
	for i := range b.Events {
		if err := m.Apply(learner{}, b.Events[i]); err != nil {
			t.Fatal(err)
		}
	}
	mustCommit(t, s, b)
	s.Close()
	s = mustOpen(t, dir, c) // what was written, not what was cached
	seen := 0
	for got, err := range s.Users() {
		if err != nil {
			t.Fatal(err)
		}
		want, _ := m.User(got.ID)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("user %s: got %+v, want %+v", got.ID, got, want)
		}
		seen++
	}
	if seen < 15 {
		t.Errorf("only %d users", seen)
	}
	for got, err := range s.Items() {
		if err != nil {
			t.Fatal(err)
		}
		want, _ := m.Item(got.ID)
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("item %s: got %+v, want %+v", got.ID, got, want)
		}
	}
	err := s.View(context.Background(), func(st corastream.State) error {
		if st.Items() != m.Items() {
			t.Errorf("%d items, want %d", st.Items(), m.Items())
		}
		for i := range st.Items() {
			got, err := st.ItemAt(uint32(i))
			if err != nil {
				return err
			}
			if want, _ := m.ItemAt(uint32(i)); !reflect.DeepEqual(got, want) {
				t.Errorf("item at %d: got %+v, want %+v", i, got, want)
			}
		}
		_, err := st.ItemAt(uint32(st.Items()))
		if !errors.Is(err, corastream.ErrUnknown) {
			t.Errorf("an index too high gave %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type learner struct{}

func (learner) Learn(s corastream.State, ev corastream.Event) error { return biasLearner(s, ev) }

// TestRedeliveryChangesNoByte: offsets at or below the watermark, whole batches or their overlap, leave the disk as it is.
func TestRedeliveryChangesNoByte(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	first := run(0, 0, 200, 20, 20)
	first.Items = []corastream.Item{{ID: "i1", Title: "Alien", Pos: corastream.Position{Topic: catalog, Offset: 5}}}
	first.Spans = append(first.Spans, corastream.Span{Partition: corastream.Partition{Topic: catalog}, From: 5, To: 6})
	first.Requests = []corastream.Request{{ID: "r", User: "u0-1", Pos: corastream.Position{Topic: "requests", Offset: 0}}}
	first.Spans = append(first.Spans, corastream.Span{Partition: corastream.Partition{Topic: "requests"}, From: 0, To: 1})
	mustCommit(t, s, first)
	second := corastream.Batch{
		Items: []corastream.Item{{ID: "i1", Title: "Aliens", Pos: corastream.Position{Topic: catalog, Offset: 6}}},
		Spans: []corastream.Span{{Partition: corastream.Partition{Topic: catalog}, From: 6, To: 7}},
	}
	mustCommit(t, s, second)
	before := raw(t, s)
	done := mustCommit(t, s, first) // the older title comes again: it must not come back
	if done.Learnt != 0 || done.Duplicates != 200 || len(done.Items) != 0 || len(done.Users) != 0 {
		t.Errorf("a redelivered batch did %+v", done)
	}
	if after := raw(t, s); !reflect.DeepEqual(before, after) {
		t.Errorf("a redelivered batch changed the disk: %s", diff(before, after))
	}
	overlap := mustCommit(t, s, run(0, 100, 300, 20, 20))
	if overlap.Duplicates < 100 || overlap.Learnt > 100 {
		t.Errorf("an overlapping batch did %+v", overlap)
	}
	fresh := mustOpen(t, t.TempDir(), testConfig())
	mustCommit(t, fresh, first)
	mustCommit(t, fresh, second)
	mustCommit(t, fresh, run(0, 200, 300, 20, 20))
	if digest(t, s) != digest(t, fresh) {
		t.Error("an overlap left another state than an exact delivery")
	}
	noProblems(t, s)
}

func diff(a, b map[string]string) string {
	var out []string
	for k, v := range a {
		if b[k] != v {
			out = append(out, "changed or gone: "+keyName([]byte(k)))
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			out = append(out, "new: "+keyName([]byte(k)))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "; ")
}

// TestRepeatedIDChangesNothingButTheOffset, within the horizon, and is learnt again beyond it.
func TestRepeatedIDChangesNothingButTheOffset(t *testing.T) {
	c := testConfig()
	c.DedupeHorizon = time.Hour
	dir := t.TempDir()
	s := mustOpen(t, dir, c)
	at := func(offset int64, id, user string, appended time.Time) corastream.Batch {
		return corastream.Batch{
			Events: []corastream.Event{{
				Pos: corastream.Position{Topic: topic, Offset: offset}, ID: id, User: user, Item: "i", Label: 1, Weight: 1,
				Time: appended, Appended: appended,
			}},
			Spans: []corastream.Span{{Partition: corastream.Partition{Topic: topic}, From: offset, To: offset + 1}},
		}
	}
	steps := []struct {
		id, user string
		after    time.Duration
		learnt   int
	}{
		{"a", "u", 0, 1},
		{"a", "u", 0, 0},
		{"a", "u", time.Minute, 0},
		{"a", "v", time.Minute, 1}, // another user's id is another id
		{"", "u", time.Minute, 1},
		{"", "u", time.Minute, 1},
		{"a", "u", time.Hour, 0},
		{"b", "u", time.Hour + time.Second, 1},
		{"a", "u", time.Hour + time.Second, 1},
		{"b", "u", time.Second * 2, 0}, // out of order, yet within an hour
	}
	for i, step := range steps {
		if i == 3 || i == 7 {
			s.Close()
			s = mustOpen(t, dir, c)
		}
		before := raw(t, s)
		done := mustCommit(t, s, at(int64(i), step.id, step.user, epoch.Add(step.after)))
		if done.Learnt != step.learnt || done.Duplicates != 1-step.learnt {
			t.Errorf("step %d: %+v, want %d learnt", i, done, step.learnt)
		}
		if step.learnt == 0 {
			after := raw(t, s)
			for k := range after {
				if (k[0] == pOffset || k[0] == pJournal) && before[k] != after[k] {
					delete(after, k)
					delete(before, k)
				}
			}
			if !reflect.DeepEqual(before, after) {
				t.Errorf("step %d: a repeat changed more than offset and journal: %s", i, diff(before, after))
			}
		}
	}
	noProblems(t, s)
}

// TestDedupeIDsAreBounded: a user who sends more ids than the limit forgets the oldest, and the record stays small.
func TestDedupeIDsAreBounded(t *testing.T) {
	c := testConfig()
	c.DedupeLimit, c.HistoryLimit = 10, 10
	s := mustOpen(t, t.TempDir(), c)
	var b corastream.Batch
	for i := range 1000 {
		b.Events = append(b.Events, corastream.Event{ID: fmt.Sprint(i), User: "u", Item: "i", Weight: 1, Appended: epoch})
	}
	mustCommit(t, s, b)
	again := func(id int) int {
		return mustCommit(t, s, corastream.Batch{Events: []corastream.Event{{ID: fmt.Sprint(id), User: "u", Item: "i", Weight: 1, Appended: epoch}}}).Learnt
	}
	if again(995) != 0 || again(100) != 1 {
		t.Error("the newest ten ids are to be known, older ones not")
	}
	u, err := loadUser(s.snap.txn, "u")
	if err != nil || len(u.ids) != 10 || len(u.History) != 10 {
		t.Fatalf("%v: %d ids, %d interactions", err, len(u.ids), len(u.History))
	}
}

// TestErrorFromLearnWritesNothing, not even when earlier events of the batch would have filled whole transactions.
func TestErrorFromLearnWritesNothing(t *testing.T) {
	c := testConfig()
	c.MaxDirty = 50
	s := mustOpen(t, t.TempDir(), c)
	mustCommit(t, s, run(0, 0, 100, 50, 50))
	before, d := raw(t, s), digest(t, s)
	boom := errors.New("boom")
	n := 0
	_, err := s.Commit(context.Background(), run(0, 100, 400, 50, 50), func(st corastream.State, ev corastream.Event) error {
		if n++; n == 250 {
			return boom
		}
		return biasLearner(st, ev)
	})
	if !errors.Is(err, boom) {
		t.Fatalf("got %v", err)
	}
	if n != 250 || !strings.Contains(err.Error(), "user ") {
		t.Errorf("after %d events: %v", n, err)
	}
	if after := raw(t, s); !reflect.DeepEqual(before, after) {
		t.Errorf("the disk changed: %s", diff(before, after))
	}
	mustCommit(t, s, run(0, 100, 400, 50, 50)) // memory is as it was, too
	fresh := mustOpen(t, t.TempDir(), c)
	mustCommit(t, fresh, run(0, 0, 100, 50, 50))
	if digest(t, fresh) != d {
		t.Error("another state before the error")
	}
	mustCommit(t, fresh, run(0, 100, 400, 50, 50))
	if digest(t, s) != digest(t, fresh) {
		t.Error("the failed batch left traces in memory")
	}
}

// TestVectorsThatAreNotFiniteAreRefused: a learner gone wrong is named and nothing is written.
func TestVectorsThatAreNotFiniteAreRefused(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	mustCommit(t, s, run(0, 0, 10, 5, 5))
	before := raw(t, s)
	for name, spoil := range map[string]func(st corastream.State, ev corastream.Event){
		"user": func(st corastream.State, ev corastream.Event) {
			u, _ := st.User(ev.User)
			u.Vec[3] = float32(math.NaN())
		},
		"item": func(st corastream.State, ev corastream.Event) {
			it, _ := st.Item(ev.Item)
			it.Bias = float32(math.Inf(1))
		},
		"shared": func(st corastream.State, ev corastream.Event) { e, _ := st.Shared(); e.Acc[0] = float32(math.Inf(-1)) },
	} {
		_, err := s.Commit(context.Background(), run(0, 10, 20, 5, 5), func(st corastream.State, ev corastream.Event) error {
			if err := biasLearner(st, ev); err != nil {
				return err
			}
			e, _ := st.Shared()
			grow(e)
			spoil(st, ev)
			return nil
		})
		if !errors.Is(err, errNotFinite) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
		if after := raw(t, s); !reflect.DeepEqual(before, after) {
			t.Errorf("%s: the disk changed: %s", name, diff(before, after))
		}
	}
}

// TestRecordsOutsideTheSpansAreRefused: the journal would not tell how to repeat the batch.
func TestRecordsOutsideTheSpansAreRefused(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	swapped := run(0, 0, 10, 5, 5)
	swapped.Events = append(swapped.Events, run(1, 0, 5, 5, 5).Events...)
	swapped.Spans = []corastream.Span{
		{Partition: corastream.Partition{Topic: topic, ID: 1}, From: 0, To: 5},
		{Partition: corastream.Partition{Topic: topic, ID: 0}, From: 0, To: 10},
	}
	outside := run(0, 0, 10, 5, 5)
	outside.Spans[0].To = 9
	request := run(0, 0, 10, 5, 5)
	request.Requests = []corastream.Request{{User: "u", Pos: corastream.Position{Topic: "requests", Offset: 3}}}
	item := run(0, 0, 10, 5, 5)
	item.Items = []corastream.Item{{ID: "i", Pos: corastream.Position{Topic: catalog}}}
	bad := run(0, 0, 10, 5, 5)
	bad.Spans[0].From = 20
	for name, b := range map[string]corastream.Batch{"order": swapped, "outside": outside, "request": request, "item": item, "span": bad} {
		if _, err := s.Commit(context.Background(), b, biasLearner); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, known, _ := s.Next(corastream.Partition{Topic: topic}); known {
		t.Error("an offset was set")
	}
}

// TestNextIsTheWatermark: known only once something of the partition was applied, and kept over a restart.
func TestNextIsTheWatermark(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, testConfig())
	p := corastream.Partition{Topic: topic, ID: 3}
	if _, known, err := s.Next(p); known || err != nil {
		t.Fatalf("known %v, %v", known, err)
	}
	mustCommit(t, s, run(3, 40, 50, 5, 5))
	s.Close()
	s = mustOpen(t, dir, testConfig())
	if next, known, err := s.Next(p); next != 50 || !known || err != nil {
		t.Fatalf("next %d, known %v, %v", next, known, err)
	}
	if _, known, _ := s.Next(corastream.Partition{Topic: topic, ID: 4}); known {
		t.Error("another partition is known")
	}
	b := corastream.Batch{Bad: []corastream.DeadLetter{{Reason: "json"}}, Spans: []corastream.Span{{Partition: p, From: 50, To: 51}}}
	mustCommit(t, s, b) // nothing but a bad record: the offset passes it
	if next, _, _ := s.Next(p); next != 51 {
		t.Errorf("next %d after a batch of bad records, want 51", next)
	}
}
