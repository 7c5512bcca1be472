package mix

import (
	"math"
	"slices"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// steer is the LLM's part, to first order. W_A written by a decoder moves an item's Yes logit by v_u.C_i: C_i is the item's code,
// made from two states of the frozen LLM, and v_u the user's, made from the codes of their last items. The mixture
// learns how much of it to believe, by history and gap. What makes v_u (fit) is trained beside the stream (tune.go), on
// the mixture's own best candidates of the last likes. At a fixed like it becomes a version that is tried (judge.go).
type steer struct {
	m       *Model
	d       int
	codes   []float32 // [items*d]; 0 where no code has come
	coded   []bool    // by item
	some    int       // items with a code
	fresh   fresh     // items with a code that no event has named
	rows    rows
	next    int64 // rows: then a fit begins
	take    int64 // rows: then `solved` is received
	recoded int   // codes that replaced another one since the last start
	court   court
	solved  chan trained
	since   int64 // events that were learnt when the training under way began
	worth   worth
	late    late
}

const (
	steerLags = 20
	steerTop  = 20 // no candidate moves by more
)

func newSteer(m *Model) *steer {
	s := &steer{m: m, d: m.spec.Codes, next: int64(m.spec.TrainAfter), rows: rows{most: m.spec.TrainRows}}
	s.court.active = newVersion(0, 0, newFit(s.d))
	return s
}

func (*steer) name() string       { return corastream.SourceSimilar }
func (*steer) features() []string { return []string{"llm"} }

func (s *steer) grow(n int) {
	for len(s.coded) < n {
		s.coded = append(s.coded, false)
	}
	if s.some > 0 {
		s.room()
	}
}

// room makes place for the codes of all items. A catalogue without codes has none.
func (s *steer) room() {
	if n := len(s.coded)*s.d - len(s.codes); n > 0 {
		s.codes = append(s.codes, make([]float32, n)...)
	}
}

// describe takes in an item's code; of another width it is none of this model's, and nil keeps what is known.
func (s *steer) describe(item int32, code []float32, removed bool) {
	switch {
	case removed && s.coded[item]:
		s.coded[item] = false
		s.some--
		clear(row(s.codes, item, s.d))
	case !removed && len(code) == s.d:
		if !s.coded[item] {
			s.coded[item] = true
			s.some++
			if s.isFresh(item) {
				s.fresh.add(item)
			}
		} else if !slices.Equal(row(s.codes, item, s.d), code) {
			s.renew()
		} else {
			s.toldAgain()
			return
		}
		s.late.still = 0
		s.room()
		copy(row(s.codes, item, s.d), code)
	}
}

// isFresh says that nothing but its code speaks for an item.
func (s *steer) isFresh(item int32) bool { return s.coded[item] && s.m.quality.first[item] == 0 }

func (s *steer) learn(*event) { s.fresh.learn(s.isFresh) }

// find adds the fresh items that v_u moves most: nothing else would, as long as nobody takes them. Of a catalogue of which more
// are fresh the newest are looked at.
func (s *steer) find(q *ask) {
	if len(s.fresh.items) == 0 || !s.user(q) {
		return
	}
	s.fresh.find(q, s.isFresh, func(j int32) float32 { return kernels.Dot(q.user, row(s.codes, j, s.d)) })
}

// user leaves the active version's v_u in q.user, and says whether any of the last items has a code.
func (s *steer) user(q *ask) bool { return s.userBy(&s.court.active.fit, q) }

func (s *steer) userBy(f *fit, q *ask) bool {
	if s.some == 0 {
		return false
	}
	q.mean, q.user = fitTo(q.mean, s.d), fitTo(q.user, s.d)
	var ids [steerLags]int32
	n := 0
	for ; n < min(len(q.past), steerLags); n++ {
		if ids[n] = q.past[n].item; !s.coded[ids[n]] {
			ids[n] = -1
		}
	}
	if f.mean(q.mean, s.codes, ids[:n]) == 0 {
		return false
	}
	f.user(q.user, q.mean)
	return true
}

func fitTo(v []float32, n int) []float32 { return slices.Grow(v[:0], n)[:n] }

func (s *steer) fill(q *ask, f [][]float32) {
	clear(f[0])
	s.feature(&s.court.active.fit, q, f[0])
}

// feature writes v_u.C_i of a fit for the picks with a code.
func (s *steer) feature(f *fit, q *ask, to []float32) {
	if !s.userBy(f, q) {
		return
	}
	for i, at := range q.pick {
		if j := q.cands[at]; s.coded[j] {
			to[i] = clip(kernels.Dot(q.user, row(s.codes, j, s.d)))
		}
	}
}

func clip(x float32) float32 { return min(steerTop, max(-steerTop, x)) }

// from is the item of the history whose code adds most.
func (s *steer) from(q *ask, c int) int32 {
	best, top := int32(-1), float32(0)
	j := q.cands[c]
	if !s.coded[j] {
		return -1
	}
	one, v := make([]float32, s.d), make([]float32, s.d)
	for l, p := range q.past[:min(len(q.past), steerLags)] {
		if !p.liked || !s.coded[p.item] {
			continue
		}
		clear(one)
		kernels.Axpy(s.court.active.fit.lag[l], row(s.codes, p.item, s.d), one)
		s.court.active.fit.user(v, one)
		if x := kernels.Dot(v, row(s.codes, j, s.d)); x > top {
			best, top = p.item, x
		}
	}
	return best
}

// log keeps a like for the next fit: the history, the target and the best others by the mixture without this source. A target
// that the mixture has not among its best can not be brought up by another order of them, so it is left out.
func (s *steer) log(q *ask, drawn int) {
	s.prepare(q)
	if len(q.past) == 0 || s.some == 0 && !s.late.keeps(&s.rows) {
		return
	}
	w := &s.m.weights
	k := w.llm
	part := w.at(q.rows, k)
	z := func(c int) float32 { return q.score[c] - float32(part*q.f[k][c]) }
	target := drawn - 1
	zt := z(target)
	q.keys = q.keys[:0]
	above, aboveWith := 0, 0
	for c := range target {
		if q.pick[c] == q.pick[target] {
			continue
		}
		x := z(c)
		q.keys = append(q.keys, descending(x)<<32|uint64(c))
		if x > zt {
			above++
		}
		if q.score[c] > q.score[target] {
			aboveWith++
		}
	}
	if s.some > 0 {
		s.worth.add(aboveWith, above)
	} else {
		s.late.rows = true
	}
	if above >= tuneTop {
		s.late.missed = min(s.late.missed+1, maxMissed)
		return
	}
	slices.Sort(q.keys)
	q.set = q.set[:0]
	for _, key := range q.keys[:min(len(q.keys), tuneTop-1)] {
		q.set = append(q.set, int32(uint32(key)))
	}
	past, cand, zs := s.rows.put(rowOf(q.rows, s.late.missed))
	s.late.missed = 0
	for l := range past {
		past[l] = -1
		if l < len(q.past) {
			past[l] = q.past[l].item
		}
	}
	cand[0], zs[0] = q.cands[q.pick[target]], zt
	for i := 1; i < tuneTop; i++ {
		cand[i], zs[i] = -1, 0
		if i <= len(q.set) {
			c := int(q.set[i-1])
			cand[i], zs[i] = q.cands[q.pick[c]], z(c)
		}
	}
	s.judge(q, slices.Insert(q.set, 0, int32(target)), zs[:len(q.set)+1], part)
}

// descending is a key that is smaller for a larger finite x, the same for both zeros.
func descending(x float32) uint64 {
	b := math.Float32bits(x + 0)
	if b>>31 == 0 {
		b = ^b & (1<<31 - 1)
	}
	return uint64(b)
}

// learnt does what is due once a like is learnt: versions change their places, a training ends,
// another begins. Each is due at a count of likes or rows and never at a time, so a restart
// and a re-run do the same at the same event. A training that is not done when it is due is
// waited for, with the model's lock held.
func (s *steer) learnt() {
	s.lookBack()
	s.look()
	s.late.still++
	if s.some > 0 {
		s.late.since++
	}
	if s.solved != nil && s.rows.kept >= s.take {
		s.receive()
	}
	switch {
	case s.solved != nil || s.court.rival != nil:
	case s.late.rows:
		if s.enough() && (s.late.still >= lateStill || s.late.since >= lateMost) {
			s.begin(s.rows.n() / lateHeld)
		}
	case s.rows.kept >= s.next:
		s.begin(0)
	}
}

// renew starts over once most codes are of a new basis. A code of one basis means something else in
// another, so the trained matrices turn the new codes at random. Until half of the codes are
// replaced, both kinds stand side by side and the old version still does more good than harm. A
// training under way is received and dropped.
func (s *steer) renew() {
	if s.recoded++; 2*s.recoded <= s.some {
		return
	}
	s.recoded = 0
	if s.solved != nil {
		<-s.solved
		s.solved = nil
	}
	c := &s.court
	for _, v := range []*version{c.rival, c.active} {
		if v == nil || v.id == 0 {
			continue
		}
		decision := Refused
		if v == c.active {
			decision = TakenBack
		}
		s.decide(v, decision, 0, groundBasis, duel{}, 0)
	}
	c.active, c.rival, c.former = newVersion(0, 0, newFit(s.d)), nil, nil
	c.trial, c.watch = duel{}, [2]duel{}
	s.late.rows, s.late.since = true, 0 // the rows name items, so they are as good for the new codes
}

// begin starts a training in a goroutine, on copies of everything it reads. It leaves out the newest
// rows as held says, and judges by them. take is the number of
// rows at which its result is received: far enough ahead that the goroutine is done by then on most
// machines, and fixed, so that equal events give equal state. The channel holds one result, so the
// goroutine ends even if nobody receives it.
func (s *steer) begin(held int) {
	t := tuning{
		d: s.d, codes: slices.Clone(s.codes), coded: slices.Clone(s.coded), rows: s.rows.clone(), from: newFit(s.d),
		toward: &s.court.active.fit, seed: uint64(s.rows.kept), held: held,
	}
	if held > 0 {
		t.active = s.m.weights.share()
	}
	s.solved, s.since = make(chan trained, 1), s.m.events
	s.take = s.rows.kept + max(int64(s.m.spec.TrainAfter)/4, s.rows.kept/16)
	s.next = max(s.take, s.rows.kept+min(s.rows.kept/2, int64(s.rows.most)/2))
	s.late.rows, s.late.held, s.late.since = false, held > 0, 0
	_ = corastream.Failpoint("llm.train")
	go func(to chan<- trained) {
		out := trained{fit: t.run()}
		if held > 0 {
			out.held = t.judge(&out.fit)
		}
		_ = corastream.Failpoint("llm.trained")
		to <- out
	}(s.solved)
}

// receive takes in what a training came to.
func (s *steer) receive() {
	t := <-s.solved
	s.solved = nil
	if t.held == nil {
		s.candidate(t.fit, s.since)
		return
	}
	s.first(t)
}
