package cfstream

import (
	"fmt"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// Model is a CF model: it learns events one at a time, any number of passes, and hands out e_u and e_i.
type Model interface {
	corastream.Learner
	corastream.Predictor
	Spec() Spec
	// Demand is ln of an item's likes, older ones counting less, comparable between items whenever it is asked; -Inf: none.
	Demand(it *corastream.ItemState) float32
}

// Bounds that no healthy model comes near: they turn a runaway into a large number, never into NaN.
const (
	maxBias = 20
	maxNorm = 50
	// maxStackFactors is up to how many factors a step needs no allocation.
	maxStackFactors = 128
)

// New returns the model of a spec. It holds no state of its own and may be used by several goroutines.
func New(spec Spec) (Model, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	spec = spec.filled()
	k, m := spec.Widths()
	base := model{
		spec: spec, factors: k, content: m, zeros: make([]float32, k+m),
		biasStart: float32(spec.BiasStart), biasSettle: float32(spec.BiasSettle), countRate: float32(spec.CountRate),
		muRate: float32(spec.MuRate), biasRate: float32(spec.BiasRate), itemBiasRate: float32(spec.ItemBiasRate), biasDecay: float32(spec.BiasDecay),
		contentRate: float32(spec.ContentRate), contentDecay: float32(spec.ContentDecay),
		tasteRate: float32(spec.TasteRate), tasteDecay: float32(spec.TasteDecay),
		factorRate: float32(spec.FactorRate), factorDecay: float32(spec.FactorDecay),
		factorDamp: float32(spec.FactorDamp), damp: float32(spec.Damp), clip: float32(spec.Clip), negativeWeight: float32(spec.NegativeWeight),
		blockRate: float32(spec.BlockRate), blockDecay: float32(spec.BlockDecay),
	}
	return spec.kind().make(base), nil
}

type model struct {
	spec             Spec
	factors, content int // K, m
	zeros            []float32
	muRate, biasRate, biasStart, biasSettle, itemBiasRate, biasDecay, countRate,
	contentRate, contentDecay, tasteRate, tasteDecay,
	factorRate, factorDecay, factorDamp, damp, clip, negativeWeight, blockRate, blockDecay float32
}

// Spec implements Model.
func (m *model) Spec() Spec { return m.spec }

// Learn implements corastream.Learner: one step for the event and, when it is implicit, one for each negative drawn.
func (m *model) Learn(s corastream.State, ev corastream.Event) error {
	return m.each(s, ev, func(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, label, weight float32) error {
		if err := m.prepare(shared, u, it); err != nil {
			return err
		}
		m.step(shared, u, it, label, weight)
		return nil
	})
}

// stepper learns one (user, item) with a label.
type stepper func(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, label, weight float32) error

// each checks an event and calls step for it and, when it is implicit, for each negative drawn. An event that takes back is a step
// towards label 0; the counts and the demand lose what it takes out of the history.
func (m *model) each(s corastream.State, ev corastream.Event, step stepper) error {
	if !(ev.Label >= 0 && ev.Label <= 1) || !(ev.Weight >= 0 && ev.Weight <= 1e6) {
		return fmt.Errorf("learn event %v: label %v or weight %v: want a label in [0,1] and a weight in [0,1e6]",
			ev.Pos, ev.Label, ev.Weight)
	}
	shared, u, it, err := recordsOf(s, ev)
	if err != nil {
		return err
	}
	if err := step(shared, u, it, ev.Label, ev.Weight); err != nil {
		return err
	}
	if ev.Retract || ev.Opposes() {
		m.takeBack(s, shared, u, it, ev)
	}
	if ev.Retract {
		return nil
	}
	shared.Count++
	u.Count++
	it.Count++
	if ev.Positive() {
		m.ask(it, ev.Time)
	}
	if !ev.Implicit || !ev.Positive() {
		return nil
	}
	for n := range m.spec.Negatives {
		neg, err := draw(s, u, ev, n)
		if err != nil {
			return err
		}
		if neg == nil {
			continue
		}
		if err := step(shared, u, neg, 0, float32(ev.Weight*m.negativeWeight)); err != nil {
			return err
		}
	}
	return nil
}

// recordsOf returns the three records that an event is about.
func recordsOf(s corastream.State, ev corastream.Event) (shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, err error) {
	if shared, err = s.Shared(); err != nil {
		return nil, nil, nil, err
	}
	if u, err = s.User(ev.User); err != nil {
		return nil, nil, nil, err
	}
	it, err = s.Item(ev.Item)
	return shared, u, it, err
}

// prepare makes the vectors of fresh records and refuses those of another spec.
func (m *model) prepare(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState) error {
	if err := m.prepareShared(shared); err != nil {
		return err
	}
	if k := m.factors + m.content; len(u.Vec) != k {
		if len(u.Vec) != 0 {
			return m.mismatch("user "+u.ID, len(u.Vec), k)
		}
		u.Vec, u.Acc = make([]float32, k), make([]float32, k)
		m.scatter(u.Vec[:m.factors], "u:", u.ID)
	}
	if err := m.prepareItem(it); err != nil {
		return err
	}
	return m.checkContent(it)
}

func (m *model) prepareItem(it *corastream.ItemState) error {
	if len(it.Vec) == m.factors {
		return nil
	}
	if len(it.Vec) != 0 {
		return m.mismatch("item "+it.ID, len(it.Vec), m.factors)
	}
	it.Vec, it.Acc = make([]float32, m.factors), make([]float32, m.factors)
	m.scatter(it.Vec, "i:", it.ID)
	return nil
}

// prepareShared: Vec is [w | gamma], gamma the weight of an item's count (see itemBias).
func (m *model) prepareShared(shared *corastream.Embedding) error {
	if err := m.checkShared(shared); err != nil || len(shared.Vec) != 0 {
		return err
	}
	shared.Vec, shared.Acc = make([]float32, m.content+1), make([]float32, m.content)
	return nil
}

func (m *model) checkShared(shared *corastream.Embedding) error {
	if n := len(shared.Vec); n != 0 && n != m.content+1 {
		return m.mismatch("the shared vector", n, m.content+1)
	}
	return nil
}

// common is w, nil in a fresh state.
func (m *model) common(shared *corastream.Embedding) []float32 {
	return shared.Vec[:min(m.content, len(shared.Vec))]
}

func (m *model) checkContent(it *corastream.ItemState) error {
	if m.content > 0 && len(it.Content) != 0 && len(it.Content) != m.content {
		return m.mismatch("the content of item "+it.ID, len(it.Content), m.content)
	}
	return nil
}

func (m *model) mismatch(what string, have, want int) error {
	return fmt.Errorf("%w: %s has width %d, but %v needs %d (fix: use the spec it was made with, or start from empty state)",
		corastream.ErrMismatch, what, have, m.spec, want)
}

// scatter breaks the symmetry of new factors: uniform in +-FactorInit*sqrt(3), from the id's hash.
func (m *model) scatter(v []float32, kind, id string) {
	if len(v) == 0 {
		return
	}
	drawInto(v, hash64(id, hash64(kind, m.spec.Seed)), m.spec.FactorInit)
}

// drawInto fills v uniformly with the given standard deviation.
func drawInto(v []float32, h uint64, deviation float64) {
	for i := range v {
		x := hash64("", h+uint64(i)) >> 40 // 24 bits
		v[i] = float32((float64(x)/(1<<23) - 1) * float64(deviation*1.7320508))
	}
}

// step moves all parameters of one (user, item) against the gradient of the log loss at z.
func (m *model) step(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, label, weight float32) {
	k := m.factors
	z := m.biases(shared, u, it)
	if k > 0 {
		z += kernels.Dot(u.Vec[:k], it.Vec)
	}
	read := m.content > 0 && len(it.Content) > 0
	w := m.common(shared)
	if read {
		z += kernels.Dot(w, it.Content) + kernels.Dot(u.Vec[k:], it.Content)
	}
	g := cap1(float32((sigmoid(z)-label)*weight), m.clip)

	m.moveBiases(shared, u, it, g)
	if k > 0 {
		adagrad2(u.Vec[:k], u.Acc[:k], it.Vec, it.Acc, g, m.factorRate, m.factorDecay, m.factorDamp)
		capNorm(u.Vec[:k], maxNorm)
		capNorm(it.Vec, maxNorm)
	}
	if read {
		adagrad(w, shared.Acc, it.Content, g, m.contentRate, m.contentDecay, m.damp)
		capNorm(w, maxNorm)
		if m.tasteRate > 0 {
			adagrad(u.Vec[k:], u.Acc[k:], it.Content, g, m.tasteRate, m.tasteDecay, m.damp)
			capNorm(u.Vec[k:], maxNorm)
		}
	}
	touch(shared)
	touch(&u.Embedding)
	touch(&it.Embedding)
}

func (m *model) moveBias(b, g, rate float32) float32 {
	return cap1(b-float32(rate*(g+float32(m.biasDecay*b))), maxBias)
}

func touch(e *corastream.Embedding) { e.Version++ }

// UserVector implements corastream.Predictor: Vec [K+m] = [p_u, w + t_u], freshly made.
func (m *model) UserVector(s corastream.State, u *corastream.UserState) (corastream.Embedding, error) {
	e := corastream.Embedding{Bias: u.Bias, Count: u.Count, Version: u.Version}
	if m.factors+m.content == 0 {
		return e, nil
	}
	shared, err := s.Shared()
	if err != nil {
		return e, err
	}
	e.Vec = make([]float32, m.factors+m.content)
	switch len(u.Vec) {
	case 0: // a new user: nothing but what all share
	case len(e.Vec):
		copy(e.Vec, u.Vec)
	default:
		return e, m.mismatch("user "+u.ID, len(u.Vec), len(e.Vec))
	}
	for i, w := range m.common(shared) {
		e.Vec[m.factors+i] += w
	}
	return e, m.checkShared(shared)
}

// ItemVector implements corastream.Predictor: Vec [K+m] = [q_i, c_i]; the part that is not known yet is zero. Without
// factors Vec is the item's own content, not a copy: do not write to it.
func (m *model) ItemVector(s corastream.State, it *corastream.ItemState) (corastream.Embedding, error) {
	e := corastream.Embedding{Count: it.Count, Version: it.Version}
	shared, err := s.Shared()
	if err != nil {
		return e, err
	}
	e.Bias = itemBias(shared, it)
	if err := m.checkContent(it); err != nil {
		return e, err
	}
	if len(it.Vec) != 0 && len(it.Vec) != m.factors {
		return e, m.mismatch("item "+it.ID, len(it.Vec), m.factors)
	}
	switch {
	case m.factors+m.content == 0:
	case m.factors == 0 && len(it.Content) == 0:
		e.Vec = m.zeros
	case m.factors == 0:
		e.Vec = it.Content
	default:
		e.Vec = make([]float32, m.factors+m.content)
		copy(e.Vec, it.Vec)
		if m.content > 0 {
			copy(e.Vec[m.factors:], it.Content)
		}
	}
	return e, nil
}
