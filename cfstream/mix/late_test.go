package mix

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// lateCodes is a model that learnt so many events of sequels before any code, and the codes.
func lateCodes(t testing.TB, events int) (*Model, *sequels, []corastream.Item) {
	t.Helper()
	spec := sequelSpec()
	spec.TrainAfter, spec.TrainRows, spec.Judge = 1000, 10_000, 2000
	m := mustNew(t, spec)
	r := rand.New(rand.NewPCG(8, 8))
	items := make([]corastream.Item, sequelItems)
	for i := range items {
		code := make([]float32, spec.Codes)
		for k := range code {
			code[k] = float32(r.NormFloat64()) / 16
		}
		code[i%sequelThemes]++
		corastream.QuantizeContent(code)
		items[i] = corastream.Item{ID: fmt.Sprint("s", i), Title: fmt.Sprint("work ", i), Code: code}
		m.Describe(corastream.Item{ID: items[i].ID, Title: items[i].Title})
	}
	w := &sequels{r: r, recent: make([][]corastream.Interaction, 200), now: time.Unix(1e9, 0), step: 1}
	for range events {
		m.Learn(w.next(m.Window()))
	}
	return m, w, items
}

// again does what itemcodes.Keep does when all codes are told: it tells one more as long as the model waits for it.
func again(t testing.TB, m *Model, it corastream.Item) {
	t.Helper()
	for range 2 {
		for deadline := time.Now().Add(time.Minute); !m.TellAgain(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("nothing waits: %+v", m.Trial())
			}
		}
		m.Describe(it)
	}
	if m.TellAgain() {
		t.Fatalf("it waits on: %+v", m.Trial())
	}
}

// TestCodesThatComeAfterTheLogMakeAVersionAtOnce: no like follows, and yet the lists are of weights that were trained, and their
// worth is known. Saved and loaded at any point, it is the same.
func TestCodesThatComeAfterTheLogMakeAVersionAtOnce(t *testing.T) {
	m, _, items := lateCodes(t, 12_000)
	if m.TellAgain() || m.Worth().Rows > 0 {
		t.Fatalf("before any code: %+v, %+v", m.Trial(), m.Worth())
	}
	for _, it := range items {
		m.Describe(it)
	}
	load := func(state []byte) *Model {
		other := mustNew(t, m.Spec())
		if err := other.Load(bytes.NewReader(state)); err != nil {
			t.Fatal(err)
		}
		return other
	}
	early := load(saved(t, m))
	again(t, m, items[3])
	again(t, early, items[3])
	v := m.Trial().Verdicts[0]
	t.Log(v.Reason())
	if m.Trial().Version != 1 || v.Decision != Promoted || v.At != v.TrainedAt {
		t.Errorf("%+v", m.Trial())
	}
	if w := m.Worth(); w.Rows < 1500 || w.CI[0] <= 0 {
		t.Errorf("worth: %+v", w)
	}
	if !bytes.Equal(saved(t, m), saved(t, early)) {
		t.Error("loaded before the training, it came to another state")
	}
}

// In a shop that is awake likes come while codes are told. The training waits until all are there, and a save in its middle waits for it.
func TestCodesThatComeBetweenLikes(t *testing.T) {
	m, w, items := lateCodes(t, 12_000)
	for _, it := range items {
		m.Describe(it)
		m.Learn(w.next(m.Window()))
		if m.Trial().Training {
			t.Fatal("it trains on some of the codes")
		}
	}
	n := w.until(t, m, 2*lateStill, func() bool { return m.Trial().Training })
	other := mustNew(t, m.Spec())
	if err := other.Load(bytes.NewReader(saved(t, m))); err != nil {
		t.Fatal(err)
	}
	for range 3000 {
		st := w.next(m.Window())
		m.Learn(st)
		other.Learn(st)
	}
	t.Logf("began %d likes after the last code: %+v", n, m.Trial().Verdicts)
	if m.Trial().Version == 0 || !bytes.Equal(saved(t, m), saved(t, other)) {
		t.Errorf("%+v, %+v", m.Trial(), other.Trial())
	}
}

// A version trained on labels of other rows is not promoted by the rows that are held out.
func TestLateTrainingOnShuffledLabelsIsRefused(t *testing.T) {
	m, _, items := lateCodes(t, 12_000)
	r := rand.New(rand.NewPCG(1, 2))
	s := m.steer
	train := s.rows.n() * (lateHeld - 1) / lateHeld
	for i := range train { // the others stay true
		a, b := s.rows.newest(s.rows.n()-1-i)*tuneTop, s.rows.newest(s.rows.n()-1-r.IntN(train))*tuneTop
		s.rows.cand[a], s.rows.cand[b] = s.rows.cand[b], s.rows.cand[a]
	}
	for _, it := range items {
		m.Describe(it)
	}
	again(t, m, items[0])
	if tr := m.Trial(); tr.Version != 0 {
		t.Errorf("%+v", tr)
	}
	t.Logf("%+v", m.Trial())
}

// A new basis replaces the codes of all items: the rows at hand are trained on anew, so the shop has a version again at once.
func TestANewBasisTrainsOnTheRowsAtHand(t *testing.T) {
	m, _, items := lateCodes(t, 12_000)
	for _, it := range items {
		m.Describe(it)
	}
	again(t, m, items[0])
	for i := range items { // turned by one place
		code := items[i].Code
		items[i].Code = append(append([]float32{}, code[1:]...), code[0])
		m.Describe(items[i])
	}
	if m.Trial().Version != 0 {
		t.Fatalf("%+v", m.Trial())
	}
	again(t, m, items[0])
	if m.Trial().Version != 2 {
		t.Errorf("%+v", m.Trial())
	}
}
