package cluster

import (
	"fmt"
	"testing"

	"github.com/corastream/corastream"
)

// TestDebtsAreReportedUpToTheFirstThatIsOpen: what a replica tells the group never passes a request or a move that it has not answered.
func TestDebtsAreReportedUpToTheFirstThatIsOpen(t *testing.T) {
	var d duties
	d.init()
	requests := corastream.Partition{Topic: "requests", ID: 1}
	batch := func(from, to int64) corastream.Batch {
		b := corastream.Batch{Spans: []corastream.Span{{Partition: requests, From: from, To: to}}}
		for o := from; o < to; o++ {
			b.Requests = append(b.Requests, corastream.Request{ID: fmt.Sprint(o), User: "u", Pos: corastream.Position{Topic: "requests", Partition: 1, Offset: o}})
		}
		return b
	}
	mine := map[corastream.Partition]bool{requests: true}
	ready := func(corastream.Position) (bool, error) { return true, nil }
	owed := func(n int) []corastream.Owed {
		out, err := d.owed(n, ready, mine)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if err := d.take(batch(10, 14)); err != nil {
		t.Fatal(err)
	}
	got := owed(10)
	if len(got) != 4 || len(owed(10)) != 4 {
		t.Fatalf("%d debts", len(got))
	}
	steps := []struct {
		settle int
		to     int64
	}{{1, 10}, {0, 12}, {3, 12}, {2, 14}}
	for _, s := range steps {
		d.settle(got[s.settle : s.settle+1])
		for _, sp := range d.paid() {
			if sp.To > s.to {
				t.Errorf("reported up to %d, want %d at most", sp.To, s.to)
			}
		}
		if p := d.reported[requests]; p != s.to {
			t.Errorf("after %q: reported up to %d, want %d", got[s.settle].Request.ID, p, s.to)
		}
	}
	// The partition comes back from somebody else, who had got to 20: nothing of before is ours.
	if err := d.take(batch(20, 22)); err != nil {
		t.Fatal(err)
	}
	if err := d.take(batch(18, 19)); err != nil {
		t.Fatal(err)
	}
	if got := owed(10); len(got) != 1 || got[0].Request.ID != "18" {
		t.Errorf("after the partition came back: %v", got)
	}
	if d.covered != 1 {
		t.Errorf("%d records are covered, want 1", d.covered)
	}
	delete(mine, requests)
	mine[corastream.Partition{Topic: "requests", ID: 2}] = true
	if got := owed(10); len(got) != 0 {
		t.Errorf("debts of a partition that was taken away: %v", got)
	}
	if d.covered != 0 {
		t.Errorf("%d records are still covered", d.covered)
	}
}

// TestAnExchangeKeepsTheLastOfManyVersions and commits nothing for offsets alone.
func TestAnExchangeKeepsTheLastOfManyVersions(t *testing.T) {
	x := newExchange(nil, nil, 0, "embeddings")
	part := corastream.Partition{Topic: "embeddings", ID: 1}
	change := func(offset int64, key string, epoch uint64) corastream.Change {
		return corastream.Change{Pos: corastream.Position{Topic: "embeddings", Partition: 1, Offset: offset}, Epoch: epoch, Seq: uint64(offset), Key: []byte(key), Value: []byte{1}}
	}
	x.add(corastream.Batch{Spans: []corastream.Span{{Partition: part, From: 0, To: 5}}})
	if _, ok := x.take(); ok {
		t.Error("offsets alone are no news")
	}
	x.add(corastream.Batch{
		Changes: []corastream.Change{change(5, "i:a", 1), change(6, "i:b", 1), change(7, "i:a", 1), change(8, "i:b", 2)},
		Spans:   []corastream.Span{{Partition: part, From: 5, To: 9}},
	})
	b, ok := x.take()
	var kept []int64
	for _, c := range b.Changes {
		if c.Value != nil {
			kept = append(kept, c.Pos.Offset)
		}
	}
	if !ok || fmt.Sprint(kept) != "[6 7 8]" || len(b.Changes) != 4 || len(b.Spans) != 1 || b.Spans[0].From != 0 || b.Spans[0].To != 9 {
		t.Errorf("kept %v with spans %v: the last of an owner's versions, and both owners'", kept, b.Spans)
	}
	if _, ok := x.take(); ok {
		t.Error("taken twice")
	}
}

var _ corastream.Store = (*Replica)(nil)
