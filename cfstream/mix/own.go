package mix

import (
	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// own lists what the user has had before, where repeats are listed: ln of the sum of 1/(1+lag) over the visits.
type own struct{}

func newOwn() *own { return &own{} }

func (own) name() string       { return corastream.SourceAgain }
func (own) features() []string { return []string{"own"} }
func (own) grow(int)           {}
func (own) learn(*event)       {}

func (own) find(q *ask) {
	if !q.repeats {
		return
	}
	for l, p := range q.past {
		if at := q.put(p.item); at >= 0 {
			q.own[at] += 1 / float32(1+l)
		}
	}
}

// ownShift puts the feature of a single old visit above that of none, which is 0.
const ownShift = 5

func (own) fill(q *ask, f [][]float32) {
	for c, at := range q.pick {
		f[0][c] = 0
		if v := q.own[at]; v > 0 {
			f[0][c] = num.Ln32(v) + ownShift
		}
	}
}

func (own) from(q *ask, c int) int32 {
	if q.own[c] > 0 {
		return q.cands[c]
	}
	return -1
}
func (own) code(*coder) {}
