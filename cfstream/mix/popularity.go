package mix

import (
	"cmp"
	"math"
	"slices"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// halfLives of the counts of likes, in seconds; the first never fades.
var halfLives = [...]float64{math.Inf(1), 30 * 86400, 7 * 86400, 86400, 3456}

const counts = len(halfLives)

// headItems are the best of each count that are candidates for everybody, renewed every headEvery events or more where the
// catalogue is large, so that looking for them costs a fixed part of learning.
const (
	headItems = 200
	headEvery = 100
)

// popularity counts likes with five half-lives, by forward decay (Cormode et al., 2009): a like of time t weighs 2^((t-zero)/h), so
// that nothing has to be decayed until zero moves.
type popularity struct {
	m     *Model
	count [counts][]float64 // by item
	sum   [counts]float64
	zero  [counts]float64
	heads []int32
	until int64 // events: then the heads are renewed
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
		}
	}
	if p.m.events+1 >= p.until {
		p.renew()
		p.until = p.m.events + 1 + int64(max(headEvery, len(p.m.items)/64))
	}
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

// renew finds the heads: the first of all counts, then the second ones, and so on.
func (p *popularity) renew() {
	var tops [counts][]int32
	for h := range p.count {
		count, top := p.count[h], []int32(nil)
		before := func(a, b int32) int { return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a, b)) }
		bar := 0.0
		for i, n := range count {
			if n <= bar {
				continue
			}
			if top = append(top, int32(i)); len(top) == 2*headItems {
				slices.SortFunc(top, before)
				top = top[:headItems]
				bar = count[top[headItems-1]]
			}
		}
		slices.SortFunc(top, before)
		tops[h] = top[:min(headItems, len(top))]
	}
	chosen := map[int32]bool{}
	p.heads = p.heads[:0]
	for r := range headItems {
		for _, top := range tops {
			if r < len(top) && !chosen[top[r]] {
				chosen[top[r]] = true
				p.heads = append(p.heads, top[r])
			}
		}
	}
}

func (p *popularity) find(q *ask) {
	for _, j := range p.heads {
		q.put(j)
	}
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
			switch h {
			case 0:
				f[0][c] = num.Ln32(x + 0.3)
			case 1, 2, 3:
				f[h][c] = num.Ln32(float32(float64(x)*fade[h]) + 0.1)
			}
		}
		f[counts-1][c] = num.Ln32(s + 0.02)
	}
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
