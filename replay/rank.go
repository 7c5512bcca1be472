package replay

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/corastream/corastream"
)

// rankDepth is the k of NDCG@10 and HR@10.
const rankDepth = 10

// ranker asks of a positive row: among all items that the user had not met by then, where does the model put this one? What
// a user has met is what the log holds of them before the row's time, learnt yet or not, so that every model and every
// label delay ranks the same items. An item that neither catalogue nor train knows is not ranked.
type ranker struct {
	universe  *universe
	wanted    []bool // by row
	top       int    // candidates to keep for the LLM
	met       map[string]map[int32]bool
	entered   int // rows[:entered] are in met
	scores    []float64
	test      []bool // by row
	ranks     *ranks
	gain, hit []float64 // by row: 1/log2(place+1) and 1 within the first ten, else 0; NaN where not ranked
}

// newRanker picks up to limit positive rows of each split, evenly spaced.
func newRanker(u *universe, train []corastream.Event, rows []row, limit, top int) *ranker {
	r := &ranker{
		universe: u, top: top, wanted: make([]bool, len(rows)), met: map[string]map[int32]bool{},
		scores: make([]float64, len(u.ids)), gain: make([]float64, len(rows)), hit: make([]float64, len(rows)),
		test: make([]bool, len(rows)), ranks: newRanks(len(rows), len(u.ids)),
	}
	for _, ev := range train {
		r.meet(ev)
	}
	for i := range rows {
		r.gain[i], r.hit[i], r.test[i] = math.NaN(), math.NaN(), rows[i].test
	}
	for _, test := range []bool{false, true} {
		var able []int
		for i := range rows {
			if _, known := u.number[rows[i].Item]; known && rows[i].test == test && rows[i].Positive() {
				able = append(able, i)
			}
		}
		n := min(limit, len(able))
		for k := range n {
			r.wanted[able[k*len(able)/n]] = true
		}
	}
	return r
}

func (r *ranker) meet(ev corastream.Event) {
	n, ok := r.universe.number[ev.Item]
	if !ok {
		return
	}
	if r.met[ev.User] == nil {
		r.met[ev.User] = map[int32]bool{}
	}
	r.met[ev.User][n] = true
}

// rank places row i, and returns the best unmet items when the LLM is to rank them.
func (r *ranker) rank(rows []corastream.Event, i int, k contender) ([]candidate, error) {
	ev := rows[i]
	for ; rows[r.entered].Time.Before(ev.Time); r.entered++ {
		r.meet(rows[r.entered])
	}
	if !r.wanted[i] {
		return nil, nil
	}
	if err := k.all(ev.User, r.scores); err != nil {
		return nil, err
	}
	met, target := r.met[ev.User], r.universe.number[ev.Item]
	mine := r.scores[target]
	above, level := 0, 0
	for n, s := range r.scores {
		switch {
		case s != s:
			return nil, fmt.Errorf("the score of user %q and item %q is not a number", ev.User, r.universe.ids[n])
		case s < mine || int32(n) == target || met[int32(n)]:
		case s > mine:
			above++
		default:
			level++
		}
	}
	r.gain[i], r.hit[i] = placed(above, level)
	r.ranks.above[i], r.ranks.level[i] = int32(above), int32(level)
	r.ranks.show(r.test[i], topTen(r.scores, func(n int32) bool { return n == target || !met[n] }))
	chooser, ok := k.(chooser)
	if !ok || r.top == 0 {
		return nil, nil
	}
	return chooser.choose(r.universe, ev.User, r.best(met, target), target)
}

// best are the top items the user has not met; the row's own item counts as not met even when it is rated again.
func (r *ranker) best(met map[int32]bool, target int32) []int32 {
	order := make([]int32, 0, len(r.scores))
	for n := range r.scores {
		if int32(n) == target || !met[int32(n)] {
			order = append(order, int32(n))
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(r.scores[b], r.scores[a]), cmp.Compare(a, b)) })
	return order[:min(r.top, len(order))]
}

// placed is NDCG@10 and HR@10 of one relevant item with `above` others over it and `level` others beside it: the mean over
// the places that it shares with them.
func placed(above, level int) (gain, hit float64) {
	for place := above; place <= above+level && place < rankDepth; place++ {
		gain += 1 / math.Log2(float64(place)+2)
		hit++
	}
	return gain / float64(level+1), hit / float64(level+1)
}
