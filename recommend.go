package corastream

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"
)

// PipelineConfig bounds the pipeline's queues and answers.
type PipelineConfig struct {
	// Candidates scored by the LLM for each recommendation. Default 20, range 1..500.
	Candidates int `yaml:"candidates"`
	// Items in a recommendation. Default 10, range 1..Candidates.
	Items int `yaml:"items"`
	// RecommendBatch is how many users one scoring batch serves. Default 16, range 1..1024.
	RecommendBatch int `yaml:"recommend_batch"`
	// ReadBatch is how many catalogue items are read by the LLM at once. Default 32, range 1..1024.
	ReadBatch int `yaml:"read_batch"`
	// Filter says which items may be recommended to anybody; the configuration's section `filters`.
	Filter Filter `yaml:"-"`
	// Explore makes the ranking stochastic; the configuration's section `explore`.
	Explore ExploreConfig `yaml:"-"`
	// History is how many liked titles go into a `history` prompt; 0 makes `item` prompts. Default 0, range 0..50.
	History int `yaml:"history"`
}

// DefaultPipelineConfig returns the defaults above.
func DefaultPipelineConfig() PipelineConfig {
	return PipelineConfig{Candidates: 20, Items: 10, RecommendBatch: 16, ReadBatch: 32, Filter: DefaultFilter(), Explore: DefaultExplore()}
}

// Validate reports all problems at once.
func (c PipelineConfig) Validate() error {
	return errors.Join(
		inRange("candidates", c.Candidates, 1, 500), inRange("items", c.Items, 1, c.Candidates),
		inRange("recommend_batch", c.RecommendBatch, 1, 1024), inRange("read_batch", c.ReadBatch, 1, 1024),
		inRange("history", c.History, 0, 50))
}

func inRange(key string, v, lo, hi int) error {
	if v < lo || v > hi {
		return Usagef(key, fmt.Sprintf("choose from %d to %d", lo, hi), "%d is out of range", v)
	}
	return nil
}

// PairOf gathers what CF knows of a user and an item.
func PairOf(s State, p Predictor, user, item string) (Pair, error) {
	u, err := s.User(user)
	if err != nil {
		return Pair{}, err
	}
	vec, err := p.UserVector(s, u)
	if err != nil {
		return Pair{}, err
	}
	return pairWith(s, p, user, vec, item)
}

func pairWith(s State, p Predictor, user string, vec Embedding, item string) (Pair, error) {
	shared, err := s.Shared()
	if err != nil {
		return Pair{}, err
	}
	it, err := s.Item(item)
	if err != nil {
		return Pair{}, err
	}
	itemVec, err := p.ItemVector(s, it)
	if err != nil {
		return Pair{}, err
	}
	return Pair{UserID: user, ItemID: item, Mu: shared.Bias, User: vec, Item: itemVec}, nil
}

// slate is one user's candidates on their way to an answer.
type slate struct {
	pairs   []Pair
	prompts []Prompt
	logits  []Logits
	arm     Arm
	judged  bool
	cf      bool // degraded: ranked by CF alone, there are no logits
	popular bool // nothing personal is known, nor of the items' content: candidates came by popularity, and stay so
	version uint64
	cold    bool
}

func (p *Pipeline) slate(s State, o Owed) (slate, error) {
	u, err := s.User(o.User)
	if err != nil {
		return slate{}, err
	}
	vec, err := p.Predictor.UserVector(s, u)
	if err != nil {
		return slate{}, err
	}
	out := slate{arm: p.arm(o.User), version: u.Version, cold: len(u.History) == 0}
	ids, err := p.candidates(s, u, vec, o.Request, &out)
	if err != nil {
		return slate{}, err
	}
	history, err := likedTitles(s, u, p.Config.History)
	if err != nil {
		return slate{}, err
	}
	for _, id := range ids {
		pair, err := pairWith(s, p.Predictor, o.User, vec, id)
		if err != nil {
			return slate{}, err
		}
		it, err := s.Item(id)
		if err != nil {
			return slate{}, err
		}
		out.pairs = append(out.pairs, pair)
		out.prompts = append(out.prompts, Prompt{ItemID: id, Title: it.Title, Fields: it.Fields, History: history})
	}
	return out, nil
}

// Popular finds what most people like; a Retriever may have it.
type Popular interface {
	// Popular gives the n items with the most likes that skip does not name, most first.
	Popular(n int, skip func(item string) bool) ([]string, error)
}

// candidates are those that the request names, else what the retriever finds, without what the filters leave out. For a user of
// whom nothing is known, in a catalogue whose content nobody has read, the vector points nowhere: the most popular items then.
func (p *Pipeline) candidates(s State, u *UserState, vec Embedding, r *Request, out *slate) ([]string, error) {
	filter, asked := p.Config.Filter, Filter{Separators: p.Config.Filter.Separators}
	if r != nil {
		asked.Allow, asked.Deny = r.Allow, r.Deny
	}
	var failed error
	barred := func(id string) bool {
		if filter.Empty() && asked.Empty() {
			return false // the retriever leaves out withdrawn items itself
		}
		it, err := s.Item(id)
		if err != nil {
			failed = err
			return true
		}
		return !filter.Passes(it) || !asked.Passes(it)
	}
	if r != nil && len(r.Candidates) > 0 {
		kept := make([]string, 0, len(r.Candidates))
		for _, id := range r.Candidates {
			if !barred(id) {
				kept = append(kept, id)
			}
		}
		return kept, failed
	}
	skip := make(map[string]bool, len(u.History))
	for _, h := range u.History {
		skip[h.Item] = true
	}
	n := p.Config.Candidates
	if r != nil {
		for _, id := range r.Exclude {
			skip[id] = true
		}
		n = max(n, r.N)
	}
	leave := func(id string) bool { return skip[id] || barred(id) }
	find := func() ([]string, error) { return p.Retriever.Candidates(vec, n, leave) }
	if popular, ok := p.Retriever.(Popular); ok && out.cold && zero(vec.Vec) {
		out.popular = true
		find = func() ([]string, error) { return popular.Popular(n, leave) }
	}
	ids, err := find()
	return ids, errors.Join(err, failed)
}

func zero(v []float32) bool {
	for _, x := range v {
		if x != 0 {
			return false
		}
	}
	return true
}

// answer ranks one slate.
func (p *Pipeline) answer(o Owed, s slate) Recommendation {
	r := Recommendation{
		User: o.User, Cause: o.Cause, Oldest: o.Oldest, Made: p.Now(), Candidates: len(s.pairs),
		Versions: s.arm.Versions, Arm: s.arm.Name, Cold: s.cold, Policy: p.Config.Explore.Name(),
	}
	r.Versions.User = s.version
	if p.Behind != nil {
		r.Behind = p.Behind()
	}
	if s.cf {
		r.Degraded, r.Versions.Generator, r.Versions.LLM = "cf", "", ""
	}
	for i, pair := range s.pairs {
		item := Scored{Item: pair.ItemID, Title: s.prompts[i].Title, CF: sigmoid(pair.Logit()), Propensity: 1}
		item.Score = item.CF
		if !s.cf {
			item.Score = s.logits[i].P()
		}
		r.Items = append(r.Items, item)
	}
	if s.popular && s.cf {
		r.Fallback = "popular"
	} else {
		slices.SortStableFunc(r.Items, func(a, b Scored) int {
			return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.CF, a.CF), cmp.Compare(a.Item, b.Item))
		})
	}
	n := p.Config.Items
	if o.Request != nil {
		r.RequestID = o.Request.ID
		if o.Request.N > 0 {
			n = o.Request.N
		}
	}
	r.ID = recommendationID(r)
	p.Config.Explore.draw(r.Items, n, r.ID)
	n = min(n, len(r.Items))
	for _, left := range r.Items[n:] {
		if r.Policy != "" {
			r.Rest = append(r.Rest, left.Item)
		}
	}
	r.Items = r.Items[:n]
	for i := range r.Items {
		r.Items[i].Rank = i + 1
	}
	return r
}

func likedTitles(s State, u *UserState, n int) ([]string, error) {
	if n == 0 {
		return nil, nil
	}
	var titles []string
	for _, id := range u.Liked(n) {
		it, err := s.Item(id)
		if err != nil {
			return nil, err
		}
		if it.Title != "" {
			titles = append(titles, it.Title)
		}
	}
	return titles, nil
}

// recommendationID hashes what decides the answer: the user, its cause and the versions.
func recommendationID(r Recommendation) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %d %q %d %q %q", r.User, r.Cause.Topic, r.Cause.Partition, r.Cause.Offset,
		r.RequestID, r.Versions.User, r.Versions.Generator, r.Versions.LLM)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// finite refuses scores that are not a number: one is never published.
func finite(logits []Logits, prompts []Prompt) error {
	for i, l := range logits {
		if p := l.P(); math.IsNaN(float64(p)) {
			return fmt.Errorf("score of item %q is not a number", prompts[i].ItemID)
		}
	}
	return nil
}

func sigmoid(z float32) float32 { return float32(1 / (1 + math.Exp(-float64(z)))) }

func (p *Pipeline) init() {
	p.once.Do(func() {
		p.debts, p.unread = make(chan struct{}, 1), make(chan struct{}, 1)
		if p.Now == nil {
			p.Now = time.Now
		}
		if p.Warn == nil {
			p.Warn = func(string, error) {}
		}
		if p.Tracer == nil {
			p.Tracer = untraced{}
		}
	})
}

// untraced is the Tracer that makes no spans.
type untraced struct{}

func (untraced) Learn(ctx context.Context, _ Batch) (context.Context, func(Commit, error)) {
	return ctx, func(Commit, error) {}
}

func (untraced) Recommend(ctx context.Context, _ []Owed) (context.Context, func([]Recommendation, error)) {
	return ctx, func([]Recommendation, error) {}
}

// moved tells the retriever which items changed.
func (p *Pipeline) moved(ctx context.Context, items []string) error {
	if len(items) == 0 || p.Retriever == nil {
		return nil
	}
	return p.Store.View(ctx, func(s State) error { return p.Retriever.Moved(s, items) })
}

// rounds calls work until it finds nothing to do, then waits to be woken; after `last` is closed it ends once idle.
func (p *Pipeline) rounds(ctx context.Context, awake, last <-chan struct{}, work func() (int, error)) error {
	for ending := false; ; {
		n, err := work()
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		if ending {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-awake:
		case <-last:
			ending = true
		}
	}
}

// Wake says that the store may owe a recommendation that no batch brought.
func (p *Pipeline) Wake() {
	p.init()
	wake(p.debts)
}

func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
