package store

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// TestTooBigBatchIsSplitAtEvents: each of its transactions has its own line and offsets, the borders depend on nothing
// but the batch, and re-running the lines gives the same state.
func TestTooBigBatchIsSplitAtEvents(t *testing.T) {
	c := testConfig()
	c.MaxDirty = 60
	var lines [][]Line
	var digests []string
	for range 2 {
		s := mustOpen(t, t.TempDir(), c)
		for round := int64(0); round < 3; round++ {
			b := twoPartitions(round*100, 100)
			mustCommit(t, s, b)
		}
		lines = append(lines, journal(t, s))
		digests = append(digests, digest(t, s))
		noProblems(t, s)
	}
	if !reflect.DeepEqual(lines[0], lines[1]) || digests[0] != digests[1] {
		t.Fatal("two runs split differently")
	}
	if len(lines[0]) < 9 {
		t.Fatalf("only %d lines: nothing was split", len(lines[0]))
	}
	again := mustOpen(t, t.TempDir(), testConfig())
	for _, l := range lines[0] {
		mustCommit(t, again, batchOf(l.Spans))
	}
	if got := digest(t, again); got != digests[0] {
		t.Errorf("the re-run of the journal has digest %s, want %s", got, digests[0])
	}
	if got, want := journal(t, again), lines[0]; len(got) != len(want) {
		t.Errorf("the re-run has %d lines, the first run %d", len(got), len(want))
	}
}

// TestCatalogueRecordsWithoutPositionAreNeverCutOff: no transaction closes a span while such records are still to come.
func TestCatalogueRecordsWithoutPositionAreNeverCutOff(t *testing.T) {
	c := testConfig()
	c.MaxDirty = 30
	s := mustOpen(t, t.TempDir(), c)
	b := twoPartitions(0, 300)
	for i := range b.Items {
		b.Items[i].Pos = corastream.Position{}
	}
	mustCommit(t, s, b)
	for i, l := range journal(t, s) {
		for _, sp := range l.Spans {
			if sp.Topic == catalog && i > 0 {
				t.Errorf("line %d holds catalogue offsets %d to %d", l.Seq, sp.From, sp.To)
			}
		}
	}
	again := mustOpen(t, t.TempDir(), c)
	mustCommit(t, again, twoPartitions(0, 300))
	if digest(t, s) != digest(t, again) || len(journal(t, s)) < 3 {
		t.Errorf("another state, or nothing was split: %d lines", len(journal(t, s)))
	}
}

// TestBatchTooBigForBadgerIsRefusedWhole: a single event whose transaction can not fit leaves no part behind.
func TestBatchTooBigForBadgerIsRefusedWhole(t *testing.T) {
	c := testConfig()
	c.MemoryLimit = 32 << 20
	s := mustOpen(t, t.TempDir(), c)
	mustCommit(t, s, run(0, 0, 10, 5, 5))
	before := raw(t, s)
	b := run(0, 10, 11, 5, 5)
	_, err := s.Commit(context.Background(), b, func(st corastream.State, ev corastream.Event) error {
		for i := range 20000 { // new items, as a learner that draws far too many would make
			if _, err := st.Item(fmt.Sprint("n", i)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "memory_limit") {
		t.Fatalf("got %v", err)
	}
	if after := raw(t, s); !reflect.DeepEqual(before, after) {
		t.Errorf("the disk changed: %s", diff(before, after))
	}
	mustCommit(t, s, b)
	noProblems(t, s)
}

// twoPartitions is n events of each of two partitions, read in turns, with catalogue records before them.
func twoPartitions(from, n int64) corastream.Batch {
	var spans []corastream.Span
	r := rand.New(rand.NewPCG(uint64(from), 1))
	at := [2]int64{from, from}
	for at[0] < from+n || at[1] < from+n {
		p := r.IntN(2)
		to := min(at[p]+1+r.Int64N(20), from+n)
		if to > at[p] {
			spans = append(spans, corastream.Span{Partition: corastream.Partition{Topic: topic, ID: int32(p)}, From: at[p], To: to})
		}
		at[p] = to
	}
	spans = append(spans, corastream.Span{Partition: corastream.Partition{Topic: catalog}, From: from / 10, To: (from + n) / 10})
	return batchOf(spans)
}

// batchOf reads the records that lie in the spans, as a source would.
func batchOf(spans []corastream.Span) corastream.Batch {
	b := corastream.Batch{Spans: spans}
	for _, s := range spans {
		for o := s.From; o < s.To; o++ {
			if s.Topic == catalog {
				b.Items = append(b.Items, itemAt(o))
			} else {
				b.Events = append(b.Events, eventAt(s.ID, o, 80, 60))
			}
		}
	}
	return b
}

// itemAt is the catalogue record at an offset. Titles change, items go and come back.
func itemAt(offset int64) corastream.Item {
	r := rand.New(rand.NewPCG(7, uint64(offset)))
	it := corastream.Item{ID: fmt.Sprintf("i%d", r.IntN(60)), Pos: corastream.Position{Topic: catalog, Offset: offset}}
	if r.IntN(8) == 0 {
		it.Removed = true
		return it
	}
	it.Title = fmt.Sprintf("Title of %s, edition %d", it.ID, r.IntN(3))
	it.Fields = map[string]string{"year": fmt.Sprint(1950 + r.IntN(3)), "genre": "drama", "director": "x"}
	it.Withdrawn = r.IntN(9) == 0
	return it
}

func journal(t testing.TB, s *Store) (out []Line) {
	t.Helper()
	for l, err := range s.Journal(0) {
		if err != nil {
			t.Fatal(err)
		}
		l.At = time.Time{}
		out = append(out, l)
	}
	return out
}
