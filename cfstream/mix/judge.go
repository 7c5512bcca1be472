package mix

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// The judgement of versions. Each training makes a version of the LLM's part. A new version is the rival: it ranks every like that
// comes after its training, beside the active version, and no list shows it. The rival is promoted once it is clearly better, or
// likely better after Spec.Judge likes, and refused otherwise. The version that a promotion replaced ranks on beside the active one. When it is clearly better than the
// active one, the active version is taken back.
//
// Everything is counted in likes, so equal events and codes give equal decisions: after a restart and in a re-run. A replica's codes
// are its own, and so are its versions.
const (
	judgeLook     = 100  // likes between two looks at a rival
	judgeLeast    = 200  // likes before the first look
	judgeGain     = 1e-3 // of the log-probability: what a promotion has to bring at least, clearly
	judgeLikely   = 1.0  // standard errors that do after Spec.Judge likes: a version that lost nothing in all of them is new, the other old
	judgeSigma    = 2.6  // standard errors that make a difference clear: 99 % at each look
	watchLook     = 50   // likes between two looks at the former version
	watchLeast    = 100  // likes before the first look at a block
	watchBlock    = 500  // likes; two blocks are kept, so that an old merit does not hide a new fault
	watchSigma    = 4    // there are looks without end, so a difference by chance must be rarer
	trainedWeight = 0.5  // a training is made for weight 1, and some of it is fitted to its rows alone
	judgeWarm     = 100  // likes that teach a rival's weight before any counts
	strengthRows  = 256  // newest likes over which a rival's first weight is matched to the active one's
	soundMost     = 100  // no number of a sound version is larger: one training moves none by more than about 6
	verdictsKept  = 32   // newest
	judgeRestart  = 0.25 // of Spec.TrainAfter: likes between a version that was taken back and the next training
)

// version is one set of weights of the LLM's part.
type version struct {
	id    int64 // 0: the start, A = I
	at    int64 // events that were learnt when its training began
	fit   fit
	name  string    // ID-DIGEST, made from the others
	share           // while it is not the active one; versions are compared each at its own weight
	x     []float32 // its features of the like that is being learnt
}

// share is a version's weight in the mixture by history and gap, and Adagrad's sums. It learns from the same likes as the mixture's.
type share struct{ w, g [weightRows]float32 }

// share is the active version's.
func (w *weights) share() (out share) {
	for r := range w.w {
		out.w[r], out.g[r] = w.w[r][w.llm], w.g[r][w.llm]
	}
	return out
}

func (w *weights) setShare(to share) {
	for r := range w.w {
		w.w[r][w.llm], w.g[r][w.llm] = to.w[r], to.g[r]
	}
}

func (v *share) code(c *coder) {
	for _, list := range []*[weightRows]float32{&v.w, &v.g} {
		c.words(weightRows, func(i int) uint32 { return math.Float32bits(list[i]) }, func(i int, x uint32) { list[i] = math.Float32frombits(x) })
	}
}

// step moves the weights of the rows of a like against a gradient.
func (v *share) step(rows [3]int, grad float32) {
	for _, r := range rows {
		g := grad + float32(weightDecay*v.w[r])
		v.g[r] += float32(g * g)
		v.w[r] -= float32(weightRate*g) / num.Sqrt32(v.g[r])
	}
}

func newVersion(id, at int64, f fit) *version {
	return &version{id: id, at: at, fit: f, name: fmt.Sprintf("%d-%s", id, f.digest())}
}

// digest is the first 8 digits of the SHA-256 of the weights.
func (f *fit) digest() string {
	h := sha256.New()
	var b [4]byte
	for _, list := range [][]float32{f.lag[:], {f.gain}, f.a} {
		for _, x := range list {
			binary.LittleEndian.PutUint32(b[:], math.Float32bits(x))
			h.Write(b[:])
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// Decision is what became of a version.
type Decision int64

// The decisions.
const (
	Promoted Decision = iota + 1
	Refused
	TakenBack
)

// String is the decision in words.
func (d Decision) String() string {
	return map[Decision]string{Promoted: "promoted", Refused: "refused", TakenBack: "taken back"}[d]
}

// ground is why.
type ground int64

const (
	groundBetter ground = iota + 1
	groundLikely        // better, by all likes that there were to judge
	groundWorse
	groundLists  // its lists are worse
	groundUnsure // no gain
	groundNotFinite
	groundZero
	groundLarge
	groundBasis // the items' codes changed beneath it
)

// Verdict is one decision about a version, and the evidence for it.
type Verdict struct {
	Version   int64
	Decision  Decision
	At        int64 // events that were learnt before the decision
	TrainedAt int64 // events that were learnt when its training began
	Other     int64 // the version it was held against
	Duel      Duel
	ground    ground
	largest   float64
}

// Duel is a version held against another over the same likes.
type Duel struct {
	Rows int64
	// Chance is by what factor the version raises the probability that it gives to the item that was taken, less 1: the geometric
	// mean over the likes. CI is its 99 % interval.
	Chance   float64
	ChanceCI [2]float64
	// NDCG10 is of the version and Other of the one it is held against, among the mixture's best candidates.
	NDCG10, Other float64
}

// Reason says in a sentence why.
func (v Verdict) Reason() string {
	d := v.Duel
	evidence := fmt.Sprintf("over %d likes it gave the item that was taken a chance %s (99 %% interval %+.2f %% to %+.2f %%); NDCG@10 %.4f against %.4f",
		d.Rows, compared(d.Chance, v.Other), 100*d.ChanceCI[0], 100*d.ChanceCI[1], d.NDCG10, d.Other)
	switch v.ground {
	case groundBetter:
		return "clearly better: " + evidence
	case groundLikely:
		return "better: " + evidence
	case groundWorse:
		return "clearly worse: " + evidence
	case groundLists:
		return "its lists are worse: " + evidence
	case groundUnsure:
		return "no clear gain, so the version in use stays: " + evidence
	case groundNotFinite:
		return "its weights hold a number that is not finite: the training ran away"
	case groundZero:
		return "its weights are all zero: it would change no list"
	case groundLarge:
		return fmt.Sprintf("its weights hold a number of size %.3g: a sound training leaves none over %d", v.largest, soundMost)
	case groundBasis:
		return "most items were read anew by another basis of codes, which it was not trained for: training starts over"
	}
	return ""
}

func compared(chance float64, other int64) string {
	word := "higher"
	if chance < 0 {
		word = "lower"
	}
	return fmt.Sprintf("%.2f %% %s than version %d did", 100*math.Abs(chance), word, other)
}

// duel sums the rows over which one version is held against another.
type duel struct {
	rows                     int64
	gain, gain2              float64 // of the log-probability, first less second
	ndcg, other, diff, diff2 float64
}

func (d *duel) add(gain, ndcg, other float64) {
	d.rows++
	d.gain += gain
	d.gain2 += float64(gain * gain)
	x := ndcg - other
	d.ndcg += ndcg
	d.other += other
	d.diff += x
	d.diff2 += float64(x * x)
}

func (d duel) plus(e duel) duel {
	return duel{
		rows: d.rows + e.rows, gain: d.gain + e.gain, gain2: d.gain2 + e.gain2,
		ndcg: d.ndcg + e.ndcg, other: d.other + e.other, diff: d.diff + e.diff, diff2: d.diff2 + e.diff2,
	}
}

// spread is a mean and its standard error.
func spread(sum, sum2 float64, rows int64) (mean, err float64) {
	n := float64(rows)
	mean = sum / n
	return mean, math.Sqrt(max(0, sum2/n-float64(mean*mean)) / n)
}

func (d *duel) figures() Duel {
	if d.rows == 0 {
		return Duel{}
	}
	n := float64(d.rows)
	mean, err := spread(d.gain, d.gain2, d.rows)
	return Duel{
		Rows: d.rows, Chance: num.Exp(mean) - 1, ChanceCI: [2]float64{num.Exp(mean-2.576*err) - 1, num.Exp(mean+2.576*err) - 1},
		NDCG10: d.ndcg / n, Other: d.other / n,
	}
}

func (d *duel) code(c *coder) {
	c.i64(&d.rows)
	for _, v := range []*float64{&d.gain, &d.gain2, &d.ndcg, &d.other, &d.diff, &d.diff2} {
		c.f64(v)
	}
}

// court is the state of the judgement. At most three versions live: the active one, which makes the
// lists; a rival, which wants its place; and the former one, which the last promotion replaced. A
// training begins only while there is no rival, so no more is ever needed.
type court struct {
	made     int64    // versions so far
	active   *version // answers
	rival    *version // ranks unseen; nil: none
	trial    duel     // rival against active
	warm     int64    // likes since the rival came
	former   *version // what the last promotion replaced; nil: none
	watch    [2]duel  // former against active: this block, the one before
	verdicts []Verdict
	passed   int64 // verdicts ever
}

// candidate makes a rival of what a training came to, or refuses it at once.
//
// A rival begins with the active version's weight in the mixture, scaled so that both move
// candidates equally far. A trained version is stronger than the start, and at the same weight it
// would overshoot and lose for that reason alone. Its weight then learns from judgeWarm likes
// before any like counts.
func (s *steer) candidate(f fit, at int64) {
	v := s.sound(f, at)
	if v == nil {
		return
	}
	ratio := s.strength(&s.court.active.fit) / max(s.strength(&f), 1e-6)
	w := &s.m.weights
	for r := range v.w {
		v.w[r], v.g[r] = w.w[r][w.llm]*ratio, weightStart
	}
	if v.w[0] <= 0 { // the active version did harm, so its weight says nothing of this one's
		v.w = [weightRows]float32{trainedWeight}
	}
	s.court.rival, s.court.trial, s.court.warm = v, duel{}, 0
}

// sound makes a version of what a training came to, or refuses it for its numbers and returns nil.
func (s *steer) sound(f fit, at int64) *version {
	s.court.made++
	v := newVersion(s.court.made, at, f)
	if why, largest := f.fault(); why != 0 {
		s.decide(v, Refused, s.court.active.id, why, duel{}, largest)
		return nil
	}
	_ = corastream.Failpoint("llm.shadow")
	return v
}

// fault is what is wrong with the numbers themselves.
func (f *fit) fault() (ground, float64) {
	largest, any := float32(0), func(list []float32) (some bool) {
		for _, x := range list {
			some = some || x != 0
		}
		return some
	}
	for _, list := range [][]float32{f.lag[:], {f.gain}, f.a} {
		for _, x := range list {
			if x-x != 0 {
				return groundNotFinite, 0
			}
			largest = max(largest, x, -x)
		}
	}
	switch {
	case !any(f.lag[:]) || f.gain == 0 || !any(f.a):
		return groundZero, 0
	case largest > soundMost:
		return groundLarge, float64(largest)
	}
	return 0, 0
}

// decide notes a verdict with its evidence. Only the newest verdictsKept stay in the state, since
// the state is saved and compared byte by byte.
func (s *steer) decide(v *version, d Decision, other int64, why ground, evidence duel, largest float64) {
	c := &s.court
	c.passed++
	c.verdicts = append(c.verdicts, Verdict{
		Version: v.id, Decision: d, At: s.m.events, TrainedAt: v.at, Other: other, Duel: evidence.figures(), ground: why, largest: largest,
	})
	if n := len(c.verdicts) - verdictsKept; n > 0 {
		c.verdicts = append(c.verdicts[:0], c.verdicts[n:]...)
	}
}

// judge ranks a like of the log by all versions. set are the picks that are judged and z their
// scores without the LLM, the target first. part is the mixture's weight of the active version for
// this user.
//
// All versions rank the same candidates of the same like, each at its own weight, and only the
// difference to the active one is summed. Most of what makes one like harder than another is common
// to both and cancels out, so a few hundred likes decide.
func (s *steer) judge(q *ask, set []int32, z []float32, part float32) {
	c := &s.court
	if c.rival == nil && c.former == nil {
		return
	}
	var x [tuneTop]float32
	read := func(from []float32) []float32 {
		for k, p := range set {
			x[k] = from[p]
		}
		return x[:len(set)]
	}
	active, rank := rankOf(z, read(q.f[s.m.weights.llm]), part)
	if c.rival != nil {
		if c.warm++; c.warm > judgeWarm {
			p, r := rankOf(z, read(c.rival.x), c.rival.part(q.rows))
			c.trial.add(float64(p)-float64(active), gainOf(r), gainOf(rank))
		}
	}
	if c.former != nil {
		p, r := rankOf(z, read(c.former.x), c.former.part(q.rows))
		if c.watch[0].rows == watchBlock {
			c.watch[1], c.watch[0] = c.watch[0], duel{}
		}
		c.watch[0].add(float64(p)-float64(active), gainOf(r), gainOf(rank))
	}
}

// swap has the mixture rank by another version: its weight comes with it, and that of the version it replaces is kept with that one.
func (s *steer) swap(to *version) {
	w, c := &s.m.weights, &s.court
	c.active.share = w.share()
	w.setShare(to.share)
	c.active = to
}

// look promotes or refuses the rival, every judgeLook likes from judgeLeast on, and at the latest
// after Spec.Judge likes.
func (s *steer) look() {
	n := s.court.trial.rows
	if s.court.rival != nil && n >= judgeLeast && (n%judgeLook == 0 || n >= int64(s.m.spec.Judge)) {
		s.weigh()
	}
}

// weigh decides on the rival if its trial does. A clear gain in probability promotes unless the lists are clearly worse.
// A clear loss in either refuses. At the end a likely gain is enough, because a version that lost
// nothing in so many likes has seen newer rows than the active one.
func (s *steer) weigh() {
	t := s.court.trial
	mean, err := spread(t.gain, t.gain2, t.rows)
	lists, listsErr := spread(t.diff, t.diff2, t.rows)
	worse := lists+judgeSigma*listsErr < 0
	switch {
	case mean-judgeSigma*err > judgeGain && !worse:
		s.promote(groundBetter)
	case mean+judgeSigma*err < 0:
		s.refuse(groundWorse)
	case worse:
		s.refuse(groundLists)
	case t.rows < int64(s.m.spec.Judge):
	case mean-judgeLikely*err > 0 && lists >= 0:
		s.promote(groundLikely)
	default:
		s.refuse(groundUnsure)
	}
}

func (s *steer) refuse(why ground) {
	c := &s.court
	s.decide(c.rival, Refused, c.active.id, why, c.trial, 0)
	c.rival, c.trial = nil, duel{}
}

// promote makes the rival active. The version that it replaces is kept as the former one and
// watched from here on. The watch begins anew, so the likes that were won by then do not count
// against the new version.
func (s *steer) promote(why ground) {
	c := &s.court
	s.decide(c.rival, Promoted, c.active.id, why, c.trial, 0)
	_ = corastream.Failpoint("llm.promote")
	c.former = c.active
	s.swap(c.rival)
	c.rival = nil
	c.trial, c.watch = duel{}, [2]duel{}
}

// lookBack takes the active version back when the former one is clearly better, over the present
// block of likes or over the last two. Two blocks are looked at because a fault may show at once or
// slowly, and no more than two, so that a merit of long ago does not hide a new fault.
func (s *steer) lookBack() {
	c := &s.court
	if c.former == nil || c.watch[0].rows%watchLook != 0 {
		return
	}
	for _, d := range []duel{c.watch[0], c.watch[0].plus(c.watch[1])} {
		if d.rows < watchLeast {
			continue
		}
		if mean, err := spread(d.gain, d.gain2, d.rows); mean-watchSigma*err > 0 {
			s.takeBack(d)
			return
		}
	}
}

// takeBack makes the former version active again, with the weight that it has kept learning. The
// rival goes too, since its evidence was against the version that went. The next training waits, or
// the same rows would make the same version at once.
func (s *steer) takeBack(d duel) {
	c := &s.court
	d.gain, d.diff, d.ndcg, d.other = -d.gain, -d.diff, d.other, d.ndcg // of the active one against the former
	s.decide(c.active, TakenBack, c.former.id, groundWorse, d, 0)
	_ = corastream.Failpoint("llm.takeback")
	s.swap(c.former)
	c.former, c.watch = nil, [2]duel{}
	c.rival, c.trial = nil, duel{} // it was held against the version that went
	s.next = max(s.next, s.rows.kept+int64(judgeRestart*float64(s.m.spec.TrainAfter)))
}

// prepare leaves the features of the versions beside the active one for the picks of q.
func (s *steer) prepare(q *ask) {
	for _, v := range s.court.beside() {
		if v == nil {
			continue
		}
		v.x = fitTo(v.x, len(q.pick))
		clear(v.x)
		s.feature(&v.fit, q, v.x)
	}
}

// beside are the versions that rank unseen: the rival and the former one, nil where there is none.
func (c *court) beside() [2]*version { return [2]*version{c.rival, c.former} }

// follow moves the weights of the versions beside the active one by the step that the mixture's weights take for the same like:
// set, of which the first best count once and the others for so many items each, and the target.
func (s *steer) follow(q *ask, set []int32, best int, stands float32, target int, part float32) {
	w := &s.m.weights
	for _, v := range s.court.beside() {
		if v == nil {
			continue
		}
		own := v.part(q.rows)
		q.follow.start()
		put := func(c int, weight float32) {
			q.follow.put(q.score[c]-float32(part*q.f[w.llm][c])+float32(own*v.x[c]), v.x[c], weight)
		}
		put(target, 1)
		for i, c := range set {
			if i < best {
				put(int(c), 1)
			} else {
				put(int(c), stands)
			}
		}
		v.step(q.rows, q.follow.gradient())
	}
}

// softmaxStep is the gradient of ln(sum of weight e^score) - score(target) by the weight of one feature x. The target is put first.
type softmaxStep struct{ score, x, weight []float32 }

func (s *softmaxStep) start() { s.score, s.x, s.weight = s.score[:0], s.x[:0], s.weight[:0] }

func (s *softmaxStep) put(score, x, weight float32) {
	s.score, s.x, s.weight = append(s.score, score), append(s.x, x), append(s.weight, weight)
}

func (s *softmaxStep) gradient() float32 {
	top := slices.Max(s.score)
	var sum, pull float32
	for k, x := range s.x {
		p := float32(num.Exp32(s.score[k]-top) * s.weight[k])
		sum += p
		pull += float32(p * x)
	}
	return pull/sum - s.x[0]
}

// part is the weight for a user.
func (v *share) part(rows [3]int) float32 { return v.w[rows[0]] + v.w[rows[1]] + v.w[rows[2]] }

// rankOf is the log-probability that a version gives to the target among the best candidates by the rest of the mixture, and how
// many of them it ranks above it. z are their scores without the LLM and x the version's features, the target first.
func rankOf(z, x []float32, part float32) (logp float32, rank int) {
	score := func(k int) float32 { return z[k] + float32(part*x[k]) }
	target := score(0)
	top := target
	for k := range z {
		top = max(top, score(k))
		if score(k) > target {
			rank++
		}
	}
	var sum float32
	for k := range z {
		sum += num.Exp32(score(k) - top)
	}
	return target - top - num.Ln32(sum), rank
}

// strength is the root mean square of a fit's features over the newest rows.
func (s *steer) strength(f *fit) float32 {
	w := newTuneWork(s.d)
	var sum float64
	n := 0
	for k := range min(strengthRows, s.rows.n()) {
		r := s.rows.newest(k)
		cand := s.rows.cand[r*tuneTop:][:tuneTop]
		if !f.features(s.codes, s.coded, s.rows.past[r*steerLags:][:steerLags], cand, w) {
			continue
		}
		for c, j := range cand {
			if j >= 0 && s.coded[j] {
				x := float64(w.x[c])
				sum += float64(x * x)
				n++
			}
		}
	}
	return float32(math.Sqrt(sum / float64(max(n, 1))))
}

// Trial says which versions there are.
type Trial struct {
	Active    string // ID-DIGEST
	Version   int64
	TrainedAt int64
	Training  bool   // a version is being trained
	Rival     string // "": none is tried
	RivalID   int64
	RivalAt   int64 // events that were learnt when its training began
	Duel      Duel  // so far, the rival against the active version
	Judge     int   // likes after which the rival is decided on at the latest
	Former    string
	Verdicts  []Verdict // the newest last
	Passed    int64     // verdicts ever
}

// Trial is the state of the judgement; zero where the spec leaves the LLM's part out.
func (m *Model) Trial() Trial {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.steer == nil {
		return Trial{}
	}
	c := &m.steer.court
	t := Trial{
		Active: c.active.name, Version: c.active.id, TrainedAt: c.active.at, Training: m.steer.solved != nil, Judge: m.spec.Judge,
		Verdicts: append([]Verdict(nil), c.verdicts...), Passed: c.passed,
	}
	if c.rival != nil {
		t.Rival, t.RivalID, t.RivalAt, t.Duel = c.rival.name, c.rival.id, c.rival.at, c.trial.figures()
	}
	if c.former != nil {
		t.Former = c.former.name
	}
	return t
}

func (d *court) code(c *coder, width int) {
	c.i64(&d.made)
	c.i64(&d.passed)
	for _, v := range []**version{&d.active, &d.rival, &d.former} {
		some := *v != nil
		c.bool(&some)
		if c.w == nil {
			*v = nil
		}
		if !some || c.err != nil {
			continue
		}
		if *v == nil {
			*v = &version{}
		}
		(*v).code(c, width)
	}
	if c.err == nil && d.active == nil {
		c.err = fmt.Errorf("%w: no version of the LLM's part is active", corastream.ErrCorrupt)
	}
	d.trial.code(c)
	c.i64(&d.warm)
	d.watch[0].code(c)
	d.watch[1].code(c)
	n := c.length(len(d.verdicts))
	if c.err == nil && n > verdictsKept {
		c.err = fmt.Errorf("%w: %d verdicts", corastream.ErrCorrupt, n)
	}
	if c.err != nil {
		return
	}
	if c.w == nil {
		d.verdicts = make([]Verdict, n)
	}
	for i := range d.verdicts {
		d.verdicts[i].code(c)
	}
}

func (v *version) code(c *coder, width int) {
	c.i64(&v.id)
	c.i64(&v.at)
	v.fit.code(c, width)
	v.share.code(c)
	if c.w == nil && c.err == nil {
		v.name = newVersion(v.id, v.at, v.fit).name
	}
}

func (v *Verdict) code(c *coder) {
	for _, x := range []*int64{&v.Version, (*int64)(&v.Decision), &v.At, &v.TrainedAt, &v.Other, (*int64)(&v.ground), &v.Duel.Rows} {
		c.i64(x)
	}
	for _, x := range []*float64{&v.largest, &v.Duel.Chance, &v.Duel.ChanceCI[0], &v.Duel.ChanceCI[1], &v.Duel.NDCG10, &v.Duel.Other} {
		c.f64(x)
	}
}
