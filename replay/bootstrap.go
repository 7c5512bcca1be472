package replay

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
)

// judged is one model's scores over a split, prepared so that one bootstrap draw costs a pass over its rows.
type judged struct {
	ranking ranking
	auc     []float64 // per user; NaN without both labels
}

func judge(scores []float64, positive []bool, user []int32) judged {
	return judged{ranking: newRanking(scores, positive), auc: perUser(scores, positive, user, AUC)}
}

// drawn holds AUC and UAUC of one model in each draw; NaN where a draw lacks a label.
type drawn struct{ auc, uauc []float64 }

// bootstrap draws users with replacement, all rows of a user together (rows of one user are not independent), and judges
// every model on the same draws, so that differences are paired. Draw d depends on the seed and d alone: any number of
// cores gives equal results.
func bootstrap(models []judged, user []int32, draws int, seed uint64) []drawn {
	users := 0
	for _, u := range user {
		users = max(users, int(u)+1)
	}
	out := make([]drawn, len(models))
	for m := range out {
		out[m] = drawn{auc: make([]float64, draws), uauc: make([]float64, draws)}
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
					out[m].auc[d] = models[m].ranking.auc(user, weight)
					out[m].uauc[d] = weightedMean(models[m].auc, weight)
				}
			}
		})
	}
	wg.Wait()
	return out
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
