package mix

import (
	"slices"

	"github.com/corastream/corastream"
)

// ask is one query on its way, with the memory that it needs.
type ask struct {
	m       *Model
	now     float64
	repeats bool
	past    []past  // newest first
	labels  []int32 // of the user

	slot   []int32 // by item: its place among the candidates plus 1, 0: none, -1: it may not be listed
	cands  []int32
	met    []int32     // items whose slot is -1
	pick   []int32     // places of the candidates whose features are wanted
	f      [][]float32 // features, [feature][pick]
	score  []float32   // by pick
	rows   [3]int      // of the weights
	order  []int32     // picks
	set    []int32     // picks that the weights learn from
	keys   []uint64    // picks in order of their score, packed
	follow softmaxStep // of a version beside the active one

	near   [][pairSums]float32 // by candidate: covisit's
	own    []float32           // by candidate: own's
	texts  [2]profile          // content's: of whole texts, of titles
	vector []float32           // vectors'
	mean   []float32           // steer's
	user   []float32
	table  []float32
	rest   map[source][]float32 // of the other sources (numbers)
}

// numbers returns n zeros that a source may use until the query's end. They are memory of the ask, which later queries use again.
func (q *ask) numbers(s source, n int) []float32 {
	if q.rest == nil {
		q.rest = map[source][]float32{}
	}
	v := q.rest[s]
	if cap(v) < n {
		v = make([]float32, n)
		q.rest[s] = v
	}
	v = v[:n]
	clear(v)
	return v
}

// begin starts a query; what is in the past is met unless repeats are listed.
func (q *ask) begin(m *Model, now float64, repeats bool) {
	q.m, q.now, q.repeats = m, now, repeats
	if len(q.slot) < len(m.items) {
		q.slot = append(q.slot, make([]int32, len(m.items)-len(q.slot)+len(m.items)/4)...)
	}
	q.cands, q.met = q.cands[:0], q.met[:0]
	q.near, q.own = q.near[:0], q.own[:0]
	if !repeats {
		for _, p := range q.past {
			q.bar(p.item)
		}
	}
}

// bar keeps an item from becoming a candidate.
func (q *ask) bar(j int32) {
	if q.slot[j] == 0 {
		q.slot[j] = -1
		q.met = append(q.met, j)
	}
}

// end forgets the candidates.
func (q *ask) end() {
	for _, j := range q.met {
		q.slot[j] = 0
	}
	for _, j := range q.cands {
		q.slot[j] = 0
	}
}

// put makes an item a candidate and returns its place, -1 for one that may not be listed.
func (q *ask) put(j int32) int {
	switch s := q.slot[j]; {
	case s > 0:
		return int(s - 1)
	case s < 0:
		return -1
	}
	if q.m.items[j].gone {
		q.bar(j)
		return -1
	}
	return q.add(j)
}

// putAll makes candidates of all of these that may be listed. Whether an item is new can not be foretold, so nothing branches on it.
func (q *ask) putAll(ids []int32) {
	was := len(q.cands)
	q.cands = slices.Grow(q.cands, len(ids)+1)[:was+len(ids)+1]
	cands, slot, n := q.cands, q.slot, was
	for _, j := range ids {
		cands[n] = j
		s, more := slot[j], 0
		if s == 0 {
			more = 1
		}
		if s == 0 {
			s = int32(n + 1)
		}
		slot[j] = s
		n += more
	}
	kept := was
	for _, j := range cands[was:n] {
		if q.m.items[j].gone {
			slot[j] = 0
			q.bar(j)
			continue
		}
		cands[kept] = j
		kept++
		slot[j] = int32(kept)
	}
	q.cands = cands[:kept]
	q.near, q.own = slices.Grow(q.near, kept-was)[:kept], slices.Grow(q.own, kept-was)[:kept]
	clear(q.near[was:])
	clear(q.own[was:])
}

// force is put for an item that is to be a candidate whatever speaks against it.
func (q *ask) force(j int32) int {
	if c := q.put(j); c >= 0 {
		return c
	}
	return q.add(j)
}

func (q *ask) add(j int32) int {
	q.cands = append(q.cands, j)
	q.near = append(q.near, [pairSums]float32{})
	q.own = append(q.own, 0)
	q.slot[j] = int32(len(q.cands))
	return len(q.cands) - 1
}

// find runs the sources' finding.
func (q *ask) find() {
	for _, s := range q.m.sources {
		s.find(q)
	}
}

// all picks every candidate.
func (q *ask) all() {
	q.pick = q.pick[:0]
	for c := range q.cands {
		q.pick = append(q.pick, int32(c))
	}
}

// fill runs the sources' features of what is picked, and the weighted sums.
func (q *ask) fill() {
	n, w := len(q.pick), &q.m.weights
	q.table = slices.Grow(q.table[:0], n*len(w.names))[:n*len(w.names)]
	q.f = q.f[:0]
	for k := range w.names {
		q.f = append(q.f, q.table[k*n:k*n+n:k*n+n])
	}
	k := 0
	for _, s := range q.m.sources {
		to := k + len(s.features())
		s.fill(q, q.f[k:to])
		k = to
	}
	q.rows = w.rowsOf(q)
	q.score = slices.Grow(q.score[:0], n)[:n]
	w.score(q)
}

// Rank implements corastream.Ranker.
func (m *Model) Rank(query corastream.Query) []corastream.Candidate { return m.rank(query, false) }

func (m *Model) rank(query corastream.Query, exact bool) []corastream.Candidate {
	m.mu.RLock()
	defer m.mu.RUnlock()
	q := m.scratch.Get().(*ask)
	defer m.scratch.Put(q)
	q.past = q.past[:0]
	for _, h := range query.Recent[:min(len(query.Recent), window)] {
		if n, ok := m.number[h.Item]; ok {
			q.past = append(q.past, past{item: n, liked: h.Label >= 0.5, at: seconds(h.Time)})
		}
	}
	q.labels = m.labels.of(q.labels, query.Labels, false)
	q.begin(m, seconds(query.Now), m.lists() || query.Repeats)
	defer q.end()
	q.find()
	if exact {
		for j := range m.items {
			q.put(int32(j))
		}
	}
	q.all()
	q.fill()
	out := make([]corastream.Candidate, 0, min(query.N, len(q.cands)))
	for i := range q.best() {
		if len(out) == query.N {
			break
		}
		id := m.items[q.cands[q.pick[i]]].id
		if query.Skip != nil && query.Skip(id) {
			continue
		}
		out = append(out, q.because(i, id, query.Reasons))
	}
	return out
}

// best yields the picks, best first, of equals the one that came first.
func (q *ask) best() func(func(int) bool) {
	h := q.order[:0]
	for i := range q.pick {
		h = append(h, int32(i))
	}
	q.order = h
	before := func(a, b int32) bool {
		return q.score[a] > q.score[b] || q.score[a] == q.score[b] && q.cands[q.pick[a]] < q.cands[q.pick[b]]
	}
	down := func(i, n int) {
		for {
			k := 2*i + 1
			if k >= n {
				return
			}
			if k+1 < n && before(h[k+1], h[k]) {
				k++
			}
			if !before(h[k], h[i]) {
				return
			}
			h[i], h[k] = h[k], h[i]
			i = k
		}
	}
	for i := len(h)/2 - 1; i >= 0; i-- {
		down(i, len(h))
	}
	return func(yield func(int) bool) {
		for n := len(h); n > 0; n-- {
			if !yield(int(h[0])) {
				return
			}
			h[0] = h[n-1]
			down(0, n-1)
		}
	}
}

// because makes a Candidate, with the source that lifts it most above the mean candidate.
func (q *ask) because(i int, id string, reasons bool) corastream.Candidate {
	out := corastream.Candidate{Item: id, Score: q.score[i]}
	if s := q.m.steer; s != nil && s.some > 0 {
		out.Model = s.court.active.name
	}
	if !reasons {
		return out
	}
	if q.own[q.pick[i]] > 0 {
		out.Source, out.From = corastream.SourceAgain, id
		return out
	}
	w, k, top := &q.m.weights, 0, float32(0)
	var speaks source
	for _, s := range q.m.sources {
		var lift float32
		for range s.features() {
			lift += float32(w.at(q.rows, k) * (q.f[k][i] - w.usual[k]))
			k++
		}
		if lift > top {
			speaks, top = s, lift
		}
	}
	if speaks == nil { // nothing lifts it: it fills the list
		speaks = q.m.popular
	}
	out.Source = speaks.name()
	if j := speaks.from(q, int(q.pick[i])); j >= 0 {
		out.From = q.m.items[j].id
	}
	return out
}
