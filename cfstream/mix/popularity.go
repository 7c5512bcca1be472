package mix

import (
	"math"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// halfLives of the counts of likes, in seconds; the first never fades.
var halfLives = [...]float64{math.Inf(1), 30 * 86400, 7 * 86400, 86400, 3456}

const counts = len(halfLives)

// headItems of each count are candidates for everybody.
const headItems = 200

// popularity counts likes with five half-lives, by forward decay (Cormode et al., 2009): a like of time t weighs 2^((t-zero)/h), so
// that nothing has to be decayed until zero moves.
type popularity struct {
	m     *Model
	count [counts][]float64 // by item
	sum   [counts]float64
	zero  [counts]float64
	heads [counts][]int32 // the items with the highest counts, best first; decay keeps their order
	in    []uint8         // by item: bit h says that it is in heads[h]
}

func newPopularity(m *Model) *popularity { return &popularity{m: m} }

func (p *popularity) name() string { return corastream.SourcePopular }

func (p *popularity) features() []string { return []string{"ever", "month", "week", "day", "shares"} }

func (p *popularity) grow(n int) {
	for h := range p.count {
		for len(p.count[h]) < n {
			p.count[h] = append(p.count[h], 0)
		}
	}
	for len(p.in) < n {
		p.in = append(p.in, 0)
	}
}

func (p *popularity) learn(e *event) {
	if e.positive {
		for h := range p.count {
			if p.zero[h] == 0 {
				p.zero[h] = e.at
			}
			if (e.at-p.zero[h])/halfLives[h] > 40 {
				p.rescale(h, e.at)
			}
			w := num.Exp2((e.at - p.zero[h]) / halfLives[h])
			p.count[h][e.item] += w
			p.sum[h] += w
			p.raise(h, e.item)
		}
	}
}

// raise moves an item up among the heads of a count that has just grown.
func (p *popularity) raise(h int, item int32) {
	list, count := p.heads[h], p.count[h]
	at := len(list)
	switch {
	case p.in[item]&(1<<h) != 0:
		for at--; list[at] != item; at-- {
		}
	case len(list) < headItems:
		list = append(list, item)
		p.in[item] |= 1 << h
	case count[item] > count[list[headItems-1]]:
		at--
		p.in[list[at]] &^= 1 << h
		p.in[item] |= 1 << h
		list[at] = item
	default:
		return
	}
	for ; at > 0 && count[list[at-1]] < count[item]; at-- {
		list[at-1], list[at] = list[at], list[at-1]
	}
	p.heads[h] = list
}

// undo takes the like at k out of the counts.
func (p *popularity) undo(e *event, k int) {
	x := e.past[k]
	if !x.liked {
		return
	}
	for h := range p.count {
		w := min(p.count[h][x.item], num.Exp2((x.at-p.zero[h])/halfLives[h]))
		p.count[h][x.item] -= w
		p.sum[h] = max(0, p.sum[h]-w)
	}
}

func (p *popularity) rescale(h int, at float64) {
	f := num.Exp2(-(at - p.zero[h]) / halfLives[h])
	for i := range p.count[h] {
		p.count[h][i] *= f
	}
	p.sum[h] *= f
	p.zero[h] = at
}

// eachHead calls f for the first items of all counts, then for the second ones, and so on to the n-th.
func (p *popularity) eachHead(n int, f func(item int32)) {
	for r := range n {
		for h := range p.heads {
			if r < len(p.heads[h]) {
				f(p.heads[h][r])
			}
		}
	}
}

func (p *popularity) find(q *ask) {
	p.eachHead(headItems, func(j int32) { q.put(j) })
}

func (p *popularity) fill(q *ask, f [][]float32) {
	var fade [counts]float64
	var share [counts]float32
	n := float64(len(p.m.items))
	for h := range fade {
		fade[h] = num.Exp2(-max(0, q.now-p.zero[h]) / halfLives[h])
		share[h] = float32(fade[h] * n / (float64(counts) * (float64(fade[h]*p.sum[h]) + 0.2)))
	}
	for c, at := range q.pick {
		j := q.cands[at]
		var s float32
		for h := range fade {
			x := float32(p.count[h][j])
			s += float32(x * share[h])
			if h < counts-1 {
				f[h][c] = x
			}
		}
		f[counts-1][c] = s
	}
	num.LnOf(f[0], 1, 0.3)
	for h := 1; h < counts-1; h++ {
		num.LnOf(f[h], float32(fade[h]), 0.1)
	}
	num.LnOf(f[counts-1], 1, 0.02)
}

func (p *popularity) from(*ask, int) int32 { return -1 }

// quality is what an item's events say of it whoever comes: the share of likes where there are dislikes, and its age.
type quality struct {
	m      *Model
	likes  []float32
	events []float32
	first  []float64 // when it was first taken; 0: never
}

func newQuality(m *Model) *quality { return &quality{m: m} }

func (k *quality) name() string { return corastream.SourceQuality }

func (k *quality) features() []string { return []string{"share", "age"} }

func (k *quality) grow(n int) {
	for len(k.likes) < n {
		k.likes, k.events, k.first = append(k.likes, 1), append(k.events, 2), append(k.first, 0)
	}
}

func (k *quality) learn(e *event) {
	k.events[e.item]++
	if e.positive {
		k.likes[e.item]++
	}
	if k.first[e.item] == 0 {
		k.first[e.item] = e.at
	}
}

// undo takes the event at n out of the share; both counts began at 1 and 2.
func (k *quality) undo(e *event, n int) {
	x := e.past[n]
	k.events[x.item] = max(2, k.events[x.item]-1)
	if x.liked {
		k.likes[x.item] = max(1, k.likes[x.item]-1)
	}
}

func (k *quality) find(*ask) {}

func (k *quality) fill(q *ask, f [][]float32) {
	rated := k.m.likes*1000 < k.m.events*999
	for c, at := range q.pick {
		j := q.cands[at]
		f[0][c], f[1][c] = 0, 0
		if rated {
			f[0][c] = num.Ln32(k.likes[j] / k.events[j])
		} else if k.first[j] > 0 {
			f[1][c] = num.Ln32(1 + float32(max(0, q.now-k.first[j])/86400))
		}
	}
}

func (k *quality) from(*ask, int) int32 { return -1 }
