package replay

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/corastream/corastream"
)

// contender is a model that takes part: it learns train, then tells for each row what it thinks before the label comes.
type contender interface {
	// fit learns train, which is in time order.
	fit(ctx context.Context, train []corastream.Event) error
	// learn takes a label in; without it (static) a label reaches histories alone.
	learn(ev corastream.Event) error
	remember(ev corastream.Event) error
	// see scores a row.
	see(ev corastream.Event) (sight, error)
	// all scores every item of the universe for a user: it orders, and need not be a logit.
	all(user string, out []float64) error
}

// chooser is a contender whose best items the LLM may rank.
type chooser interface {
	choose(u *universe, user string, best []int32, target int32) ([]candidate, error)
}

// sight is what a contender made of a row before its label. Pair and prompt are those of a CF model.
type sight struct {
	score float64
	alone float64 // the part of score that depends on the user alone: it can not order the user's items
	pair  corastream.Pair
	// prompt is what the LLM would read; choice are the candidates it would rank.
	prompt corastream.Prompt
	choice []candidate
}

// candidate is one of CF's best items for a ranked row.
type candidate struct {
	pair   corastream.Pair
	prompt corastream.Prompt
	target bool // the item of the row itself
}

// universe numbers the items that are ranked: the catalogue but for what is withdrawn, then what the log alone knows, train first.
// An item that first appears in a scored row is among them from the start, as it is where a catalogue names it.
type universe struct {
	ids    []string
	number map[string]int32
	gone   bool // some item of the catalogue is withdrawn
}

func universeOf(data Data) *universe {
	u := &universe{number: map[string]int32{}}
	put := func(id string) {
		if _, ok := u.number[id]; !ok {
			u.number[id] = int32(len(u.ids))
			u.ids = append(u.ids, id)
		}
	}
	gone := map[string]bool{}
	for _, it := range data.Items {
		if it.Withdrawn || it.Removed {
			gone[it.ID] = true
		} else {
			put(it.ID)
		}
	}
	u.gone = len(gone) > 0
	for _, events := range [][]corastream.Event{data.Train, data.Valid, data.Test} {
		for _, ev := range events {
			if !gone[ev.Item] {
				put(ev.Item)
			}
		}
	}
	return u
}

// fitter is a model with a way of its own to learn a log; the others make passes over it, event by event.
type fitter interface {
	Fit(ctx context.Context, s *corastream.Memory, events []corastream.Event, epochs int) error
}

// cf is a CF model as a contender.
type cf struct {
	model   Model
	state   *corastream.Memory
	epochs  int
	history int // liked titles in a prompt
	items   []*corastream.ItemState
	number  map[string]int32       // items' places
	vectors []corastream.Embedding // the items' last vectors, by Version
	demand  float64                // its weight in the ranking of all items
	demands []float32
	// progress is told how many events of all epochs are learnt; nil: nobody.
	progress func(done, total int)
}

func newCF(model Model, items []corastream.Item, u *universe, epochs, history int, demand float64) (*cf, error) {
	c := &cf{model: model, state: corastream.NewMemory(), epochs: epochs, history: history, demand: demand, number: u.number}
	for _, it := range items {
		c.state.Put(it)
	}
	for _, id := range u.ids {
		it, err := c.state.Item(id)
		if err != nil {
			return nil, err
		}
		c.items = append(c.items, it)
	}
	c.vectors = make([]corastream.Embedding, len(c.items))
	return c, nil
}

func (c *cf) fit(ctx context.Context, train []corastream.Event) error {
	if f, ok := c.model.(fitter); ok {
		return f.Fit(ctx, c.state, train, c.epochs)
	}
	if c.epochs > 1 {
		train = corastream.Settled(train)
	}
	for epoch := range c.epochs {
		for i, ev := range train {
			if i%4096 == 0 {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if c.progress != nil {
					c.progress(epoch*len(train)+i, c.epochs*len(train))
				}
			}
			var err error
			if epoch == 0 { // the first pass writes the histories
				err = c.state.Apply(c.model, ev)
			} else {
				err = c.model.Learn(c.state, ev)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *cf) learn(ev corastream.Event) error { return c.state.Apply(c.model, ev) }

func (c *cf) remember(ev corastream.Event) error {
	u, err := c.state.User(ev.User)
	if err != nil {
		return err
	}
	u.Remember(ev, c.state.HistoryLimit)
	return nil
}

func (c *cf) see(ev corastream.Event) (sight, error) {
	pair, err := corastream.PairOf(c.state, c.model, ev.User, ev.Item)
	if err != nil {
		return sight{}, err
	}
	prompt, err := promptOf(c.state, ev.User, ev.Item, c.history)
	return sight{score: float64(pair.Logit()), alone: float64(pair.User.Bias), pair: pair, prompt: prompt}, err
}

func (c *cf) all(user string, out []float64) error {
	u, err := c.state.User(user)
	if err != nil {
		return err
	}
	vec, err := c.model.UserVector(c.state, u)
	if err != nil {
		return err
	}
	for i, it := range c.items {
		v := &c.vectors[i]
		if v.Version != it.Version || len(v.Vec) == 0 {
			if *v, err = c.model.ItemVector(c.state, it); err != nil {
				return err
			}
		}
		out[i] = float64(v.Bias + dot(vec.Vec, v.Vec))
	}
	c.addDemand(out)
	return nil
}

// forget drops an item's vector: its record has been overwritten, and another one may have its version.
func (c *cf) forget(item string) {
	if n, ok := c.number[item]; ok {
		c.vectors[n] = corastream.Embedding{}
	}
}

// addDemand ranks as serve's retriever does: beside the score, how far an item's demand lies below the highest one.
func (c *cf) addDemand(out []float64) {
	demander, ok := c.model.(interface {
		Demand(it *corastream.ItemState) float32
	})
	if !ok || c.demand == 0 {
		return
	}
	c.demands = c.demands[:0]
	peak := float32(math.Inf(-1))
	for _, it := range c.items {
		d := demander.Demand(it)
		c.demands, peak = append(c.demands, d), max(peak, d)
	}
	for i, d := range c.demands {
		if !math.IsInf(float64(peak), -1) {
			out[i] = corastream.WithDemand(out[i], c.demand, d, peak)
		}
	}
}

// choose makes candidates of items of the universe.
func (c *cf) choose(u *universe, user string, best []int32, target int32) ([]candidate, error) {
	out := make([]candidate, len(best))
	var shared corastream.Embedding
	for i, n := range best {
		pair, err := corastream.PairOf(c.state, c.model, user, u.ids[n])
		if err != nil {
			return nil, err
		}
		if i == 0 {
			shared = pair.User
		}
		pair.User = shared // one slice, so that the LLM's stage sees one user
		prompt, err := promptOf(c.state, user, u.ids[n], c.history)
		if err != nil {
			return nil, err
		}
		out[i] = candidate{pair: pair, prompt: prompt, target: n == target}
	}
	return out, nil
}

func dot(a, b []float32) float32 {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	var s0, s1, s2, s3 float32
	i := 0
	for ; i+4 <= n; i += 4 {
		s0 += float32(a[i] * b[i])
		s1 += float32(a[i+1] * b[i+1])
		s2 += float32(a[i+2] * b[i+2])
		s3 += float32(a[i+3] * b[i+3])
	}
	for ; i < n; i++ {
		s0 += float32(a[i] * b[i])
	}
	return (s0 + s1) + (s2 + s3)
}

func promptOf(s corastream.State, user, item string, history int) (corastream.Prompt, error) {
	it, err := s.Item(item)
	if err != nil {
		return corastream.Prompt{}, err
	}
	p := corastream.Prompt{ItemID: item, Title: it.Title, Fields: it.Fields}
	if history == 0 {
		return p, nil
	}
	u, err := s.User(user)
	if err != nil {
		return p, err
	}
	p.History, err = corastream.LikedTitles(s, u, history)
	return p, err
}

// walking is how walk goes through rows.
type walking struct {
	learn bool // else labels reach histories alone (prompts hold them)
	delay time.Duration
	from  int     // rows[:from] are train's: learnt at once, neither scored nor ranked
	rk    *ranker // nil: nothing is ranked
	// progress is told how many rows are done; nil: nobody.
	progress func(done, total int)
}

// teacher is a contender that learns train's events otherwise than the stream's.
type teacher interface {
	teach(ev corastream.Event) error
}

// walk goes through rows in time order, moment by moment, and notes what was known before each. A moment is the rows of one user
// at one time: they are all seen and ranked before any of them is learnt. Without a delay they are learnt right after. With one, a
// label of time t is known to moments from t+delay on.
func walk(ctx context.Context, k contender, rows []corastream.Event, w walking) ([]sight, error) {
	seen := make([]sight, len(rows))
	tell, teach := k.remember, k.learn
	if w.learn {
		tell = k.learn
	}
	if t, ok := k.(teacher); ok {
		teach = t.teach
	}
	order, ends := moments(rows)
	known, start := 0, 0 // the labels of order[:known] were given
	for m, end := range ends {
		if m%256 == 0 {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if w.progress != nil {
				w.progress(start, len(rows))
			}
		}
		moment := order[start:end]
		now := rows[moment[0]].Time
		for ; w.delay > 0 && known < start && !rows[order[known]].Time.Add(w.delay).After(now); known++ {
			if int(order[known]) < w.from {
				continue
			}
			if err := tell(rows[order[known]]); err != nil {
				return nil, err
			}
		}
		start = int(end)
		for _, i := range moment {
			if int(i) < w.from {
				continue
			}
			var err error
			if seen[i], err = k.see(rows[i]); err != nil {
				return nil, err
			}
			if math.IsNaN(seen[i].score) {
				return nil, fmt.Errorf("the score of user %q and item %q is not a number", rows[i].User, rows[i].Item)
			}
		}
		if w.rk != nil {
			if err := w.rk.rank(rows, moment, k, seen); err != nil {
				return nil, err
			}
		}
		for _, i := range moment {
			var err error
			if int(i) < w.from {
				err = teach(rows[i])
			} else if w.delay == 0 {
				err = tell(rows[i])
			}
			if err != nil {
				return nil, err
			}
		}
	}
	if w.progress != nil {
		w.progress(len(rows), len(rows))
	}
	return seen[w.from:], nil
}

// inOrder is a log in time order; rows of equal times keep theirs.
func inOrder(events []corastream.Event) []corastream.Event {
	byTime := func(a, b corastream.Event) int { return a.Time.Compare(b.Time) }
	if slices.IsSortedFunc(events, byTime) {
		return events
	}
	events = slices.Clone(events)
	slices.SortStableFunc(events, byTime)
	return events
}
