package mix

import (
	"math"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
	"github.com/corastream/corastream/kernels"
)

// ease is the closed-form linear autoencoder (Steck, 2019): B = I - P diag(P)^-1 with P = (X'X + penalty I)^-1 over the likes, and a
// user's score is the sum of B's rows of what they liked of late, (1+lag)^-0.7 each. X'X counts pairs of likes with every
// event. P is solved anew after every easeGrowth of the likes, beside the stream; the result is taken in at a fixed event,
// so that the same events give the same state however fast the machine is.
type ease struct {
	m      *Model
	place  []int32     // by item: its row, -1: none
	items  []int32     // by row
	gram   [][]float32 // [row][0..row]
	likes  int64
	next   int64 // likes: then P is solved anew
	p      []float32
	n      int // rows of P
	diag   []float32
	take   int64 // likes: then `solved` is taken in
	solved chan easeFit
	over   bool // the catalogue is too large
	lag    []float32
}

type easeFit struct {
	p []float32
	n int
}

const (
	easePenalty = 250
	easeFirst   = 4000 // likes
	easeGrowth  = 5    // P is solved again after a fourth as many likes more
)

func newEASE(m *Model) *ease {
	e := &ease{m: m, next: easeFirst, lag: make([]float32, window)}
	recency(e.lag)
	return e
}

func (*ease) name() string       { return corastream.SourceCoVisit }
func (*ease) features() []string { return []string{"ease"} }

func (e *ease) grow(n int) {
	for len(e.place) < n {
		e.place = append(e.place, -1)
	}
}

// row of an item, made for its first like.
func (e *ease) row(item int32) int32 {
	if e.place[item] < 0 {
		e.place[item] = int32(len(e.items))
		e.items = append(e.items, item)
		e.gram = append(e.gram, make([]float32, len(e.items)))
	}
	return e.place[item]
}

// drop gives up on a catalogue that is too large: the matrix would grow with the square of the
// items and its inversion with the cube. An inversion under way is received first, so that its
// goroutine does not outlive what it belongs to.
func (e *ease) drop() {
	e.over, e.gram, e.p, e.n, e.items, e.diag = true, nil, nil, 0, nil, nil
	if e.solved != nil {
		<-e.solved
		e.solved = nil
	}
	for i := range e.place {
		e.place[i] = -1
	}
}

// learn counts the like in X'X and keeps two dates, both in likes: at next an inversion begins, at
// take its result is received. If the goroutine is late, learn waits for it with the model's lock
// held, because a state that depended on the machine's speed could not be compared with a re-run.
func (e *ease) learn(ev *event) {
	if e.over || !ev.positive || ev.met {
		return
	}
	if len(e.items) == e.m.spec.EASEItems && e.place[ev.item] < 0 {
		e.drop()
		return
	}
	i := e.row(ev.item)
	e.gram[i][i]++
	for _, p := range ev.past {
		if !p.liked || p.item == ev.item {
			continue
		}
		if j := e.place[p.item]; j >= 0 {
			e.gram[max(i, j)][min(i, j)]++
		}
	}
	e.likes++
	if e.solved != nil && e.likes >= e.take {
		fit := <-e.solved
		e.solved = nil
		e.install(fit)
	}
	if e.likes >= e.next {
		e.begin()
	}
}

// begin starts to invert a copy of X'X. The copy is of this moment, so likes that come meanwhile go
// into the next inversion.
func (e *ease) begin() {
	n := len(e.items)
	a := make([]float32, n*n)
	for i, g := range e.gram {
		copy(a[i*n:], g)
		a[i*n+i] += easePenalty
	}
	e.solved = make(chan easeFit, 1)
	e.take, e.next = e.likes+max(500, e.likes/16), e.likes*easeGrowth/4
	go func(to chan<- easeFit) {
		invert(a, n)
		to <- easeFit{a, n}
	}(e.solved)
}

// sweepPanel is how many pivots are swept over the panel's own rows and columns before all other rows follow, so that these are gone
// through once for all of them. Every element sees the same sums in the same order as when one pivot follows the other.
const sweepPanel = 8

// invert replaces a symmetric positive definite matrix, of which the lower triangle is given, by its inverse: Gauss-Jordan by
// symmetric sweeps, row by row in memory.
func invert(a []float32, n int) {
	cols, steps := make([]float32, sweepPanel*n), make([]float32, sweepPanel*n)
	along := make([]float32, sweepPanel)
	for from := 0; from < n; from += sweepPanel {
		to := min(from+sweepPanel, n)
		for k := from; k < to; k++ {
			sweep(a, n, k, from, to, cols[(k-from)*n:][:n], steps[(k-from)*n:][:n])
		}
		along = along[:to-from]
		for i := range n {
			if i >= from && i < to {
				continue
			}
			whole := true
			for k := range along {
				along[k] = steps[k*n+i]
				whole = whole && along[k] != 0
			}
			left, right := a[i*n:i*n+min(i+1, from)], a[i*n+min(i+1, to):i*n+i+1]
			if whole {
				kernels.Axpys(along, cols, n, left)
				kernels.Axpys(along, cols[to:], n, right)
				continue
			}
			for k, s := range along { // a step of 0 is none: it would make +0 of -0
				if s != 0 {
					kernels.Axpy(s, cols[k*n:][:len(left)], left)
					kernels.Axpy(s, cols[k*n+to:][:len(right)], right)
				}
			}
		}
	}
	for i := range n { // swept in all, the matrix is -A^-1
		for j := range i + 1 {
			v := -a[i*n+j]
			a[i*n+j], a[j*n+i] = v, v
		}
	}
}

// sweep sweeps pivot k over the rows and columns from..to. It leaves k's column as it was before in col, and in steps how often each
// row has to take it.
func sweep(a []float32, n, k, from, to int, col, steps []float32) {
	d := 1 / a[k*n+k]
	copy(col, a[k*n:k*n+k])
	for i := k; i < n; i++ {
		col[i] = a[i*n+k]
	}
	for i, c := range col {
		s := -float32(c * d)
		if c == 0 {
			s = 0
		}
		steps[i] = s
		switch {
		case i == k || c == 0:
		case i >= from && i < to:
			kernels.Axpy(s, col[:i+1], a[i*n:i*n+i+1])
		case i >= to:
			row := a[i*n+from : i*n+to]
			for j, x := range col[from:to] {
				row[j] += float32(s * x)
			}
		}
	}
	for i := range k {
		a[k*n+i] = float32(col[i] * d)
	}
	for i := k + 1; i < n; i++ {
		a[i*n+k] = float32(col[i] * d)
	}
	a[k*n+k] = -d
}

func (e *ease) install(fit easeFit) {
	e.p, e.n = fit.p, fit.n
	e.diag = make([]float32, e.n)
	for i := range e.n {
		e.diag[i] = -1 / e.p[i*e.n+i]
		if math.IsInf(float64(e.diag[i]), 0) || e.diag[i] != e.diag[i] {
			e.diag[i] = 0
		}
	}
}

func (e *ease) find(*ask) {}

// sums returns the sum over the liked items x of lag * P[x,j] by j, nil where nothing liked is known.
func (e *ease) sums(q *ask) []float32 {
	if e.n == 0 {
		return nil
	}
	sums := q.numbers(e, e.n)
	l := 0
	for _, p := range q.past {
		if !p.liked {
			continue
		}
		if x := int(e.place[p.item]); x >= 0 && x < e.n {
			kernels.Axpy(e.lag[l], e.p[x*e.n:x*e.n+e.n], sums)
		}
		if l++; l == len(e.lag) {
			break
		}
	}
	if l == 0 {
		return nil
	}
	return sums
}

func (e *ease) fill(q *ask, f [][]float32) {
	row, floor := f[0], num.Ln32(covisitFloor)
	for i := range row {
		row[i] = floor
	}
	sums := e.sums(q)
	if sums == nil {
		return
	}
	score := func(j int32) float32 {
		if i := e.place[j]; i >= 0 && int(i) < e.n {
			return max(0, float32(sums[i]*e.diag[i]))
		}
		return 0
	}
	var sum float32
	for _, j := range q.cands {
		sum += score(j)
	}
	if sum < 1e-12 {
		return
	}
	g := (1 - covisitFloor) * float32(len(e.place)-len(q.met)) / sum
	for i, c := range q.pick {
		row[i] = score(q.cands[c])
	}
	num.LnOf(row, g, covisitFloor)
}

func (e *ease) from(q *ask, c int) int32 {
	best, top := int32(-1), float32(0)
	j := int(e.place[q.cands[c]])
	if j < 0 || j >= e.n {
		return -1
	}
	l := 0
	for _, p := range q.past {
		if !p.liked {
			continue
		}
		if x := int(e.place[p.item]); x >= 0 && x < e.n {
			if v := e.lag[l] * e.p[x*e.n+j] * e.diag[j]; v > top {
				best, top = p.item, v
			}
		}
		if l++; l == len(e.lag) {
			break
		}
	}
	return best
}
