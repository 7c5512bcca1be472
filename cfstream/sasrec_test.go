package cfstream

import (
	"fmt"
	"math"
	"testing"

	"github.com/corastream/corastream"
)

// TestBlockStepFollowsTheGradient: with Adagrad damped to a plain step, every weight of the block and every item read moves by rate
// times the derivative of the loss, taken here by finite differences through the forward pass.
func TestBlockStepFollowsTheGradient(t *testing.T) {
	spec := DefaultFor(SASRec)
	spec.Factors, spec.Window, spec.FactorInit = 4, 3, 0.7
	spec.Damp, spec.FactorDamp, spec.FactorRate, spec.BlockRate = 1e6, 1e6, 1, 1
	spec.FactorDecay, spec.BlockDecay, spec.MuRate, spec.BiasRate, spec.ItemBiasRate = 1e-12, 0, 0, 0, 0
	made, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	m := made.(*sasRec)
	s := corastream.NewMemory()
	var history []corastream.Interaction
	for i := range 5 { // longer than the window
		history = append(history, corastream.Interaction{Item: fmt.Sprint("i", i), Label: float32(i % 2)})
	}
	shared, err := m.ready(s)
	if err != nil {
		t.Fatal(err)
	}
	drawInto(shared.Vec, 99, 0.6)
	if err := m.known(s, history); err != nil {
		t.Fatal(err)
	}
	u, _ := s.User("u")
	target, _ := s.Item("target")
	if err := m.prepare(u, target); err != nil {
		t.Fatal(err)
	}
	r, back := m.newForwardPass(), m.newForwardPass()
	ev := corastream.Event{User: "u", Item: "target", Label: 1, Weight: 1}
	loss := func() float64 {
		if err := m.read(s, m.cut(shared.Vec), history, r); err != nil {
			t.Fatal(err)
		}
		z := float64(0)
		for i := range r.out {
			z += float64(r.out[i]) * float64(target.Vec[i])
		}
		return math.Log1p(math.Exp(-z))
	}
	type parameter struct {
		name string
		at   *float32
	}
	var parameters []parameter
	b := m.cut(shared.Vec)
	for name, part := range map[string][]float32{"A": b.a, "V": b.v, "W1": b.w1, "W2": b.w2, "positions": b.positions, "labels": b.labels} {
		for i := range part {
			parameters = append(parameters, parameter{name, &part[i]})
		}
	}
	for i := range 5 {
		it, _ := s.Item(fmt.Sprint("i", i))
		for k := range it.Vec {
			parameters = append(parameters, parameter{it.ID, &it.Vec[k]})
		}
	}
	for k := range target.Vec {
		parameters = append(parameters, parameter{"target", &target.Vec[k]})
	}
	want, before := make([]float64, len(parameters)), make([]float32, len(parameters))
	const h = 0.01
	for i, p := range parameters {
		old := *p.at
		*p.at = old + h
		up := loss()
		*p.at = old - h
		want[i] = -1e-3 * (up - loss()) / (2 * h)
		*p.at = old
		before[i] = old
	}
	if err := m.fitEvent(s, shared, ev, history, r, back); err != nil {
		t.Fatal(err)
	}
	moved := map[string]bool{}
	for i, p := range parameters {
		got := float64(*p.at - before[i])
		// Float32 weights near 1 round at 6e-8; a difference over 0.02 is off by its third derivative: a few times 1e-4 of it.
		if math.Abs(got-want[i]) > 2e-7+5e-3*math.Abs(want[i]) {
			t.Errorf("%s moved by %g, want %g", p.name, got, want[i])
		}
		if got != 0 {
			moved[p.name] = true
		}
	}
	for _, name := range []string{"A", "V", "W1", "W2", "positions", "labels", "i2", "i3", "i4", "target"} {
		if !moved[name] {
			t.Errorf("%s did not move", name)
		}
	}
	if moved["i0"] || moved["i1"] {
		t.Error("items before the window moved")
	}
}
