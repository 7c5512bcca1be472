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
	// Candidates is how many candidates the LLM scores for each recommendation. Default 20, range 1..500.
	Candidates int `yaml:"candidates"`
	// Items is how many items a recommendation has. Default 10, range 1 to `pipeline.candidates`.
	Items int `yaml:"items"`
	// RecommendBatch is how many users one scoring batch serves. Default 16, range 1..1024.
	RecommendBatch int `yaml:"recommend_batch"`
	// ReadBatch is how many catalogue items are read by the LLM at once. Default 32, range 1..1024.
	ReadBatch int `yaml:"read_batch"`
	// Filter says which items may be recommended to anybody; the configuration's section `filters`.
	Filter Filter `yaml:"-"`
	// Recommend names lists and says how their items differ; the configuration's section `recommend`.
	Recommend RecommendConfig `yaml:"-"`
	// Explore makes the ranking stochastic; the configuration's section `explore`.
	Explore ExploreConfig `yaml:"-"`
	// Recommendations says who gets a recommendation on the topic when he clicks. "always": everybody. "active": who asked within
	// ActiveFor, over the topic or HTTP. "on_request": nobody, so a click costs no list and no pass of the LLM. Requests are answered
	// in each case. Default always.
	Recommendations string `yaml:"recommendations"`
	// ActiveFor is how long a user who asked counts as active. Default 30m, range 1s..720h.
	ActiveFor time.Duration `yaml:"active_for"`
	// History is how many liked titles go into a `history` prompt; 0 makes `item` prompts. Default 0, range 0..50.
	History int `yaml:"history"`
	// Seen says which items of a user's history may be listed again. "exclude": none. "clicked": those that were shown and not
	// clicked; items that were clicked, bought, rated or disliked stay out. "include": all. "auto": as "include" where the list
	// model finds that users take items again (purchases, games), else as "clicked". Default auto.
	Seen string `yaml:"seen"`
}

// DefaultPipelineConfig returns the defaults above.
func DefaultPipelineConfig() PipelineConfig {
	return PipelineConfig{
		Candidates: 20, Items: 10, RecommendBatch: 16, ReadBatch: 32, Filter: DefaultFilter(), Recommend: DefaultRecommend(), Explore: DefaultExplore(), Seen: SeenAuto,
		Recommendations: RecommendAlways, ActiveFor: 30 * time.Minute,
	}
}

// Validate reports all problems at once.
func (c PipelineConfig) Validate() error {
	return errors.Join(
		inRange("candidates", c.Candidates, 1, 500), inRange("items", c.Items, 1, c.Candidates),
		inRange("recommend_batch", c.RecommendBatch, 1, 1024), inRange("read_batch", c.ReadBatch, 1, 1024),
		inRange("history", c.History, 0, 50), CheckSeen("seen", c.Seen), c.checkAudience())
}

func (c PipelineConfig) checkAudience() error {
	switch {
	case !slices.Contains([]string{RecommendAlways, RecommendOnRequest, RecommendActive}, c.Recommendations):
		return Usagef("recommendations", "choose always, active or on_request", "%q is not a choice", c.Recommendations)
	case c.ActiveFor < time.Second || c.ActiveFor > 720*time.Hour:
		return Usagef("active_for", "choose from 1s to 720h", "%v is out of range", c.ActiveFor)
	}
	return nil
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
	listed  []Candidate // the Ranker's or Retriever's: the first of pairs, in its order; named candidates beyond it follow
	ahead   []string    // what follows those of listed, where the request asks for it
	found   int         // candidates before those that no place can go to were cut
	ranked  bool        // listed is in the order of the answer: a Ranker made it
	reasons []Why       // of listed
	arm     Arm
	scored  bool
	cf      bool // there are no logits: the CF score stands in
	failed  bool // the same, and there should be
	unread  bool // the LLM has yet to read an item, or is busy reading: its score joins later
	popular bool // nothing personal is known, nor of the items' content: candidates came by popularity, and stay so
	version uint64
	cold    bool
}

func (p *Pipeline) slate(s State, o Owed) (slate, error) {
	u, err := p.asker(s, o)
	if err != nil {
		return slate{}, err
	}
	vec, err := p.Predictor.UserVector(s, u)
	if err != nil {
		return slate{}, err
	}
	out := slate{arm: p.arm(o.User), version: u.Version, cold: len(u.History) == 0}
	out.unread = p.Ranker != nil && p.backlog.Load()
	ids, err := p.candidates(s, u, vec, o.Request, &out)
	if err != nil {
		return slate{}, err
	}
	history, err := LikedTitles(s, u, p.Config.History)
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
		out.unread = out.unread || p.Ranker != nil && p.Encoder != nil && it.Title != "" && it.Content == nil
	}
	return out, out.explain(s)
}

// asker is the user as stored, followed by what the request says of its own history.
func (p *Pipeline) asker(s State, o Owed) (*UserState, error) {
	u := &UserState{}
	if o.User != "" {
		var err error
		if u, err = s.User(o.User); err != nil {
			return nil, err
		}
	}
	if o.Request == nil || len(o.Request.History) == 0 {
		return u, nil
	}
	with := *u
	with.History = slices.Concat(u.History, o.Request.History)
	return &with, nil
}

// candidates are those that the request names, else the Ranker's list, else what the Retriever finds, without what the filters,
// the request and the history leave out.
func (p *Pipeline) candidates(s State, u *UserState, vec Embedding, r *Request, out *slate) ([]string, error) {
	if r == nil {
		r = &Request{}
	}
	list, err := p.list(r)
	if err != nil {
		return nil, err
	}
	var failed error
	own, asked := Filter{Allow: list.Allow, Deny: list.Deny}, Filter{Allow: r.Allow, Deny: r.Deny}
	barred := p.barred(s, len(r.Candidates) > 0, &failed, p.Config.Filter, own, asked)
	seen := p.seen(cmp.Or(r.Seen, list.Seen))
	want := p.items(r)
	q := Query{User: vec, Recent: u.Recent(p.window()), Now: p.Clock.now(p.Now()), N: max(p.Config.Candidates, want), Reasons: true}
	if p.Ranker != nil {
		q.N = max(q.N, want+r.Ahead)
	}
	for i := range q.Recent { // a request's history may have times of the wall clock where the log's are older
		if h := &q.Recent[i]; h.Time.After(q.Now) {
			h.Time = q.Now
		}
	}
	q.Repeats = seen.allows(q.Recent)
	if len(r.Candidates) > 0 {
		if p.Config.Filter.Empty() && asked.Empty() && !r.Keep {
			barred = func(string) bool { return false } // who names an item may have it ranked, withdrawn or not
		}
		return p.named(q, r, barred, out, &failed)
	}
	skip := seen.skipped(u.History)
	for _, id := range r.Exclude {
		skip[id] = true
	}
	q.Skip = func(id string) bool { return skip[id] || barred(id) }
	if p.Ranker != nil {
		if out.listed, err = p.fill(s, q, list, u.History, r, want); err != nil {
			return nil, err
		}
		out.ranked, out.found = true, len(out.listed)
		shown := want // the LLM does not read what is not shown
		if p.Config.Explore.Name() != "" {
			shown = max(want, p.Config.Candidates)
		}
		shown = min(shown, out.found)
		if r.Ahead > 0 {
			for _, c := range out.listed[shown:] {
				out.ahead = append(out.ahead, c.Item)
			}
		}
		out.listed = out.listed[:shown]
	} else {
		if u.Version == 0 && len(u.History) > 0 {
			if q.User, err = p.visitor(s, u); err != nil {
				return nil, err
			}
		}
		if out.listed, err = p.Retriever.Candidates(q); err != nil {
			return nil, err
		}
		out.popular = out.cold && len(out.listed) > 0 && out.listed[0].Source == SourcePopular
	}
	ids := make([]string, len(out.listed))
	for i, c := range out.listed {
		ids[i] = c.Item
	}
	return ids, failed
}

// fill makes the Ranker's list as the page wants it: from its sources, less of what was shown in vain, and varied.
func (p *Pipeline) fill(s State, q Query, list ListConfig, history []Interaction, r *Request, want int) ([]Candidate, error) {
	n := q.N
	q.N = list.pool(n)
	listed, err := p.gather(q, list, r.History)
	if _, whole := listedBy(listed); err == nil && !whole { // its sources were asked on both sides of a promotion
		listed, err = p.gather(q, list, r.History)
	}
	if err != nil {
		return nil, err
	}
	if len(list.Sources) == 0 {
		short := want + r.Ahead
		if len(list.Cap) > 0 { // some of them may be over it
			short = q.N
		}
		listed = p.newest(q, listed, short)
	}
	list.fade(listed, history)
	listed, err = list.choose(listed, want, p.Config.Filter.Separators, s.Item, func(it *ItemState) ([]float32, error) {
		e, err := p.Predictor.ItemVector(s, it)
		return e.Vec, err
	})
	return listed[:min(n, len(listed))], err
}

// newest fills a list of fewer than n items with those that came last: before a shop has many clicks, few items were ever taken.
func (p *Pipeline) newest(q Query, listed []Candidate, n int) []Candidate {
	if len(listed) >= n {
		return listed
	}
	had := make(map[string]bool, len(listed)+len(q.Recent))
	score := float32(0)
	for _, c := range listed {
		had[c.Item], score = true, min(score, c.Score)
	}
	for _, h := range q.Recent {
		had[h.Item] = had[h.Item] || !q.Repeats
	}
	barred := q.Skip
	q.N, q.Skip = n-len(listed), func(id string) bool { return had[id] || barred(id) }
	found, _ := p.source(q, ListLatest, 0)
	for _, c := range found {
		score--
		c.Score = score
		listed = append(listed, c)
	}
	return listed
}

// listedBy is the version of what the Ranker trains that made a list, and whether it made it whole.
func listedBy(listed []Candidate) (model string, whole bool) {
	for _, c := range listed {
		switch {
		case c.Model == "" || c.Model == model:
		case model != "":
			return model, false
		default:
			model = c.Model
		}
	}
	return model, true
}

// items is how many items a request wants.
func (p *Pipeline) items(r *Request) int {
	if r.N > 0 {
		return r.N
	}
	if n := p.Config.Recommend.Lists[r.List].Items; n > 0 {
		return n
	}
	return p.Config.Items
}

// named are the candidates that a request names: those that the Ranker lists in its order, then the others. With r.Keep they stay in
// the order of their names, and the Ranker says only why each is there.
func (p *Pipeline) named(q Query, r *Request, barred func(string) bool, out *slate, failed *error) ([]string, error) {
	names := r.Candidates
	left := make(map[string]bool, len(names))
	kept := make([]string, 0, len(names))
	for _, id := range names {
		if !barred(id) && !left[id] {
			kept, left[id] = append(kept, id), true
		}
	}
	if *failed != nil || p.Ranker == nil || len(kept) == 0 {
		return kept, *failed
	}
	q.N, q.Repeats, q.Skip = len(kept), true, func(id string) bool { return !left[id] }
	out.listed, out.ranked = p.Ranker.Rank(q), true
	if r.Keep {
		by := make(map[string]Candidate, len(out.listed))
		for _, c := range out.listed {
			by[c.Item] = c
		}
		out.listed = out.listed[:0]
		for _, id := range kept {
			c := by[id]
			c.Item = id
			out.listed = append(out.listed, c)
		}
		return kept, nil
	}
	ids := make([]string, 0, len(kept))
	for _, c := range out.listed {
		ids, left[c.Item] = append(ids, c.Item), false
	}
	for _, id := range kept {
		if left[id] {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// window is how many of the user's last events a Query holds.
func (p *Pipeline) window() int {
	if p.Ranker == nil {
		return noRankerWindow
	}
	return p.Ranker.Window()
}

// noRankerWindow is how many events a Query holds for a Retriever alone.
const noRankerWindow = 50

// visitor is the vector of somebody of whom the CF model learnt nothing: the mean of what the history liked.
func (p *Pipeline) visitor(s State, u *UserState) (Embedding, error) {
	liked := u.Liked(noRankerWindow)
	var sum []float32
	for _, id := range liked {
		it, err := s.Item(id)
		if err != nil {
			return Embedding{}, err
		}
		e, err := p.Predictor.ItemVector(s, it)
		if err != nil {
			return Embedding{}, err
		}
		for len(sum) < len(e.Vec) {
			sum = append(sum, 0)
		}
		for i, x := range e.Vec {
			sum[i] += x / float32(len(liked))
		}
	}
	return Embedding{Vec: sum}, nil
}

// answer ranks one slate.
func (p *Pipeline) answer(o Owed, s slate) Recommendation {
	r := Recommendation{
		User: o.User, Cause: o.Cause, Oldest: o.Oldest, Made: p.Now(), Candidates: max(s.found, len(s.pairs)),
		Versions: s.arm.Versions, Arm: s.arm.Name, Cold: s.cold, Policy: p.Config.Explore.Name(),
	}
	r.Versions.User = s.version
	r.Versions.List, _ = listedBy(s.listed)
	if p.Behind != nil {
		r.Behind = p.Behind()
	}
	if s.cf {
		r.Versions.Generator, r.Versions.LLM = "", ""
		if !s.ranked || s.failed {
			r.Degraded = "cf"
		}
	}
	for i, pair := range s.pairs {
		item := Scored{Item: pair.ItemID, Title: s.prompts[i].Title, CF: pair.P(), Propensity: 1}
		item.Score = item.CF
		if !s.cf {
			item.Score = s.logits[i].P()
		}
		if i < len(s.listed) {
			item.Why = s.reasons[i]
			if s.ranked {
				item.ListScore = number(s.listed[i].Score)
			}
		}
		r.Items = append(r.Items, item)
	}
	byScore := r.Items
	if s.ranked {
		byScore = r.Items[len(s.listed):]
	}
	if s.popular && s.cf {
		r.Fallback = "popular"
	} else {
		slices.SortStableFunc(byScore, func(a, b Scored) int {
			return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(b.CF, a.CF), cmp.Compare(a.Item, b.Item))
		})
	}
	n, explore := p.Config.Items, p.Config.Explore
	if o.Request != nil {
		r.RequestID, n = o.Request.ID, p.items(o.Request)
		if o.Request.Keep { // the list was drawn when it began
			explore, r.Policy = ExploreConfig{}, ""
		}
	}
	r.ID = recommendationID(r)
	explore.draw(r.Items, s.utilities(r.Items), n, r.ID)
	n = min(n, len(r.Items))
	for _, left := range r.Items[n:] {
		if r.Policy != "" {
			r.Rest = append(r.Rest, left.Item)
		}
	}
	if o.Request != nil && o.Request.Ahead > 0 {
		for _, left := range r.Items[n:] {
			r.Ahead = append(r.Ahead, left.Item)
		}
		r.Ahead = append(r.Ahead, s.ahead...)
	}
	r.Items = r.Items[:n]
	for i := range r.Items {
		r.Items[i].Rank = i + 1
	}
	return r
}

// utilities are what a stochastic policy draws by: the list's scores, or the logits of the probabilities where no Ranker listed.
// Named candidates that the Ranker did not list stand below those it did.
func (s *slate) utilities(items []Scored) []float64 {
	z := make([]float64, len(items))
	lowest := 0.
	for i, it := range items {
		q := min(max(float64(it.Score), 1e-6), 1-1e-6)
		switch z[i] = math.Log(q / (1 - q)); {
		case s.ranked && i < len(s.listed):
			z[i] = float64(it.ListScore)
			lowest = min(lowest, z[i])
		case s.ranked:
			z[i] = lowest - 1 - (1 - q)
		}
	}
	return z
}

// number is x, or 0 for what JSON can not carry.
func number(x float32) float32 {
	if x-x != 0 {
		return 0
	}
	return x
}

// recommendationID hashes what decides the answer: the user, its cause and the versions.
func recommendationID(r Recommendation) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %d %d %q %d %q %q", r.User, r.Cause.Topic, r.Cause.Partition, r.Cause.Offset,
		r.RequestID, r.Versions.User, r.Versions.Generator, r.Versions.LLM)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

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

// wanted are the debts that somebody waits for: all requests, and of moved users those that the Audience names. The others may be debts
// of a time when the configuration said otherwise.
func (p *Pipeline) wanted(owed []Owed) []Owed {
	return slices.DeleteFunc(slices.Clone(owed), func(o Owed) bool { return o.Request == nil && !p.Audience.Wants(o.User) })
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
