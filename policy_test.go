package corastream_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/corastream/corastream"
)

// stamp is a generator whose weights carry a number, and a scorer that scores by it.
type stamp struct {
	version uint64
	err     error
}

func (s stamp) Weights(_ context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	w := make([]corastream.Weights, len(pairs))
	for i := range w {
		w[i].UserVersion = s.version
	}
	return w, &corastream.Projection{Rank: 1}, s.err
}

func (stamp) Score(_ context.Context, prompts []corastream.Prompt, w []corastream.Weights, _ *corastream.Projection) (out []corastream.Logits, _ error) {
	for i, p := range prompts {
		up := float32(p.ItemID[0] - 'a')
		if w[i].UserVersion == 2 {
			up = -up
		}
		out = append(out, corastream.Logits{Yes: up})
	}
	return out, nil
}

// halves sends users of even length of name to the second arm.
type halves struct {
	second corastream.Generator
	told   *[]string
}

func (h halves) Arm(user string) corastream.Arm {
	if len(user)%2 == 0 {
		return corastream.Arm{Name: "canary", Generator: h.second, Versions: corastream.Versions{Generator: "two"}}
	}
	return corastream.Arm{Name: "active", Generator: stamp{version: 1}, Versions: corastream.Versions{Generator: "one"}}
}

func (h halves) Scored(arm string, pairs []corastream.Pair, _ []corastream.Prompt, logits []corastream.Logits) {
	*h.told = append(*h.told, fmt.Sprint(arm, len(pairs), len(logits)))
}

// A batch of several arms gives each user the answer of its own arm; an arm that fails degrades nobody else.
func TestEveryUserIsAnsweredByItsArm(t *testing.T) {
	owed := []corastream.Owed{{User: "a"}, {User: "bb"}, {User: "ccc"}, {User: "dd"}}
	for _, broken := range []bool{false, true} {
		var told []string
		second := stamp{version: 2}
		if broken {
			second.err = errors.New("torn")
		}
		p, _, _ := newPipeline()
		p.Scorer, p.Arms = stamp{}, halves{second, &told}
		p.Warn = func(string, error) {}
		recs, err := p.Recommend(t.Context(), owed)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range recs {
			first, arm, checkpoint, degraded := "d", "active", "one", ""
			if i%2 == 1 {
				if first, arm, checkpoint = "a", "canary", "two"; broken {
					checkpoint, degraded = "", "cf"
				}
			}
			if r.User != owed[i].User || r.Items[0].Item != first || r.Arm != arm || r.Versions.Generator != checkpoint || r.Degraded != degraded {
				t.Errorf("broken %v: %+v", broken, r)
			}
		}
		want := []string{"active8 8", "canary8 8"}
		if broken {
			want = want[:1]
		}
		if !slices.Equal(told, want) || p.Stats.Degraded.Load() != int64(2-len(want)) {
			t.Errorf("broken %v: told %q, %d degraded", broken, told, p.Stats.Degraded.Load())
		}
	}
}

// explored draws many answers of one policy: each has another request's id, so another draw.
func explored(t *testing.T, c corastream.ExploreConfig, n, draws int) []corastream.Recommendation {
	t.Helper()
	p, _, _ := newPipeline()
	p.Config.Explore = c
	p.Generator, p.Scorer = stamp{version: 1}, stamp{}
	out := make([]corastream.Recommendation, draws)
	for i := range out {
		recs, err := p.Recommend(t.Context(), []corastream.Owed{{User: "u", Request: &corastream.Request{ID: fmt.Sprint(i), User: "u", N: n}}})
		if err != nil {
			t.Fatal(err)
		}
		out[i] = recs[0]
	}
	return out
}

// The logged propensity is the true one: what is drawn comes as often as it says, given what stands above it; so the mean of 1/propensity
// over draws of an item in a place counts the draws.
func TestPropensitiesAreTrue(t *testing.T) {
	const draws = 20000
	for _, c := range []corastream.ExploreConfig{
		{Policy: "epsilon", Epsilon: .3, Temperature: 1},
		{Policy: "softmax", Epsilon: 0, Temperature: 2},
		{Policy: "softmax", Epsilon: .2, Temperature: .7, Seed: 9},
	} {
		seen := map[string]float64{}  // above + item -> draws
		above := map[string]float64{} // above -> draws
		said := map[string]float64{}  // above + item -> propensity
		inverse := [2]map[string]float64{{}, {}}
		for _, r := range explored(t, c, 2, draws) {
			if r.Policy == "" || len(r.Items) != 2 || len(r.Rest) != 2 || r.Items[0].Rank != 1 {
				t.Fatalf("%+v", r)
			}
			key := ""
			for place, it := range r.Items {
				above[key]++
				key += it.Item
				seen[key]++
				if p, ok := said[key]; ok && math.Abs(p-float64(it.Propensity)) > 1e-7 {
					t.Fatalf("%q has propensity %v, and %v", key, p, it.Propensity)
				}
				said[key] = float64(it.Propensity)
				inverse[place][it.Item] += 1 / float64(it.Propensity)
			}
		}
		for key, p := range said {
			n := above[key[:len(key)-1]]
			if d := math.Abs(seen[key]/n - p); d > 4.5*math.Sqrt(p*(1-p)/n)+1e-9 {
				t.Errorf("%+v: %q came in %.4f of %v, said %.4f", c, key, seen[key]/n, n, p)
			}
		}
		for _, item := range []string{"a", "b", "c", "d"} {
			if m := inverse[0][item] / draws; math.Abs(m-1) > .25 {
				t.Errorf("%+v: inverse propensities of %q in the first place sum to %.3f of the draws", c, item, m)
			}
		}
	}
}

func TestDrawsAreOffByDefaultAndRepeatable(t *testing.T) {
	for _, r := range explored(t, corastream.DefaultExplore(), 4, 3) {
		if r.Policy != "" || r.Items[0].Item != "d" || r.Items[0].Propensity != 1 || r.Rest != nil {
			t.Errorf("%+v", r)
		}
	}
	c := corastream.ExploreConfig{Policy: "softmax", Temperature: 5, Seed: 1}
	a, b := explored(t, c, 4, 50), explored(t, c, 4, 50)
	c.Seed = 2
	other, differ := explored(t, c, 4, 50), 0
	for i := range a {
		if !slices.Equal(a[i].Items, b[i].Items) {
			t.Fatalf("answer %s: %v, then %v", a[i].ID, a[i].Items, b[i].Items)
		}
		if !slices.Equal(a[i].Items, other[i].Items) {
			differ++
		}
	}
	if differ < 25 {
		t.Errorf("another seed changes %d of 50 answers", differ)
	}
	for _, bad := range []corastream.ExploreConfig{{Policy: "greedy", Temperature: 1}, {Policy: "epsilon", Epsilon: 1.1, Temperature: 1}, {Policy: "softmax"}, {Temperature: math.NaN()}} {
		if bad.Validate() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestFiltersDecideWhatMayBeRecommended(t *testing.T) {
	film := func(status string, fields map[string]string) *corastream.ItemState {
		return &corastream.ItemState{Item: corastream.Item{ID: "i", Fields: fields, Withdrawn: status == "withdrawn", Removed: status == "removed"}}
	}
	genre := func(v string) map[string]string { return map[string]string{"genre": v} }
	drama, horror := map[string][]string{"genre": {"Drama", "Film Noir"}}, map[string][]string{"genre": {"horror"}}
	for _, c := range []struct {
		f    corastream.Filter
		it   *corastream.ItemState
		pass bool
	}{
		{corastream.DefaultFilter(), film("", nil), true},
		{corastream.DefaultFilter(), film("withdrawn", nil), false},
		{corastream.DefaultFilter(), film("removed", nil), false},
		{corastream.Filter{Allow: drama, Separators: "|,"}, film("", genre("drama")), true},
		{corastream.Filter{Allow: drama, Separators: "|,"}, film("", genre("Comedy| Film Noir ")), true},
		{corastream.Filter{Allow: drama, Separators: "|,"}, film("", genre("Comedy")), false},
		{corastream.Filter{Allow: drama, Separators: "|,"}, film("", genre("Dramatic")), false},
		{corastream.Filter{Allow: drama, Separators: "|,"}, film("", nil), false},
		{corastream.Filter{Deny: horror, Separators: "|,"}, film("", nil), true},
		{corastream.Filter{Deny: horror, Separators: "|,"}, film("", genre("Drama,HORROR")), false},
		{corastream.Filter{Deny: horror, Separators: " "}, film("", genre("Drama Horror")), false},
		{corastream.Filter{Deny: horror, Separators: "|"}, film("", genre("Drama Horror")), true},
		{corastream.Filter{Allow: drama, Deny: horror, Separators: "|"}, film("", genre("Drama|Horror")), false},
	} {
		if c.f.Passes(c.it) != c.pass {
			t.Errorf("%+v: %+v passes %v", c.f, c.it.Fields, !c.pass)
		}
	}
	for _, bad := range []corastream.Filter{{Allow: map[string][]string{"genre": nil}}, {Deny: map[string][]string{"": {"x"}}}, {Deny: map[string][]string{"genre": {""}}}} {
		if bad.Validate() == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

// The configured filter and the request's both hold, for what retrieval finds and for candidates that a request names.
func TestFiltersHoldForRetrievedAndNamedCandidates(t *testing.T) {
	p, store, _ := newPipeline()
	for i, id := range []string{"a", "b", "c", "d"} {
		store.state.Put(corastream.Item{ID: id, Fields: map[string]string{"n": fmt.Sprint(i), "kind": []string{"even", "odd"}[i%2]}, Withdrawn: id == "c"})
	}
	p.Config.Filter.Deny = map[string][]string{"n": {"0"}}
	for _, c := range []struct {
		r    corastream.Request
		want string
	}{
		{corastream.Request{}, "bd"},
		{corastream.Request{Allow: map[string][]string{"kind": {"even"}}}, ""},
		{corastream.Request{Deny: map[string][]string{"n": {"3"}}}, "b"},
		{corastream.Request{Candidates: []string{"a", "b", "c", "d"}}, "bd"},
		{corastream.Request{Candidates: []string{"d", "b"}, Allow: map[string][]string{"n": {"3"}}}, "d"},
	} {
		recs, err := p.Recommend(t.Context(), []corastream.Owed{{User: "u", Request: &c.r}})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, it := range recs[0].Items {
			got += it.Item
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.r, got, c.want)
		}
	}
}

// crowd is a shelf that knows what is popular.
type crowd struct{ shelf }

func (c crowd) Candidates(q corastream.Query) ([]corastream.Candidate, error) {
	if len(q.Recent) == 0 {
		return shelf{"c", "a", "d", "b"}.first(q, corastream.SourcePopular), nil
	}
	return c.shelf.Candidates(q)
}

func TestStrangersGetWhatIsPopularWhereNothingElseIsKnown(t *testing.T) {
	p, _, _ := newPipeline(events(click(1, "known", "a")))
	p.Retriever = crowd{shelf{"a", "b", "c", "d"}}
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]string{"stranger": "cadb", "known": "bcd"} {
		recs, err := p.Recommend(t.Context(), []corastream.Owed{{User: user}})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, it := range recs[0].Items {
			got += it.Item
		}
		if got != want || (recs[0].Fallback == "popular") != (user == "stranger") || recs[0].Cold != (user == "stranger") {
			t.Errorf("%s: %q %+v", user, got, recs[0])
		}
	}
}
