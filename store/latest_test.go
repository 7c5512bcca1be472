package store

import (
	"fmt"
	"testing"
)

// TestWhoClickedLastIsAnsweredFirstAndNobodyWaitsForEver: and a click of who waits already moves him to the front.
func TestWhoClickedLastIsAnsweredFirstAndNobodyWaitsForEver(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig(), WithNewestFirst())
	o := int64(0)
	tap := func(user string) {
		mustCommit(t, s, click(user, o, int(o)))
		o++
	}
	for i := range 12 {
		tap(fmt.Sprint("u", i))
	}
	tap("u1")
	want := func(n int, users ...string) {
		t.Helper()
		list, err := s.Owed(n)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, x := range list {
			got = append(got, x.User)
		}
		if fmt.Sprint(got) != fmt.Sprint(users) {
			t.Fatalf("%v, want %v", got, users)
		}
		if err := s.Settle(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	want(4, "u1", "u11", "u10", "u0")
	want(1, "u9")
	want(8, "u8", "u7", "u6", "u5", "u4", "u3", "u2")
	want(4)
	noProblems(t, s)
}

// TestWhoIsNotOwedCostsNoDebt: what is learnt is the same, and an earlier debt is kept.
func TestWhoIsNotOwedCostsNoDebt(t *testing.T) {
	wanted := map[string]bool{"anna": true}
	s := mustOpen(t, t.TempDir(), testConfig(), WithOwing(func(user string) bool { return wanted[user] }))
	all := mustOpen(t, t.TempDir(), testConfig())
	for o, user := range []string{"anna", "bob", "anna", "carl"} {
		mustCommit(t, s, click(user, int64(o), o))
		mustCommit(t, all, click(user, int64(o), o))
		wanted["anna"] = o < 1
	}
	list, err := s.Owed(10)
	if err != nil || len(list) != 1 || list[0].User != "anna" || list[0].Cause.Offset != 0 {
		t.Errorf("%+v %v", list, err)
	}
	a, _ := s.Digest()
	if b, _ := all.Digest(); a != b || a == "" {
		t.Error("who is owed a list decides what is learnt")
	}
	noProblems(t, s)
}

func TestTheLatestDebtsAreBounded(t *testing.T) {
	var l latest
	for i := range 5 * maxLatest {
		l.change(change{key: fmt.Sprint(i), add: true})
		if i%3 == 0 {
			l.change(change{key: fmt.Sprint(i)})
		}
		if len(l.keys) > 2*maxLatest || len(l.live) > 2*maxLatest {
			t.Fatalf("%d keys, %d live", len(l.keys), len(l.live))
		}
	}
	if got := l.last(3); fmt.Sprint(got) != fmt.Sprint([]string{fmt.Sprint(5*maxLatest - 1), fmt.Sprint(5*maxLatest - 3), fmt.Sprint(5*maxLatest - 4)}) {
		t.Error(got, 5*maxLatest)
	}
}
