package replay

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Quality is what a model's figures say beside AUC: where it puts liked items, how much of the catalogue it shows, whether its
// probabilities are true, and how it fares over time.
type Quality struct {
	Ranking *Ranking `json:"ranking,omitempty"` // nil where the model ranks nothing
	// Brier is the mean squared error of sigmoid(score), ECE the mean distance of a calibration bin's probability from its
	// rate of likes, weighted by rows (Naeini et al., 2015). Both null for scores that are no logits.
	Brier       Number   `json:"brier"`
	ECE         Number   `json:"ece"`
	Calibration []Bin    `json:"calibration,omitempty"`
	Curve       []Window `json:"curve,omitempty"`
}

// Ranking is how a model ranks each liked item among all that its user may be shown; every ranked row counts alike, and items of
// equal score share their places, so that its figures may differ from Next's where there are ties.
type Ranking struct {
	Rows int      `json:"rows"`
	At   []Cutoff `json:"at"`
	// MRR is the mean of 1/place over all places; an item that is not ranked at all counts 0.
	MRR Number `json:"mrr"`
	// Coverage10 is the share of all items that were in some list of ten, Gini10 how unequally the lists' places fell on
	// all items: 0 is equal, 1 is one item alone.
	Coverage10 Number `json:"coverage10"`
	Gini10     Number `json:"gini10"`
}

// Cutoff holds the figures within the first K places.
type Cutoff struct {
	K    int    `json:"k"`
	HR   Number `json:"hr"`
	NDCG Number `json:"ndcg"`
	MRR  Number `json:"mrr"`
}

// Bin is a tenth of the range of probabilities: what was said, and what came.
type Bin struct {
	Rows int    `json:"rows"`
	Said Number `json:"said"` // mean probability
	Came Number `json:"came"` // share of positive rows
}

// Window is a run of rows in time.
type Window struct {
	Until time.Time `json:"until"` // of its last row
	Rows  int       `json:"rows"`
	AUC   Number    `json:"auc"`
}

var cutoffs = []int{1, 5, 10, 20}

const (
	calibrationBins = 10
	windowsMost     = 40
	windowRows      = 100 // the fewest in one
)

// ranks keeps where ranked rows' items were placed, and what was shown around them.
type ranks struct {
	task         string
	above, level []int32              // by row; above is notRanked, or missed
	shown        [2][]int32           // lists of ten that each item was in, valid and test
	last         [2]map[int32][]int32 // by user: the last list of ten
}

const (
	notRanked = -1
	missed    = -2 // ranked, but not among the candidates
)

func newRanks(rows, items int, task string) *ranks {
	r := &ranks{
		task: task, above: make([]int32, rows), level: make([]int32, rows), shown: [2][]int32{make([]int32, items), make([]int32, items)},
		last: [2]map[int32][]int32{{}, {}},
	}
	for i := range r.above {
		r.above[i] = notRanked
	}
	return r
}

// show counts a list that a user was shown. An item below 0 may not be shown, and is not.
func (r *ranks) show(test bool, user int32, items []int32) {
	for _, n := range items {
		if n >= 0 {
			r.shown[side(test)][n]++
		}
	}
	r.last[side(test)][user] = items
}

func side(test bool) int {
	if test {
		return 1
	}
	return 0
}

// of cuts the ranks down to a split's rows.
func (r *ranks) of(at []int, test bool) *ranks {
	if r == nil {
		return nil
	}
	out := &ranks{task: r.task}
	for _, i := range at {
		out.above, out.level = append(out.above, r.above[i]), append(out.level, r.level[i])
	}
	out.shown[0], out.last[0] = r.shown[side(test)], r.last[side(test)]
	return out
}

func (p part) quality(o outcome) *Quality {
	q := &Quality{Ranking: o.ranks.ranking(), Brier: nan, ECE: nan}
	if !p.judges(o) {
		return q
	}
	q.Curve = p.curve(o.score)
	if o.logit {
		q.Brier, q.ECE, q.Calibration = calibration(o.score, p.positive)
	}
	return q
}

func (r *ranks) ranking() *Ranking {
	if r == nil {
		return nil
	}
	out := &Ranking{}
	sums := make([]Cutoff, len(cutoffs))
	for i, above := range r.above {
		if above == notRanked {
			continue
		}
		out.Rows++
		if above == missed {
			continue
		}
		share := 1 / Number(r.level[i]+1)
		for place := above + 1; place <= above+1+r.level[i]; place++ {
			out.MRR += share / Number(place)
			if int(place) > cutoffs[len(cutoffs)-1] && r.level[i] > 1000 { // a long run of ties: the rest is a logarithm
				out.MRR += share * Number(harmonic(int(above+1+r.level[i]))-harmonic(int(place)))
				break
			}
			for c, k := range cutoffs {
				if int(place) <= k {
					sums[c].HR += share
					sums[c].NDCG += share / Number(math.Log2(float64(place)+1))
					sums[c].MRR += share / Number(place)
				}
			}
		}
	}
	if out.Rows == 0 {
		return nil
	}
	n := Number(out.Rows)
	out.MRR /= n
	for c, k := range cutoffs {
		out.At = append(out.At, Cutoff{K: k, HR: sums[c].HR / n, NDCG: sums[c].NDCG / n, MRR: sums[c].MRR / n})
	}
	out.Coverage10, out.Gini10 = exposure(r.shown[0])
	return out
}

// harmonic is 1 + 1/2 + ... + 1/n for large n.
func harmonic(n int) float64 {
	x := float64(n)
	return math.Log(x) + 0.5772156649015329 + 1/(2*x) - 1/(12*x*x)
}

// exposure is the share of items that were shown at all, and the Gini index of how often each was.
func exposure(shown []int32) (coverage, gini Number) {
	counts := slices.Sorted(slices.Values(shown))
	var total, weighted, some float64
	n := float64(len(counts))
	for i, c := range counts {
		total += float64(c)
		weighted += (2*float64(i+1) - n - 1) * float64(c)
		if c > 0 {
			some++
		}
	}
	if total == 0 {
		return nan, nan
	}
	return Number(some / n), Number(weighted / n / total)
}

// calibration cuts [0,1] into equal bins, each open below but the first, as scikit-learn's calibration_curve does.
func calibration(scores []float64, positive []bool) (brier, ece Number, bins []Bin) {
	said, came, rows := [calibrationBins]float64{}, [calibrationBins]float64{}, [calibrationBins]int{}
	var squares float64
	for i, z := range scores {
		p, y := 1/(1+math.Exp(-z)), 0.
		if positive[i] {
			y = 1
		}
		squares += (p - y) * (p - y)
		b := min(calibrationBins-1, max(0, int(math.Ceil(p*calibrationBins))-1))
		said[b] += p
		came[b] += y
		rows[b]++
	}
	n := float64(len(scores))
	var off float64
	for b, k := range rows {
		bin := Bin{Rows: k, Said: nan, Came: nan}
		if k > 0 {
			bin.Said, bin.Came = Number(said[b]/float64(k)), Number(came[b]/float64(k))
			off += math.Abs(said[b]-came[b]) / n
		}
		bins = append(bins, bin)
	}
	return Number(squares / n), Number(off), bins
}

// curve is the AUC of equal runs of rows, in time order.
func (p part) curve(scores []float64) []Window {
	n := max(1, min(windowsMost, len(scores)/windowRows))
	out := make([]Window, n)
	for w := range out {
		from, to := w*len(scores)/n, (w+1)*len(scores)/n
		out[w] = Window{Rows: to - from, Until: p.rows[to-1].Time, AUC: Number(AUC(scores[from:to], p.positive[from:to]))}
	}
	return out
}

// topTen are the first ten by score among those allowed, ties by number.
func topTen(scores []float64, allowed func(int32) bool) []int32 {
	best := make([]int32, 0, rankDepth+1)
	for n, s := range scores {
		if len(best) == rankDepth && s <= scores[best[rankDepth-1]] || !allowed(int32(n)) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, s, func(b int32, s float64) int {
			if scores[b] >= s {
				return -1
			}
			return 1
		})
		best = slices.Insert(best, at, int32(n))
		best = best[:min(rankDepth, len(best))]
	}
	return best
}

// topOf are the indexes of the ten highest scores.
func topOf(scores []float64) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b)) })
	return order[:min(rankDepth, len(order))]
}
