package mix

import (
	"slices"

	"github.com/corastream/corastream/cfstream/internal/num"
	"github.com/corastream/corastream/kernels"
)

// lengths and gaps (seconds) cut the history's length and the age of its last event into the rows of the weights.
var (
	lengths = [...]int{1, 3, 8, 20, 50, 120}
	gaps    = [...]float64{1, 60, 600, 3600, 86400, 604800}
)

const weightRows = 1 + len(lengths) + 1 + len(gaps) + 1

// The softmax regression: the best rivals with weight 1, uniform ones each weighed by how many items it stands for. Without the
// uniform ones the weights collapse: they learn to order the best candidates among themselves and forget what keeps the rest out.
const (
	rivals      = 40
	uniform     = 32
	weightRate  = 0.1
	weightStart = 30 // of Adagrad's sums: the first steps are small
	weightDecay = 1e-3
)

// weights of the features: those of all queries, plus those of a length, plus those of a gap.
type weights struct {
	names []string
	w, g  [weightRows][]float32 // weights and Adagrad's sums
	usual []float32             // each feature's mean over candidates
	next  int64                 // likes: then a like is learnt again
	pull  []float32
	llm   int // place of the LLM's feature, -1: none
}

func newWeights(names []string) weights {
	w := weights{names: names, usual: make([]float32, len(names)), pull: make([]float32, len(names)), llm: slices.Index(names, "llm")}
	for r := range w.w {
		w.w[r], w.g[r] = make([]float32, len(names)), make([]float32, len(names))
		for k := range names {
			w.g[r][k] = weightStart
			if r == 0 {
				w.w[r][k] = startWeight[names[k]]
			}
			if r == 1 {
				w.w[r][k] = strangerWeight[names[k]]
			}
		}
	}
	return w
}

// startWeight is where the weights of all queries begin: about what they come to on logs of several kinds.
var startWeight = map[string]float32{
	"ever": 0.05, "month": 0.1, "week": 0.1, "day": 0.1, "shares": 0.2, "share": 0.1, "sym": 0.15, "fwd": 0.15, "next": 0.1, "fwd1": 0.1,
	"sess": 0.1, "own": 0.1, "words": 0.1, "cold": 0.1, "title": 0.1, "vector": 0.1, "coldvector": 0.1, "sequence": 0.1, "ease": 0.1, "llm": 0.3, "label": 0.3,
}

// strangerWeight is what a weight begins with besides for users without a history.
var strangerWeight = map[string]float32{"label": 0.5}

// due says whether a like is one from which the weights learn: all of the first, then ever fewer, down to one in sixteen. A step
// costs as much as three events, and a long stream has more likes than the weights need.
func (w *weights) due(likes int64) bool {
	if likes < w.next {
		return false
	}
	every := int64(1)
	for every < 16 && likes >= dueAll*every {
		every *= 2
	}
	w.next = likes + every
	return true
}

// dueAll is how many likes all teach the weights.
const dueAll = 100_000

func (w *weights) rowsOf(q *ask) [3]int {
	r := [3]int{0, 1, 1 + len(lengths) + 1}
	gap := 1e12
	if len(q.past) > 0 {
		gap = q.now - q.past[0].at
	}
	for _, cut := range lengths {
		if len(q.past) >= cut {
			r[1]++
		}
	}
	for _, cut := range gaps {
		if gap >= cut {
			r[2]++
		}
	}
	return r
}

func (w *weights) at(rows [3]int, k int) float32 {
	return w.w[rows[0]][k] + w.w[rows[1]][k] + w.w[rows[2]][k]
}

func (w *weights) score(q *ask) {
	clear(q.score)
	for k := range w.names {
		kernels.Axpy(w.at(q.rows, k), q.f[k], q.score)
	}
}

// teach takes one step of the softmax regression for a like, with the features of just before it.
func (m *Model) teach(q *ask, e *event) {
	past := q.past
	q.begin(m, e.at, e.repeats)
	for len(q.past) > 0 && q.past[0].at >= e.at { // of the same moment: a list could not have known them, and they are no rivals
		q.bar(q.past[0].item)
		q.past = q.past[1:]
	}
	q.find()
	q.likely()
	target := q.force(e.item)
	q.pick = append(q.pick, int32(target))
	from := len(q.pick)
	for range uniform {
		m.draws = m.draws*6364136223846793005 + 1442695040888963407
		if c := q.put(int32((m.draws >> 33) % uint64(len(m.items)))); c >= 0 {
			q.pick = append(q.pick, int32(c))
		}
	}
	q.fill()
	if m.steer != nil {
		m.steer.log(q, from)
	}
	m.weights.learn(q, from, len(m.items)-len(q.met), m.steer)
	if m.steer != nil {
		m.steer.learnt()
	}
	q.end()
	q.past = past
}

// Of the candidates, those are picked that can be among the best rivals: the ones taken most near the history and the most popular
// ones. The features of a thousand others need not be computed.
const (
	teachNear  = 120
	teachHeads = 16 // of each count
)

// likely picks them.
func (q *ask) likely() {
	q.pick, q.order = q.pick[:0], q.order[:0]
	least := func(a, b int32) bool { return q.near[a][sumSym] < q.near[b][sumSym] }
	h := q.order // a heap of the best, the least on top
	down := func(i int) {
		for k := 2*i + 1; k < len(h); k = 2*i + 1 {
			if k+1 < len(h) && least(h[k+1], h[k]) {
				k++
			}
			if !least(h[k], h[i]) {
				return
			}
			h[i], h[k] = h[k], h[i]
			i = k
		}
	}
	for c := range q.near {
		switch {
		case len(h) < teachNear:
			if h = append(h, int32(c)); len(h) == teachNear {
				for i := len(h)/2 - 1; i >= 0; i-- {
					down(i)
				}
			}
		case least(h[0], int32(c)):
			h[0] = int32(c)
			down(0)
		}
	}
	q.order, q.pick = h, append(q.pick, h...)
	q.m.popular.eachHead(teachHeads, func(j int32) {
		if s := q.slot[j]; s > 0 && !slices.Contains(q.pick, s-1) {
			q.pick = append(q.pick, s-1)
		}
	})
}

// learn steps the weights against the gradient of ln(sum of e^score) - score(target), the sum running over free items. The picks are
// the rivals, then the target, then from `drawn` on those that stand for the rest.
func (w *weights) learn(q *ask, drawn, free int, s *steer) {
	target := drawn - 1
	q.set = q.set[:0]
	top := q.score[target]
	for c := range q.best() {
		if len(q.set) == rivals {
			break
		}
		if c < target && q.pick[c] != q.pick[target] {
			q.set = append(q.set, int32(c))
			top = max(top, q.score[c])
		}
	}
	best := len(q.set)
	for c := drawn; c < len(q.pick); c++ {
		if q.pick[c] != q.pick[target] && !slices.ContainsFunc(q.set[:best], func(b int32) bool { return q.pick[b] == q.pick[c] }) {
			q.set = append(q.set, int32(c))
			top = max(top, q.score[c])
		}
	}
	stands := float32(0)
	if n := len(q.set) - best; n > 0 {
		stands = float32(max(0, free-1-best)) / float32(n)
	}
	if s != nil {
		s.follow(q, q.set, best, stands, target, w.at(q.rows, w.llm))
	}
	clear(w.pull)
	z := float32(0)
	pull := func(c int, weight float32) {
		p := float32(num.Exp32(q.score[c]-top) * weight)
		z += p
		for k := range w.pull {
			w.pull[k] += float32(p * q.f[k][c])
		}
	}
	pull(target, 1)
	for i, c := range q.set {
		if i < best {
			pull(int(c), 1)
		} else {
			pull(int(c), stands)
		}
	}
	for k := range w.pull {
		mean := w.pull[k] / z
		grad := mean - q.f[k][target]
		for _, r := range q.rows {
			g := grad + float32(weightDecay*w.w[r][k])
			w.g[r][k] += float32(g * g)
			w.w[r][k] -= float32(weightRate*g) / num.Sqrt32(w.g[r][k])
		}
		w.usual[k] += float32(0.01 * (mean - w.usual[k]))
	}
}
