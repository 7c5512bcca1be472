package replay

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/corastream/corastream"
)

// rankDepth is the k of NDCG@10 and HR@10, and the length of the lists whose variety is reported. listDepth is the k of HR@20 and
// MRR@20, and how many items a Ranker is asked for.
const (
	rankDepth = 10
	listDepth = 20
)

// lister is a contender that gives lists, and no score for each item of the universe.
type lister interface {
	// list gives the best n items for a user at a moment, best first. skip names items that may not be listed; nil: none.
	list(user string, now time.Time, n int, skip func(item string) bool) []corastream.Candidate
}

// ranker asks of a positive row: among all items that the user may be shown, where does the model put this one? In task unseen
// these are the items that the user has not met, in task all they are all items. Rows of one user and time are ranked before any of
// them counts as met. The log itself says what a user has met, learnt yet or not, so that every model and every label delay
// ranks the same items.
type ranker struct {
	universe *universe
	task     string
	from     int    // rows[:from] are train's, and not ranked
	wanted   []bool // by row from `from` on, as all the rows' slices below
	top      int    // candidates to keep for the LLM
	user     map[string]int32
	met      [][]int32 // by user: the items met, each once
	mark     []int32   // by item: mark[n] == stamp says that the moment's user has met it
	stamp    int32
	scores   []float64
	test     []bool // by row
	ranks    *ranks
	// gain and hit are 1/log2(rank+2) and 1 where the rank, counted from 0, is within the first ten, else 0; NaN where not ranked.
	gain, hit []float64
}

// newRanker picks up to limit rows of each split, evenly spaced, among those that the task asks about.
func newRanker(u *universe, c *chronicle, rows []row, limit, top int) *ranker {
	r := &ranker{
		universe: u, task: c.task, from: len(c.held), top: top, wanted: make([]bool, len(rows)), user: c.users, met: c.metBefore(),
		mark: make([]int32, len(u.ids)), scores: make([]float64, len(u.ids)), gain: make([]float64, len(rows)),
		hit: make([]float64, len(rows)), test: make([]bool, len(rows)), ranks: newRanks(len(rows), len(u.ids), c.task),
	}
	for i := range rows {
		r.gain[i], r.hit[i], r.test[i] = math.NaN(), math.NaN(), rows[i].test
	}
	for _, test := range []bool{false, true} {
		var able []int
		for i := range rows {
			if _, known := u.number[rows[i].Item]; known && rows[i].test == test && c.asks(&rows[i]) {
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

// rank places the wanted rows of a moment, which are of one user and time, then counts the moment's items as met. It adds the
// LLM's candidates to the sights of the rows it placed.
func (r *ranker) rank(rows []corastream.Event, moment []int32, k contender, seen []sight) error {
	user := r.user[rows[moment[0]].User]
	r.stamp++
	if r.task == TaskUnseen {
		for _, n := range r.met[user] {
			r.mark[n] = r.stamp
		}
	}
	var place func(i int, target int32) error
	for _, at := range moment {
		i := int(at) - r.from
		if i < 0 || !r.wanted[i] {
			continue
		}
		if place == nil { // the moment's rows share one state, so they share the scores
			var err error
			if place, err = r.placer(rows[at], k, seen); err != nil {
				return err
			}
		}
		if err := place(i, r.universe.number[rows[at].Item]); err != nil {
			return err
		}
	}
	if r.task != TaskUnseen {
		return nil
	}
	for _, at := range moment {
		if n, ok := r.universe.number[rows[at].Item]; ok && r.mark[n] != r.stamp {
			r.mark[n], r.met[user] = r.stamp, append(r.met[user], n)
		}
	}
	return nil
}

// placer asks the model once, and gives what places a row of the moment.
func (r *ranker) placer(ev corastream.Event, k contender, seen []sight) (func(i int, target int32) error, error) {
	if l, ok := k.(lister); ok {
		list := r.numbered(l.list(ev.User, ev.Time, listDepth, r.skip()))
		return func(i int, target int32) error {
			if at := slices.Index(list, target); at >= 0 {
				r.put(i, at, 0)
			} else {
				r.put(i, missed, 0)
			}
			r.ranks.show(r.test[i], r.user[ev.User], list[:min(rankDepth, len(list))])
			return nil
		}, nil
	}
	if err := k.all(ev.User, r.scores); err != nil {
		return nil, err
	}
	for n, s := range r.scores {
		if s != s {
			return nil, fmt.Errorf("the score of user %q and item %q is not a number", ev.User, r.universe.ids[n])
		}
	}
	ten := topTen(r.scores, func(n int32) bool { return r.mark[n] != r.stamp })
	return func(i int, target int32) error {
		mine := r.scores[target]
		above, level := 0, 0
		for n, s := range r.scores {
			switch {
			case s < mine || r.mark[n] == r.stamp || int32(n) == target:
			case s > mine:
				above++
			default:
				level++
			}
		}
		r.put(i, above, level)
		r.ranks.show(r.test[i], r.user[ev.User], ten)
		chooser, ok := k.(chooser)
		if !ok || r.top == 0 {
			return nil
		}
		var err error
		seen[i+r.from].choice, err = chooser.choose(r.universe, ev.User, r.best(), target)
		return err
	}, nil
}

// put notes where row i's item stands.
func (r *ranker) put(i, above, level int) {
	r.ranks.above[i], r.ranks.level[i] = int32(above), int32(level)
	r.gain[i], r.hit[i] = gainAt(r.ranks.place(i)), hitAt(r.ranks.place(i), rankDepth)
}

// skip names the items that the moment's user may not be shown: what is withdrawn, and in task unseen what was met.
func (r *ranker) skip() func(string) bool {
	if r.task == TaskAll && !r.universe.gone {
		return nil
	}
	return func(item string) bool {
		n, ok := r.universe.number[item]
		return !ok || r.mark[n] == r.stamp
	}
}

// numbered gives a list's items their numbers; -1 is an item that may not be shown, which keeps its place in the list.
func (r *ranker) numbered(list []corastream.Candidate) []int32 {
	out := make([]int32, 0, len(list))
	for _, c := range list[:min(listDepth, len(list))] {
		n, ok := r.universe.number[c.Item]
		if !ok || r.mark[n] == r.stamp {
			n = -1
		}
		out = append(out, n)
	}
	return out
}

// best are the top items that the moment's user may be shown.
func (r *ranker) best() []int32 {
	order := make([]int32, 0, len(r.scores))
	for n := range r.scores {
		if r.mark[n] != r.stamp {
			order = append(order, int32(n))
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(r.scores[b], r.scores[a]), cmp.Compare(a, b)) })
	return order[:min(r.top, len(order))]
}

// gainAt is the NDCG@10 of one relevant item at a rank counted from 0.
func gainAt(rank float64) float64 {
	if rank >= rankDepth {
		return 0
	}
	return 1 / math.Log2(rank+2)
}

// hitAt is 1 for a rank within the first k.
func hitAt(rank float64, k int) float64 {
	if rank < float64(k) {
		return 1
	}
	return 0
}

// reciprocalAt is the MRR@20 of a rank.
func reciprocalAt(rank float64) float64 {
	if rank >= listDepth {
		return 0
	}
	return 1 / (rank + 1)
}
