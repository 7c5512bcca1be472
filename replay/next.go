package replay

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// Next says how well a model's list foretells what its user takes next: each positive row's item has a rank, counted from 0, among
// the items that the user may be shown, items of equal score counting half.
type Next struct {
	Task string `json:"task"` // TaskUnseen or TaskAll
	NextFigures
	NDCG10CI Range `json:"ndcg10_ci"`
	HR10CI   Range `json:"hr10_ci"`
	// Slices are the figures by new users, by the item's and the user's events before the row, and, where times are days, for the first
	// row of a user's day.
	Slices map[string]NextFigures `json:"slices"`
	Lists  *Lists                 `json:"lists,omitempty"`
}

// NextFigures are means over rows: 1 where the rank is below 10 and 20, 1/log2(rank+2) where it is below 10, 1/(rank+1) where it is
// below 20, else 0.
type NextFigures struct {
	Rows   int    `json:"rows"`
	HR10   Number `json:"hr10"`
	HR20   Number `json:"hr20"`
	NDCG10 Number `json:"ndcg10"`
	MRR20  Number `json:"mrr20"`
}

// Lists says how the lists of ten that were shown to rows differ.
type Lists struct {
	Distinct   int    `json:"distinct"`    // items in any list
	Gini       Number `json:"gini"`        // of how often each item was listed: 0 is equal, 1 is one item alone
	Top10Share Number `json:"top10_share"` // share of the places that the ten most listed items have
	// Overlap is the mean share of ten that two users' last lists have in common, over at most overlapPairs pairs of users.
	Overlap Number `json:"overlap"`
}

const overlapPairs = 5000

// nextSlicesOf lists the rows of each slice of the next-item figures.
func nextSlicesOf(rows []row) map[string][]int {
	out := map[string][]int{}
	for i, r := range rows {
		put := func(name string) { out[name] = append(out[name], i) }
		if r.userRows == 0 {
			put("new_users")
		}
		put("items_" + between(r.itemBefore, 5, 50))
		put("history_" + between(r.userBefore, 5, 20))
		if r.opens {
			put("first_of_day")
		}
	}
	return out
}

// between names one of the ranges 0, 1 to few, few+1 to many, and more.
func between(n, few, many int) string {
	switch {
	case n == 0:
		return "0"
	case n <= few:
		return fmt.Sprintf("1_%d", few)
	case n <= many:
		return fmt.Sprintf("%d_%d", few+1, many)
	}
	return fmt.Sprintf("%d_up", many+1)
}

// next are the figures of one model, intervals aside; nil where it ranks nothing.
func (p part) next(o outcome, j measured) *Next {
	if o.ranks == nil {
		return nil
	}
	n := &Next{Task: o.ranks.task, NextFigures: o.ranks.figures(nil), NDCG10CI: Range{nan, nan}, HR10CI: Range{nan, nan}, Slices: map[string]NextFigures{}}
	for name, members := range p.nextSlices {
		if f := o.ranks.figures(members); f.Rows > 0 {
			n.Slices[name] = f
		}
	}
	n.Lists = o.ranks.lists()
	return n
}

// within adds the intervals of a bootstrap.
func (n *Next) within(d drawn) {
	if n != nil {
		n.NDCG10CI, n.HR10CI = interval(d.ndcg), interval(d.hit)
	}
}

// figures of some rows; nil are all.
func (r *ranks) figures(members []int) NextFigures {
	var f NextFigures
	add := func(i int) {
		if r.above[i] == notRanked {
			return
		}
		rank := r.place(i)
		f.Rows++
		f.HR10 += Number(hitAt(rank, rankDepth))
		f.HR20 += Number(hitAt(rank, listDepth))
		f.NDCG10 += Number(gainAt(rank))
		f.MRR20 += Number(reciprocalAt(rank))
	}
	if members == nil {
		for i := range r.above {
			add(i)
		}
	}
	for _, i := range members {
		add(i)
	}
	n := Number(f.Rows)
	f.HR10, f.HR20, f.NDCG10, f.MRR20 = f.HR10/n, f.HR20/n, f.NDCG10/n, f.MRR20/n
	return f
}

// lists says how the lists differ; nil where none was shown.
func (r *ranks) lists() *Lists {
	counts := slices.Sorted(slices.Values(r.shown[0]))
	l := &Lists{}
	var total, most float64
	for i, c := range counts {
		total += float64(c)
		if c > 0 {
			l.Distinct++
		}
		if i >= len(counts)-rankDepth {
			most += float64(c)
		}
	}
	if total == 0 {
		return nil
	}
	_, l.Gini = exposure(r.shown[0])
	l.Top10Share = Number(most / total)
	l.Overlap = overlap(r.last[0])
	return l
}

// overlap of the users' last lists: all pairs where they are few, else a seeded sample.
func overlap(last map[int32][]int32) Number {
	users := slices.Sorted(maps.Keys(last))
	n := len(users)
	if n < 2 {
		return nan
	}
	common := func(a, b []int32) float64 {
		same := 0.0
		for _, x := range a {
			if slices.Contains(b, x) {
				same++
			}
		}
		return same / float64(max(len(a), len(b), 1))
	}
	var sum, pairs float64
	if n*(n-1)/2 <= overlapPairs {
		for i := range users {
			for j := range i {
				sum, pairs = sum+common(last[users[i]], last[users[j]]), pairs+1
			}
		}
		return Number(sum / pairs)
	}
	rng := rand.New(rand.NewPCG(1, 0x0e71))
	for range overlapPairs {
		i, j := rng.IntN(n), rng.IntN(n-1)
		if j >= i {
			j++
		}
		sum, pairs = sum+common(last[users[i]], last[users[j]]), pairs+1
	}
	return Number(sum / pairs)
}

// split is the figures that a report speaks of first: test's, or valid's where there are no others.
func (r *Report) split() (map[string]Figures, string) {
	if len(r.Test) > 0 {
		return r.Test, "test"
	}
	return r.Valid, "valid"
}

// sentence says what the report is about: how often the list holds the next item. It is "" where nothing was ranked.
func (r *Report) sentence() string {
	figures, rows := r.split()
	var ranked []string
	for _, m := range r.models() {
		if figures[m].Next != nil {
			ranked = append(ranked, m)
		}
	}
	if len(ranked) == 0 {
		return ""
	}
	first := ranked[0]
	for _, m := range []string{All, Mix, Cora, CF} {
		if slices.Contains(ranked, m) {
			first = m
			break
		}
	}
	var others []string
	for _, m := range ranked {
		if m != first {
			others = append(others, fmt.Sprintf("%s: %.1f", m, 10*float64(figures[m].Next.HR10)))
		}
	}
	n := figures[first].Next
	beside := ""
	if len(others) > 0 {
		beside = " (" + strings.Join(others, ", ") + ")"
	}
	return fmt.Sprintf("%s puts the next item among its first ten in %.1f of 10 cases%s, on %d %s rows, task %s.", first, 10*float64(n.HR10), beside, n.Rows, rows, n.Task)
}

// oneLabel says why a report has no AUC; "" where its rows have both labels.
func (r *Report) oneLabel() string {
	figures, rows := r.split()
	for _, m := range r.models() {
		if f, ok := figures[m]; ok && f.OneLabel {
			return fmt.Sprintf("AUC, UAUC, log loss and calibration are left out: the %s rows have one label alone, as a log of clicks or purchases has.", rows)
		}
	}
	return ""
}

func (r *Report) nextTable(b *strings.Builder) {
	figures, _ := r.split()
	some := false
	for _, f := range figures {
		some = some || f.Next != nil
	}
	if !some {
		return
	}
	fmt.Fprintf(b, "%-6s %-15s %7s %8s %8s %-24s %8s %8s %6s %7s\n", "next", "model", "rows", "HR@10", "HR@20", "NDCG@10 [95%]", "MRR@20", "distinct", "gini", "overlap")
	r.eachSplit(func(name string, figures map[string]Figures) {
		for _, m := range r.models() {
			n := figures[m].Next
			if n == nil {
				continue
			}
			fmt.Fprintf(b, "%-6s %-15s %7d %8s %8s %-24s %8s", name, m, n.Rows, n.HR10, n.HR20, withRange(n.NDCG10, n.NDCG10CI), n.MRR20)
			if l := n.Lists; l != nil {
				fmt.Fprintf(b, " %8d %6.3f %7.3f", l.Distinct, l.Gini, l.Overlap)
			}
			b.WriteByte('\n')
		}
	})
}

func (r *Report) eachSplit(visit func(name string, figures map[string]Figures)) {
	visit("valid", r.Valid)
	visit("test", r.Test)
}

// place is a row's rank counted from 0, items of equal score counting half; infinite for one that was missed.
func (r *ranks) place(i int) float64 {
	if r.above[i] == missed {
		return math.Inf(1)
	}
	return float64(r.above[i]) + 0.5*float64(r.level[i])
}
