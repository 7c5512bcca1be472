package mix

import (
	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
	"github.com/corastream/corastream/kernels"
)

// vectors compares the items' own vectors (the catalogue's `embedding`, such as a shop's image or text model makes): the cosine
// between a candidate's and the mean of the user's last items', and the same for items with few likes. The width is that of the
// first vector; items with another have none.
type vectors struct {
	m     *Model
	width int       // numbers of a catalogue's vector; 0: none has come
	d     int       // numbers kept of each
	place []int32   // by item: its row, -1: none
	rows  []float32 // [vectors][d], of length 1
	free  []int32   // rows that nobody has any more
	fresh fresh     // items with a vector that no event has named
	lag   [vectorLags]float32
}

const (
	vectorLags  = 20
	vectorWidth = 256 // longer vectors are folded
	vectorScale = 3
)

func newVectors(m *Model) *vectors {
	v := &vectors{m: m}
	recency(v.lag[:])
	return v
}

func (*vectors) name() string       { return corastream.SourceSimilar }
func (*vectors) features() []string { return []string{"vector", "coldvector"} }

func (v *vectors) grow(n int) {
	for len(v.place) < n {
		v.place = append(v.place, -1)
	}
}

// describe takes in the item's vector, or that it has none any more.
func (v *vectors) describe(item int32, text string, removed bool) {
	raw := corastream.UnpackEmbedding(text)
	if raw != nil && v.width == 0 {
		v.width, v.d = len(raw), min(len(raw), vectorWidth)
	}
	if len(raw) != v.width || removed || raw == nil {
		if at := v.place[item]; at >= 0 {
			clear(row(v.rows, at, v.d))
			v.free, v.place[item] = append(v.free, at), -1
		}
		return
	}
	if v.place[item] < 0 {
		if n := len(v.free); n > 0 {
			v.place[item], v.free = v.free[n-1], v.free[:n-1]
		} else {
			v.place[item] = int32(len(v.rows) / v.d)
			v.rows = append(v.rows, make([]float32, v.d)...)
		}
		if v.isFresh(item) {
			v.fresh.add(item)
		}
	}
	fold(row(v.rows, v.place[item], v.d), raw)
}

// fold writes a vector of length 1. A longer one is projected: each number is added to a place and with a sign that its number's hash
// says, which keeps cosines up to noise of 1/sqrt(d) (feature hashing, Weinberger et al., 2009).
func fold(to []float32, raw []int8) {
	clear(to)
	for k, x := range raw {
		at, y := k, float32(x)
		if len(raw) > len(to) {
			h := (uint64(k) + 1) * 0x9e3779b97f4a7c15
			h ^= h >> 29
			h *= 0xbf58476d1ce4e5b9
			h ^= h >> 32
			if at = int(h % uint64(len(to))); h>>63 == 1 {
				y = -y
			}
		}
		to[at] += y
	}
	if length := num.Sqrt32(kernels.Dot(to, to)); length > 0 {
		kernels.Scale(1/length, to)
	}
}

func (v *vectors) isFresh(item int32) bool { return v.place[item] >= 0 && v.m.quality.first[item] == 0 }

func (v *vectors) learn(*event) { v.fresh.learn(v.isFresh) }

// find adds the fresh items nearest to the user's last ones.
func (v *vectors) find(q *ask) {
	q.vector = q.vector[:0]
	if len(v.rows) == 0 {
		return
	}
	q.vector = fitTo(q.vector, v.d)
	clear(q.vector)
	any := false
	for l, p := range q.past[:min(len(q.past), vectorLags)] {
		if at := v.place[p.item]; at >= 0 {
			kernels.Axpy(v.lag[l]*liking(p), row(v.rows, at, v.d), q.vector)
			any = true
		}
	}
	length := num.Sqrt32(kernels.Dot(q.vector, q.vector))
	if !any || length == 0 {
		q.vector = q.vector[:0]
		return
	}
	kernels.Scale(1/length, q.vector)
	v.fresh.find(q, v.isFresh, func(j int32) float32 { return kernels.Dot(q.vector, row(v.rows, v.place[j], v.d)) })
}

func (v *vectors) fill(q *ask, f [][]float32) {
	clear(f[0])
	clear(f[1])
	if len(q.vector) == 0 {
		return
	}
	likes := v.m.popular.count[0]
	for i, c := range q.pick {
		j := q.cands[c]
		if at := v.place[j]; at >= 0 {
			x := vectorScale * kernels.Dot(q.vector, row(v.rows, at, v.d))
			f[0][i], f[1][i] = x, x*num.Exp32(-float32(likes[j])/3)
		}
	}
}

// from is the liked item of the history whose vector is nearest.
func (v *vectors) from(q *ask, c int) int32 {
	best, top := int32(-1), float32(0)
	at := v.place[q.cands[c]]
	if at < 0 {
		return -1
	}
	for l, p := range q.past[:min(len(q.past), vectorLags)] {
		if mine := v.place[p.item]; mine >= 0 && p.liked {
			if x := v.lag[l] * kernels.Dot(row(v.rows, mine, v.d), row(v.rows, at, v.d)); x > top {
				best, top = p.item, x
			}
		}
	}
	return best
}

func (v *vectors) code(c *coder) {
	c.int(&v.width)
	c.int(&v.d)
	c.int(&v.fresh.old)
	c.i32s(&v.place)
	c.i32s(&v.free)
	c.i32s(&v.fresh.items)
	c.f32s(&v.rows)
}

// sound says that the parts fit n items.
func (v *vectors) sound(n int) bool {
	if v.d < 0 || v.d > vectorWidth || v.d != min(v.width, vectorWidth) || len(v.place) != n || v.d == 0 && len(v.rows) > 0 {
		return false
	}
	rows := 0
	if v.d > 0 {
		rows = len(v.rows) / v.d
	}
	return len(v.rows) == rows*v.d && within(v.place, -1, max(rows, 0)) && within(v.free, 0, rows) && within(v.fresh.items, 0, n)
}
