package store

import (
	"context"
	"errors"
	"reflect"
	"testing"

	"github.com/corastream/corastream"
)

func items(list ...corastream.Item) corastream.Batch { return corastream.Batch{Items: list} }

func itemState(t testing.TB, s *Store, id string) *corastream.ItemState {
	t.Helper()
	var out *corastream.ItemState
	err := s.View(context.Background(), func(st corastream.State) (err error) { out, err = st.Item(id); return err })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func unread(t testing.TB, s *Store) (ids []string) {
	t.Helper()
	list, err := s.Unread(100)
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range list {
		ids = append(ids, it.ID)
	}
	return ids
}

// TestCatalogueUpsertsKeepWhatWasLearnt: a new title makes the content forgotten, a tombstone the title; the vector stays.
func TestCatalogueUpsertsKeepWhatWasLearnt(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, testConfig())
	ctx := context.Background()
	mustCommit(t, s, click("u", 0, 1)) // item "i", ahead of its catalogue record
	if got := unread(t, s); got != nil {
		t.Errorf("an item without a catalogue record waits to be read: %v", got)
	}
	learnt := itemState(t, s, "i")
	check := func(step string, want corastream.Item, waiting []string) {
		t.Helper()
		s.Close()
		s = mustOpen(t, dir, testConfig())
		got := itemState(t, s, "i")
		want.ID = "i"
		if !reflect.DeepEqual(got.Item, want) {
			t.Errorf("%s: %+v, want %+v", step, got.Item, want)
		}
		if !reflect.DeepEqual(got.Vec, learnt.Vec) || got.Bias != learnt.Bias || got.Count != learnt.Count || got.Seq != learnt.Seq {
			t.Errorf("%s: what was learnt changed: %+v, want %+v", step, got, learnt)
		}
		if list := unread(t, s); !reflect.DeepEqual(list, waiting) {
			t.Errorf("%s: %v wait to be read, want %v", step, list, waiting)
		}
		noProblems(t, s)
	}
	fields := map[string]string{"year": "1979"}
	content := []float32{1, -0.5, corastream.ContentStep}
	alien := corastream.Item{ID: "i", Title: "Alien", Fields: fields}

	mustCommit(t, s, items(alien))
	check("record", corastream.Item{Title: "Alien", Fields: fields}, []string{"i"})
	read := alien
	read.Content = content
	if err := s.Join(ctx, []corastream.Item{read}); err != nil {
		t.Fatal(err)
	}
	check("join", corastream.Item{Title: "Alien", Fields: fields, Content: content}, nil)
	version := itemState(t, s, "i").Version
	if done := mustCommit(t, s, items(alien)); len(done.Items) != 0 || itemState(t, s, "i").Version != version {
		t.Errorf("an equal record changed something: %+v", done)
	}
	withdrawn := alien
	withdrawn.Withdrawn = true
	mustCommit(t, s, items(withdrawn))
	check("withdrawn", corastream.Item{Title: "Alien", Fields: fields, Content: content, Withdrawn: true}, nil)
	mustCommit(t, s, items(corastream.Item{ID: "i", Title: "Aliens", Fields: fields}))
	check("title", corastream.Item{Title: "Aliens", Fields: fields}, []string{"i"})
	if err := s.Join(ctx, []corastream.Item{read}); err != nil { // made from the old title
		t.Fatal(err)
	}
	check("stale join", corastream.Item{Title: "Aliens", Fields: fields}, []string{"i"})
	mustCommit(t, s, items(corastream.Item{ID: "i", Removed: true}))
	check("tombstone", corastream.Item{Removed: true}, nil)
	if err := s.Join(ctx, []corastream.Item{{ID: "i", Title: "Aliens", Fields: fields, Content: content}}); err != nil {
		t.Fatal(err)
	}
	check("join after tombstone", corastream.Item{Removed: true}, nil)
	mustCommit(t, s, items(alien))
	check("back", corastream.Item{Title: "Alien", Fields: fields}, []string{"i"})

	before := raw(t, s)
	if done := mustCommit(t, s, items(corastream.Item{ID: "never", Removed: true})); len(done.Items) != 0 {
		t.Errorf("a tombstone of an unknown item: %+v", done)
	}
	if after := raw(t, s); !reflect.DeepEqual(before, after) {
		t.Errorf("a tombstone of an unknown item left %s", diff(before, after))
	}
}

// TestUnreadIsInOrderAndEndsEmpty: even content of no dimensions counts as read, or the catalogue would be read for ever.
func TestUnreadIsInOrderAndEndsEmpty(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	mustCommit(t, s, items(corastream.Item{ID: "b", Title: "B"}, corastream.Item{ID: "a", Title: "A"}, corastream.Item{ID: "c", Title: ""}))
	if got := unread(t, s); !reflect.DeepEqual(got, []string{"b", "a", "c"}) {
		t.Errorf("got %v", got)
	}
	list, err := s.Unread(2)
	if err != nil || len(list) != 2 || list[0].Title != "B" {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := s.Join(context.Background(), list); err != nil {
		t.Fatal(err)
	}
	if got := unread(t, s); !reflect.DeepEqual(got, []string{"c"}) {
		t.Errorf("got %v", got)
	}
}

// TestJoinRefusesWhatWouldNotComeBack: content off the grid, unknown items.
func TestJoinRefusesWhatWouldNotComeBack(t *testing.T) {
	s := mustOpen(t, t.TempDir(), testConfig())
	mustCommit(t, s, items(corastream.Item{ID: "i", Title: "A"}))
	before := raw(t, s)
	for _, x := range []float32{0.1, 8, -8.001, 1e30} {
		if err := s.Join(context.Background(), []corastream.Item{{ID: "i", Title: "A", Content: []float32{0, x}}}); err == nil {
			t.Errorf("content %v was taken", x)
		}
	}
	if err := s.Join(context.Background(), []corastream.Item{{ID: "x"}}); !errors.Is(err, corastream.ErrUnknown) {
		t.Errorf("an unknown item: %v", err)
	}
	if after := raw(t, s); !reflect.DeepEqual(before, after) {
		t.Errorf("the disk changed: %s", diff(before, after))
	}
	edge := []float32{-8, 32767 * corastream.ContentStep, 0}
	if err := s.Join(context.Background(), []corastream.Item{{ID: "i", Title: "A", Content: edge}}); err != nil {
		t.Fatal(err)
	}
	if got := itemState(t, s, "i").Content; !reflect.DeepEqual(got, edge) {
		t.Errorf("got %v, want %v", got, edge)
	}
}

// TestRerunInJournalOrderGivesEqualBytes, contents that were forgotten and joined anew included.
func TestRerunInJournalOrderGivesEqualBytes(t *testing.T) {
	c := testConfig()
	c.MaxDirty = 100
	s := mustOpen(t, t.TempDir(), c)
	ctx := context.Background()
	next := int64(0)
	more := func(n int64) { mustCommit(t, s, twoPartitions(next, n)); next += n }
	for i := range 10 {
		more(100)
		if i == 6 {
			if err := s.Erase(ctx, "u0-3"); err != nil {
				t.Fatal(err)
			}
		}
		list, err := s.Unread(i * 5)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 { // meanwhile the catalogue may change
			more(50)
		}
		if err := s.Join(ctx, readAll(list)); err != nil {
			t.Fatal(err)
		}
	}
	kinds := map[Kind]int{}
	for _, l := range journal(t, s) {
		kinds[l.Kind]++
	}
	if kinds[KindEvents] < 20 || kinds[KindContent] < 8 || kinds[KindErasure] != 1 {
		t.Errorf("lines: %v", kinds)
	}
	if got, want := digest(t, rerun(t, s)), digest(t, s); got != want {
		t.Errorf("the re-run has digest %s, want %s", got, want)
	}
}

// TestARecordChangesWhatItNames: over restarts and in a re-run of the journal, what a partial record leaves out stays, withdrawn items
// come back with their title, and content is read again only where the text changed.
func TestARecordChangesWhatItNames(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, testConfig())
	silent := corastream.Keep{Title: true, Withdrawn: true, Fields: true}
	alien := corastream.Item{ID: "i", Title: "Alien", Fields: map[string]string{"year": "1979", "price": "3"}, Content: []float32{1}}
	gone, back, cheaper, removed := corastream.Item{ID: "i", Withdrawn: true, Keep: corastream.Keep{Title: true, Fields: true}}, corastream.Item{ID: "i", Keep: corastream.Keep{Title: true, Fields: true}},
		corastream.Item{ID: "i", Fields: map[string]string{"price": "2"}, Keep: silent}, corastream.Item{ID: "i", Withdrawn: true, Removed: true}
	cleared := corastream.Item{ID: "i", Keep: corastream.Keep{Title: true, Withdrawn: true, Fields: true, Clear: []string{"price"}}}
	with := func(change func(*corastream.Item)) corastream.Item {
		it := alien
		it.Fields = map[string]string{"year": "1979", "price": "3"}
		change(&it)
		return it
	}
	for i, c := range []struct {
		record, want corastream.Item
		waits        bool
	}{
		{alien, alien, false},
		{gone, with(func(it *corastream.Item) { it.Withdrawn = true }), false},
		{back, alien, false},
		{cheaper, with(func(it *corastream.Item) { it.Fields["price"], it.Content = "2", nil }), true},
		{cleared, with(func(it *corastream.Item) { it.Content = nil; delete(it.Fields, "price") }), true},
		{removed, removed, false},
		{cheaper, removed, false},
		{back, corastream.Item{ID: "i"}, true},
	} {
		b := items(c.record)
		b.Items[0].Pos = corastream.Position{Topic: "items", Offset: int64(i)}
		b.Spans = []corastream.Span{{Partition: corastream.Partition{Topic: "items"}, From: int64(i), To: int64(i) + 1}}
		mustCommit(t, s, b)
		s.Close()
		s = mustOpen(t, dir, testConfig())
		if got := itemState(t, s, "i").Item; !reflect.DeepEqual(got, c.want) || (unread(t, s) != nil) != c.waits {
			t.Errorf("record %d: %+v, want %+v; %v wait to be read", i, got, c.want, unread(t, s))
		}
		before := raw(t, s)
		mustCommit(t, s, b) // delivered again
		if after := raw(t, s); !reflect.DeepEqual(before, after) {
			t.Errorf("record %d, delivered again, left %s", i, diff(before, after))
		}
		noProblems(t, s)
	}
}
