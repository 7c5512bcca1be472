package mix

import (
	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// Worth says what the LLM's part does to the list: the NDCG@10 of the likes that taught the mixture of late, each ranked with
// and without it before it was learnt, among the mixture's best candidates. Both use the same weights of all other sources.
type Worth struct {
	With, Without float64
	CI            [2]float64 // of the difference, 95 %, by the rows' spread
	Rows          int64
	Version       int64 // in use; 0: the start, A = I
	TrainedAt     int64 // events that were learnt when its training began
}

// worthRows is after how many rows the older half of the figures is dropped.
const worthRows = 5000

// worth sums the rows of the last whole block and of the one under way.
type worth struct{ blocks [2]worthBlock }

type worthBlock struct {
	rows                       int64
	with, without, diff, diff2 float64
}

// gains are 1/log2(rank+2).
var gains = func() (g [10]float64) {
	for r := range g {
		g[r] = float64(num.Ln32(2)) / float64(num.Ln32(float32(r+2)))
	}
	return g
}()

// gainOf is what the target's rank, from 0, adds to NDCG@10.
func gainOf(rank int) float64 {
	if rank < len(gains) {
		return gains[rank]
	}
	return 0
}

func (w *worth) add(rankWith, rankWithout int) {
	b := &w.blocks[0]
	if b.rows == worthRows {
		w.blocks[1], *b = *b, worthBlock{}
	}
	with, without := gainOf(rankWith), gainOf(rankWithout)
	d := with - without
	b.rows++
	b.with += with
	b.without += without
	b.diff += d
	b.diff2 += float64(d * d)
}

// all adds the blocks up.
func (w *worth) all() (s worthBlock) {
	for _, b := range w.blocks {
		s.rows += b.rows
		s.with += b.with
		s.without += b.without
		s.diff += b.diff
		s.diff2 += b.diff2
	}
	return s
}

// gain is the mean difference and its standard error.
func (w *worth) gain() (mean, err float64) {
	s := w.all()
	return spread(s.diff, s.diff2, max(s.rows, 1))
}

func (w *worth) figures() Worth {
	s := w.all()
	out := Worth{Rows: s.rows}
	if s.rows == 0 {
		return out
	}
	n := float64(s.rows)
	mean, err := w.gain()
	half := 1.96 * err
	out.With, out.Without, out.CI = s.with/n, s.without/n, [2]float64{mean - half, mean + half}
	return out
}

func (w *worth) code(c *coder) {
	for i := range w.blocks {
		b := &w.blocks[i]
		c.i64(&b.rows)
		for _, v := range []*float64{&b.with, &b.without, &b.diff, &b.diff2} {
			c.f64(v)
		}
	}
}

// Coded says whether an item has a code, and CodedItems how many have.
func (m *Model) Coded(id string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, ok := m.number[id]
	return ok && m.steer != nil && m.steer.coded[n]
}

// Code takes in the codes of items that are known, from an owner that keeps them itself: a cluster's replica reads its own
// texts, and the changelogs that it follows have no codes. Codes that a table file does not hold yet are gone after a kill, so
// that Coded says which have to be told again.
func (m *Model) Code(items []corastream.Item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.steer == nil {
		return
	}
	for _, it := range items {
		if n, ok := m.number[it.ID]; ok && !m.items[n].gone {
			m.steer.describe(n, it.Code, false)
		}
	}
}

// CodedItems counts them.
func (m *Model) CodedItems() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.steer == nil {
		return 0
	}
	return m.steer.some
}

// Worth is what the LLM's part is worth of late; no rows where the spec leaves it out or no code has come.
func (m *Model) Worth() Worth {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.steer == nil {
		return Worth{}
	}
	w := m.steer.worth.figures()
	w.Version, w.TrainedAt = m.steer.court.active.id, m.steer.court.active.at
	return w
}
