package serve

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/corastream/corastream"
)

// RetrieverConfig bounds the index.
type RetrieverConfig struct {
	// MaxItems is how many items the index holds; later ones are counted and not recommended.
	// One item costs 4*dim+64 bytes. Default 2000000, range 1..100000000.
	MaxItems int `yaml:"max_items"`
	// MaxCandidates bounds n of one search. Default 1000, range 1..10000.
	MaxCandidates int `yaml:"-"`
	// Untitled lets items be recommended of which neither a title nor content is known (clicked, but not in the
	// catalogue). A list model lists them anyway where no item at all has a title. Default false.
	Untitled bool `yaml:"untitled"`
	// Demand is the weight of an item's demand (likes of late, in ln) beside the CF score: users take what is in demand more often
	// than the score alone tells. Default 2, range 0..10; 0 leaves it out.
	Demand float64 `yaml:"-"`
	// Workers is how many goroutines share one scan of a large index. Default 2, range 1..64.
	Workers int `yaml:"-"`
}

// DefaultRetrieverConfig returns the defaults above.
func DefaultRetrieverConfig() RetrieverConfig {
	return RetrieverConfig{MaxItems: 2_000_000, MaxCandidates: 1000, Demand: corastream.DemandWeight, Workers: 2}
}

// Validate reports all problems at once.
func (c RetrieverConfig) Validate() error {
	return errors.Join(
		inRange("max_items", c.MaxItems, 1, 100_000_000), inRange("max_candidates", c.MaxCandidates, 1, 10_000),
		inRange("workers", c.Workers, 1, 64), c.checkDemand())
}

func (c RetrieverConfig) checkDemand() error {
	if !(c.Demand >= 0 && c.Demand <= 10) {
		return corastream.Usagef("demand", "choose from 0 to 10", "%v is out of range", c.Demand)
	}
	return nil
}

func inRange(key string, v, lo, hi int) error {
	if v < lo || v > hi {
		return corastream.Usagef(key, fmt.Sprintf("choose from %d to %d", lo, hi), "%d is out of range", v)
	}
	return nil
}

// Demand returns ln of an item's likes, with older ones counting less. The values of two items can
// be compared whenever they are read. It is -Inf without likes.
type Demand func(it *corastream.ItemState) float32

// Retriever is a dense index of item vectors and biases, searched exactly. It implements
// corastream.Retriever. Safe for concurrent use: rows lie in blocks, each with its own lock, so a
// scan never holds a learner back for longer than one block takes, and a learner never stops a
// scan. A scan sees each row whole, but not all rows of one instant.
type Retriever struct {
	cfg     RetrieverConfig
	predict corastream.Predictor
	demand  Demand // nil: nothing is known of demand, or its weight is 0

	grow  sync.Mutex // one writer at a time makes blocks or widens rows
	index atomic.Pointer[index]

	live, overflow atomic.Int64
	peak           atomic.Uint32 // bits of the highest demand of all
	scratch        chan *search  // a free list: sync.Pool would let go of them at every collection
}

// blockRows rows make one block: 1024*64*4 = 256 KiB, a scan of which takes some 20 microseconds.
const blockRows = 1024

// index is replaced whole when it grows; blocks are shared by the old and the new one.
type index struct {
	dim    int
	blocks []*block
}

type block struct {
	mu      sync.RWMutex
	vec     []float32 // [blockRows, dim]
	bias    [blockRows]float32
	inverse [blockRows]float32 // 1/|vec|, 0 for a zero vector
	likes   [blockRows]float32 // how many likes: steps learnt times the probability of one
	demand  [blockRows]float32 // -Inf: none
	version [blockRows]uint64
	ids     [blockRows]string
}

// absent is the bias of a row that must not be found: it never beats anything, so the scan needs
// no second test.
var absent = float32(math.Inf(-1))

func newBlock(dim int) *block {
	b := &block{vec: make([]float32, blockRows*dim)}
	for i := range b.bias {
		b.bias[i] = absent
	}
	return b
}

// NewRetriever returns an empty index; predict makes the vectors, and demand, which may be nil,
// says what is liked of late.
func NewRetriever(cfg RetrieverConfig, predict corastream.Predictor, demand Demand) *Retriever {
	r := &Retriever{cfg: cfg, predict: predict, scratch: make(chan *search, 32)}
	if cfg.Demand > 0 {
		r.demand = demand
	}
	r.index.Store(&index{})
	r.peak.Store(math.Float32bits(absent))
	return r
}

// Sizes says how many items can be found, how many rows there are, and how many items MaxItems
// kept out.
func (r *Retriever) Sizes() (live, rows, overflow int) {
	return int(r.live.Load()), len(r.index.Load().blocks) * blockRows, int(r.overflow.Load())
}

// Rebuild reads every item of the state into a fresh index. Call it at start, before Moved.
func (r *Retriever) Rebuild(s corastream.State) error {
	r.grow.Lock()
	r.index.Store(&index{})
	r.live.Store(0)
	r.overflow.Store(0)
	r.peak.Store(math.Float32bits(absent))
	r.grow.Unlock()
	for seq := range s.Items() {
		it, err := s.ItemAt(uint32(seq))
		if err != nil {
			return fmt.Errorf("rebuild the index: item %d: %w", seq, err)
		}
		if err := r.put(s, it); err != nil {
			return err
		}
	}
	return nil
}

// Moved implements corastream.Retriever: the rows of these items are read anew.
func (r *Retriever) Moved(s corastream.State, items []string) error {
	for _, id := range items {
		it, err := s.Item(id)
		if err != nil {
			return fmt.Errorf("index item %q: %w", id, err)
		}
		if known(it) {
			if err := r.put(s, it); err != nil {
				return err
			}
		}
	}
	return nil
}

// known reports whether the state holds an item. For an unknown id the state returns a fresh
// record.
func known(it *corastream.ItemState) bool {
	return it.Version > 0 || it.Count > 0 || it.Title != "" || it.Content != nil || len(it.Fields) > 0 || it.Removed || it.Withdrawn
}

// offered reports whether the item may be recommended.
func (r *Retriever) offered(it *corastream.ItemState) bool {
	return !it.Withdrawn && !it.Removed && (r.cfg.Untitled || it.Title != "" || it.Content != nil)
}

func (r *Retriever) put(s corastream.State, it *corastream.ItemState) error {
	row := int(it.Seq)
	if row >= r.cfg.MaxItems {
		r.overflow.Add(1)
		return nil
	}
	e, err := r.predict.ItemVector(s, it)
	if err != nil {
		return fmt.Errorf("vector of item %q: %w", it.ID, err)
	}
	shared, err := s.Shared()
	if err != nil {
		return fmt.Errorf("popularity of item %q: %w", it.ID, err)
	}
	bias, inverse := e.Bias, float32(0)
	demand := absent
	if r.demand != nil {
		demand = r.demand(it)
	}
	likes := float32(float64(it.Count) / (1 + math.Exp(-float64(shared.Bias)-float64(bias))))
	var square float64
	for _, x := range e.Vec {
		square += float64(x) * float64(x)
	}
	switch {
	case !r.offered(it), math.IsNaN(square), math.IsInf(square, 0), math.IsNaN(float64(bias)), math.IsInf(float64(bias), 0):
		bias = absent
	case square > 0:
		inverse = float32(1 / math.Sqrt(square))
	}
	// The index is held still while the row is written: widening copies blocks, and a row written
	// to an old copy would be lost.
	r.grow.Lock()
	defer r.grow.Unlock()
	x := r.room(row, len(e.Vec))
	b, i := x.blocks[row/blockRows], row%blockRows
	b.mu.Lock()
	defer b.mu.Unlock()
	if it.Version < b.version[i] {
		return nil // learning and reading the catalogue call Moved side by side; the newer one came first
	}
	if was, is := b.bias[i] != absent, bias != absent; was != is {
		if is {
			r.live.Add(1)
		} else {
			r.live.Add(-1)
		}
	}
	if bias != absent {
		v := b.vec[i*x.dim : (i+1)*x.dim]
		clear(v[copy(v, e.Vec):])
	}
	b.bias[i], b.inverse[i], b.likes[i], b.demand[i], b.version[i] = bias, inverse, likes, demand, it.Version
	if demand > math.Float32frombits(r.peak.Load()) && bias != absent { // one writer at a time: grow is held
		r.peak.Store(math.Float32bits(demand))
	}
	if b.ids[i] != it.ID {
		b.ids[i] = strings.Clone(it.ID) // the state's string may hold on to a whole record
	}
	return nil
}

// room returns an index that has the row and is wide enough. The caller holds r.grow.
func (r *Retriever) room(row, dim int) *index {
	x := r.index.Load()
	if row/blockRows < len(x.blocks) && dim <= x.dim {
		return x
	}
	next := &index{dim: max(dim, x.dim), blocks: append([]*block(nil), x.blocks...)}
	if next.dim > x.dim {
		for i, b := range x.blocks {
			next.blocks[i] = b.widened(x.dim, next.dim)
		}
	}
	for len(next.blocks) <= row/blockRows {
		next.blocks = append(next.blocks, newBlock(next.dim))
	}
	r.index.Store(next)
	return next
}

// widened copies a block into one with longer rows; a new coordinate is 0 for items that do not
// have it.
func (b *block) widened(from, to int) *block {
	c := newBlock(to)
	c.bias, c.inverse, c.likes, c.demand, c.version, c.ids = b.bias, b.inverse, b.likes, b.demand, b.version, b.ids
	for i := range blockRows {
		copy(c.vec[i*to:], b.vec[i*from:(i+1)*from])
	}
	return c
}
