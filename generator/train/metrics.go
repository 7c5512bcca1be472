package train

import "sort"

// Figures of one model on some rows. UAUC is the mean AUC of users with both labels; both are 0 when undefined.
type Figures struct {
	AUC   float64 `json:"auc"`
	UAUC  float64 `json:"uauc"`
	Rows  int     `json:"rows"`
	Users int     `json:"users"` // counted by UAUC
}

func figuresOf(scores []float64, rows []row) Figures {
	all := make([]int, len(rows))
	byUser := map[string][]int{}
	var users []string
	for i := range rows {
		all[i] = i
		u := rows[i].pair.UserID
		if byUser[u] == nil {
			users = append(users, u)
		}
		byUser[u] = append(byUser[u], i)
	}
	f := Figures{Rows: len(rows)}
	f.AUC, _ = auc(scores, rows, all)
	for _, u := range users { // in order of first appearance: sums are the same in every run
		if a, ok := auc(scores, rows, byUser[u]); ok {
			f.UAUC += a
			f.Users++
		}
	}
	if f.Users > 0 {
		f.UAUC /= float64(f.Users)
	}
	return f
}

// auc is the chance that a positive outscores a negative, ties counting half, over the rows named; false without both.
func auc(scores []float64, rows []row, of []int) (float64, bool) {
	of = append([]int(nil), of...)
	sort.SliceStable(of, func(a, b int) bool { return scores[of[a]] < scores[of[b]] })
	var positives, rankSum float64
	for i := 0; i < len(of); {
		j := i
		var here float64
		for ; j < len(of) && scores[of[j]] == scores[of[i]]; j++ {
			if rows[of[j]].label >= 0.5 {
				here++
			}
		}
		positives += here
		rankSum += here * float64(i+1+j) / 2
		i = j
	}
	negatives := float64(len(of)) - positives
	if positives == 0 || negatives == 0 {
		return 0, false
	}
	return (rankSum - positives*(positives+1)/2) / (positives * negatives), true
}
