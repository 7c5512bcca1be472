package corastream_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// after is a Ranker that lists a, b, c, d, e behind the item that was taken last, round and round: z scores by place.
type after struct {
	window  int
	repeats bool
	asked   *[]corastream.Query
}

func (r after) Window() int            { return max(r.window, 3) }
func (after) Describe(corastream.Item) {}
func (after) Learn(corastream.Step)    {}
func (r after) Repeats() bool          { return r.repeats }

func (r after) Rank(q corastream.Query) (out []corastream.Candidate) {
	if r.asked != nil {
		*r.asked = append(*r.asked, q)
	}
	const shelf = "abcde"
	from, last := 0, ""
	if len(q.Recent) > 0 {
		last = q.Recent[0].Item
		from = strings.Index(shelf, last) + 1
	}
	for i := range shelf {
		id := string(shelf[(from+i)%len(shelf)])
		if len(out) < q.N && !q.Skip(id) {
			c := corastream.Candidate{Item: id, Score: 10 - float32(i), Source: corastream.SourceCoVisit, From: last}
			if last == "" {
				c.Source = corastream.SourcePopular
			}
			out = append(out, c)
		}
	}
	return out
}

func itemsOf(r corastream.Recommendation) (ids string) {
	for _, it := range r.Items {
		ids += it.Item
	}
	return ids
}

func recommendTo(t *testing.T, p *corastream.Pipeline, user string, r corastream.Request) corastream.Recommendation {
	t.Helper()
	r.User = user
	recs, err := p.Recommend(t.Context(), []corastream.Owed{{User: user, Request: &r}})
	if err != nil {
		t.Fatal(err)
	}
	return recs[0]
}

// The LLM likes the later letters best, and its probabilities are told; but the list is the Ranker's.
func TestTheRankersOrderIsServedAndTheProbabilityOfALikeIsTold(t *testing.T) {
	p, store, _ := newPipeline(events(click(1, "u", "b")))
	p.Ranker, p.Generator, p.Scorer = after{}, stamp{version: 1}, stamp{}
	store.state.Put(corastream.Item{ID: "b", Title: "Brazil"})
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := recommendTo(t, p, "u", corastream.Request{N: 3})
	if itemsOf(r) != "cde" || r.Degraded != "" || r.Candidates != 4 {
		t.Fatalf("%+v", r)
	}
	for i, it := range r.Items {
		want := corastream.Why{Source: "co-visit", Item: "b", Title: "Brazil", Text: "because of Brazil"}
		if it.Rank != i+1 || it.ListScore != 10-float32(i) || it.Why != want || it.Propensity != 1 {
			t.Errorf("%+v", it)
		}
	}
	if r.Items[0].Score >= r.Items[2].Score {
		t.Errorf("scores of %q are not the LLM's: %+v", itemsOf(r), r.Items)
	}
	if r = recommendTo(t, p, "stranger", corastream.Request{N: 2}); itemsOf(r) != "ab" || !r.Cold || r.Items[0].Why.Text != "popular" {
		t.Errorf("%+v", r)
	}
}

// Named candidates come in the Ranker's order, and those it does not know behind them by the probability of a like.
func TestNamedCandidatesAreRankedByTheRankerThenByProbability(t *testing.T) {
	p, _, _ := newPipeline(events(click(1, "u", "c")))
	p.Ranker, p.Generator, p.Scorer = after{}, stamp{version: 1}, stamp{}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := recommendTo(t, p, "u", corastream.Request{Candidates: []string{"g", "b", "c", "h", "e"}})
	if got := itemsOf(r); got != "ebchg" {
		t.Errorf("%q", got)
	}
	if r.Items[3].ListScore != 0 || r.Items[3].Why != (corastream.Why{}) {
		t.Errorf("nobody listed %+v", r.Items[3])
	}
}

func TestAVisitorsHistoryIsServedAndNotStored(t *testing.T) {
	p, store, _ := newPipeline(events(click(1, "u", "a")))
	p.Ranker = after{}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ user, history, want string }{
		{"", "c", "deab"}, {"stranger", "ca", "bde"}, {"u", "", "bcde"}, {"u", "d", "ebc"},
	} {
		var r corastream.Request
		for _, id := range c.history {
			r.History = append(r.History, corastream.Interaction{Item: string(id), Label: 1})
		}
		got := recommendTo(t, p, c.user, r)
		if itemsOf(got) != c.want || got.Cold {
			t.Errorf("%q with %q: %q, cold %v", c.user, c.history, itemsOf(got), got.Cold)
		}
	}
	u, err := store.state.User("u")
	if err != nil || len(u.History) != 1 {
		t.Errorf("%+v: %v", u.History, err)
	}
}

// What was shown and not clicked may be listed again, what was taken may not, unless repeats are listed.
func TestSeenSaysWhichItemsOfTheHistoryAreListed(t *testing.T) {
	history := []corastream.Interaction{{Item: "b", Label: 0}, {Item: "c", Shown: true}, {Item: "d", Shown: true}, {Item: "d", Label: 1}, {Item: "a", Shown: true}}
	for _, c := range []struct {
		configured, asked string
		repeats           bool
		want              string
		again             bool
	}{
		{"auto", "", false, "cea", true},
		{"auto", "", true, "bcdea", true},
		{"exclude", "", true, "e", false},
		{"include", "exclude", false, "e", false},
		{"exclude", "include", false, "bcdea", true},
		{"exclude", "clicked", true, "cea", true},
		{"exclude", "auto", false, "cea", true},
	} {
		var asked []corastream.Query
		p, _, _ := newPipeline()
		p.Ranker, p.Config.Seen = after{repeats: c.repeats, asked: &asked}, c.configured
		got := recommendTo(t, p, "", corastream.Request{History: history, Seen: c.asked})
		if itemsOf(got) != c.want || asked[0].Repeats != c.again || !asked[0].Reasons || len(asked[0].Recent) != 3 {
			t.Errorf("%+v: %q, %+v", c, itemsOf(got), asked[0])
		}
	}
	if corastream.CheckSeen("seen", "never") == nil {
		t.Error(`seen "never" was taken`)
	}
}

// A policy draws by the list's scores, in which the items lie a unit apart.
func TestDrawsFollowTheListsScores(t *testing.T) {
	p, _, _ := newPipeline()
	p.Ranker, p.Generator, p.Scorer = after{}, stamp{version: 1}, stamp{}
	p.Config.Explore = corastream.ExploreConfig{Policy: "softmax", Temperature: 1}
	first := map[string]int{}
	for i := range 4000 {
		r := recommendTo(t, p, "u", corastream.Request{ID: strings.Repeat("x", i%50) + string(rune('a'+i/50)), N: 1})
		if first[r.Items[0].Item]++; len(r.Rest) != 4 {
			t.Fatalf("%+v", r)
		}
	}
	if r := float64(first["a"]) / float64(first["b"]); r < 2.3 || r > 3.2 {
		t.Errorf("a came %.2f times as often as b, want e: %v", r, first)
	}
}

// The list goes out while the LLM has yet to read the catalogue; its score joins once that is done.
func TestListsDoNotWaitForTheReading(t *testing.T) {
	p, store, _ := newPipeline()
	p.Ranker, p.Generator, p.Scorer = after{}, stamp{version: 1}, stamp{}
	p.Encoder = unreader{}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		store.state.Put(corastream.Item{ID: id, Title: id})
	}
	p.Versions.LLM = "llm"
	r := recommendTo(t, p, "u", corastream.Request{N: 2})
	if itemsOf(r) != "ab" || r.Degraded != "" || r.Versions.LLM != "" || r.Items[0].Score != r.Items[0].CF {
		t.Errorf("%+v", r)
	}
	for _, id := range []string{"a", "b"} {
		store.state.Put(corastream.Item{ID: id, Title: id, Content: []float32{1}})
	}
	if r = recommendTo(t, p, "u", corastream.Request{N: 2}); r.Versions.LLM != "llm" || p.Stats.Degraded.Load() != 0 {
		t.Errorf("%+v", r)
	}
	p.Generator = stamp{err: errBroken}
	if r = recommendTo(t, p, "u", corastream.Request{N: 2}); r.Degraded != "cf" || itemsOf(r) != "ab" {
		t.Errorf("a failed LLM: %+v", r)
	}
}

// A log of long ago is served by its own clock, which goes on from the newest event with the wall's.
func TestListsAreAskedForAtTheLogsTime(t *testing.T) {
	var asked []corastream.Query
	wall := time.Unix(2_000_000_000, 0)
	ev := click(1, "u", "a")
	ev.Time, ev.Appended = time.Unix(900_000_000, 0), wall
	p, _, _ := newPipeline(events(ev))
	p.Ranker, p.Now = after{asked: &asked}, func() time.Time { return wall }
	visitor := corastream.Request{History: []corastream.Interaction{{Item: "b", Label: 1, Time: wall}}}
	recommendTo(t, p, "", visitor)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	wall = wall.Add(time.Minute)
	recommendTo(t, p, "", visitor)
	last := asked[len(asked)-1]
	if want := ev.Time.Add(time.Minute); !asked[0].Now.Equal(time.Unix(2_000_000_000, 0)) || !last.Now.Equal(want) || !last.Recent[0].Time.Equal(want) {
		t.Errorf("asked first at %v, last at %v with %+v", asked[0].Now, last.Now, last.Recent)
	}
	behind, known := p.Clock.Behind()
	again, _, _ := newPipeline()
	again.Ranker, again.Now = p.Ranker, p.Now
	again.Clock.Restore(behind)
	recommendTo(t, again, "", visitor)
	if last := asked[len(asked)-1]; !known || !last.Now.Equal(ev.Time.Add(time.Minute)) {
		t.Errorf("another process asks at %v", last.Now)
	}
}

func TestEverySourceHasWords(t *testing.T) {
	p, store, _ := newPipeline()
	store.state.Put(corastream.Item{ID: "f", Title: "Fargo"})
	var list fixed
	want := map[string]string{
		"co-visit": "because of Fargo", "session": "goes with Fargo, which you just looked at", "popular": "popular",
		"trending": "popular right now", "similar": "like Fargo", "taste": "others with your taste took it",
		"again": "you had it before", "new": "new here", "linear": "goes with Fargo", "quality": "well liked", "other": "other",
	}
	for source := range want {
		list = append(list, corastream.Candidate{Item: source, Source: source, From: "f"})
	}
	list = append(list, corastream.Candidate{Item: "untitled", Source: "similar", From: "item 7"}, corastream.Candidate{Item: "none", Source: "co-visit"})
	want["untitled"], want["none"] = "like item 7", "because of what you took"
	p.Ranker = list
	for _, it := range recommendTo(t, p, "u", corastream.Request{N: 20}).Items {
		if it.Why.Text != want[it.Item] {
			t.Errorf("%s: %+v", it.Item, it.Why)
		}
	}
}

var errBroken = errors.New("broken")

// unreader is an Encoder that is never asked here.
type unreader struct{}

func (unreader) Encode(context.Context, []corastream.Item) ([]corastream.States, error) {
	return nil, errBroken
}

// fixed is a Ranker with one list.
type fixed []corastream.Candidate

func (fixed) Window() int                                    { return 1 }
func (fixed) Describe(corastream.Item)                       {}
func (fixed) Learn(corastream.Step)                          {}
func (f fixed) Rank(corastream.Query) []corastream.Candidate { return slices.Clone(f) }
