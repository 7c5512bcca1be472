package replay

import "math"

var nan = Number(math.NaN())

// histogram counts rows by score, so that the AUC of any number of rows takes bounded memory. Scores are logits: 2^15 equal
// bins over +-16, outer ones beyond. Rows in one bin count as ties; two scores 0.001 apart are told apart.
type histogram struct{ positive, negative []uint32 }

const (
	bins     = 1 << 15
	binLimit = 16.0
)

func newHistogram() histogram {
	return histogram{positive: make([]uint32, bins), negative: make([]uint32, bins)}
}

func (h histogram) add(z float64, positive bool) {
	bin := int(max(0, min(bins-1, math.Floor((z+binLimit)*(bins/(2*binLimit))))))
	if positive {
		h.positive[bin]++
	} else {
		h.negative[bin]++
	}
}

func (h histogram) auc() float64 {
	var below, pos, wins float64
	for b := range h.positive {
		p, n := float64(h.positive[b]), float64(h.negative[b])
		wins += p * (below + n/2)
		below, pos = below+n, pos+p
	}
	if pos == 0 || below == 0 {
		return math.NaN()
	}
	return wins / pos / below
}
