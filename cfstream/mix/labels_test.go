package mix

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// labelled learns a world of four kinds of users, each with a label, who take items of their own kind three times in four. A fifth
// of the users has no label. What it returns are the last events' time and how many likes of each item there were.
func labelled(t *testing.T, spec Spec, events int) (m *Model, now time.Time) {
	t.Helper()
	m, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 80 {
		m.Describe(corastream.Item{ID: fmt.Sprint("i", i), Title: fmt.Sprint("thing ", i)})
	}
	r := rand.New(rand.NewPCG(7, 3))
	recent := map[int][]corastream.Interaction{}
	for n := range events {
		user := r.IntN(200)
		item := r.IntN(80)
		if r.IntN(4) > 0 {
			item = 4*(item/4) + user%4
		}
		now = time.Unix(1_700_000_000, 0).Add(time.Duration(n) * time.Minute)
		x := corastream.Interaction{Item: fmt.Sprint("i", item), Label: 1, Time: now}
		st := corastream.Step{Item: x.Item, Positive: true, Time: now, Recent: recent[user]}
		if user%5 > 0 {
			st.Labels = []string{fmt.Sprint("kind=", user%4), "everybody"}
		}
		m.Learn(st)
		recent[user] = append([]corastream.Interaction{x}, recent[user][:min(len(recent[user]), 30)]...)
	}
	return m, now
}

// TestANewUserIsListedWhatUsersWithTheLabelTake: from the first likes on, and after saving and loading. A label that nobody has, and one
// that everybody has, change nothing of the order.
func TestANewUserIsListedWhatUsersWithTheLabelTake(t *testing.T) {
	for _, events := range []int{400, 4000} {
		m, now := labelled(t, small(), events)
		again, err := New(small())
		if err != nil {
			t.Fatal(err)
		}
		if err := again.Load(bytes.NewReader(saved(t, m))); err != nil {
			t.Fatal(err)
		}
		ask := func(m *Model, labels ...string) []corastream.Candidate {
			return m.Rank(corastream.Query{Labels: labels, Now: now, N: 10, Reasons: true})
		}
		of := func(list []corastream.Candidate, kind int) (n int) {
			for _, c := range list {
				var i int
				fmt.Sscanf(c.Item, "i%d", &i)
				if i%4 == kind {
					n++
				}
			}
			return n
		}
		for kind := range 4 {
			list := ask(m, fmt.Sprint("kind=", kind))
			if n := of(list, kind); n < 9 || len(list) != 10 {
				t.Errorf("%d events: %d of %d items listed for a new user of kind %d are of that kind", events, n, len(list), kind)
			}
			if list[0].Source != corastream.SourceLabels {
				t.Errorf("%d events: the first is listed because of %s", events, list[0].Source)
			}
			if a, b := fmt.Sprint(list), fmt.Sprint(ask(again, fmt.Sprint("kind=", kind))); a != b {
				t.Errorf("a saved model lists otherwise:\n%s\n%s", a, b)
			}
			if plain := ask(m); of(plain, kind) > 6 {
				t.Errorf("%d events: a stranger without labels is listed %d items of kind %d", events, of(plain, kind), kind)
			}
		}
		if a, b := fmt.Sprint(ask(m)), fmt.Sprint(ask(m, "unheard-of")); a != b {
			t.Errorf("a label that nobody has changes a list:\n%s\n%s", a, b)
		}
	}
}

// TestATakenBackLikeLeavesItsLabels: the item falls in the list of the label by what was taken back.
func TestATakenBackLikeLeavesItsLabels(t *testing.T) {
	m, now := labelled(t, small(), 2000)
	count := func() float64 {
		of := &m.labels.taken[m.labels.number["odd"]]
		for k, j := range of.items {
			if m.items[j].id == "i9" {
				return of.count[k]
			}
		}
		return -1
	}
	like := corastream.Step{Item: "i9", Positive: true, Time: now.Add(time.Minute), Labels: []string{"odd"}}
	m.Learn(like)
	if c := count(); c <= 0 {
		t.Fatalf("counted %v", c)
	}
	m.Learn(corastream.Step{Item: "i9", Retract: true, Time: now.Add(2 * time.Minute), Labels: []string{"odd"}, Recent: []corastream.Interaction{{Item: "i9", Label: 1, Time: like.Time}}})
	if c := count(); c != 0 {
		t.Errorf("%v is left of what was taken back", c)
	}
}

// TestALabelKeepsItsMostTakenItems: of more items than a label keeps, those that were taken often stay.
func TestALabelKeepsItsMostTakenItems(t *testing.T) {
	var of taken
	r := rand.New(rand.NewPCG(1, 9))
	for n := range 40_000 {
		of.add(int32(r.IntN(20)), 1)
		of.add(int32(20+n%(3*labelItems)), 1)
	}
	if len(of.items) != labelItems {
		t.Fatalf("%d items", len(of.items))
	}
	for k, j := range of.items {
		if k < 20 != (j < 20) || k > 0 && of.count[k] > of.count[k-1] {
			t.Fatalf("place %d has item %d with %v", k, j, of.count[k])
		}
	}
}

// TestListsOfALogWithoutLabelsAreThoseOfBefore: the golden was made by the build before there were labels.
func TestListsOfALogWithoutLabelsAreThoseOfBefore(t *testing.T) {
	const want = "91b5452a06c7df73"
	h := sha256.New()
	for _, rated := range []bool{false, true} {
		m, w := learnt(t, small(), 6000, rated)
		for u := range worldUsers {
			fmt.Fprintln(h, m.Rank(corastream.Query{Recent: w.users[u][:20], Now: w.now, N: 30, Reasons: true}))
		}
		fmt.Fprintln(h, m.Rank(corastream.Query{Now: w.now, N: 30, Reasons: true}))
	}
	if got := hex.EncodeToString(h.Sum(nil)[:8]); got != want {
		t.Errorf("lists %s, want %s", got, want)
	}
}
