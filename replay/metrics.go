package replay

import (
	"cmp"
	"math"
	"slices"
)

// AUC is the chance that a positive row scores above a negative one, ties counting half (Mann-Whitney); NaN unless both
// labels occur.
func AUC(scores []float64, positive []bool) float64 {
	return newRanking(scores, positive).auc(nil, nil)
}

// ranking is a list of rows sorted by score once, so that the AUC of any weighting of its rows costs one pass.
type ranking struct {
	order    []int32 // rows, lowest score first
	tieEnd   []bool  // the row is the last of its run of equal scores
	positive []bool  // by place in order
}

func newRanking(scores []float64, positive []bool) ranking {
	r := ranking{order: make([]int32, len(scores)), tieEnd: make([]bool, len(scores)), positive: make([]bool, len(scores))}
	for i := range r.order {
		r.order[i] = int32(i)
	}
	slices.SortFunc(r.order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(scores[a], scores[b]), cmp.Compare(a, b))
	})
	for i, row := range r.order {
		r.positive[i] = positive[row]
		r.tieEnd[i] = i+1 == len(r.order) || scores[r.order[i+1]] != scores[row]
	}
	return r
}

// auc counts row i weight[cluster[i]] times; nil counts each once. Counts are whole numbers, so the sums are exact.
func (r ranking) auc(cluster, weight []int32) float64 {
	var below, wins2, pos, neg, tiePos, tieNeg int64
	for i, row := range r.order {
		w := int64(1)
		if weight != nil {
			w = int64(weight[cluster[row]])
		}
		if r.positive[i] {
			tiePos += w
		} else {
			tieNeg += w
		}
		if r.tieEnd[i] {
			wins2 += tiePos * (2*below + tieNeg)
			below, pos, neg = below+tieNeg, pos+tiePos, neg+tieNeg
			tiePos, tieNeg = 0, 0
		}
	}
	if pos == 0 || neg == 0 {
		return math.NaN()
	}
	return float64(wins2) / 2 / float64(pos) / float64(neg)
}

// UAUC is the mean of the per-user AUC over the users with both labels (NaN when there are none), and how many they are.
func UAUC(scores []float64, positive []bool, user []int32) (mean float64, users int) {
	return meanOf(perUser(scores, positive, user, AUC))
}

// NDCG is the mean over users of the normalised discounted cumulative gain at k of the user's evaluated rows, ranked by
// score: gain 1 for a positive, discount 1/log2(rank+1), rows of equal score sharing their places' discounts (McSherry and
// Najork, 2008; scikit-learn's ndcg_score). Users without a positive are left out; NaN when there are no others.
func NDCG(scores []float64, positive []bool, user []int32, k int) float64 {
	mean, _ := meanOf(perUser(scores, positive, user, ndcgAt(k)))
	return mean
}

func ndcgAt(k int) func([]float64, []bool) float64 {
	return func(scores []float64, positive []bool) float64 {
		order := make([]int, len(scores))
		relevant := 0
		for i := range order {
			order[i] = i
			if positive[i] {
				relevant++
			}
		}
		if relevant == 0 {
			return math.NaN()
		}
		slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b)) })
		var dcg, ideal float64
		for from := 0; from < min(k, len(order)); {
			to, hits := from, 0
			for ; to < len(order) && scores[order[to]] == scores[order[from]]; to++ {
				if positive[order[to]] {
					hits++
				}
			}
			share := float64(hits) / float64(to-from)
			for place := from; place < min(to, k); place++ {
				dcg += share / math.Log2(float64(place)+2)
			}
			from = to
		}
		for place := range min(k, relevant) {
			ideal += 1 / math.Log2(float64(place)+2)
		}
		return dcg / ideal
	}
}

// LogLoss is the mean binary cross-entropy of sigmoid(score), in nats: softplus(score) less the score of positives.
func LogLoss(scores []float64, positive []bool) float64 {
	var sum float64
	for i, z := range scores {
		sum += max(z, 0) + math.Log1p(math.Exp(-math.Abs(z)))
		if positive[i] {
			sum -= z
		}
	}
	return sum / float64(len(scores))
}

// perUser applies a metric to each user's rows; user holds dense numbers from 0. A user without rows gets NaN.
func perUser(scores []float64, positive []bool, user []int32, metric func([]float64, []bool) float64) []float64 {
	users := int32(0)
	for _, u := range user {
		users = max(users, u+1)
	}
	rowScores, rowLabels := make([][]float64, users), make([][]bool, users)
	for i, u := range user {
		rowScores[u], rowLabels[u] = append(rowScores[u], scores[i]), append(rowLabels[u], positive[i])
	}
	out := make([]float64, users)
	for u := range out {
		out[u] = metric(rowScores[u], rowLabels[u])
	}
	return out
}

// meanOf the numbers that are not NaN.
func meanOf(v []float64) (float64, int) {
	sum, n := 0.0, 0
	for _, x := range v {
		if !math.IsNaN(x) {
			sum, n = sum+x, n+1
		}
	}
	if n == 0 {
		return math.NaN(), 0
	}
	return sum / float64(n), n
}
