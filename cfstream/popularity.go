package cfstream

import (
	"math/bits"

	"github.com/corastream/corastream"
)

// biases is mu + b_u + b_i, b_i with its count's part.
func (m *model) biases(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState) float32 {
	return shared.Bias + u.Bias + itemBias(shared, it)
}

// itemBias is the item's own bias and gamma * growth(events so far): what many have chosen is liked more often, by how much
// is learnt, and a new item starts from there and not from the average. gamma is the last number of the shared vector.
func itemBias(shared *corastream.Embedding, it *corastream.ItemState) float32 {
	if n := len(shared.Vec); n > 0 {
		return it.Bias + float32(shared.Vec[n-1]*growth(it.Count))
	}
	return it.Bias
}

// growth is close to ln(1+n): exact at powers of two less one and straight lines between, so that every CPU agrees on it.
func growth(n uint32) float32 {
	x := uint64(n) + 1
	e := bits.Len64(x) - 1
	part := float32(float64(x-uint64(1)<<e) / float64(uint64(1)<<e))
	return float32(0.6931472 * float32(float32(e)+part))
}

// moveBiases steps mu, b_u, b_i and gamma against dLoss/dz = g.
func (m *model) moveBiases(shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, g float32) {
	shared.Bias = cap1(shared.Bias-float32(m.muRate*g), maxBias)
	if n := len(shared.Vec); n > 0 {
		shared.Vec[n-1] = cap1(shared.Vec[n-1]-float32(m.countRate*float32(g*growth(it.Count))), maxBias)
	}
	u.Bias = m.moveBias(u.Bias, g, m.userRate(u.Count))
	it.Bias = m.moveBias(it.Bias, g, m.itemBiasRate)
}

// userRate is the step of b_u after n events: from bias_start down to bias_rate, halved by the first bias_settle events.
func (m *model) userRate(n uint32) float32 {
	return max(m.biasRate, m.biasStart/(1+float32(float32(n)/m.biasSettle)))
}

// uncount takes a pass over a log out of the counts again: the next pass then learns each row with the counts that it had in
// its time, and the last one leaves them as one pass would.
func uncount(s *corastream.Memory, events []corastream.Event) error {
	for _, ev := range events {
		shared, u, it, err := recordsOf(s, ev)
		if err != nil {
			return err
		}
		shared.Count--
		u.Count--
		it.Count--
	}
	return nil
}
