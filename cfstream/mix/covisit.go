package mix

import (
	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
	"github.com/corastream/corastream/kernels"
)

// The sums that are kept of a pair (x, j), each decayed by pairHalfLife and weighed by 1/(1+lag):
const (
	sumSym  = iota // j was taken near x, in either order
	sumFwd         // j was liked after x
	sumNext        // j was taken next to x, in either order
	sumFwd1        // j was taken right after x
	sumSess        // as sumSym, weighed by how little time lay between
	pairSums
)

const (
	pairHalfLife  = 60 * 86400.0
	sessionSecs   = 1800.0 // the scale on which two events belong to one session
	forwardLags   = 20     // sumFwd's history
	askLags       = 25     // of a history are asked for their neighbours: older ones add .0005 to NDCG@10 and as much time again
	dislikedPart  = 0.5    // of an item of the history that was disliked
	covisitFloor  = 0.3    // of a feature's mass is spread evenly over all items
	rescaleEvery  = 20     // half-lives: then all sums are brought back to the present
	neighbourSize = 24     // bytes
)

// covisit keeps for each item its most frequent neighbours. The table is derived from the events and bounded: a new pair takes
// the place of the one with the least sumSym.
type covisit struct {
	m     *Model
	lists []neighbours
	n     []float32 // by item: how many events, decayed
	zero  float64   // the time at which an event weighs 1
	lag   []float32 // 1/(1+l)
	width int       // neighbours kept of each item
	place []int32   // by item: its place in the list being learnt, plus 1; all 0 between events
}

// neighbours of one item: sums[i] belong to ids[i], sym[i] is sumSym of it.
type neighbours struct {
	ids  []int32
	sym  []float32
	rest [][pairSums - 1]float32
}

func newCovisit(m *Model) *covisit {
	c := &covisit{m: m, width: m.spec.Neighbours, lag: make([]float32, m.spec.History)}
	for l := range c.lag {
		c.lag[l] = 1 / float32(1+l)
	}
	return c
}

func (c *covisit) name() string { return corastream.SourceCoVisit }

func (c *covisit) features() []string { return []string{"sym", "fwd", "next", "fwd1", "sess"} }

func (c *covisit) grow(n int) {
	for len(c.lists) < n {
		c.lists = append(c.lists, neighbours{})
		c.n = append(c.n, 0)
	}
	// As the catalogue grows, so many neighbours of each item fit into the limit.
	if fit := max(8, int(c.m.spec.MemoryLimit/neighbourSize/int64(len(c.lists)))); fit < c.width {
		c.width = max(8, min(c.width*3/4, fit))
		for i := range c.lists {
			c.lists[i].shrink(c.width)
		}
	}
}

// shrink drops the least neighbours until width are left.
func (l *neighbours) shrink(width int) {
	for len(l.ids) > width {
		l.drop(l.least())
	}
}

// drop takes out the neighbour at place i. The last one takes its place.
func (l *neighbours) drop(i int) {
	last := len(l.ids) - 1
	l.ids[i], l.sym[i], l.rest[i] = l.ids[last], l.sym[last], l.rest[last]
	l.ids, l.sym, l.rest = l.ids[:last], l.sym[:last], l.rest[:last]
}

func (l *neighbours) least() int { return kernels.MinIndex(l.sym) }

// find is j's place, -1 when it is not there.
func (l *neighbours) find(j int32) int { return kernels.Index(l.ids, j) }

// add adds to the sums of neighbour j.
func (l *neighbours) add(j int32, width int, sym float32, rest [pairSums - 1]float32) {
	if at := l.find(j); at >= 0 {
		l.raise(at, sym, rest)
	} else if len(l.ids) < width {
		l.ids, l.sym, l.rest = append(l.ids, j), append(l.sym, sym), append(l.rest, rest)
	} else {
		at = l.least()
		l.ids[at], l.sym[at], l.rest[at] = j, sym, rest
	}
}

func (l *neighbours) raise(at int, sym float32, rest [pairSums - 1]float32) {
	l.sym[at] += sym
	r := &l.rest[at]
	for k, x := range rest {
		r[k] += x
	}
}

func (c *covisit) learn(e *event) {
	if c.zero == 0 {
		c.zero = e.at
	}
	if (e.at-c.zero)/pairHalfLife > rescaleEvery {
		c.rescale(e.at)
	}
	w := c.weight(e.at)
	own := &c.lists[e.item]
	if n := len(c.lists) - len(c.place); n > 0 {
		c.place = append(c.place, make([]int32, n+n/4)...)
	}
	for i, j := range own.ids {
		c.place[j] = int32(i + 1)
	}
	for l, p := range e.past[:min(len(e.past), len(c.lag))] {
		if p.item == e.item && !e.repeats {
			continue
		}
		sym, fwd, next, sess := c.parts(w, l, e.at-p.at, e.positive)
		if p.item == e.item {
			c.addOwn(own, p.item, sym, [pairSums - 1]float32{fwd, next, next, sess})
		} else {
			c.lists[p.item].add(e.item, c.width, sym, [pairSums - 1]float32{fwd, next, next, sess})
			c.addOwn(own, p.item, sym, [pairSums - 1]float32{0, next, 0, sess})
		}
	}
	for _, j := range own.ids {
		c.place[j] = 0
	}
	c.n[e.item] += w
}

// addOwn is own.add of an item whose own list is found by place: a list of some hundreds is gone through once for an event, and not once
// for each of its pairs.
func (c *covisit) addOwn(own *neighbours, j int32, sym float32, rest [pairSums - 1]float32) {
	if at := c.place[j]; at > 0 {
		own.raise(int(at)-1, sym, rest)
		return
	}
	at := len(own.ids)
	if at < c.width {
		own.ids, own.sym, own.rest = append(own.ids, j), append(own.sym, sym), append(own.rest, rest)
	} else {
		at = own.least()
		c.place[own.ids[at]] = 0
		own.ids[at], own.sym[at], own.rest[at] = j, sym, rest
	}
	c.place[j] = int32(at) + 1
}

// undo subtracts what learn added for the event at k and for later ones of which it was the past.
func (c *covisit) undo(e *event, k int) {
	x := e.past[k]
	for l, p := range e.past[k+1 : min(k+1+len(c.lag), len(e.past))] {
		if p.item != x.item || e.repeats {
			c.subtract(p, x, l)
		}
	}
	for l := range min(k, len(c.lag)) {
		if p := e.past[k-1-l]; p.item != x.item || e.repeats {
			c.subtract(x, p, l)
		}
	}
	c.n[x.item] = max(0, c.n[x.item]-c.weight(x.at))
}

// parts are what an event of weight w adds to the sums of a pair: the other item was taken l events and gap seconds before. fwd goes to
// the earlier item alone, because the later one was not followed by it.
func (c *covisit) parts(w float32, l int, gap float64, liked bool) (sym, fwd, next, sess float32) {
	sym = float32(w * c.lag[l])
	sess = float32(sym * near(gap))
	if liked && l < forwardLags {
		fwd = sym
	}
	if l == 0 {
		next = w
	}
	return sym, fwd, next, sess
}

// weight is what an event of a time counts.
func (c *covisit) weight(at float64) float32 { return float32(num.Exp2((at - c.zero) / pairHalfLife)) }

// subtract takes out of the sums what they got from b at lag l behind a.
func (c *covisit) subtract(a, b past, l int) {
	sym, fwd, next, sess := c.parts(c.weight(b.at), l, b.at-a.at, b.liked)
	c.lists[a.item].less(b.item, sym, [pairSums - 1]float32{fwd, next, next, sess})
	if a.item != b.item {
		c.lists[b.item].less(a.item, sym, [pairSums - 1]float32{0, next, 0, sess})
	}
}

// less subtracts from the sums of neighbour j, which stay at 0 or above. A neighbour of whom nothing is left goes.
func (l *neighbours) less(j int32, sym float32, rest [pairSums - 1]float32) {
	at := l.find(j)
	if at < 0 {
		return
	}
	if l.sym[at] <= sym*1.0001 { // equal but for rounding
		l.drop(at)
		return
	}
	l.sym[at] -= sym
	r := &l.rest[at]
	for k, x := range rest {
		r[k] = max(0, r[k]-x)
	}
}

// near is e^(-gap/session).
func near(gap float64) float32 { return num.Exp32(float32(-max(gap, 0) / sessionSecs)) }

// rescale makes an event of the time at weigh 1.
func (c *covisit) rescale(at float64) {
	f := float32(num.Exp2(-(at - c.zero) / pairHalfLife))
	for i := range c.lists {
		l := &c.lists[i]
		for k := range l.sym {
			l.sym[k] *= f
			for s := range l.rest[k] {
				l.rest[k][s] *= f
			}
		}
		c.n[i] *= f
	}
	c.zero = at
}

func (c *covisit) find(q *ask) {
	for l, p := range q.past[:min(len(q.past), len(c.lag), askLags)] {
		list := &c.lists[p.item]
		even := c.lag[l] / (c.n[p.item] + 1) * liking(p)
		sess := float32(even * near(q.now-p.at))
		fwd, first := even, float32(0)
		if l >= forwardLags {
			fwd = 0
		}
		if l == 0 {
			first = 1 / (c.n[p.item] + 1)
		}
		q.putAll(list.ids)
		sym, rest := list.sym[:len(list.ids)], list.rest[:len(list.ids)]
		for i, j := range list.ids {
			at := int(q.slot[j]) - 1
			if at < 0 {
				continue
			}
			a, r := &q.near[at], &rest[i]
			a[sumSym] += float32(even * sym[i])
			a[sumFwd] += float32(fwd * r[sumFwd-1])
			a[sumSess] += float32(sess * r[sumSess-1])
			if l == 0 {
				a[sumNext] += float32(first * r[sumNext-1])
				a[sumFwd1] += float32(first * r[sumFwd1-1])
			}
		}
	}
}

// fill writes ln(.7 m a/sum a + .3), m being how many items may be listed: how many times more a candidate is taken near the
// history than an item drawn evenly.
func (c *covisit) fill(q *ask, f [][]float32) {
	var s0, s1, s2, s3, s4 float32 // side by side in registers
	for i := range q.near {
		a := &q.near[i]
		s0 += a[0]
		s1 += a[1]
		s2 += a[2]
		s3 += a[3]
		s4 += a[4]
	}
	sum := [pairSums]float32{s0, s1, s2, s3, s4}
	free := float32(len(c.lists) - len(q.met))
	floor := num.Ln32(covisitFloor)
	for k := range sum {
		row := f[k]
		if sum[k] < 1e-12 {
			for i := range row {
				row[i] = floor
			}
			continue
		}
		g := (1 - covisitFloor) * free / sum[k]
		for i, c := range q.pick {
			row[i] = q.near[c][k]
		}
		num.LnOf(row, g, covisitFloor)
	}
}

// from is the item of the history with the greatest part in candidate i's sumSym.
func (c *covisit) from(q *ask, i int) int32 {
	best, top := int32(-1), float32(0)
	for l, p := range q.past[:min(len(q.past), len(c.lag))] {
		list := &c.lists[p.item]
		at := list.find(q.cands[i])
		if at < 0 || !p.liked {
			continue
		}
		if v := list.sym[at] * c.lag[l] / (c.n[p.item] + 1); v > top {
			best, top = p.item, v
		}
	}
	return best
}
