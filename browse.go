package corastream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Browser is what a Ranker may be besides: it lists items whoever asks, best first. A window of 0 is the list's own.
type Browser interface {
	Popular(now time.Time, window time.Duration, n int, skip func(item string) bool) []Candidate
	Trending(now time.Time, window time.Duration, n int, skip func(item string) bool) []Candidate
	Latest(now time.Time, window time.Duration, n int, skip func(item string) bool) []Candidate
}

// Relater is what a Ranker may be besides: it lists the items that go with one, best first.
type Relater interface {
	Related(item string, n int, skip func(item string) bool) []Candidate
}

// The sources of a list: ListConfig.Sources and Browse.List.
const (
	ListPersonal = "personal" // what the user takes next
	ListPopular  = "popular"  // most liked
	ListTrending = "trending" // liked more than before
	ListLatest   = "latest"   // come last
	ListSimilar  = "similar"  // what goes with an item, or with the last items of a history
)

// MaxWindow bounds Browse.Window and ListConfig.Window.
const MaxWindow = 10 * 365 * 24 * time.Hour

// Browse asks for a list that is the same for everybody.
type Browse struct {
	List        string // one of the constants but ListPersonal
	Item        string // of ListSimilar
	Window      time.Duration
	N           int
	Allow, Deny map[string][]string // as Request's
}

// Listed is an item of such a list.
type Listed struct {
	Item  string
	Title string
	Score float32 // compares within one list alone
	Why   Why
}

// ErrNoLists says that no list model runs that can be browsed.
var ErrNoLists = errors.New("no list model runs that can be browsed")

// Browse lists items whoever asks: those that the filters, the configured and the asked ones, let through.
func (p *Pipeline) Browse(ctx context.Context, b Browse) (out []Listed, err error) {
	p.init()
	err = p.Store.View(ctx, func(s State) error {
		var failed error
		barred := p.barred(s, false, &failed, p.Config.Filter, Filter{Allow: b.Allow, Deny: b.Deny})
		q := Query{Now: p.Clock.now(p.Now()), N: b.N, Skip: barred}
		if b.List == ListSimilar {
			q.Recent = []Interaction{{Item: b.Item, Label: 1}}
		}
		found, ok := p.source(q, b.List, b.Window)
		if !ok {
			return ErrNoLists
		}
		if failed != nil {
			return failed
		}
		out = make([]Listed, len(found))
		sl := slate{listed: found}
		if err := sl.explain(s); err != nil {
			return err
		}
		for i, c := range found {
			it, err := s.Item(c.Item)
			if err != nil {
				return err
			}
			out[i] = Listed{Item: c.Item, Title: it.Title, Score: number(c.Score), Why: sl.reasons[i]}
		}
		return nil
	})
	return out, err
}

// source gives the candidates of one source; false when the Ranker has no such list.
func (p *Pipeline) source(q Query, source string, window time.Duration) ([]Candidate, bool) {
	browser, _ := p.Ranker.(Browser)
	relater, _ := p.Ranker.(Relater)
	switch {
	case source == ListPersonal && p.Ranker != nil:
		return p.Ranker.Rank(q), true
	case source == ListSimilar && relater != nil:
		return related(relater, q), true
	case browser == nil:
		return nil, false
	case source == ListPopular:
		return browser.Popular(q.Now, window, q.N, q.Skip), true
	case source == ListTrending:
		return browser.Trending(q.Now, window, q.N, q.Skip), true
	case source == ListLatest:
		return browser.Latest(q.Now, window, q.N, q.Skip), true
	}
	return nil, false
}

// relatedTo is how many items of a history ListSimilar starts from.
const relatedTo = 10

// related lists what goes with the last items of q.Recent: the sum over them of what each says of a candidate. From is the one
// that says most. None of the items is listed itself.
func related(r Relater, q Query) []Candidate {
	var seeds []string
	for _, h := range q.Recent {
		if h.Label >= 0.5 && len(seeds) < relatedTo && !slices.Contains(seeds, h.Item) {
			seeds = append(seeds, h.Item)
		}
	}
	skip := func(id string) bool { return slices.Contains(seeds, id) || q.Skip != nil && q.Skip(id) }
	if len(seeds) == 1 {
		return r.Related(seeds[0], q.N, skip)
	}
	at := map[string]int{}
	var out []Candidate
	var most []float32
	for _, seed := range seeds {
		for _, c := range r.Related(seed, q.N, skip) {
			i, ok := at[c.Item]
			if !ok {
				at[c.Item] = len(out)
				out, most = append(out, c), append(most, c.Score)
				continue
			}
			if out[i].Score += c.Score; c.Score > most[i] {
				most[i], out[i].Source, out[i].From = c.Score, c.Source, c.From
			}
		}
	}
	slices.SortStableFunc(out, func(a, b Candidate) int { return cmp.Compare(b.Score, a.Score) })
	return out[:min(q.N, len(out))]
}

// barred says which items a list may not hold: what one of the filters leaves out, and, unless the request names its candidates,
// what the catalogue does not offer.
func (p *Pipeline) barred(s State, named bool, failed *error, filters ...Filter) func(id string) bool {
	free := p.Ranker == nil // the retriever leaves out withdrawn items itself
	for i := range filters {
		filters[i].Separators = p.Config.Filter.Separators
		free = free && filters[i].Empty()
	}
	return func(id string) bool {
		if free {
			return false
		}
		it, err := s.Item(id)
		if err != nil {
			*failed = err
			return true
		}
		for _, f := range filters {
			if !f.Passes(it) {
				return true
			}
		}
		if p.stale(it) {
			return true
		}
		return !named && p.Offered != nil && !p.Offered(it)
	}
}

// gather fills a list from its sources in their order: each one gives what those before it left open.
func (p *Pipeline) gather(q Query, l ListConfig, asked []Interaction) ([]Candidate, error) {
	if len(l.Sources) == 0 {
		return p.Ranker.Rank(q), nil
	}
	var out []Candidate
	had := map[string]bool{}
	for _, name := range l.Sources {
		if len(out) >= q.N {
			break
		}
		one := q
		one.N = q.N - len(out)
		one.Skip = func(id string) bool { return had[id] || q.Skip != nil && q.Skip(id) }
		if name == ListSimilar && len(asked) > 0 { // what lies in the cart, rather than what was taken last month
			one.Recent = q.Recent[:min(len(asked), len(q.Recent))]
		}
		found, ok := p.source(one, name, l.Window)
		if !ok {
			return nil, fmt.Errorf("source %q: %w", name, ErrNoLists)
		}
		for _, c := range found {
			had[c.Item] = true
			out = append(out, c)
		}
	}
	if len(l.Sources) > 1 || l.Sources[0] != ListPersonal {
		for i := range out { // the sources' own scores do not compare
			out[i].Score = zipf(i)
		}
	}
	return out, nil
}
