package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// click is one event of a user, appended after some seconds.
func click(user string, offset int64, after int) corastream.Batch {
	at := epoch.Add(time.Duration(after) * time.Second)
	return corastream.Batch{
		Events: []corastream.Event{{Pos: corastream.Position{Topic: topic, Offset: offset}, User: user, Item: "i", Weight: 1, Time: at, Appended: at}},
		Spans:  []corastream.Span{{Partition: corastream.Partition{Topic: topic}, From: offset, To: offset + 1}},
	}
}

func owed(t testing.TB, s *Store, n int) []corastream.Owed {
	t.Helper()
	out, err := s.Owed(n)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func settle(t testing.TB, s *Store, paid ...corastream.Owed) {
	t.Helper()
	if err := s.Settle(context.Background(), paid); err != nil {
		t.Fatal(err)
	}
}

func sec(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }

// TestDebtsSurviveRestart, in order, until they are settled.
func TestDebtsSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, testConfig())
	for i, user := range []string{"b", "a", "c", "a"} {
		mustCommit(t, s, click(user, int64(i), 10+i))
	}
	request := corastream.Request{
		ID: "r1", User: "z", N: 5, Exclude: []string{"i"}, Candidates: []string{"j", "k"}, Appended: sec(50),
		Seen: corastream.SeenInclude, History: []corastream.Interaction{{Item: "j", Label: 1, Time: sec(40)}, {Item: "i", Shown: true, Time: sec(41)}},
		Pos: corastream.Position{Topic: "requests", Partition: 2, Offset: 7},
	}
	mustCommit(t, s, corastream.Batch{
		Requests: []corastream.Request{request},
		Spans:    []corastream.Span{{Partition: corastream.Partition{Topic: "requests", ID: 2}, From: 7, To: 8}},
	})
	want := []corastream.Owed{
		{User: "z", Cause: request.Pos, Seq: 5, Request: &request},
		{User: "b", Cause: corastream.Position{Topic: topic, Offset: 0}, Oldest: sec(10), Seq: 1},
		{User: "a", Cause: corastream.Position{Topic: topic, Offset: 3}, Oldest: sec(11), Seq: 4},
		{User: "c", Cause: corastream.Position{Topic: topic, Offset: 2}, Oldest: sec(12), Seq: 3},
	}
	for range 2 {
		if got := owed(t, s, 10); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
		if got := owed(t, s, 2); !reflect.DeepEqual(got, want[:2]) {
			t.Fatalf("got %+v, want %+v", got, want[:2])
		}
		s.Close()
		s = mustOpen(t, dir, testConfig())
	}
	settle(t, s, want[0], want[2])
	s.Close()
	s = mustOpen(t, dir, testConfig())
	if got := owed(t, s, 10); len(got) != 2 || got[0].User != "b" || got[1].User != "c" {
		t.Errorf("got %+v", got)
	}
	settle(t, s, owed(t, s, 10)...)
	settle(t, s, want...) // twice: nothing to do
	if got := owed(t, s, 10); got != nil {
		t.Errorf("still owed: %+v", got)
	}
	noProblems(t, s)
}

// TestSettleNeverErasesANewerDebt: what came between Owed and Settle stays owed, with its own oldest time.
func TestSettleNeverErasesANewerDebt(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, testConfig())
	offset := int64(0)
	next := func(after int) { mustCommit(t, s, click("u", offset, after)); offset++ }
	next(10)
	next(11)
	first := owed(t, s, 1)[0]
	if first.Oldest != sec(10) || first.Seq != 2 {
		t.Fatalf("got %+v", first)
	}
	for after := 20; after < 40; after++ { // a burst while the LLM is busy
		next(after)
	}
	if got := owed(t, s, 1)[0]; got.Oldest != sec(10) || got.Cause.Offset != offset-1 {
		t.Errorf("before the settlement: %+v", got)
	}
	s.queue.hand("u", first.Seq) // that second look is not what is being paid
	for after := 40; after < 60; after++ {
		next(after)
	}
	settle(t, s, first)
	second := owed(t, s, 1)[0]
	if second.Oldest != sec(20) || second.Cause.Offset != offset-1 {
		t.Errorf("after the settlement: %+v, want the oldest at 20 s", second)
	}
	u, err := loadUser(s.snap.txn, "u")
	if err != nil || len(u.debt.pend) > 3 {
		t.Errorf("%v: %d entries are kept of a burst", err, len(u.debt.pend))
	}
	s.Close()
	s = mustOpen(t, dir, testConfig())
	if got := owed(t, s, 1)[0]; !reflect.DeepEqual(got, second) {
		t.Errorf("after a restart: %+v, want %+v", got, second)
	}
	settle(t, s, second)
	if got := owed(t, s, 1); got != nil {
		t.Errorf("still owed: %+v", got)
	}
	next(70)
	if got := owed(t, s, 1)[0]; got.Oldest != sec(70) {
		t.Errorf("a new debt: %+v", got)
	}
	noProblems(t, s)
}

// TestOldestIsRightWhateverTheOrder holds Owed against a plain list of what each user has clicked and what was covered,
// over random clicks, looks and settlements, with append times that jump back, and restarts.
func TestOldestIsRightWhateverTheOrder(t *testing.T) {
	type event struct {
		seq uint64
		at  int
	}
	r := rand.New(rand.NewPCG(3, 1))
	dir := t.TempDir()
	s := mustOpen(t, dir, testConfig())
	model := map[string][]event{}
	var out []corastream.Owed
	offset := int64(0)
	for step := range 3000 {
		switch k := r.IntN(12); {
		case k < 8:
			user, at := fmt.Sprint("u", r.IntN(12)), step+r.IntN(20)
			done := mustCommit(t, s, click(user, offset, at))
			offset++
			model[user] = append(model[user], event{done.Seq, at})
		case k < 10 && out == nil: // one consumer: it looks, works, settles
			out = owed(t, s, 1+r.IntN(8))
			for _, o := range out {
				oldest := 1 << 30
				for _, e := range model[o.User] {
					oldest = min(oldest, e.at)
				}
				if o.Oldest != sec(oldest) {
					t.Fatalf("step %d: user %s: oldest %v, want %v", step, o.User, o.Oldest, sec(oldest))
				}
			}
			if !slices.IsSortedFunc(out, func(a, b corastream.Owed) int { return a.Oldest.Compare(b.Oldest) }) {
				t.Fatalf("step %d: not oldest first: %+v", step, out)
			}
		case k < 11 && out != nil:
			settle(t, s, out...)
			for _, o := range out {
				model[o.User] = slices.DeleteFunc(model[o.User], func(e event) bool { return e.seq <= o.Seq })
				if len(model[o.User]) == 0 {
					delete(model, o.User)
				}
			}
			out = nil
			if st, _ := s.Stats(); st.Debts != len(model) {
				t.Fatalf("step %d: %d debts, want %d", step, st.Debts, len(model))
			}
		case k == 11 && r.IntN(40) == 0:
			s.Close()
			s, out = mustOpen(t, dir, testConfig()), nil
		}
	}
	noProblems(t, s)
}

// TestManyDebtsAreReadInOrder: more debts than are kept in memory come out oldest first, each once.
func TestManyDebtsAreReadInOrder(t *testing.T) {
	w := window{prefix: pDebt, live: map[string]struct{}{}, max: 8192}
	s := mustOpen(t, t.TempDir(), testConfig())
	ctx := context.Background()
	const n = 3*8192 + 500
	r := rand.New(rand.NewPCG(1, 1))
	order := r.Perm(n)
	for from := 0; from < n; from += 5000 { // the keys alone, as Commit writes them
		err := s.update(ctx, func(wk *work) error {
			for _, i := range order[from:min(from+5000, n)] {
				key := debtKey(int64(i), fmt.Sprint("user", i))
				wk.extra = append(wk.extra, op{key, seal(key, []byte{recordVersion})})
				w.change(change{string(key), true})
				if wk.charge(1, 30); wk.full() {
					if err := wk.close(nil, nil); err != nil {
						return err
					}
					wk.reopen()
				}
			}
			return wk.close(nil, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(w.heap) > 2*w.max+1 || w.count != n {
		t.Fatalf("%d keys in memory, %d counted", len(w.heap), w.count)
	}
	var fresh window
	if err := fresh.load(s.snap.txn, pDebt, 8192); err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]*window{"filled": &w, "loaded": &fresh} {
		for want := 0; want < n; want += 1000 {
			keys, err := w.first(s.snap.txn, 1000)
			if err != nil {
				t.Fatal(err)
			}
			for i, key := range keys {
				if key != string(debtKey(int64(want+i), fmt.Sprint("user", want+i))) {
					t.Fatalf("%s: at %d: %q", name, want+i, key)
				}
				w.change(change{key, false})
			}
			if len(keys) != min(1000, n-want) {
				t.Fatalf("%s: at %d: %d keys", name, want, len(keys))
			}
		}
		if w.count != 0 {
			t.Errorf("%s: %d keys left", name, w.count)
		}
	}
}

// TestOwedAndSettleRaceWithCommits: nothing is paid that was not handed out, and nothing is forgotten.
func TestOwedAndSettleRaceWithCommits(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	const n = 400
	var wg sync.WaitGroup
	wg.Go(func() {
		for o := int64(0); o < n; o++ {
			mustCommit(t, s, click(fmt.Sprint("u", o%7), o, int(o)))
		}
	})
	covered := map[string]int64{} // user -> the newest offset a paid debt named
	pay := func() int {
		list, err := s.Owed(3)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range list {
			if last, seen := covered[o.User]; seen && o.Cause.Offset <= last {
				t.Fatalf("user %s is owed offset %d again, %d was paid", o.User, o.Cause.Offset, last)
			}
			if last, seen := covered[o.User]; seen && o.Oldest != sec(int(last)+7) {
				t.Fatalf("user %s: oldest %v, but %d was covered and %d came next", o.User, o.Oldest, last, last+7)
			}
			covered[o.User] = o.Cause.Offset
		}
		settle(t, s, list...)
		return len(list)
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	for running := true; running; {
		pay()
		select {
		case <-finished:
			running = false
		default:
		}
	}
	for pay() > 0 {
	}
	for i := range 7 {
		want := int64(n - 1)
		for want%7 != int64(i) {
			want--
		}
		if got := covered[fmt.Sprint("u", i)]; got != want {
			t.Errorf("user %d: paid up to %d, want %d", i, got, want)
		}
	}
	noProblems(t, s)
}
