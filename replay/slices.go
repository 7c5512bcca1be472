package replay

import "fmt"

// timeSlices is into how many equal runs of rows the evaluation is cut, for curves over time.
const timeSlices = 8

// coldItemRows is the most train rows a cold item has.
const coldItemRows = 2

// slicesOf names the parts of a split and lists their rows. What is cold is counted on train, so it stays the same in both
// modes; history_* counts all of the user's earlier rows, learnt or not.
func slicesOf(rows []row) map[string][]int {
	out := map[string][]int{}
	put := func(name string, i int) { out[name] = append(out[name], i) }
	for i, r := range rows {
		either := func(is bool, yes, no string) {
			if is {
				put(yes, i)
			} else {
				put(no, i)
			}
		}
		either(r.userRows > 0 && r.itemRows > 0, "warm", "cold")
		either(r.userRows > 0, "user_seen", "user_unseen")
		either(r.itemRows > 0, "item_seen", "item_unseen")
		if r.itemRows <= coldItemRows {
			put("item_cold", i)
		}
		put(historyBucket(r.earlier), i)
		put(fmt.Sprintf("time_%d_of_%d", i*timeSlices/len(rows)+1, timeSlices), i)
	}
	return out
}

func historyBucket(n int) string {
	switch {
	case n == 0:
		return "history_0"
	case n < 10:
		return "history_1_9"
	case n < 50:
		return "history_10_49"
	}
	return "history_50_up"
}

// intervalSlices get intervals, and differences with intervals: those a claim is made about.
var intervalSlices = []string{"cold", "item_cold", "user_unseen"}

func (p part) slice(o outcome, members []int) Slice {
	pick := func(v []float64) []float64 {
		out := make([]float64, 0, len(members))
		for _, at := range members {
			if v != nil {
				out = append(out, v[at])
			}
		}
		return out
	}
	s, gains := pick(o.score), pick(o.gain)
	positive, user := make([]bool, len(members)), make([]int32, len(members))
	users := map[int32]bool{}
	for i, at := range members {
		positive[i], user[i] = p.positive[at], p.user[at]
		users[user[i]] = true
	}
	ndcg, _ := meanOf(gains)
	out := Slice{Rows: len(members), Users: len(users), AUC: nan, UAUC: nan, LogLoss: nan, NDCG10All: Number(ndcg)}
	if !p.judges(o) {
		return out
	}
	uauc, _ := UAUC(s, positive, user)
	out.AUC, out.UAUC = Number(AUC(s, positive)), Number(uauc)
	if o.logit {
		out.LogLoss = Number(LogLoss(s, positive))
	}
	return out
}
