package corastream

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
)

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
	out := slate{arm: p.arm(o.User), version: u.Version, cold: len(u.History) == 0 && (len(u.Labels) == 0 || p.Ranker == nil)}
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
	q := Query{User: vec, Recent: u.Recent(p.window()), Labels: u.Labels, Now: p.Clock.now(p.Now()), N: max(p.Config.Candidates, want), Reasons: true}
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

// newestLooked is how many of the newest items are looked at, because a filter may let none of a large catalogue through.
const newestLooked = 2000

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
	barred, looked := q.Skip, 0
	q.N, q.Skip = n-len(listed), func(id string) bool {
		looked++
		return looked > newestLooked || had[id] || barred(id)
	}
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
