package cfstream

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
	"github.com/corastream/corastream/kernels"
)

// sasRec is SASRec (Kang and McAuley, 2018) made to stream: a user's vector is what one self-attention block reads in their last
// `window` items, newest last:
//
//	x_j = q_j + position + (liked or not)       a = softmax(x_j . A x_n / sqrt(d))       m = sum a_j x_j
//	h = x_n + V m                               e_u = h + W2 relu(W1 h)                  z = mu + b_u + b_i + e_u.q_i
//
// Each event moves the biases and q_i, and e_u is read anew, in one forward pass: nothing is drawn, so equal events give equal
// bytes. The block's weights (A, V, W1, W2, positions, labels) move in Fit alone. Simpler than the paper: one block and one
// head; only the last place asks, so that query and key need one matrix A together, and a pass costs 4d^2 and not window
// times that; no normalisation or dropout; it learns from labels rather than from sampled negatives (where a label is there), and
// sees what was disliked too.
//
// Shared Vec holds the block [A|V|W1|W2|positions|labels]; a user's Vec is e_u as of their last event, an item's q_i.
type sasRec struct {
	model
	window int
}

// block is the shared weights by name, or their Adagrad sums.
type block struct{ a, v, w1, w2, positions, labels []float32 }

func (m *sasRec) blockSize() int {
	d := m.factors
	return 4*d*d + (m.window+2)*d
}

func (m *sasRec) cut(v []float32) block {
	d := m.factors
	take := func(n int) []float32 {
		out := v[:n:n]
		v = v[n:]
		return out
	}
	return block{take(d * d), take(d * d), take(d * d), take(d * d), take(m.window * d), take(2 * d)}
}

// forwardPass is one forward pass, kept for the backward one.
type forwardPass struct {
	x              [][]float32 // [n][d], oldest first
	at             []corastream.Interaction
	r, mix, h, t   []float32
	score, attends []float32
	out            []float32
}

func (m *sasRec) newForwardPass() *forwardPass {
	d := m.factors
	r := &forwardPass{x: make([][]float32, 0, m.window)}
	back := make([]float32, (m.window+5)*d+2*m.window)
	take := func(n int) []float32 {
		out := back[:n:n]
		back = back[n:]
		return out
	}
	for range m.window {
		r.x = append(r.x, take(d))
	}
	r.r, r.mix, r.h, r.t, r.out = take(d), take(d), take(d), take(d), take(d)
	r.score, r.attends = take(m.window), take(m.window)
	return r
}

// read makes e_u of the last items into r.out; nothing read is zero.
func (m *sasRec) read(s corastream.State, b block, history []corastream.Interaction, r *forwardPass) error {
	d := m.factors
	n := min(m.window, len(history))
	r.at, r.x = history[len(history)-n:], r.x[:cap(r.x)]
	r.x = r.x[:n]
	if n == 0 {
		clear(r.out)
		return nil
	}
	for j, at := range r.at {
		it, err := s.Item(at.Item)
		if err != nil {
			return err
		}
		if len(it.Vec) != d {
			return m.mismatch("item "+it.ID, len(it.Vec), d)
		}
		place, label := b.positions[(n-1-j)*d:], b.labels[labelOf(at)*d:]
		for i := range d {
			r.x[j][i] = it.Vec[i] + place[i] + label[i]
		}
	}
	last := r.x[n-1]
	times(r.r, b.a, last)
	scale, top := float32(1/math.Sqrt(float64(d))), float32(math.Inf(-1))
	for j := range n {
		r.score[j] = float32(kernels.Dot(r.x[j], r.r) * scale)
		top = max(top, r.score[j])
	}
	sum := float32(0)
	for j := range n {
		r.attends[j] = float32(num.Exp(float64(max(-30, r.score[j]-top))))
		sum += r.attends[j]
	}
	clear(r.mix)
	for j := range n {
		r.attends[j] /= sum
		add(r.mix, r.attends[j], r.x[j])
	}
	times(r.h, b.v, r.mix)
	add(r.h, 1, last)
	times(r.t, b.w1, r.h)
	for i := range r.t {
		r.t[i] = max(0, r.t[i])
	}
	times(r.out, b.w2, r.t)
	add(r.out, 1, r.h)
	return nil
}

func labelOf(at corastream.Interaction) int {
	if at.Label >= 0.5 {
		return 1
	}
	return 0
}

// Learn implements corastream.Learner.
func (m *sasRec) Learn(s corastream.State, ev corastream.Event) error {
	shared, err := m.ready(s)
	if err != nil {
		return err
	}
	err = m.each(s, ev, func(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, label, weight float32) error {
		if err := m.prepare(u, it); err != nil {
			return err
		}
		m.step(shared, u, it, label, weight)
		return nil
	})
	if err != nil {
		return err
	}
	u, err := s.User(ev.User)
	if err != nil {
		return err
	}
	history := u.History[:len(u.History):len(u.History)]
	if ev.Retract || ev.Opposes() {
		history = slices.DeleteFunc(slices.Clone(history), ev.TakesBack)
	}
	if !ev.Retract {
		history = append(history[max(0, len(history)-m.window+1):len(history):len(history)],
			corastream.Interaction{Item: ev.Item, Label: ev.Label, Time: ev.Time})
	}
	return m.reread(s, shared, u, history[max(0, len(history)-m.window):])
}

// reread sets e_u from the last items.
func (m *sasRec) reread(s corastream.State, shared *corastream.Embedding, u *corastream.UserState, history []corastream.Interaction) error {
	r := m.newForwardPass()
	if err := m.known(s, history); err != nil {
		return err
	}
	if err := m.read(s, m.cut(shared.Vec), history, r); err != nil {
		return err
	}
	copy(u.Vec, r.out)
	capNorm(u.Vec, maxNorm)
	return nil
}

// known gives vectors to items that are in a history and have none, as after a change of model.
func (m *sasRec) known(s corastream.State, history []corastream.Interaction) error {
	for _, at := range history {
		it, err := s.Item(at.Item)
		if err != nil {
			return err
		}
		if len(it.Vec) == 0 {
			it.Vec, it.Acc = make([]float32, m.factors), make([]float32, m.factors)
			m.scatter(it.Vec, "i:", it.ID)
			it.Version++
		}
	}
	return nil
}

// ready makes the block of a fresh state: matrices drawn small, the rest zero.
func (m *sasRec) ready(s corastream.State) (*corastream.Embedding, error) {
	shared, err := s.Shared()
	if err != nil {
		return nil, err
	}
	switch len(shared.Vec) {
	case m.blockSize() + 1:
	case 0: // the block, and gamma behind it (see itemBias)
		shared.Vec, shared.Acc = make([]float32, m.blockSize()+1), make([]float32, m.blockSize())
		b := m.cut(shared.Vec)
		spread := 0.5 / math.Sqrt(float64(m.factors))
		for name, w := range map[string][]float32{"A": b.a, "V": b.v, "W1": b.w1, "W2": b.w2} {
			drawInto(w, hash64(name, m.spec.Seed), spread)
		}
		drawInto(b.labels, hash64("labels", m.spec.Seed), m.spec.FactorInit)
	default:
		return nil, m.mismatch("the shared vector", len(shared.Vec), m.blockSize()+1)
	}
	return shared, nil
}

func (m *sasRec) prepare(u *corastream.UserState, it *corastream.ItemState) error {
	if d := m.factors; len(u.Vec) != d {
		if len(u.Vec) != 0 {
			return m.mismatch("user "+u.ID, len(u.Vec), d)
		}
		u.Vec = make([]float32, d)
	}
	if d := m.factors; len(it.Vec) != d {
		if len(it.Vec) != 0 {
			return m.mismatch("item "+it.ID, len(it.Vec), d)
		}
		it.Vec, it.Acc = make([]float32, d), make([]float32, d)
		m.scatter(it.Vec, "i:", it.ID)
	}
	return nil
}

// step moves biases and q_i, and returns the gradient of z.
func (m *sasRec) step(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, label, weight float32) float32 {
	z := m.biases(shared, u, it) + kernels.Dot(u.Vec, it.Vec)
	g := cap1(float32((sigmoid(z)-label)*weight), m.clip)
	m.moveBiases(shared, u, it, g)
	adagrad(it.Vec, it.Acc, u.Vec, g, m.factorRate, m.factorDecay, m.factorDamp)
	capNorm(it.Vec, maxNorm)
	touch(shared)
	touch(&u.Embedding)
	touch(&it.Embedding)
	return g
}

// UserVector implements corastream.Predictor: Vec [factors] = e_u as of the user's last event.
func (m *sasRec) UserVector(_ corastream.State, u *corastream.UserState) (corastream.Embedding, error) {
	return m.handOut("user "+u.ID, u.Embedding)
}

// ItemVector implements corastream.Predictor: Vec [factors] = q_i. It is the record's own: do not write to it.
func (m *sasRec) ItemVector(s corastream.State, it *corastream.ItemState) (corastream.Embedding, error) {
	shared, err := s.Shared()
	if err != nil {
		return corastream.Embedding{}, err
	}
	e, err := m.handOut("item "+it.ID, it.Embedding)
	e.Bias = itemBias(shared, it)
	return e, err
}

func (m *sasRec) handOut(whose string, e corastream.Embedding) (corastream.Embedding, error) {
	out := corastream.Embedding{Bias: e.Bias, Count: e.Count, Version: e.Version, Vec: e.Vec}
	switch len(e.Vec) {
	case m.factors:
	case 0:
		out.Vec = m.zeros
	default:
		return out, m.mismatch(whose, len(e.Vec), m.factors)
	}
	return out, nil
}

// Fit makes passes over a log into a state in memory. Each row is read from what came before it in the log, and moves the block
// and the items read as well as what Learn moves. It ends with every user read anew by the final weights.
func (m *sasRec) Fit(ctx context.Context, s *corastream.Memory, events []corastream.Event, epochs int) error {
	events = corastream.Settled(inOrder(events))
	shared, err := m.ready(s)
	if err != nil {
		return err
	}
	r, back := m.newForwardPass(), m.newForwardPass()
	histories := map[string][]corastream.Interaction{}
	for epoch := range epochs {
		if epoch > 0 {
			if err := uncount(s, events); err != nil {
				return err
			}
		}
		clear(histories)
		for n, ev := range events {
			if n%4096 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err := m.fitEvent(s, shared, ev, histories[ev.User], r, back); err != nil {
				return fmt.Errorf("pass %d, event %d of %d: %w", epoch+1, n+1, len(events), err)
			}
			histories[ev.User] = append(histories[ev.User], corastream.Interaction{Item: ev.Item, Label: ev.Label, Time: ev.Time})
			if epoch == 0 {
				if err := remember(s, ev); err != nil {
					return err
				}
			}
		}
	}
	for id, history := range histories { // each user by itself: the order does not show
		u, err := s.User(id)
		if err != nil {
			return err
		}
		if err := m.reread(s, shared, u, history[max(0, len(history)-m.window):]); err != nil {
			return err
		}
	}
	return nil
}

func (m *sasRec) fitEvent(s corastream.State, shared *corastream.Embedding, ev corastream.Event, history []corastream.Interaction, r, back *forwardPass) error {
	b := m.cut(shared.Vec)
	if err := m.read(s, b, history, r); err != nil {
		return err
	}
	capNorm(r.out, maxNorm)
	gradient := back.out
	clear(gradient)
	err := m.each(s, ev, func(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, label, weight float32) error {
		if err := m.prepare(u, it); err != nil {
			return err
		}
		copy(u.Vec, r.out)
		copy(back.t, it.Vec) // q_i as it was
		add(gradient, m.step(shared, u, it, label, weight), back.t)
		return nil
	})
	if err != nil || len(r.x) == 0 {
		return err
	}
	return m.backward(s, b, m.cut(shared.Acc), r, back)
}

// backward takes dLoss/de_u in back.out through the block, and steps all it reaches. back's other parts hold the gradients.
func (m *sasRec) backward(s corastream.State, b, acc block, r, back *forwardPass) error {
	n, last := len(r.x), len(r.x)-1
	de, dt, dh, dmix, dr := back.out, back.t, back.h, back.mix, back.r
	capNorm(de, maxNorm)
	timesT(dt, b.w2, de)
	for i := range dt {
		if r.t[i] <= 0 {
			dt[i] = 0
		}
	}
	copy(dh, de)
	addTimesT(dh, b.w1, dt)
	timesT(dmix, b.v, dh)
	dx := back.x[:cap(back.x)][:n]
	var mean float32
	for j := range n {
		back.score[j] = kernels.Dot(dmix, r.x[j])
		mean += float32(r.attends[j] * back.score[j])
	}
	clear(dr)
	scale := float32(1 / math.Sqrt(float64(m.factors)))
	for j := range n {
		ds := float32(float32(r.attends[j]*(back.score[j]-mean)) * scale)
		clear(dx[j])
		add(dx[j], r.attends[j], dmix)
		add(dx[j], ds, r.r)
		add(dr, ds, r.x[j])
	}
	add(dx[last], 1, dh)
	addTimesT(dx[last], b.a, dr)
	capNorm(dr, maxNorm) // no healthy gradient comes near these
	capNorm(dh, maxNorm)
	capNorm(dt, maxNorm)
	for j := range dx {
		capNorm(dx[j], maxNorm)
	}

	m.stepMatrix(b.w2, acc.w2, de, r.t)
	m.stepMatrix(b.w1, acc.w1, dt, r.h)
	m.stepMatrix(b.v, acc.v, dh, r.mix)
	m.stepMatrix(b.a, acc.a, dr, r.x[last])
	d := m.factors
	for j, at := range r.at {
		it, err := s.Item(at.Item)
		if err != nil {
			return err
		}
		adagrad(it.Vec, it.Acc, dx[j], 1, m.factorRate, m.factorDecay, m.factorDamp)
		capNorm(it.Vec, maxNorm)
		it.Version++
		place, label := (n-1-j)*d, labelOf(at)*d
		adagrad(b.positions[place:place+d], acc.positions[place:place+d], dx[j], 1, m.blockRate, m.blockDecay, m.damp)
		adagrad(b.labels[label:label+d], acc.labels[label:label+d], dx[j], 1, m.blockRate, m.blockDecay, m.damp)
		capNorm(b.positions[place:place+d], maxNorm)
		capNorm(b.labels[label:label+d], maxNorm)
	}
	return nil
}

// stepMatrix steps w [d,d] for the gradient dy x^T.
func (m *sasRec) stepMatrix(w, acc, dy, x []float32) {
	d := len(x)
	for i, g := range dy {
		adagrad(w[i*d:i*d+d], acc[i*d:i*d+d], x, g, m.blockRate, m.blockDecay, m.damp)
		capNorm(w[i*d:i*d+d], maxNorm)
	}
}
