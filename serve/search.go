package serve

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// Near is an item found by the direction of its vector alone.
type Near struct {
	Item   string
	Cosine float32
}

// Candidates implements corastream.Retriever: the q.N items with the highest q.User.Vec.item.Vec +
// b_i, best first, ties by id. It returns fewer than q.N when there are not more. Coordinates
// beyond the shorter of two vectors count as 0.
//
// A user without a vector and without events gets the items with the most likes. That is the
// number of learnt steps of an item times its probability of a like, which holds for ratings and
// for clicks with drawn negatives.
//
// q.Skip is called only for items that would enter the answer, from one goroutine at a time.
func (r *Retriever) Candidates(q corastream.Query) ([]corastream.Candidate, error) {
	by, source := byScore, corastream.SourceTaste
	if len(q.Recent) == 0 && !slices.ContainsFunc(q.User.Vec, func(x float32) bool { return x != 0 }) {
		by, source = byLikes, corastream.SourcePopular
	}
	found, err := r.search(q.User.Vec, by, q.N, q.Skip)
	if err != nil {
		return nil, fmt.Errorf("find candidates: %w", err)
	}
	defer r.done(found)
	out := make([]corastream.Candidate, len(found.top))
	for i, h := range found.top {
		out[i] = corastream.Candidate{Item: h.id, Score: h.score, Source: source}
	}
	return out, nil
}

// Nearest returns the n items whose vectors have the highest cosine with vec; items without a
// vector are left out.
func (r *Retriever) Nearest(vec []float32, n int, skip func(item string) bool) ([]Near, error) {
	found, err := r.search(vec, byCosine, n, skip)
	if err != nil {
		return nil, fmt.Errorf("find nearest items: %w", err)
	}
	defer r.done(found)
	near := make([]Near, len(found.top))
	for i, h := range found.top {
		near[i] = Near{Item: h.id, Cosine: h.score}
	}
	return near, nil
}

// search is the scratch of one query: a heap of the best n with the worst on top, and each
// worker's dot products.
type search struct {
	x     *index
	query []float32
	by    order
	norm  float32
	// demand weighs how far an item's demand lies below the peak; 0 leaves it out.
	demand, peak float32
	n            int
	skip         func(string) bool

	next atomic.Int64 // the next block to scan
	mu   sync.Mutex   // guards top among workers
	bar  atomic.Uint32
	top  []hit
	dots [][]float32
	wg   sync.WaitGroup
}

// order says what a search looks for.
type order int

const (
	byScore  order = iota // query.vec + bias
	byCosine              // of query and vec
	byLikes
)

type hit struct {
	score float32
	id    string
}

// worse orders hits: lower scores first, and of equal scores the higher id.
func worse(a, b hit) bool { return a.score < b.score || a.score == b.score && a.id > b.id }

func (r *Retriever) search(query []float32, by order, n int, skip func(string) bool) (*search, error) {
	if n < 0 || n > r.cfg.MaxCandidates {
		return nil, corastream.Usagef("n", fmt.Sprintf("ask for 0 to %d", r.cfg.MaxCandidates), "%d items wanted", n)
	}
	var square float64
	for _, q := range query {
		square += float64(q) * float64(q)
	}
	if math.IsNaN(square) || math.IsInf(square, 0) {
		return nil, fmt.Errorf("the query vector is not finite: %w", corastream.ErrCorrupt)
	}
	s := r.begin()
	s.x, s.by, s.n, s.skip, s.norm = r.index.Load(), by, n, skip, 0
	s.demand, s.peak = 0, math.Float32frombits(r.peak.Load())
	if by == byScore && r.demand != nil && s.peak > absent {
		s.demand = float32(r.cfg.Demand)
	}
	if square > 0 {
		s.norm = float32(1 / math.Sqrt(square))
	}
	s.query = append(s.query[:0], query[:min(len(query), s.x.dim)]...)
	s.query = slices.Grow(s.query, s.x.dim)[:s.x.dim]
	clear(s.query[min(len(query), s.x.dim):])
	s.top = s.top[:0]
	s.next.Store(0)
	s.bar.Store(math.Float32bits(absent))
	if n > 0 && !(by == byCosine && s.norm == 0) {
		s.run(min(r.cfg.Workers, len(s.x.blocks)/16+1))
	}
	slices.SortFunc(s.top, func(a, b hit) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.id, b.id)) })
	s.x, s.skip = nil, nil
	return s, nil
}

func (r *Retriever) begin() *search {
	select {
	case s := <-r.scratch:
		return s
	default:
		return new(search)
	}
}

// done puts the scratch back into the pool. It drops the ids, because they may be long strings.
func (r *Retriever) done(s *search) {
	clear(s.top)
	select {
	case r.scratch <- s:
	default:
	}
}

// run scans all blocks with a number of workers, the caller being one. A second worker pays from
// 16 blocks on.
func (s *search) run(workers int) {
	for len(s.dots) < workers {
		s.dots = append(s.dots, make([]float32, blockRows))
	}
	for w := 1; w < workers; w++ {
		s.wg.Go(func() { s.scan(s.dots[w]) })
	}
	s.scan(s.dots[0])
	s.wg.Wait()
}

func (s *search) scan(dots []float32) {
	for {
		i := int(s.next.Add(1)) - 1
		if i >= len(s.x.blocks) {
			return
		}
		s.scanBlock(s.x.blocks[i], dots)
	}
}

// scanBlock scores one block under its read lock. It offers the rows above the bar, which is the
// worst score of a full heap.
func (s *search) scanBlock(b *block, dots []float32) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if s.norm == 0 { // a zero query: b_i alone
		clear(dots)
	} else {
		rowDots(dots, b.vec, s.query)
	}
	bar := math.Float32frombits(s.bar.Load())
	for i, bias := range b.bias {
		score := dots[i] + bias
		switch {
		case s.by == byScore && s.demand > 0:
			score = corastream.WithDemand(score, s.demand, b.demand[i], s.peak)
		case s.by == byScore:
		case bias == absent || s.by == byCosine && b.inverse[i] == 0:
			continue
		case s.by == byCosine:
			score = dots[i] * b.inverse[i] * s.norm
		default:
			score = b.likes[i]
		}
		if score >= bar && score > absent {
			bar = s.offer(hit{score, b.ids[i]})
		}
	}
}

// offer puts h into the heap when it is among the best n, and returns the new bar.
func (s *search) offer(h hit) float32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := len(s.top) == s.n
	if full && !worse(s.top[0], h) || s.skip != nil && s.skip(h.id) {
		return math.Float32frombits(s.bar.Load())
	}
	if full {
		s.top[0] = h
		s.down(0)
	} else {
		s.top = append(s.top, h)
		s.up(len(s.top) - 1)
	}
	if len(s.top) == s.n {
		s.bar.Store(math.Float32bits(s.top[0].score))
	}
	return math.Float32frombits(s.bar.Load())
}

func (s *search) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !worse(s.top[i], s.top[parent]) {
			return
		}
		s.top[i], s.top[parent] = s.top[parent], s.top[i]
		i = parent
	}
}

func (s *search) down(i int) {
	for {
		child := 2*i + 1
		if child >= len(s.top) {
			return
		}
		if child+1 < len(s.top) && worse(s.top[child+1], s.top[child]) {
			child++
		}
		if !worse(s.top[child], s.top[i]) {
			return
		}
		s.top[i], s.top[child] = s.top[child], s.top[i]
		i = child
	}
}

// rowDots writes query.row into dst for each row of mat [len(dst), len(query)].
func rowDots(dst, mat, query []float32) {
	d := len(query)
	for i := range dst {
		dst[i] = kernels.Dot(mat[i*d:i*d+d], query)
	}
}
