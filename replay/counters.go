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

// scoreOf is one entry of all, for contenders to which a row costs as much as a ranking.
func scoreOf(k contender, u *universe, ev corastream.Event, scratch []float64) (sight, error) {
	n, ok := u.number[ev.Item]
	if !ok {
		return sight{}, nil
	}
	if err := k.all(ev.User, scratch); err != nil {
		return sight{}, err
	}
	return sight{score: scratch[n]}, nil
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

// countedItems bounds the models whose memory or time grows with the square of the catalogue.
const countedItems = 10000

func tooMany(model string, items int) error {
	if items <= countedItems {
		return nil
	}
	return corastream.Usagef("models", "leave "+model+" out", "%s takes at most %d items, and there are %d", model, countedItems, items)
}

// itemKNN scores an item by its likeness to the items the user liked: the sum of n_ij / (sqrt(n_i n_j) + shrink), n_ij being
// how many users liked both. All liked items are neighbours.
type itemKNN struct {
	nothing
	universe *universe
	shrink   float64
	likes    []float64           // n_i
	both     []map[int32]float64 // n_ij
	liked    itemSet
	root     []float64 // sqrt(n_i)
	scratch  []float64
}

func newItemKNN(u *universe, shrink float64) (*itemKNN, error) {
	n := len(u.ids)
	if err := tooMany(ItemKNN, n); err != nil {
		return nil, err
	}
	return &itemKNN{
		universe: u, shrink: shrink, likes: make([]float64, n), both: make([]map[int32]float64, n), liked: itemSet{},
		root: make([]float64, n), scratch: make([]float64, n),
	}, nil
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
	return nil
}

func (k *itemKNN) pair(a, b int32) {
	if k.both[a] == nil {
		k.both[a] = map[int32]float64{}
	}
	k.both[a][b]++
}

func (k *itemKNN) all(user string, out []float64) error {
	clear(out)
	for _, j := range k.liked[user] {
		for i, n := range k.both[j] { // one addition to each i, so the map's order does not show
			out[i] += n / (k.root[i]*k.root[j] + k.shrink)
		}
	}
	return nil
}

func (k *itemKNN) see(ev corastream.Event) (sight, error) {
	return scoreOf(k, k.universe, ev, k.scratch)
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

var errEASE = errors.New("ease: the likes have no inverse at this penalty (fix: raise ease_penalty)")
