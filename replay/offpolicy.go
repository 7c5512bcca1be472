package replay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"time"

	"github.com/corastream/corastream"
)

// List is a logged recommendation that was drawn by a stochastic policy: the items in their places, each with the probability
// that the policy put it there given those above it, and the candidates that were not drawn.
type List struct {
	User       string
	Made       time.Time
	Items      []string
	Propensity []float64
	Rest       []string
}

// OffPolicy is what each model would have earned on logged lists, had it ranked them.
type OffPolicy struct {
	Lists    int    `json:"lists"`
	Explored int    `json:"explored"` // lists in which some place was drawn, not certain
	Clicks   int    `json:"likes"`    // of a listed item by its user, within Window
	Window   string `json:"window"`
	// Logged is what the log's own policy earned: likes per list.
	Logged   Number   `json:"logged"`
	Policies []Policy `json:"policies"`
}

// Policy is one model's estimate: likes per list, with intervals over draws of users. Two estimators, each with the number of
// places whose weight carries it (Kong's effective sample size): Whole weighs a place by the whole list down to it (exact where a
// like depends on the items above it alone; McInerney et al., 2020), First looks at first places alone.
type Policy struct {
	Model string `json:"model"`
	IPS   Number `json:"ips"`
	IPSCI Range  `json:"ips_ci"`
	SNIPS Number `json:"snips"`
	// SNIPSCI is the self-normalised estimate's interval.
	SNIPSCI Range    `json:"snips_ci"`
	ESS     float64  `json:"effective_places"`
	Thin    bool     `json:"too_few"` // fewer than thinPlaces
	First   Estimate `json:"first_place"`
}

// Estimate is the value of the first place: the chance that it is liked.
type Estimate struct {
	IPS     Number  `json:"ips"`
	SNIPS   Number  `json:"snips"`
	SNIPSCI Range   `json:"snips_ci"`
	ESS     float64 `json:"effective_lists"`
	Thin    bool    `json:"too_few"`
}

// thinPlaces is the effective sample below which an estimate is marked.
const thinPlaces = 50

// logged is the JSON of the recommendations topic, as `consume` prints it.
type logged struct {
	User  string `json:"user_id"`
	Items []struct {
		ID         string   `json:"item_id"`
		Propensity *float64 `json:"propensity"`
	} `json:"items"`
	Rest   []string  `json:"rest"`
	Policy string    `json:"policy"`
	Made   time.Time `json:"generated_at"`
}

// DecodeList reads a recommendation's JSON. ok is false where its policy was deterministic: such a list tells nothing of others.
func DecodeList(value []byte) (l List, ok bool, err error) {
	var in logged
	if err := json.Unmarshal(value, &in); err != nil {
		return l, false, err
	}
	if in.Policy == "" || len(in.Items) == 0 {
		return l, false, nil
	}
	l = List{User: in.User, Made: in.Made, Rest: in.Rest}
	for _, it := range in.Items {
		if it.Propensity == nil || !(*it.Propensity > 0 && *it.Propensity <= 1) {
			return l, false, fmt.Errorf("item %q has no propensity above 0, up to 1", it.ID)
		}
		l.Items, l.Propensity = append(l.Items, it.ID), append(l.Propensity, *it.Propensity)
	}
	return l, true, nil
}

// ReadLists reads recommendations from JSON lines, in time order; lists of a deterministic policy are counted and left out.
func ReadLists(path string) (lists []List, plain int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, corastream.Usagef(path, "check the path", "%v", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		l, ok, err := DecodeList(lines.Bytes())
		if err != nil {
			return nil, plain, corastream.Usagef(fmt.Sprintf("%s:%d", path, n), "give what `corastream consume` prints", "%v", err)
		}
		if !ok {
			plain++
			continue
		}
		lists = append(lists, l)
	}
	if err := lines.Err(); err != nil {
		return nil, plain, corastream.Usagef(path, "one recommendation a line, at most 16 MiB", "%v", err)
	}
	return lists, plain, nil
}

// checkLists refuses a log from which nothing can be estimated.
func (d Data) checkLists() error {
	if d.Plain > 0 && len(d.Lists) == 0 {
		return corastream.Usagef("", "set explore: {policy: epsilon} in the configuration of `up`, and collect lists with true propensities first",
			"all %d lists of the log were made with exploration off: what another policy would have earned can not be told from them", d.Plain)
	}
	return nil
}

// offPolicy walks the log once for each model and has it rank every list's candidates with what was known then.
func (e *evaluation) offPolicy(ctx context.Context) (*OffPolicy, error) {
	if err := e.data.checkLists(); err != nil || len(e.data.Lists) == 0 {
		return nil, err
	}
	lists := slices.Clone(e.data.Lists)
	slices.SortStableFunc(lists, func(a, b List) int { return a.Made.Compare(b.Made) })
	window := e.Window
	liked, clicks := e.liked(lists, window)
	out := &OffPolicy{Lists: len(lists), Clicks: clicks, Window: window.String(), Logged: Number(float64(clicks) / float64(len(lists)))}
	for _, l := range lists {
		if slices.ContainsFunc(l.Propensity, func(p float64) bool { return p < 1 }) {
			out.Explored++
		}
	}
	for _, m := range e.Models {
		if !isLearner(m) && !slices.Contains(counters, m) && m != Cora && m != LLM {
			continue // reader, stack and the ablations rank nothing
		}
		ranked, err := e.rankLists(ctx, m, lists)
		if err != nil {
			return nil, fmt.Errorf("off-policy value of %s: %w", m, err)
		}
		out.Policies = append(out.Policies, e.value(m, lists, liked, ranked))
	}
	return out, nil
}

// liked says for each list and place whether its user liked that item within the window after the list was made.
func (e *evaluation) liked(lists []List, window time.Duration) (liked [][]bool, clicks int) {
	type key struct{ user, item string }
	likes := map[key][]time.Time{}
	for _, events := range [][]corastream.Event{e.data.Train, e.data.Valid, e.data.Test} {
		for _, ev := range events {
			if ev.Positive() {
				likes[key{ev.User, ev.Item}] = append(likes[key{ev.User, ev.Item}], ev.Time)
			}
		}
	}
	for _, l := range lists {
		row := make([]bool, len(l.Items))
		for k, item := range l.Items {
			for _, at := range likes[key{l.User, item}] {
				if at.After(l.Made) && !at.After(l.Made.Add(window)) {
					row[k] = true
				}
			}
			if row[k] {
				clicks++
			}
		}
		liked = append(liked, row)
	}
	return liked, clicks
}

// rankLists has a model order each list's candidates, best first, with what was known when the list was made.
func (e *evaluation) rankLists(ctx context.Context, model string, lists []List) ([][]string, error) {
	name := model
	if model == Cora || model == LLM {
		name = CF
	}
	k, err := e.contender(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	all := inOrder(slices.Concat(e.data.Train, e.data.Valid, e.data.Test))
	// In mode static, labels after train reach histories alone, as in a replay of rows.
	first := sort.Search(len(all), func(i int) bool { return !all[i].Time.Before(lists[0].Made) })
	if e.Mode == Static {
		first = min(first, len(e.data.Train))
	}
	if err := k.fit(ctx, all[:first]); err != nil {
		return nil, err
	}
	tell := k.remember
	if e.Mode == Prequential {
		tell = k.learn
	}
	e.deps.progress("off-policy "+model, 0, len(lists))
	out := make([][]string, len(lists))
	known := first
	for i, l := range lists {
		if i%256 == 0 && ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		for ; known < len(all) && all[known].Time.Add(e.LabelDelay).Before(l.Made); known++ {
			if err := tell(all[known]); err != nil {
				return nil, err
			}
		}
		pool := slices.Concat(l.Items, l.Rest)
		slices.Sort(pool) // so that ties do not fall to what the log drew
		pool = slices.Compact(pool)
		scores := make([]float64, len(pool))
		var pairs []corastream.Pair
		var prompts []corastream.Prompt
		for j, id := range pool {
			s, err := k.see(corastream.Event{User: l.User, Item: id, Time: l.Made})
			if err != nil {
				return nil, err
			}
			scores[j] = s.score
			pairs, prompts = append(pairs, s.pair), append(prompts, s.prompt)
		}
		if name != model {
			generator := e.deps.Generator
			if model == LLM {
				generator = corastream.Unadapted{}
			}
			for j := range pairs {
				pairs[j].User = pairs[0].User // one slice, so that the LLM's stage sees one user
			}
			if scores, err = scoreBatch(ctx, generator, e.deps.Scorer, pairs, prompts); err != nil {
				return nil, err
			}
		}
		order := make([]int, len(pool))
		for j := range order {
			order[j] = j
		}
		slices.SortStableFunc(order, func(a, b int) int {
			switch {
			case scores[a] > scores[b]:
				return -1
			case scores[a] < scores[b]:
				return 1
			}
			return 0
		})
		for _, j := range order {
			out[i] = append(out[i], pool[j])
		}
		e.deps.progress("off-policy "+model, i+1, len(lists))
	}
	return out, nil
}

// weighed are one user's sums over places: weight times likes, weight, and weight squared; and the same of first places.
type weighed struct {
	lists, places          float64
	earned, weight, square float64
	first, firstW, firstSq float64
}

func (a *weighed) add(b weighed, times float64) {
	a.lists += times * b.lists
	a.places += times * b.places
	a.earned += times * b.earned
	a.weight += times * b.weight
	a.square += times * b.square
	a.first += times * b.first
	a.firstW += times * b.firstW
	a.firstSq += times * b.firstSq
}

func (a weighed) ips() float64   { return a.earned / a.lists }
func (a weighed) snips() float64 { return a.earned / a.weight * a.places / a.lists }

// value weighs the log by a model's ranking, whose policy is deterministic: a place counts while the log followed it.
func (e *evaluation) value(model string, lists []List, liked [][]bool, ranked [][]string) Policy {
	number := map[string]int{}
	var users []weighed
	for i, l := range lists {
		u, ok := number[l.User]
		if !ok {
			u = len(users)
			number[l.User] = u
			users = append(users, weighed{})
		}
		s := &users[u]
		s.lists++
		w := 1.
		for k, item := range l.Items {
			s.places++
			if w == 0 || k >= len(ranked[i]) || ranked[i][k] != item {
				w = 0
				continue
			}
			w /= l.Propensity[k]
			r := 0.
			if liked[i][k] {
				r = 1
			}
			s.earned, s.weight, s.square = s.earned+w*r, s.weight+w, s.square+w*w
			if k == 0 {
				s.first, s.firstW, s.firstSq = s.first+w*r, s.firstW+w, s.firstSq+w*w
			}
		}
	}
	var all weighed
	for _, u := range users {
		all.add(u, 1)
	}
	p := Policy{Model: model, IPS: Number(all.ips()), SNIPS: Number(all.snips()), ESS: all.weight * all.weight / all.square}
	p.First = Estimate{IPS: Number(all.first / all.lists), SNIPS: Number(all.first / all.firstW), ESS: all.firstW * all.firstW / all.firstSq}
	if math.IsNaN(p.ESS) {
		p.ESS, p.First.ESS = 0, 0
	}
	p.Thin, p.First.Thin = p.ESS < thinPlaces, p.First.ESS < thinPlaces
	var ips, snips, first []float64
	for d := range e.Bootstraps {
		rng := rand.New(rand.NewPCG(e.Seed, uint64(d)))
		var s weighed
		for range users {
			s.add(users[rng.IntN(len(users))], 1)
		}
		ips, snips, first = append(ips, s.ips()), append(snips, s.snips()), append(first, s.first/s.firstW)
	}
	p.IPSCI, p.SNIPSCI, p.First.SNIPSCI = interval(ips), interval(snips), interval(first)
	return p
}
