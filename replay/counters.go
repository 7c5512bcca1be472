package replay

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/corastream/corastream"
)

// Popularity, ItemKNN and EASE count likes; what they give is an order, not a probability. In mode static they keep what train
// told them, the user's history included; in mode prequential every label goes on into the counts and histories at once.

// nothing is the part of a contender that its counters lack.
type nothing struct{}

func (nothing) remember(corastream.Event) error { return nil }

func learnAll(ctx context.Context, k contender, train []corastream.Event) error {
	for i, ev := range train {
		if i%4096 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := k.learn(ev); err != nil {
			return err
		}
	}
	return nil
}

// popularity ranks by how often an item was liked: `popularity` ever, `recent` with each like halved after every half-life.
// The latter is kept as the logarithm of the sum of 2^(t/half-life), which orders items alike at every later time, so
// nothing has to be decayed (forward decay: Cormode et al., 2009).
type popularity struct {
	nothing
	universe *universe
	perSec   float64 // ln 2 / half-life; 0 counts for ever
	log      []float64
}

func newPopularity(u *universe, name string, halfLife time.Duration) *popularity {
	p := &popularity{universe: u, log: make([]float64, len(u.ids))}
	if name == Recent {
		p.perSec = math.Ln2 / halfLife.Seconds()
	}
	for i := range p.log {
		p.log[i] = math.Inf(-1)
	}
	return p
}

func (p *popularity) fit(ctx context.Context, train []corastream.Event) error {
	return learnAll(ctx, p, train)
}

func (p *popularity) learn(ev corastream.Event) error {
	n, ok := p.universe.number[ev.Item]
	if !ok || !ev.Positive() {
		return nil
	}
	add := p.perSec * float64(ev.Time.UnixMilli()) / 1000
	hi, lo := max(p.log[n], add), min(p.log[n], add)
	p.log[n] = hi + math.Log1p(math.Exp(lo-hi))
	return nil
}

func (p *popularity) see(ev corastream.Event) (sight, error) {
	n, ok := p.universe.number[ev.Item]
	if !ok {
		return sight{score: math.Inf(-1)}, nil
	}
	return sight{score: p.log[n]}, nil
}

func (p *popularity) all(_ string, out []float64) error {
	copy(out, p.log)
	return nil
}

// countedPairs bounds the memory of itemknn: 32 bytes a pair.
const countedPairs = 40_000_000

// itemKNN scores an item by its likeness to the items the user liked: the sum of n_ij / (sqrt(n_i n_j) + shrink), n_ij being
// how many users liked both. All liked items are neighbours.
type itemKNN struct {
	nothing
	universe *universe
	shrink   float64
	likes    []float64 // n_i
	both     []counts  // n_ij
	pairs    int       // entries of both
	liked    itemSet
	root     []float64 // sqrt(n_i)
}

// counts holds an item's n_ij as a run of memory, since a ranking goes over all of them, with an index to count by.
type counts struct {
	at    map[int32]int32
	items []int32
	n     []float64
}

func newItemKNN(u *universe, shrink float64) *itemKNN {
	n := len(u.ids)
	return &itemKNN{universe: u, shrink: shrink, likes: make([]float64, n), both: make([]counts, n), liked: itemSet{}, root: make([]float64, n)}
}

func (k *itemKNN) fit(ctx context.Context, train []corastream.Event) error {
	return learnAll(ctx, k, train)
}

func (k *itemKNN) learn(ev corastream.Event) error {
	n, ok := k.universe.number[ev.Item]
	if !ok || !ev.Positive() {
		return nil
	}
	before := k.liked[ev.User]
	if !k.liked.add(ev.User, n) {
		return nil // liked again: nothing new
	}
	k.likes[n]++
	k.root[n] = math.Sqrt(k.likes[n])
	for _, other := range before {
		k.pair(n, other)
		k.pair(other, n)
	}
	if k.pairs > countedPairs {
		return corastream.Usagef("models", "leave "+ItemKNN+" out", "%s takes at most %d pairs of items that one user liked", ItemKNN, countedPairs)
	}
	return nil
}

func (k *itemKNN) pair(a, b int32) {
	c := &k.both[a]
	if c.at == nil {
		c.at = map[int32]int32{}
	}
	at, ok := c.at[b]
	if !ok {
		at = int32(len(c.items))
		c.at[b], c.items, c.n = at, append(c.items, b), append(c.n, 0)
		k.pairs++
	}
	c.n[at]++
}

func (k *itemKNN) all(user string, out []float64) error {
	clear(out)
	for _, j := range k.liked[user] {
		c := &k.both[j]
		for at, i := range c.items {
			out[i] += c.n[at] / (k.root[i]*k.root[j] + k.shrink)
		}
	}
	return nil
}

// see is one entry of all.
func (k *itemKNN) see(ev corastream.Event) (sight, error) {
	i, ok := k.universe.number[ev.Item]
	if !ok {
		return sight{}, nil
	}
	score := 0.0
	for _, j := range k.liked[ev.User] {
		if at, ok := k.both[j].at[i]; ok {
			score += k.both[j].n[at] / (k.root[i]*k.root[j] + k.shrink)
		}
	}
	return sight{score: score}, nil
}

// itemSet is a user's liked items, each once.
type itemSet map[string][]int32

func (s itemSet) add(user string, item int32) bool {
	for _, known := range s[user] {
		if known == item {
			return false
		}
	}
	s[user] = append(s[user], item)
	return true
}

var errEASE = errors.New("ease: the likes have no inverse at this penalty (fix: leave ease out of --models)")
