package corastream

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// ListConfig is one list of a page: where its items come from, which may be in it, and how they differ.
type ListConfig struct {
	// Sources fill the list in their order: personal, popular, trending, latest, similar. Default none, which is [personal].
	Sources []string `yaml:"sources"`
	// Items of the list where a request does not say n; 0: as pipeline.items. Default 0, range 0..pipeline.candidates.
	Items int `yaml:"items"`
	// Window is the time that popular, trending and latest look at; 0: all time, a day and all time. Default 0.
	Window time.Duration `yaml:"window"`
	// Allow and Deny are as those of `filters`, which hold besides.
	Allow map[string][]string `yaml:"allow"`
	Deny  map[string][]string `yaml:"deny"`
	// Seen is as pipeline.seen; "": the same. Default "".
	Seen string `yaml:"seen"`

	Variety `yaml:",inline"`
}

// Variety says how the items of a list differ. The zero Variety leaves a list as it is.
type Variety struct {
	// Cap is how many items of one value a list may have, by field: {brand: 3}. An item with several values counts for each. The
	// list is shorter rather than over it. Default none.
	Cap map[string]int `yaml:"cap"`
	// Diversity weighs how unlike an item is to those above it against its rank: maximal marginal relevance on the CF vectors.
	// Default 0, range 0..1.
	Diversity float64 `yaml:"diversity"`
	// ShownDecay multiplies the odds of an item for each time that it was shown to the user and not taken since. Default 1, range 0.01..1.
	ShownDecay float64 `yaml:"shown_decay"`
}

// RecommendConfig is what lists hold beside their ranking.
type RecommendConfig struct {
	// Lists are lists by name, as {cart: {sources: [similar, popular], items: 4, cap: {brand: 2}}}. A request names one with `list`.
	// Each has sources, items, window, allow, deny, seen, cap, diversity and shown_decay. Default none.
	Lists map[string]ListConfig `yaml:"lists"`

	Variety `yaml:",inline"` // of requests that name no list
}

// DefaultRecommend returns the defaults above.
func DefaultRecommend() RecommendConfig { return RecommendConfig{Variety: Variety{ShownDecay: 1}} }

// MaxLists bounds RecommendConfig.Lists.
const MaxLists = 100

// Validate reports all problems at once.
func (c RecommendConfig) Validate() error {
	errs := []error{c.Variety.validate("")}
	if len(c.Lists) > MaxLists {
		errs = append(errs, Usagef("lists", fmt.Sprintf("name at most %d", MaxLists), "%d lists", len(c.Lists)))
	}
	for name, l := range c.Lists {
		at := "lists." + name + "."
		if name == "" || len(name) > 64 {
			errs = append(errs, Usagef("lists", "name each list with 1 to 64 bytes", "a name of %d bytes", len(name)))
		}
		for _, s := range l.Sources {
			if !slices.Contains([]string{ListPersonal, ListPopular, ListTrending, ListLatest, ListSimilar}, s) {
				errs = append(errs, Usagef(at+"sources", "choose from personal, popular, trending, latest and similar", "%q is unknown", s))
			}
		}
		if l.Window < 0 || l.Window > MaxWindow {
			errs = append(errs, Usagef(at+"window", "choose up to ten years", "%s is out of range", l.Window))
		}
		errs = append(errs, inRange(at+"items", l.Items, 0, 500), CheckSeen(at+"seen", l.Seen), l.Variety.validate(at))
		var bad *UsageError
		if err := (Filter{Allow: l.Allow, Deny: l.Deny}).Validate(); errors.As(err, &bad) {
			errs = append(errs, Usagef(at+bad.Where, bad.Fix, "%s", bad.What))
		}
	}
	return errors.Join(errs...)
}

func (v Variety) validate(at string) error {
	var errs []error
	for field, n := range v.Cap {
		if field == "" || n < 1 {
			errs = append(errs, Usagef(at+"cap."+field, "name a field and 1 or more", "%d items of one value", n))
		}
	}
	if !(v.Diversity >= 0 && v.Diversity <= 1) {
		errs = append(errs, Usagef(at+"diversity", "choose from 0 to 1", "%v is out of range", v.Diversity))
	}
	if v.ShownDecay != 0 && !(v.ShownDecay >= .01 && v.ShownDecay <= 1) {
		errs = append(errs, Usagef(at+"shown_decay", "choose from 0.01 to 1", "%v is out of range", v.ShownDecay))
	}
	return errors.Join(errs...)
}

// list is the list that a request asks for.
func (p *Pipeline) list(r *Request) (ListConfig, error) {
	if r.List == "" {
		return ListConfig{Variety: p.Config.Recommend.Variety}, nil
	}
	l, ok := p.Config.Recommend.Lists[r.List]
	if !ok {
		return l, Usagef("list", "name one of the configuration's recommend.lists, or leave list out", "there is no list %q", r.List)
	}
	if p.Ranker == nil {
		return l, Usagef("list", "leave list out: no list model runs here", "lists by name need one")
	}
	return l, nil
}

func (v Variety) decays() bool  { return v.ShownDecay > 0 && v.ShownDecay < 1 }
func (v Variety) chooses() bool { return len(v.Cap) > 0 || v.Diversity > 0 }

// varietyPool is how many candidates a list is chosen from for each of its items, and varietyLeast how many at least.
const (
	varietyPool  = 4
	varietyLeast = 50
)

// pool is how many candidates are wanted to choose n items from.
func (v Variety) pool(n int) int {
	if !v.chooses() && !v.decays() {
		return n
	}
	return max(n, min(varietyPool*n+varietyLeast, 1000))
}

// zipf is the score of the item in place i, from 0, of a list whose sources' scores do not compare: ln of its odds to be taken,
// which fall as 1/rank.
func zipf(i int) float32 { return -float32(math.Log(float64(i + 2))) }

// fade lowers what was shown and not taken since, by the user's history, oldest first.
func (v Variety) fade(listed []Candidate, history []Interaction) {
	if !v.decays() {
		return
	}
	shown := map[string]int{}
	for _, h := range history {
		if h.Shown {
			shown[h.Item]++
		} else {
			delete(shown, h.Item)
		}
	}
	step := float32(math.Log(v.ShownDecay))
	for i := range listed {
		listed[i].Score += step * float32(shown[listed[i].Item])
	}
	slices.SortStableFunc(listed, func(a, b Candidate) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return 0
	})
}

// choose reorders a list, best first, so that each run of n items is within the caps and as diverse as asked. It leaves out what no
// run has room for.
func (v Variety) choose(listed []Candidate, n int, separators string, item func(id string) (*ItemState, error), vector func(*ItemState) ([]float32, error)) ([]Candidate, error) {
	if !v.chooses() || len(listed) == 0 || n <= 0 {
		return listed, nil
	}
	type option struct {
		Candidate
		relevance float64
		values    []string
		vec       []float32
		near      float64 // the highest cosine with what this run has
	}
	left := make([]option, len(listed))
	top, low := listed[0].Score, listed[len(listed)-1].Score
	for i, c := range listed {
		it, err := item(c.Item)
		if err != nil {
			return nil, err
		}
		o := option{Candidate: c, relevance: 1}
		if top > low {
			o.relevance = float64((c.Score - low) / (top - low))
		}
		for field := range v.Cap {
			for _, value := range strings.FieldsFunc(it.Fields[field], func(r rune) bool { return strings.ContainsRune(separators, r) }) {
				o.values = append(o.values, field+"\x00"+strings.ToLower(strings.TrimSpace(value)))
			}
		}
		if v.Diversity > 0 {
			if o.vec, err = vector(it); err != nil {
				return nil, err
			}
		}
		left[i] = o
	}
	out := make([]Candidate, 0, len(listed))
	for len(left) > 0 {
		taken := map[string]int{}
		for i := range left {
			left[i].near = 0
		}
		began := len(out)
		for len(out)-began < n {
			best, most := -1, math.Inf(-1)
			for i, o := range left {
				if slices.ContainsFunc(o.values, func(x string) bool {
					field, _, _ := strings.Cut(x, "\x00")
					return taken[x] >= v.Cap[field]
				}) {
					continue
				}
				if worth := (1-v.Diversity)*o.relevance - v.Diversity*o.near; worth > most {
					best, most = i, worth
				}
				if v.Diversity == 0 {
					break
				}
			}
			if best < 0 {
				break
			}
			o := left[best]
			left = slices.Delete(left, best, best+1)
			for _, x := range o.values {
				taken[x]++
			}
			for i := range left {
				left[i].near = max(left[i].near, cosine(o.vec, left[i].vec))
			}
			out = append(out, o.Candidate)
		}
		if len(out)-began < n {
			break
		}
	}
	return out, nil
}

// cosine of two vectors over their common coordinates; 0 when one of them is zero.
func cosine(a, b []float32) float64 {
	var ab, aa, bb float64
	for i := range min(len(a), len(b)) {
		x, y := float64(a[i]), float64(b[i])
		ab, aa, bb = ab+x*y, aa+x*x, bb+y*y
	}
	if aa == 0 || bb == 0 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}
