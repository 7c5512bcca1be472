package replay

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
)

// measured is one model's scores over a split, prepared so that one bootstrap draw costs a pass over its rows.
type measured struct {
	ranking ranking
	auc     []float64         // per user; NaN without both labels
	plain   []float64         // the same without the user's own part of the score; nil when it has none
	gain    sums              // of the ranked rows' NDCG@10
	hit     sums              // of their HR@10
	slices  map[string]sliced // of intervalSlices
}

// sliced is a judged slice: its rows have users of their own numbering in the split.
type sliced struct {
	ranking ranking
	user    []int32
	auc     []float64
}

// sums holds the sum and number of a figure's rows for each user.
type sums struct{ sum, n []float64 }

func measure(o outcome, p part) measured {
	j := measured{slices: map[string]sliced{}, gain: sumsOf(o.gain, p), hit: sumsOf(o.hit, p)}
	if !p.judges(o) {
		return j
	}
	j.ranking, j.auc = newRanking(o.score, p.positive), perUser(o.score, p.positive, p.user, AUC)
	if o.alone != nil {
		own := make([]float64, len(o.score))
		for i := range own {
			own[i] = o.score[i] - o.alone[i]
		}
		j.plain = perUser(own, p.positive, p.user, AUC)
	}
	for _, name := range intervalSlices {
		members := p.slices[name]
		if len(members) == 0 {
			continue
		}
		scores, positive, user := make([]float64, len(members)), make([]bool, len(members)), make([]int32, len(members))
		for i, at := range members {
			scores[i], positive[i], user[i] = o.score[at], p.positive[at], p.user[at]
		}
		auc := make([]float64, p.users)
		for u := range auc {
			auc[u] = math.NaN()
		}
		copy(auc, perUser(scores, positive, user, AUC))
		j.slices[name] = sliced{newRanking(scores, positive), user, auc}
	}
	return j
}

// sumsOf adds up a figure's rows by user; NaN is no row.
func sumsOf(figure []float64, p part) sums {
	if figure == nil {
		return sums{}
	}
	s := sums{make([]float64, p.users), make([]float64, p.users)}
	for i, g := range figure {
		if !math.IsNaN(g) {
			s.sum[p.user[i]] += g
			s.n[p.user[i]]++
		}
	}
	return s
}

// drawn holds a model's figures in each draw; NaN where a draw lacks a label.
type drawn struct {
	auc, uauc, plain, ndcg, hit []float64
	slices                      map[string]*drawn
}

func newDrawn(draws int) *drawn {
	return &drawn{auc: make([]float64, draws), uauc: make([]float64, draws), plain: make([]float64, draws), ndcg: make([]float64, draws), hit: make([]float64, draws)}
}

// bootstrap draws users with replacement, all rows of a user together (rows of one user are not independent), and judges
// every model on the same draws, so that differences are paired. Draw d depends on the seed and d alone: any number of
// cores gives equal results.
func bootstrap(models []measured, user []int32, draws int, seed uint64) []drawn {
	users := 0
	for _, u := range user {
		users = max(users, int(u)+1)
	}
	out := make([]drawn, len(models))
	for m := range out {
		out[m] = *newDrawn(draws)
		out[m].slices = map[string]*drawn{}
		for name := range models[m].slices {
			out[m].slices[name] = newDrawn(draws)
		}
	}
	if users == 0 {
		return out
	}
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), max(1, draws))
	for worker := range workers {
		wg.Go(func() {
			weight := make([]int32, users)
			for d := worker; d < draws; d += workers {
				clear(weight)
				rng := rand.New(rand.NewPCG(seed, uint64(d)))
				for range users {
					weight[rng.IntN(users)]++
				}
				for m := range models {
					models[m].draw(&out[m], d, user, weight)
				}
			}
		})
	}
	wg.Wait()
	return out
}

func (j measured) draw(out *drawn, d int, user, weight []int32) {
	out.auc[d] = j.ranking.auc(user, weight)
	out.uauc[d] = weightedMean(j.auc, weight)
	out.plain[d] = weightedMean(j.plain, weight)
	out.ndcg[d], out.hit[d] = j.gain.mean(weight), j.hit.mean(weight)
	for name, s := range j.slices {
		out.slices[name].auc[d] = s.ranking.auc(s.user, weight)
		out.slices[name].uauc[d] = weightedMean(s.auc, weight)
	}
}

// mean over rows, each user's counting weight times.
func (s sums) mean(weight []int32) float64 {
	var sum, n float64
	for u := range s.sum {
		w := float64(weight[u])
		sum, n = sum+w*s.sum[u], n+w*s.n[u]
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / n
}

func weightedMean(v []float64, weight []int32) float64 {
	var sum, n float64
	for i, x := range v {
		if w := float64(weight[i]); w > 0 && !math.IsNaN(x) {
			sum, n = sum+w*x, n+w
		}
	}
	if n == 0 {
		return math.NaN()
	}
	return sum / n
}

// interval is the 95 % interval: the 2.5th and 97.5th percentile of the draws that are numbers.
func interval(v []float64) Range {
	v = slices.DeleteFunc(slices.Clone(v), math.IsNaN)
	slices.Sort(v)
	return Range{Number(percentile(v, 0.025)), Number(percentile(v, 0.975))}
}

// percentile of a sorted list, linear between neighbours (numpy's default).
func percentile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	lo := int(at)
	hi := min(lo+1, len(sorted)-1)
	return sorted[lo] + (at-float64(lo))*(sorted[hi]-sorted[lo])
}

// minus is a-b draw by draw.
func minus(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		out[i] = a[i] - b[i]
	}
	return out
}
