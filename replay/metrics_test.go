package replay

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
)

// reference holds what scikit-learn says (testdata/reference.py).
type reference struct {
	Score     []float64
	Label     []int
	User      []int32
	AUC, UAUC float64
	UAUCUsers int     `json:"uauc_users"`
	LogLoss   float64 `json:"logloss"`
	NDCG10    float64 `json:"ndcg10"`
	Ridge     struct {
		X                  [][]float64
		Y                  []int
		Penalty, Intercept float64
		Weight             []float64
	}
}

func readReference(t *testing.T) reference {
	t.Helper()
	b, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var r reference
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func bools(v []int) []bool {
	out := make([]bool, len(v))
	for i := range v {
		out[i] = v[i] == 1
	}
	return out
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s = %v, want %v within %g", what, got, want, tolerance)
	}
}

func TestMetricsAgreeWithScikitLearn(t *testing.T) {
	r := readReference(t)
	label := bools(r.Label)
	near(t, "AUC", AUC(r.Score, label), r.AUC, 1e-12)
	uauc, users := UAUC(r.Score, label, r.User)
	near(t, "UAUC", uauc, r.UAUC, 1e-12)
	near(t, "users with both labels", float64(users), float64(r.UAUCUsers), 0)
	near(t, "log loss", LogLoss(r.Score, label), r.LogLoss, 1e-12)
	near(t, "NDCG@10", NDCG(r.Score, label, r.User, 10), r.NDCG10, 1e-12)
}

func TestReaderRegressionAgreesWithScikitLearn(t *testing.T) {
	r := readReference(t).Ridge
	l, err := fitRidge(r.X, make([]float64, len(r.X)), bools(r.Y), r.Penalty)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "intercept", l.intercept, r.Intercept, 1e-6)
	for j, w := range r.Weight {
		near(t, "weight", l.weight[j], w, 1e-6)
	}
}

// bruteAUC compares every positive with every negative.
func bruteAUC(scores []float64, positive []bool) float64 {
	var wins, pairs float64
	for i := range scores {
		for j := range scores {
			if positive[i] && !positive[j] {
				pairs++
				switch {
				case scores[i] > scores[j]:
					wins++
				case scores[i] == scores[j]:
					wins += 0.5
				}
			}
		}
	}
	return wins / pairs
}

func randomRows(rng *rand.Rand, n, users int) (scores []float64, positive []bool, user []int32) {
	for range n {
		scores = append(scores, math.Round(rng.NormFloat64()*4)/4)
		positive = append(positive, rng.IntN(3) == 0)
		user = append(user, int32(rng.IntN(users)))
	}
	return scores, positive, user
}

func TestAUCEqualsComparingAllPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		scores, positive, _ := randomRows(rng, 1+rng.IntN(40), 5)
		got, want := AUC(scores, positive), bruteAUC(scores, positive)
		if math.IsNaN(want) != math.IsNaN(got) || math.Abs(got-want) > 1e-12 {
			t.Fatalf("AUC(%v, %v) = %v, want %v", scores, positive, got, want)
		}
	}
}

// TestBootstrapEqualsRepeatingRows: weighting the sorted rows gives what copying each drawn user's rows gives.
func TestBootstrapEqualsRepeatingRows(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	scores, positive, user := randomRows(rng, 120, 9)
	const draws, seed = 50, 11
	got := bootstrap([]measured{measure(outcome{score: scores}, part{user: user, users: 9, positive: positive, both: true})}, user, draws, seed)[0]
	for d := range draws {
		draw := rand.New(rand.NewPCG(seed, uint64(d)))
		var s []float64
		var p []bool
		var u []int32
		for copyOf := range int32(9) {
			picked := int32(draw.IntN(9))
			for i := range scores {
				if user[i] == picked {
					s, p, u = append(s, scores[i]), append(p, positive[i]), append(u, copyOf)
				}
			}
		}
		near(t, "AUC of the draw", got.auc[d], bruteAUC(s, p), 1e-12)
		uauc, _ := UAUC(s, p, u)
		near(t, "UAUC of the draw", got.uauc[d], uauc, 1e-12)
	}
	if lo, hi := slices.Min(got.auc), slices.Max(got.auc); lo == hi {
		t.Error("all draws are the same")
	}
}

func TestIntervalIsThePercentilesOfNumpy(t *testing.T) {
	v := []float64{9, 1, 4, math.NaN(), 7, 3} // numpy.percentile([1,3,4,7,9], [2.5, 97.5]) = 1.2, 8.8
	got := interval(v)
	near(t, "low", float64(got[0]), 1.2, 1e-12)
	near(t, "high", float64(got[1]), 8.8, 1e-12)
	if empty := interval(nil); !math.IsNaN(float64(empty[0])) {
		t.Errorf("interval of nothing = %v", empty)
	}
}

func TestHistogramAUCIsCloseToTheExactOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	h := newHistogram()
	var scores []float64
	var positive []bool
	for range 5000 {
		p := rng.IntN(2) == 0
		z := rng.NormFloat64()
		if p {
			z += 0.8
		}
		scores, positive = append(scores, z), append(positive, p)
		h.add(z, p)
	}
	h.add(math.Inf(1), true)
	h.add(-1e300, false)
	near(t, "AUC", h.auc(), AUC(append(scores, 1e9, -1e9), append(positive, true, false)), 2e-4)
}

func BenchmarkBootstrap(b *testing.B) {
	rng := rand.New(rand.NewPCG(7, 8))
	scores, positive, user := randomRows(rng, 10_000, 400)
	m := measure(outcome{score: scores}, part{user: user, users: 400, positive: positive})
	for b.Loop() {
		bootstrap([]measured{m, m}, user, 1000, 1)
	}
}
