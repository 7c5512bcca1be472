package mix

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// sequels is a log in which a theme follows another: who took an item of theme k takes one of k+1 next. Items are so many that
// pairs of them say little. The codes say it, but not the start A = I, which brings up more of the same.
type sequels struct {
	r      *rand.Rand
	recent [][]corastream.Interaction
	now    time.Time
	step   int // 1: k+1 follows k
}

const (
	sequelItems  = 1600
	sequelThemes = 16
)

func sequelSpec() Spec {
	s := Default()
	s.Neighbours, s.History, s.Repeats, s.EASEItems, s.Factors, s.Codes = 32, 20, RepeatsNo, 0, 0, sequelThemes
	s.TrainAfter, s.TrainRows, s.Judge = 5000, 6000, 1000
	return s
}

func newSequels(t testing.TB, spec Spec) (*Model, *sequels) {
	t.Helper()
	m := mustNew(t, spec)
	r := rand.New(rand.NewPCG(8, 8))
	for i := range sequelItems {
		code := make([]float32, spec.Codes)
		for k := range code {
			code[k] = float32(r.NormFloat64()) / 16
		}
		code[i%sequelThemes]++
		corastream.QuantizeContent(code)
		m.Describe(corastream.Item{ID: fmt.Sprint("s", i), Title: fmt.Sprint("work ", i), Code: code})
	}
	return m, &sequels{r: r, recent: make([][]corastream.Interaction, 200), now: time.Unix(1e9, 0), step: 1}
}

func (w *sequels) next(window int) corastream.Step {
	w.now = w.now.Add(time.Minute)
	u := w.r.IntN(len(w.recent))
	recent := w.recent[u]
	i := w.r.IntN(sequelItems)
	if len(recent) > 0 && w.r.IntN(8) > 0 {
		var last int
		fmt.Sscanf(recent[0].Item, "s%d", &last)
		i = w.r.IntN(sequelItems/sequelThemes)*sequelThemes + (last+w.step)%sequelThemes
	}
	st := corastream.Step{Item: fmt.Sprint("s", i), Positive: true, Time: w.now, Recent: recent[:min(len(recent), window)]}
	w.recent[u] = append([]corastream.Interaction{{Item: st.Item, Label: 1, Time: w.now}}, recent...)
	if len(w.recent[u]) > 12 { // somebody new comes
		w.recent[u] = nil
	}
	return st
}

// until learns events until something is so, at most so many.
func (w *sequels) until(t testing.TB, m *Model, most int, so func() bool) (events int) {
	t.Helper()
	for ; !so(); events++ {
		if events == most {
			t.Fatalf("not within %d events: %+v", most, m.Trial())
		}
		m.Learn(w.next(m.Window()))
	}
	return events
}

// good is the state of a model whose active version was trained and promoted by itself, and the log that goes on.
var good = sync.OnceValues(func() ([]byte, *sequels) {
	t := new(testing.T)
	m, w := newSequels(t, sequelSpec())
	for m.steer.court.active.id == 0 || m.steer.court.rival != nil || m.steer.solved != nil {
		m.Learn(w.next(m.Window()))
	}
	return saved(t, m), w
})

// goodVersion is that model, with a log that goes on as the seed says.
func goodVersion(t testing.TB, seed uint64) (*Model, *sequels) {
	t.Helper()
	state, w := good()
	m := mustNew(t, sequelSpec())
	if err := m.Load(bytes.NewReader(state)); err != nil {
		t.Fatal(err)
	}
	return m, &sequels{r: rand.New(rand.NewPCG(seed, 3)), recent: slices.Clone(w.recent), now: w.now, step: 1}
}

// TestABetterVersionIsPromoted: a version that ranks the likes after its training better is promoted.
func TestABetterVersionIsPromoted(t *testing.T) {
	m, _ := goodVersion(t, 0)
	v := m.Trial().Verdicts[0]
	t.Log(v.Reason())
	if v.Decision != Promoted || !strings.HasPrefix(v.Reason(), "clearly better") || v.At-v.TrainedAt < judgeLeast || v.Duel.Chance <= 0 {
		t.Errorf("the first verdict: %+v", v)
	}
}

// faults are ways to make a bad version, each with the reason for which it is refused.
var faults = []struct {
	name   string
	reason string // of its refusal
	make   func(s *steer, r *rand.Rand) fit
}{
	{"shuffled labels", "clearly worse", func(s *steer, r *rand.Rand) fit {
		return retrained(s, func(t *tuning) {
			for i := t.rows.n() - 1; i > 0; i-- {
				a, b := i*tuneTop, r.IntN(i+1)*tuneTop
				t.rows.cand[a], t.rows.cand[b] = t.rows.cand[b], t.rows.cand[a]
			}
		})
	}},
	{"a poisoned hour", "clearly worse", func(s *steer, r *rand.Rand) fit {
		pushed := [3]int32{r.Int32N(sequelItems), r.Int32N(sequelItems), r.Int32N(sequelItems)}
		return retrained(s, func(t *tuning) { // for an hour nearly all likes are a shop's own, of three items
			for i := range t.rows.n() {
				if r.IntN(10) > 0 {
					t.rows.cand[i*tuneTop] = pushed[r.IntN(3)]
				}
			}
		})
	}},
	{"exploded weights", "", func(s *steer, r *rand.Rand) fit {
		f := s.court.active.fit
		f.a = slices.Clone(f.a)
		by := float32(math.Pow(10, 1+5*r.Float64()))
		for i := range f.a {
			f.a[i] *= by
		}
		return f
	}},
	{"zeros", "its weights are all zero", func(s *steer, r *rand.Rand) fit {
		f := s.court.active.fit
		if r.IntN(2) == 0 {
			f.gain = 0
		} else {
			f.a = make([]float32, len(f.a))
		}
		return f
	}},
	{"NaN", "not finite", func(s *steer, r *rand.Rand) fit {
		f := s.court.active.fit
		f.a = slices.Clone(f.a)
		f.a[r.IntN(len(f.a))] = [2]float32{float32(math.NaN()), float32(math.Inf(1))}[r.IntN(2)]
		return f
	}},
}

// retrained trains on the rows at hand, spoilt.
func retrained(s *steer, spoil func(t *tuning)) fit {
	t := &tuning{d: s.d, codes: s.codes, coded: s.coded, rows: s.rows.clone(), from: newFit(s.d), toward: &s.court.active.fit, seed: 5}
	spoil(t)
	return t.run()
}

// Twenty seeded bad versions take the way that every training takes, and none is promoted.
func TestABadVersionIsNeverPromoted(t *testing.T) {
	for seed := range uint64(20) {
		fault := faults[seed%uint64(len(faults))]
		t.Run(fmt.Sprint(fault.name, " ", seed), func(t *testing.T) {
			m, w := goodVersion(t, seed)
			s, before := m.steer, m.Trial()
			s.next = math.MaxInt64 // no other training in between
			s.solved, s.take, s.since = make(chan trained, 1), s.rows.kept, m.events
			s.solved <- trained{fit: fault.make(s, rand.New(rand.NewPCG(seed, 4)))}
			w.until(t, m, 4000, func() bool { return m.Trial().Passed > before.Passed })
			after := m.Trial()
			v := after.Verdicts[len(after.Verdicts)-1]
			t.Logf("after %d events: %s: %s", v.At-before.Duel.Rows-v.TrainedAt, v.Decision, v.Reason())
			if v.Decision != Refused || after.Active != before.Active || after.Rival != "" || !strings.Contains(v.Reason(), fault.reason) {
				t.Errorf("%+v", after)
			}
		})
	}
}

// A bad version that was promoted all the same is taken back by what follows.
func TestAVersionThatIsBadInUseIsTakenBack(t *testing.T) {
	for k, fault := range faults[:3] {
		t.Run(fault.name, func(t *testing.T) {
			m, w := goodVersion(t, uint64(k))
			s := m.steer
			good := s.court.active.name
			s.next = math.MaxInt64
			s.candidate(fault.make(s, rand.New(rand.NewPCG(12, 4))), m.events)
			if s.court.rival == nil {
				t.Fatal(s.court.verdicts)
			}
			s.promote(groundBetter)
			n := w.until(t, m, 2000, func() bool { return s.court.active.name == good })
			v := s.court.verdicts[len(s.court.verdicts)-1]
			t.Logf("taken back after %d events: %s", n, v.Reason())
			if v.Decision != TakenBack || !strings.HasPrefix(v.Reason(), "clearly worse") || v.Duel.Chance >= 0 {
				t.Errorf("%+v", v)
			}
		})
	}
}

// A version that was right until the log changed is followed by one that fits the new log.
func TestWhenTheLogChangesANewVersionTakesOver(t *testing.T) {
	m, w := goodVersion(t, 9)
	old := m.Trial().Version
	w.step = 5
	n := w.until(t, m, 30_000, func() bool { return m.Trial().Version > old && m.Trial().Rival == "" })
	t.Logf("version %d in place of %d after %d events", m.Trial().Version, old, n)
}

// Judged is what a list says it was made by, whole.
func TestEachListNamesTheVersionThatMadeIt(t *testing.T) {
	m, w := goodVersion(t, 9)
	for _, c := range m.Rank(corastream.Query{Recent: w.recent[1], Now: w.now, N: 10}) {
		if c.Model != m.Trial().Active {
			t.Fatalf("%+v, the active version is %s", c, m.Trial().Active)
		}
	}
	none := small()
	none.Codes = 0
	m, x := learnt(t, none, 100, true)
	for _, c := range m.Rank(corastream.Query{Recent: x.users[1], Now: x.now, N: 10}) {
		if c.Model != "" {
			t.Fatalf("%+v without an LLM", c)
		}
	}
}
