package cfstream_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
)

const width = 8

func model(t testing.TB, kind string, change func(*cfstream.Spec)) cfstream.Model {
	t.Helper()
	s := cfstream.DefaultFor(kind)
	s.Content = width
	if kind == cfstream.MF || kind == cfstream.LightGCN || kind == cfstream.SASRec {
		s.Factors = 6
	}
	if change != nil {
		change(&s)
	}
	m, err := cfstream.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func event(n int64, user, item string, label float32) corastream.Event {
	return corastream.Event{
		Pos: corastream.Position{Topic: "log", Partition: 1, Offset: n}, User: user, Item: item, Label: label, Weight: 1,
		Time: time.Unix(n, 0),
	}
}

// world draws items with content that all users weigh alike, and users and items with hidden factors.
type world struct {
	items  []corastream.Item
	events []corastream.Event
}

func makeWorld(seed uint64, users, items, rows int, content, factors float64) world {
	rng := rand.New(rand.NewPCG(seed, 9))
	var w world
	itemFactor, userFactor, leaning := make([]float64, items), make([]float64, users), make([]float64, users)
	worth := make([]float64, items)
	for i := range items {
		it := corastream.Item{ID: fmt.Sprint("i", i), Title: fmt.Sprint("Item ", i), Content: make([]float32, width)}
		for j := range it.Content {
			it.Content[j] = float32(rng.NormFloat64() * 0.6)
		}
		corastream.QuantizeContent(it.Content)
		worth[i] = content * (1.6*float64(it.Content[0]) - 1.2*float64(it.Content[3]))
		itemFactor[i] = math.Copysign(1, rng.NormFloat64())
		w.items = append(w.items, it)
	}
	for u := range users {
		leaning[u], userFactor[u] = 0.7*rng.NormFloat64(), math.Copysign(1, rng.NormFloat64())
	}
	for n := range rows {
		u, i := rng.IntN(users), rng.IntN(items)
		z := leaning[u] + worth[i] + factors*userFactor[u]*itemFactor[i]
		label := float32(0)
		if rng.Float64() < 1/(1+math.Exp(-z)) {
			label = 1
		}
		w.events = append(w.events, event(int64(n), fmt.Sprint("u", u), w.items[i].ID, label))
	}
	return w
}

func (w world) state() *corastream.Memory {
	s := corastream.NewMemory()
	for _, it := range w.items {
		s.Put(it)
	}
	return s
}

// prequentialLoss learns three quarters in some passes, then scores and learns row by row: the mean log loss.
func (w world) prequentialLoss(t *testing.T, m cfstream.Model, epochs int) float64 {
	t.Helper()
	s := w.state()
	cut := len(w.events) * 3 / 4
	if err := cfstream.Fit(context.Background(), s, m, w.events[:cut], epochs); err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, ev := range w.events[cut:] {
		p, err := corastream.PairOf(s, m, ev.User, ev.Item)
		if err != nil {
			t.Fatal(err)
		}
		z := float64(p.Logit())
		sum += math.Log1p(math.Exp(z)) - float64(ev.Label)*z
		if err := s.Apply(m, ev); err != nil {
			t.Fatal(err)
		}
	}
	return sum / float64(len(w.events)-cut)
}

// TestHybridBeatsBiasWhereContentSpeaks: many items, few rows of each, so their content is worth more than their bias.
func TestHybridBeatsBiasWhereContentSpeaks(t *testing.T) {
	w := makeWorld(1, 40, 1500, 4000, 1, 0)
	bias, hybrid := w.prequentialLoss(t, model(t, cfstream.Bias, nil), 4), w.prequentialLoss(t, model(t, cfstream.Hybrid, nil), 4)
	if hybrid > bias-0.03 {
		t.Errorf("log loss of hybrid %.4f, of bias %.4f: want a gain of 0.03", hybrid, bias)
	}
}

// TestFactorsLearnWhoLikesWhat: only the product of a user's and an item's hidden sign decides.
func TestFactorsLearnWhoLikesWhat(t *testing.T) {
	w := makeWorld(2, 40, 40, 12000, 0, 1.5)
	for _, kind := range []string{cfstream.MF, cfstream.Hybrid} {
		m := model(t, kind, func(s *cfstream.Spec) { s.Factors = 4 })
		bias, mf := w.prequentialLoss(t, model(t, cfstream.Bias, nil), 6), w.prequentialLoss(t, m, 6)
		if mf > bias-0.1 {
			t.Errorf("log loss of %s with factors %.4f, of bias %.4f: want a gain of 0.1", kind, mf, bias)
		}
	}
}

// digest hashes every parameter, bit by bit.
func digest(t *testing.T, s *corastream.Memory, users []string) string {
	t.Helper()
	h := sha256.New()
	add := func(e *corastream.Embedding) {
		binary.Write(h, binary.LittleEndian, []float32{e.Bias})
		binary.Write(h, binary.LittleEndian, e.Vec)
		binary.Write(h, binary.LittleEndian, e.Acc)
		binary.Write(h, binary.LittleEndian, e.Version)
	}
	shared, _ := s.Shared()
	add(shared)
	for _, id := range users {
		u, _ := s.User(id)
		add(&u.Embedding)
	}
	for i := range s.Items() {
		it, _ := s.ItemAt(uint32(i))
		add(&it.Embedding)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// TestEqualEventsGiveEqualBytesOnEveryCPU holds the state after a log against bytes written on another machine: a fused
// multiply-add or another exp anywhere in the update would change them. Explicit and implicit events, all kinds.
func TestEqualEventsGiveEqualBytesOnEveryCPU(t *testing.T) {
	w := makeWorld(3, 20, 60, 3000, 1, 1)
	users := make([]string, 20)
	for i := range users {
		users[i] = fmt.Sprint("u", i)
	}
	for i := range w.events {
		w.events[i].Implicit = i%3 == 0 && w.events[i].Label == 1
		w.events[i].Weight = 0.5 + float32(i%4)
	}
	for kind, want := range map[string]string{
		cfstream.Bias: "a220187537f2b8a5", cfstream.MF: "ea1250e5b49bfcb5", cfstream.Hybrid: "a6bf28113f8940d8",
		cfstream.LightGCN: "896ca771eef8bcd8", cfstream.SASRec: "0717f46e2be2d50b",
	} {
		s := w.state()
		m := model(t, kind, func(s *cfstream.Spec) {
			s.MuRate, s.BiasRate, s.ItemBiasRate, s.BiasDecay = 0.01, 0.1, 0.15, 0.02 // the defaults may change
			s.BiasStart, s.BiasSettle, s.CountRate, s.DemandHalfLife = 0.3, 10, 1e-3, 168*time.Hour
			s.ContentRate, s.ContentDecay, s.TasteRate, s.TasteDecay = 0.1, 0.001, 0.01, 0.5
			s.FactorRate, s.FactorDecay, s.FactorInit, s.FactorDamp, s.Damp, s.Clip = 0.05, 0.05, 0.05, 1, 1, 4
			s.Negatives, s.NegativeWeight, s.Layers, s.Window = 4, 1, 0, 10
			if s.Kind == cfstream.LightGCN {
				s.Layers = 2
			}
			if s.Kind == cfstream.Hybrid {
				s.Factors = 5
			}
		})
		for _, ev := range w.events {
			if err := s.Apply(m, ev); err != nil {
				t.Fatal(err)
			}
		}
		if got := digest(t, s, users); got != want {
			t.Errorf("%s: state %s, want %s", kind, got, want)
		}
	}
}

// TestStepFollowsTheGradientOfTheLogLoss: with Adagrad damped to a plain step, each parameter moves by rate times the
// derivative of the loss (plus decay), which is taken here by finite differences through Pair.Logit.
func TestStepFollowsTheGradientOfTheLogLoss(t *testing.T) {
	const damp = 1e6 // sqrt(damp) = 1000, the sums of squares do not show beside it
	w := makeWorld(4, 4, 4, 60, 1, 1)
	m := model(t, cfstream.Hybrid, func(s *cfstream.Spec) { s.Factors, s.FactorInit, s.FactorRate, s.FactorDecay = 3, 0.5, 0.05, 0 })
	s := w.state()
	for _, ev := range w.events {
		if err := s.Apply(m, ev); err != nil {
			t.Fatal(err)
		}
	}
	plain := model(t, cfstream.Hybrid, func(s *cfstream.Spec) {
		s.Factors, s.FactorDamp, s.Damp, s.Clip = 3, damp, damp, 100
		s.MuRate, s.BiasRate, s.ItemBiasRate, s.ContentRate, s.TasteRate, s.FactorRate = 1, 1, 1, 1, 1, 1
		s.BiasDecay, s.ContentDecay, s.TasteDecay, s.FactorDecay = 0, 0, 0, 1e-12
	})
	ev := event(1000, "u1", "i2", 1)
	loss := func() float64 {
		p, err := corastream.PairOf(s, plain, ev.User, ev.Item)
		if err != nil {
			t.Fatal(err)
		}
		return math.Log1p(math.Exp(-float64(p.Logit())))
	}
	shared, _ := s.Shared()
	u, _ := s.User(ev.User)
	it, _ := s.Item(ev.Item)
	type parameter struct {
		name string
		at   *float32
		unit float64 // the step for a derivative of 1
	}
	const gamma = 1e-3 // the default of CountRate, and what a damped step of w comes to
	parameters := []parameter{{"mu", &shared.Bias, 1}, {"b_u", &u.Bias, 1}, {"b_i", &it.Bias, 1}}
	for j := range shared.Vec {
		parameters = append(parameters, parameter{"[w gamma]", &shared.Vec[j], gamma})
	}
	for j := range u.Vec {
		parameters = append(parameters, parameter{"[p_u t_u]", &u.Vec[j], 1e-3})
	}
	for j := range it.Vec {
		parameters = append(parameters, parameter{"q_i", &it.Vec[j], 1e-3})
	}
	want := make([]float64, len(parameters))
	for i, p := range parameters {
		old := *p.at
		*p.at = old + 0.01
		up := loss()
		*p.at = old - 0.01
		want[i] = -p.unit * (up - loss()) / 0.02
		*p.at = old
	}
	before := make([]float32, len(parameters))
	for i, p := range parameters {
		before[i] = *p.at
	}
	if err := plain.Learn(s, ev); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for i, p := range parameters {
		got := float64(*p.at - before[i])
		// Float32 steps near 1e-4 on values near 1: the noise of one rounding is 6e-8.
		if math.Abs(got-want[i]) > 2e-7+1e-3*math.Abs(want[i]) {
			t.Errorf("%s moved by %g, want %g", p.name, got, want[i])
		}
		if got != 0 {
			moved++
		}
	}
	if moved < len(parameters)-1 {
		t.Errorf("only %d of %d parameters moved", moved, len(parameters))
	}
}

// TestClickAheadOfItsCatalogueRecordIsLearnt: without content the bias learns and w stays; the content then joins.
func TestClickAheadOfItsCatalogueRecordIsLearnt(t *testing.T) {
	m, s := model(t, cfstream.Hybrid, func(s *cfstream.Spec) { s.Factors = -1 }), corastream.NewMemory()
	if err := s.Apply(m, event(0, "u", "i", 1)); err != nil {
		t.Fatal(err)
	}
	shared, _ := s.Shared()
	it, _ := s.Item("i")
	if it.Bias <= 0 || it.Count != 1 || slices.ContainsFunc(shared.Vec, func(x float32) bool { return x != 0 }) {
		t.Errorf("before its record: bias %v, count %d, w %v", it.Bias, it.Count, shared.Vec)
	}
	e, err := m.ItemVector(s, it)
	if err != nil || !slices.Equal(e.Vec, make([]float32, width)) {
		t.Errorf("before its record: vector %v, %v", e.Vec, err)
	}
	was := it.Bias
	content := []float32{1, 0, -1, 0, 0, 0, 0, 0.5}
	s.Put(corastream.Item{ID: "i", Title: "Late", Content: content})
	if err := s.Apply(m, event(1, "u", "i", 1)); err != nil {
		t.Fatal(err)
	}
	e, err = m.ItemVector(s, it)
	if err != nil || !slices.Equal(e.Vec, content) || it.Bias <= was || shared.Vec[0] <= 0 || shared.Vec[2] >= 0 {
		t.Errorf("after its record: vector %v, bias %v, w %v, %v", e.Vec, it.Bias, shared.Vec, err)
	}
	u, _ := s.User("u")
	uv, err := m.UserVector(s, u)
	if err != nil || uv.Vec[0] != shared.Vec[0]+u.Vec[0] || uv.Vec[0] == shared.Vec[0] {
		t.Errorf("the user's vector is %v, want w + t_u: %v", uv.Vec, err)
	}
}

// TestImplicitClicksDrawUnknownOfferedItems: negatives lose bias; the user's own items, the withdrawn and the removed never do.
func TestImplicitClicksDrawUnknownOfferedItems(t *testing.T) {
	m := model(t, cfstream.Bias, func(s *cfstream.Spec) { s.Negatives = 6 })
	run := func(topic string) []float32 {
		s := corastream.NewMemory()
		for i := range 12 {
			s.Put(corastream.Item{ID: fmt.Sprint("i", i), Withdrawn: i == 3, Removed: i == 4})
		}
		for n := range 5 { // i0, i1, i2 by turns
			ev := event(int64(n), "u", fmt.Sprint("i", n%3), 1)
			ev.Implicit, ev.Pos.Topic = true, topic
			if err := s.Apply(m, ev); err != nil {
				t.Fatal(err)
			}
		}
		var biases []float32
		for i := range s.Items() {
			it, _ := s.ItemAt(uint32(i))
			biases = append(biases, it.Bias)
		}
		return biases
	}
	first := run("log")
	// i1 and i2 may be drawn before they are clicked, never after; i0 never.
	if first[0] <= 0 || first[3] != 0 || first[4] != 0 {
		t.Errorf("biases %v", first)
	}
	if low := slices.IndexFunc(first[5:], func(b float32) bool { return b < 0 }); low < 0 {
		t.Errorf("no negative was drawn: %v", first)
	}
	if !slices.Equal(first, run("log")) {
		t.Error("equal positions drew other negatives")
	}
	if slices.Equal(first, run("another")) {
		t.Error("another topic drew the same negatives: the position does not count")
	}
	s := corastream.NewMemory()
	lone := event(0, "u", "only", 1)
	lone.Implicit = true
	if err := s.Apply(m, lone); err != nil {
		t.Errorf("a catalogue of one item: %v", err)
	}
}

// TestWeightScalesTheStep: twice the weight, twice the first move; weight 0 leaves the biases where they are.
func TestWeightScalesTheStep(t *testing.T) {
	m := model(t, cfstream.Bias, nil)
	moved := func(weight float32) float32 {
		s := corastream.NewMemory()
		ev := event(0, "u", "i", 1)
		ev.Weight = weight
		if err := m.Learn(s, ev); err != nil {
			t.Fatal(err)
		}
		it, _ := s.Item("i")
		return it.Bias
	}
	if one, two := moved(1), moved(2); one <= 0 || two != 2*one || moved(0) != 0 {
		t.Errorf("weights 0, 1, 2 move by %v, %v, %v", moved(0), one, two)
	}
}

// TestNothingEverBecomesNaN: the largest rates, weights and contents, labels that contradict each other.
func TestNothingEverBecomesNaN(t *testing.T) {
	for _, kind := range cfstream.Kinds {
		m := model(t, kind, func(s *cfstream.Spec) {
			if kind != cfstream.Bias {
				s.Factors = 3
			}
			s.MuRate, s.BiasRate, s.ItemBiasRate, s.ContentRate, s.TasteRate, s.FactorRate = 1, 1, 1, 1, 1, 1
			s.FactorInit, s.FactorDamp, s.Damp, s.Clip = 1, 1e-8, 1e-8, 100
		})
		s := corastream.NewMemory()
		rng := rand.New(rand.NewPCG(5, 5))
		for i := range 8 {
			c := make([]float32, width)
			for j := range c {
				c[j] = float32(math.Inf(rng.IntN(2)*2 - 1))
				if rng.IntN(3) > 0 {
					c[j] = float32(math.Copysign(8, rng.NormFloat64()))
				}
			}
			corastream.QuantizeContent(c)
			s.Put(corastream.Item{ID: fmt.Sprint("i", i), Content: c})
		}
		for n := range 5000 {
			ev := event(int64(n), fmt.Sprint("u", rng.IntN(3)), fmt.Sprint("i", rng.IntN(8)), float32(rng.IntN(2)))
			ev.Weight, ev.Implicit = []float32{0, 1, 1e6}[rng.IntN(3)], rng.IntN(2) == 0
			if err := m.Learn(s, ev); err != nil {
				t.Fatal(err)
			}
			p, err := corastream.PairOf(s, m, ev.User, ev.Item)
			if z := float64(p.Logit()); err != nil || math.IsNaN(z) || math.IsInf(z, 0) {
				t.Fatalf("%s, event %d: z = %v, %v", kind, n, z, err)
			}
		}
	}
}

func TestBadEventsAndForeignVectorsAreRefused(t *testing.T) {
	m, s := model(t, cfstream.Hybrid, nil), corastream.NewMemory()
	for _, label := range []float32{-0.1, 1.1, float32(math.NaN()), float32(math.Inf(1))} {
		if err := m.Learn(s, event(0, "u", "i", label)); err == nil {
			t.Errorf("label %v was learnt", label)
		}
	}
	ev := event(0, "u", "i", 1)
	ev.Weight = float32(math.NaN())
	if err := m.Learn(s, ev); err == nil {
		t.Error("weight NaN was learnt")
	}
	s.Put(corastream.Item{ID: "wide", Content: make([]float32, width+1)})
	if err := m.Learn(s, event(0, "u", "wide", 1)); !errors.Is(err, corastream.ErrMismatch) || !strings.Contains(err.Error(), "wide") {
		t.Errorf("content of another width: %v", err)
	}
	if err := m.Learn(s, event(0, "u", "i", 1)); err != nil {
		t.Fatal(err)
	}
	other := model(t, cfstream.MF, nil)
	if err := other.Learn(s, event(0, "u", "i", 1)); !errors.Is(err, corastream.ErrMismatch) {
		t.Errorf("state of another spec: %v", err)
	}
	u, _ := s.User("u")
	if _, err := other.UserVector(s, u); !errors.Is(err, corastream.ErrMismatch) {
		t.Errorf("user vector of another spec: %v", err)
	}
}

func TestLearningAllocatesNothingOnceWarm(t *testing.T) {
	w := makeWorld(6, 10, 50, 400, 1, 1)
	for _, kind := range []string{cfstream.Bias, cfstream.MF, cfstream.Hybrid} {
		m, s := model(t, kind, nil), w.state()
		pass := func() {
			for _, ev := range w.events {
				ev.Implicit = true
				if err := m.Learn(s, ev); err != nil {
					t.Fatal(err)
				}
			}
		}
		pass()
		if n := testing.AllocsPerRun(3, pass); n != 0 {
			t.Errorf("%s: %v allocations in %d events", kind, n, len(w.events))
		}
	}
}

func TestFitPassesInTimeOrderAndRemembersOnce(t *testing.T) {
	m := model(t, cfstream.Bias, nil)
	events := []corastream.Event{event(3, "u", "c", 1), event(1, "u", "a", 0), event(2, "u", "b", 1)}
	s := corastream.NewMemory()
	if err := cfstream.Fit(context.Background(), s, m, events, 3); err != nil {
		t.Fatal(err)
	}
	u, _ := s.User("u")
	var order string
	for _, h := range u.History {
		order += h.Item
	}
	if order != "abc" || u.Count != 3 || events[0].Item != "c" {
		t.Errorf("history %q after %d events; the caller's events start with %q", order, u.Count, events[0].Item)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := cfstream.Fit(ctx, corastream.NewMemory(), m, events, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := cfstream.Fit(context.Background(), s, m, events, 0); err == nil {
		t.Error("0 passes were made")
	}
}

func BenchmarkLearn(b *testing.B) {
	s := cfstream.Default()
	m, err := cfstream.New(s)
	if err != nil {
		b.Fatal(err)
	}
	state := corastream.NewMemory()
	for i := range 1000 {
		c := make([]float32, s.Content)
		for j := range c {
			c[j] = float32(i*j%17) / 17
		}
		state.Put(corastream.Item{ID: fmt.Sprint(i), Content: c})
	}
	events := make([]corastream.Event, 4096)
	for i := range events {
		events[i] = event(int64(i), fmt.Sprint("u", i%300), fmt.Sprint(i*7%1000), float32(i%2))
	}
	n := 0
	for b.Loop() {
		if err := m.Learn(state, events[n%len(events)]); err != nil {
			b.Fatal(err)
		}
		n++
	}
}
