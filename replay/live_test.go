package replay_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/replay"
)

// follows is a Ranker that lists what was last taken after the item that the user took last, and then what was taken last of all.
// It is late by however late its steps come.
type follows struct {
	repeats bool
	next    map[string]string
	newest  []string
	learnt  int
}

func newFollows() *follows { return &follows{next: map[string]string{}} }

func (f *follows) Window() int              { return 4 }
func (f *follows) Describe(corastream.Item) {}
func (f *follows) Repeats() bool            { return f.repeats }

func (f *follows) Learn(st corastream.Step) {
	f.learnt++
	if len(st.Recent) > 0 {
		f.next[st.Recent[0].Item] = st.Item
	}
	f.newest = append(f.newest, st.Item)
}

func (f *follows) Rank(q corastream.Query) (out []corastream.Candidate) {
	add := func(id string) {
		if id != "" && !q.Skip(id) && len(out) < min(q.N, 2) {
			out = append(out, corastream.Candidate{Item: id})
		}
	}
	if len(q.Recent) > 0 {
		add(f.next[q.Recent[0].Item])
	}
	if len(f.newest) > 0 {
		add(f.newest[len(f.newest)-1])
	}
	return out
}

// watched streams events to a monitor and lets the live Ranker learn each one afterwards, as a store does.
func watched(t *testing.T, c replay.MonitorConfig, live, shadow *follows, events []corastream.Event) replay.Hits {
	t.Helper()
	bias, err := newModel(replay.Bias, 0)
	if err != nil {
		t.Fatal(err)
	}
	deps := replay.MonitorDeps{Bias: bias, Ranker: live}
	if shadow != nil {
		deps.NewRanker = func() (corastream.Ranker, error) { return shadow, nil }
	}
	m, err := replay.NewMonitor(c, deps)
	if err != nil {
		t.Fatal(err)
	}
	m.StartLists()
	s := corastream.NewMemory()
	for i, ev := range events {
		ev.Pos.Offset = int64(i)
		u, err := s.User(ev.User)
		if err != nil {
			t.Fatal(err)
		}
		m.Observe(ev, corastream.Pair{}, u)
		live.Learn(corastream.Step{Item: ev.Item, Positive: ev.Positive(), Time: ev.Time, Recent: u.Recent(4)})
		if err := s.Apply(bias, ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return m.Figures().Hits
}

// Users go through the same items one after another, a minute apart: who knows the user before knows what comes next, and who
// is an hour late does not. Of 40 items, 10 are popular.
func walk(users, items int, apart time.Duration) (out []corastream.Event) {
	at := time.Unix(1_700_000_000, 0)
	for u := range users {
		for i := range items {
			out = append(out, corastream.Event{User: fmt.Sprint("u", u), Item: fmt.Sprint("i", (i+u)%40), Label: 1, Weight: 1, Time: at})
			at = at.Add(apart)
		}
	}
	return out
}

func TestHitsShowWhatAnHourCosts(t *testing.T) {
	c := blocking()
	live, shadow := newFollows(), newFollows()
	events := walk(30, 20, time.Minute)
	h := watched(t, c, live, shadow, events)
	if h.Rows != 600 || h.WindowRows != 300 || h.Dropped+h.Passed+h.Early != 0 {
		t.Errorf("%+v", h)
	}
	if h.Mix < .85 || h.Late > .2 || !(h.Popularity > 0 && h.Popularity < 1) {
		t.Errorf("mix %v, late %v, popularity %v", h.Mix, h.Late, h.Popularity)
	}
	if live.learnt != 600 || shadow.learnt != 540 {
		t.Errorf("the shadow learnt %d of %d, want all but the last hour's", shadow.learnt, live.learnt)
	}
	if h := watched(t, c, newFollows(), nil, events); !math.IsNaN(float64(h.Late)) || h.Rows != 600 {
		t.Errorf("without a shadow: %+v", h)
	}
}

// An item that the user has had is judged only where repeats are listed; one that was only shown counts as new.
func TestHitsAreOfItemsThatMayBeListed(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	ev := func(item, kind string, label float32) corastream.Event {
		at = at.Add(time.Minute)
		return corastream.Event{User: "u", Item: item, Kind: kind, Label: label, Weight: 1, Time: at}
	}
	events := []corastream.Event{ev("a", "click", 1), ev("b", "impression", 0), ev("b", "click", 1), ev("a", "click", 1), ev("c", "dislike", 0)}
	for repeats, rows := range map[bool]int64{false: 2, true: 3} {
		live := newFollows()
		live.repeats = repeats
		if h := watched(t, blocking(), live, nil, events); h.Rows != rows {
			t.Errorf("repeats %v: %+v", repeats, h)
		}
	}
}

func TestJudgingListsIsBounded(t *testing.T) {
	c := blocking()
	c.Block, c.ListsPerS, c.LateEvents, c.Queue = false, 1, 10, 1<<12
	shadow := newFollows()
	h := watched(t, c, newFollows(), shadow, walk(30, 20, time.Second))
	if h.Rows != 1 || h.Rows+h.Passed != 600 || h.Early != 590 || shadow.learnt != 590 {
		t.Errorf("%+v, the shadow learnt %d", h, shadow.learnt)
	}
	c.ListsPerS = 0
	if h := watched(t, c, newFollows(), shadow, walk(2, 2, time.Second)); h.Rows != 0 || !math.IsNaN(float64(h.Mix)) {
		t.Errorf("judged %+v", h)
	}
}
