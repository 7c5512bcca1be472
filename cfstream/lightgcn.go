package cfstream

import (
	"context"
	"fmt"
	"math"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// lightGCN is LightGCN (He et al., 2020) made to stream. A user's or item's vector is the mean of its own and of what its
// neighbours in the graph of likes send it, over `layers` hops:
//
//	e_u = (p_u + h1_u + .. ) / (layers+1)    h1_u = 1/sqrt(n_u) * sum over liked i of q_i/sqrt(n_i)     h2_u: of h1_i, and so on
//
// and the same for items; there are no weights but the own vectors. A like propagates along its own edge alone: the two ends
// take in each other's vectors as they are at that moment. What the batch form does and this does not: neighbours of
// neighbours hear of it only by later likes, and the gradient goes to the two own vectors and not through the propagation.
// A row is scored on the graph before it, in Fit too: there each pass builds the graph anew from nothing, so no vector
// holds the like it is asked about. Fit ends with an exact propagation of the whole graph, as the batch form has it.
//
// A record's Vec is [own | sum of layer 1 | .. | degree], each part `factors` wide but for the degree; Acc belongs to `own`.
type lightGCN struct {
	model
	layers int
}

func (m *lightGCN) width() int { return m.factors*(1+m.layers) + 1 }

// Learn implements corastream.Learner.
func (m *lightGCN) Learn(s corastream.State, ev corastream.Event) error {
	return m.each(s, ev, func(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, label, weight float32) error {
		if err := m.prepare(shared, u, it); err != nil {
			return err
		}
		m.step(shared, u, it, label, weight, label >= 0.5 && !likes(u, it.ID))
		return nil
	})
}

func likes(u *corastream.UserState, item string) bool {
	for _, h := range newest(u) {
		if h.Item == item && h.Label >= 0.5 {
			return true
		}
	}
	return false
}

func (m *lightGCN) prepare(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState) error {
	if err := m.prepareShared(shared); err != nil {
		return err
	}
	if err := m.checkContent(it); err != nil {
		return err
	}
	if err := m.fresh(&u.Embedding, "u:", u.ID); err != nil {
		return fmt.Errorf("user %s: %w", u.ID, err)
	}
	if err := m.fresh(&it.Embedding, "i:", it.ID); err != nil {
		return fmt.Errorf("item %s: %w", it.ID, err)
	}
	return nil
}

func (m *lightGCN) fresh(e *corastream.Embedding, kind, id string) error {
	if len(e.Vec) == m.width() {
		return nil
	}
	if len(e.Vec) != 0 {
		return m.mismatch("the vector", len(e.Vec), m.width())
	}
	e.Vec, e.Acc = make([]float32, m.width()), make([]float32, m.factors)
	m.scatter(e.Vec[:m.factors], kind, id)
	return nil
}

// combine writes the mean over the layers into dst [factors].
func (m *lightGCN) combine(dst, vec []float32) {
	k := m.factors
	copy(dst, vec[:k])
	if degree := vec[len(vec)-1]; degree > 0 {
		norm := float32(1 / math.Sqrt(float64(degree)))
		for l := 1; l <= m.layers; l++ {
			for i, v := range vec[l*k : (l+1)*k] {
				dst[i] += float32(norm * v)
			}
		}
	}
	share := 1 / float32(m.layers+1)
	for i := range dst {
		dst[i] *= share
	}
}

func (m *lightGCN) step(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, label, weight float32, edge bool) {
	k := m.factors
	var room [2 * maxStackFactors]float32
	buf := room[:]
	if 2*k > len(buf) {
		buf = make([]float32, 2*k)
	}
	eu, ei := buf[:k], buf[k:2*k]
	m.combine(eu, u.Vec)
	m.combine(ei, it.Vec)
	z := m.biases(shared, u, it) + kernels.Dot(eu, ei)
	w := m.common(shared)
	read := m.content > 0 && len(it.Content) > 0
	if read {
		z += kernels.Dot(w, it.Content)
	}
	g := cap1(float32((sigmoid(z)-label)*weight), m.clip)
	m.moveBiases(shared, u, it, g)
	share := float32(g / float32(m.layers+1))
	adagrad(u.Vec[:k], u.Acc, ei, share, m.factorRate, m.factorDecay, m.factorDamp)
	adagrad(it.Vec[:k], it.Acc, eu, share, m.factorRate, m.factorDecay, m.factorDamp)
	capNorm(u.Vec[:k], maxNorm)
	capNorm(it.Vec[:k], maxNorm)
	if read {
		adagrad(w, shared.Acc, it.Content, g, m.contentRate, m.contentDecay, m.damp)
		capNorm(w, maxNorm)
	}
	if edge {
		m.join(u.Vec, it.Vec)
	}
	touch(shared)
	touch(&u.Embedding)
	touch(&it.Embedding)
}

// join lets the two ends of a new edge take in each other: layer l of one is fed by layer l-1 of the other, as it was before.
func (m *lightGCN) join(u, it []float32) {
	k, last := m.factors, len(u)-1
	u[last]++
	it[last]++
	fromUser, fromItem := float32(1/math.Sqrt(float64(u[last]))), float32(1/math.Sqrt(float64(it[last])))
	for l := m.layers; l >= 1; l-- { // from the top, so that layer l-1 is still the one before
		nu, ni := fromUser, fromItem
		if l > 1 { // sums become layers by their own degree first
			nu, ni = float32(fromUser*fromUser), float32(fromItem*fromItem)
		}
		for i := range k {
			up, down := u[(l-1)*k+i], it[(l-1)*k+i]
			u[l*k+i] += float32(ni * down)
			it[l*k+i] += float32(nu * up)
		}
	}
}

// UserVector implements corastream.Predictor: Vec [factors+content] = [e_u, w].
func (m *lightGCN) UserVector(s corastream.State, u *corastream.UserState) (corastream.Embedding, error) {
	shared, err := s.Shared()
	if err != nil {
		return corastream.Embedding{}, err
	}
	if err := m.checkShared(shared); err != nil {
		return corastream.Embedding{}, err
	}
	return m.handOut("user "+u.ID, u.Embedding, m.common(shared))
}

// ItemVector implements corastream.Predictor: Vec [factors+content] = [e_i, c_i].
func (m *lightGCN) ItemVector(s corastream.State, it *corastream.ItemState) (corastream.Embedding, error) {
	if err := m.checkContent(it); err != nil {
		return corastream.Embedding{}, err
	}
	shared, err := s.Shared()
	if err != nil {
		return corastream.Embedding{}, err
	}
	e, err := m.handOut("item "+it.ID, it.Embedding, it.Content)
	e.Bias = itemBias(shared, it)
	return e, err
}

func (m *lightGCN) handOut(whose string, e corastream.Embedding, content []float32) (corastream.Embedding, error) {
	out := corastream.Embedding{Bias: e.Bias, Count: e.Count, Version: e.Version, Vec: make([]float32, m.factors+m.content)}
	switch len(e.Vec) {
	case 0:
	case m.width():
		m.combine(out.Vec[:m.factors], e.Vec)
	default:
		return out, m.mismatch(whose, len(e.Vec), m.width())
	}
	copy(out.Vec[m.factors:], content)
	return out, nil
}

// Fit makes passes over a log into a state in memory, the graph built anew in each, and ends with an exact propagation.
func (m *lightGCN) Fit(ctx context.Context, s *corastream.Memory, events []corastream.Event, epochs int) error {
	events = corastream.Settled(inOrder(events))
	for epoch := range epochs {
		if epoch > 0 {
			if err := uncount(s, events); err != nil {
				return err
			}
		}
		users, items := map[string]*corastream.UserState{}, map[string]*corastream.ItemState{}
		liked := map[[2]string]bool{}
		for n, ev := range events {
			if n%4096 == 0 && ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := m.each(s, ev, func(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, label, weight float32) error {
				if err := m.prepare(shared, u, it); err != nil {
					return err
				}
				if users[u.ID] == nil {
					users[u.ID] = u
					clear(u.Vec[m.factors:])
				}
				if items[it.ID] == nil {
					items[it.ID] = it
					clear(it.Vec[m.factors:])
				}
				pair := [2]string{u.ID, it.ID}
				m.step(shared, u, it, label, weight, label >= 0.5 && !liked[pair])
				if label >= 0.5 {
					liked[pair] = true
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("pass %d, event %d of %d: %w", epoch+1, n+1, len(events), err)
			}
			if epoch == 0 {
				if err := remember(s, ev); err != nil {
					return err
				}
			}
		}
		if epoch == epochs-1 {
			m.propagate(users, items, events)
		}
	}
	return nil
}

// propagate computes every layer's sums exactly, from the own vectors and final degrees.
func (m *lightGCN) propagate(users map[string]*corastream.UserState, items map[string]*corastream.ItemState, events []corastream.Event) {
	type edge struct{ u, it []float32 }
	var edges []edge
	known := map[[2]string]bool{}
	for _, u := range users {
		clear(u.Vec[m.factors:])
	}
	for _, it := range items {
		clear(it.Vec[m.factors:])
	}
	last := m.width() - 1
	for _, ev := range events {
		pair := [2]string{ev.User, ev.Item}
		if !ev.Positive() || known[pair] {
			continue
		}
		known[pair] = true
		e := edge{users[ev.User].Vec, items[ev.Item].Vec}
		e.u[last]++
		e.it[last]++
		edges = append(edges, e)
	}
	k := m.factors
	for l := 1; l <= m.layers; l++ {
		for _, e := range edges {
			nu, ni := float32(1/math.Sqrt(float64(e.u[last]))), float32(1/math.Sqrt(float64(e.it[last])))
			if l > 1 {
				nu, ni = float32(nu*nu), float32(ni*ni)
			}
			for i := range k {
				e.u[l*k+i] += float32(ni * e.it[(l-1)*k+i])
				e.it[l*k+i] += float32(nu * e.u[(l-1)*k+i])
			}
		}
	}
}
