package mix

import (
	"math"
	"strings"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// labels compares what users with a user's labels take with what all users take: ln of how many times likelier an item is among
// them, the mean over the user's labels. A user without history is listed by little else. A user without labels has zeros.
//
// The likes of each label fade with the half-life of a month, as popularity's second count does. A label keeps the labelItems items
// with the highest counts; a new item takes the place and the count of the last one (Space-Saving, Metwally et al., 2005).
type labels struct {
	m      *Model
	number map[string]int32
	taken  []taken // by label
	zero   float64 // a like of time t weighs 2^((t-zero)/h)
}

// taken are the items that users with a label took, the highest count first.
type taken struct {
	name  string
	items []int32
	count []float64
	sum   float64
}

const (
	maxLabels  = 10_000 // different labels; later ones are not counted
	labelItems = 1000
	labelHeads = 100 // items of a label that become candidates
	labelTrust = 20  // likes of a label that count as much as what all users take
)

func newLabels(m *Model) *labels { return &labels{m: m, number: map[string]int32{}} }

func (*labels) name() string       { return corastream.SourceLabels }
func (*labels) features() []string { return []string{"label"} }
func (*labels) grow(int)           {}

// of gives the numbers of labels that are known. With add, the others become known.
func (l *labels) of(to []int32, names []string, add bool) []int32 {
	to = to[:0]
	for _, name := range names {
		n, ok := l.number[name]
		if !ok {
			if !add || len(l.taken) >= maxLabels {
				continue
			}
			n = int32(len(l.taken))
			name = strings.Clone(name)
			l.number[name] = n
			l.taken = append(l.taken, taken{name: name})
		}
		to = append(to, n)
	}
	return to
}

func (l *labels) learn(e *event) {
	if !e.positive || len(e.labels) == 0 {
		return
	}
	if l.zero == 0 {
		l.zero = e.at
	}
	life := halfLives[labelLife]
	if (e.at-l.zero)/life > 40 {
		l.rescale(num.Exp2(-(e.at - l.zero) / life))
		l.zero = e.at
	}
	w := num.Exp2((e.at - l.zero) / life)
	for _, n := range e.labels {
		l.taken[n].add(e.item, w)
	}
}

// labelLife is the place of the half-life in popularity's.
const labelLife = 1

func (l *labels) rescale(f float64) {
	for n := range l.taken {
		t := &l.taken[n]
		t.sum *= f
		for i := range t.count {
			t.count[i] *= f
		}
	}
}

func (t *taken) add(item int32, w float64) {
	t.sum += w
	at := 0
	for at < len(t.items) && t.items[at] != item {
		at++
	}
	if at == len(t.items) {
		if at < labelItems {
			t.items, t.count = append(t.items, item), append(t.count, 0)
		} else {
			at--
			t.items[at] = item
		}
	}
	t.count[at] += w
	for ; at > 0 && t.count[at-1] < t.count[at]; at-- {
		t.items[at-1], t.items[at] = t.items[at], t.items[at-1]
		t.count[at-1], t.count[at] = t.count[at], t.count[at-1]
	}
}

// undo takes the like at k out of the counts of the labels that the user has now.
func (l *labels) undo(e *event, k int) {
	x := e.past[k]
	if !x.liked {
		return
	}
	for _, n := range e.labels {
		t := &l.taken[n]
		for at, j := range t.items {
			if j != x.item {
				continue
			}
			w := min(t.count[at], num.Exp2((x.at-l.zero)/halfLives[labelLife]))
			t.count[at] -= w
			t.sum = max(0, t.sum-w)
			for ; at+1 < len(t.items) && t.count[at+1] > t.count[at]; at++ {
				t.items[at], t.items[at+1] = t.items[at+1], t.items[at]
				t.count[at], t.count[at+1] = t.count[at+1], t.count[at]
			}
			break
		}
	}
}

func (l *labels) find(q *ask) {
	for _, n := range q.labels {
		for _, j := range l.taken[n].items[:min(labelHeads, len(l.taken[n].items))] {
			q.put(j)
		}
	}
}

func (l *labels) fill(q *ask, f [][]float32) {
	clear(f[0])
	if len(q.labels) == 0 {
		return
	}
	p := l.m.popular
	fade, usual := p.fade(labelLife, q.now), num.Exp2(-max(0, q.now-l.zero)/halfLives[labelLife])
	all := float64(fade*p.sum[labelLife]) + float64(0.1*float64(len(l.m.items)))
	of := q.numbers(l, len(q.cands))
	each := 1 / float32(len(q.labels))
	for _, n := range q.labels {
		t := &l.taken[n]
		for i, j := range t.items {
			if s := q.slot[j]; s > 0 {
				of[s-1] = float32(t.count[i] * usual)
			}
		}
		trust := float64(t.sum*usual) + labelTrust
		for i, at := range q.pick {
			share := (float64(fade*p.count[labelLife][q.cands[at]]) + 0.1) / all
			lift := (float64(of[at]) + float64(labelTrust*share)) / float64(trust*share)
			f[0][i] += float32(each * num.Ln32(float32(lift)))
		}
		for _, j := range t.items {
			if s := q.slot[j]; s > 0 {
				of[s-1] = 0
			}
		}
	}
}

func (*labels) from(*ask, int) int32 { return -1 }

func (l *labels) code(c *coder) {
	c.f64(&l.zero)
	n := c.length(len(l.taken))
	for i := 0; i < n && c.err == nil; i++ {
		if c.w == nil {
			l.taken = append(l.taken, taken{})
		}
		t := &l.taken[i]
		c.string(&t.name)
		c.i32s(&t.items)
		c.f64s(&t.count)
		c.f64(&t.sum)
		if c.w == nil {
			l.number[t.name] = int32(i)
		}
	}
}

// sound says that the parts fit n items.
func (l *labels) sound(n int) bool {
	for i := range l.taken {
		t := &l.taken[i]
		if len(t.items) != len(t.count) || len(t.items) > labelItems || !within(t.items, 0, n) || math.IsNaN(t.sum) {
			return false
		}
	}
	return len(l.taken) <= maxLabels && len(l.number) == len(l.taken)
}
