package mix

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// world is a generated log: users stay within one of five themes, so that what they take next can be learnt.
type world struct {
	r     *rand.Rand
	users [][]corastream.Interaction // newest first
	met   []map[string]bool
	now   time.Time
	rated bool
}

const (
	worldUsers  = 60
	worldItems  = 200
	worldThemes = 5
)

func newWorld(seed uint64, rated bool) *world {
	w := &world{
		r: rand.New(rand.NewPCG(seed, 1)), users: make([][]corastream.Interaction, worldUsers), met: make([]map[string]bool, worldUsers),
		now: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), rated: rated,
	}
	for u := range w.met {
		w.met[u] = map[string]bool{}
	}
	return w
}

func worldItem(i int) corastream.Item {
	themes := []string{"harbour", "orchard", "telegram", "winter", "lantern"}
	return corastream.Item{ID: fmt.Sprint("i", i), Title: fmt.Sprintf("The %s of number %d", themes[i%worldThemes], i)}
}

// worldCode says an item's theme, and noise; every tenth item has none.
func worldCode(i, width int) []float32 {
	if i%10 == 9 {
		return nil
	}
	r := rand.New(rand.NewPCG(uint64(i), 9))
	code := make([]float32, width)
	for k := range code {
		code[k] = float32(r.NormFloat64()) / 16
	}
	if width > worldThemes {
		code[i%worldThemes] += 1
	}
	corastream.QuantizeContent(code)
	return code
}

// next is the next event as a step, and takes it in.
func (w *world) next(window int) (user int, st corastream.Step) {
	w.now = w.now.Add(time.Duration(w.r.IntN(3600)) * time.Second)
	u := w.r.IntN(worldUsers)
	i := w.r.IntN(worldItems/worldThemes)*worldThemes + u%worldThemes
	if w.r.IntN(10) == 0 {
		i = w.r.IntN(worldItems)
	}
	id := worldItem(i).ID
	label := float32(1)
	if w.rated && w.r.IntN(4) == 0 {
		label = 0
	}
	recent := w.users[u]
	st = corastream.Step{Item: id, Positive: label == 1, Met: w.met[u][id], Time: w.now, Recent: recent[:min(len(recent), window)]}
	w.users[u] = append([]corastream.Interaction{{Item: id, Label: label, Time: w.now}}, recent...)
	w.met[u][id] = true
	return u, st
}

func learnt(t testing.TB, spec Spec, events int, rated bool) (*Model, *world) {
	t.Helper()
	m, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(3, rated)
	for i := range worldItems {
		it := worldItem(i)
		it.Code = worldCode(i, spec.Codes)
		m.Describe(it)
	}
	for range events {
		_, st := w.next(m.Window())
		m.Learn(st)
	}
	return m, w
}

func small() Spec {
	s := Default()
	s.Neighbours, s.History = 32, 20
	return s
}

func saved(t testing.TB, m *Model) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.Save(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A list is personal: users of a theme get its items.
func TestAListIsOfTheUsersTheme(t *testing.T) {
	for _, rated := range []bool{false, true} {
		m, w := learnt(t, small(), 4000, rated)
		right, all := 0, 0
		for u := range worldUsers {
			for _, c := range m.Rank(corastream.Query{Recent: w.users[u][:20], Now: w.now, N: 10, Reasons: true, Skip: func(id string) bool { return w.met[u][id] }}) {
				var i int
				fmt.Sscanf(c.Item, "i%d", &i)
				if w.met[u][c.Item] {
					t.Fatalf("user %d was listed %s, which was to be skipped", u, c.Item)
				}
				if c.Source == "" {
					t.Fatalf("no reason: %+v", c)
				}
				if all++; i%worldThemes == u%worldThemes {
					right++
				}
			}
		}
		if right*10 < all*5 { // drawn at random it would be a fifth, and most items of a theme are met
			t.Errorf("rated %v: %d of %d listed items are of the user's theme", rated, right, all)
		}
	}
}

// The same calls give the same bytes, whether a state is kept in memory or saved and loaded on the way.
func TestSaveAndLoadOnTheWayChangeNothing(t *testing.T) {
	for name, spec := range map[string]Spec{
		"default": small(), "no ease": {32, 20, RepeatsYes, 16, 0, TextTitle, 0, 1000, 20_000, 2000, 1 << 30},
		"tight": {64, 20, RepeatsAuto, 0, 150, TextFields, 16, 200, 1000, 400, 16 << 20},
	} {
		straight, _ := learnt(t, spec, 9000, true)
		m, w := learnt(t, spec, 0, true)
		for i := range 9000 {
			_, st := w.next(m.Window())
			m.Learn(st)
			if i%1700 == 1234 || i == 6100 {
				again, err := New(spec)
				if err != nil {
					t.Fatal(err)
				}
				if err := again.Load(bytes.NewReader(saved(t, m))); err != nil {
					t.Fatalf("%s after %d events: %v", name, i, err)
				}
				m = again
			}
		}
		if !bytes.Equal(saved(t, straight), saved(t, m)) {
			t.Errorf("%s: another state than without saving", name)
		}
		q := corastream.Query{Recent: w.users[7][:20], Now: w.now, N: 20, Reasons: true}
		if a, b := fmt.Sprint(straight.Rank(q)), fmt.Sprint(m.Rank(q)); a != b {
			t.Errorf("%s: %s\n%s", name, a, b)
		}
	}
}

// The bytes are those of every CPU and build tag. A change of the model changes them: then the spec's name must change too, or
// stores of earlier builds would be read as if nothing had happened.
func TestTheBytesOfAStateAreTheGolden(t *testing.T) {
	const want = "39691658cea41442"
	m, _ := learnt(t, small(), 9000, true)
	sum := sha256.Sum256(saved(t, m))
	if got := hex.EncodeToString(sum[:8]); got != want {
		t.Errorf("state %s, want %s", got, want)
	}
}

func TestADamagedStateIsRefused(t *testing.T) {
	m, _ := learnt(t, small(), 1500, true)
	good := saved(t, m)
	r := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		bad := bytes.Clone(good[:r.IntN(len(good))])
		if err := m.Load(bytes.NewReader(bad)); !errors.Is(err, corastream.ErrCorrupt) {
			t.Fatalf("cut at %d: %v", len(bad), err)
		}
	}
	other, err := New(Default())
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Load(bytes.NewReader(good)); !errors.Is(err, corastream.ErrMismatch) {
		t.Errorf("another spec: %v", err)
	}
	old := bytes.Replace(good, []byte(saveMagic), []byte(saveFamily+"2\n"), 1)
	if err := m.Load(bytes.NewReader(old)); !errors.Is(err, corastream.ErrFormat) || !strings.Contains(err.Error(), saveFamily+"2") {
		t.Errorf("another build's format: %v", err)
	}
}

// FuzzLoad: whatever bytes are loaded, they are refused or make a model that ranks and learns without a panic.
func FuzzLoad(f *testing.F) {
	spec := Spec{Neighbours: 8, History: 5, Repeats: RepeatsAuto, Factors: 16, EASEItems: 20, Text: TextFields, Codes: 8, TrainAfter: 100, TrainRows: 1000, Judge: 200, MemoryLimit: 16 << 20}
	m, w := learnt(f, spec, 40, true)
	f.Add(saved(f, m))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := New(spec)
		if err != nil {
			t.Fatal(err)
		}
		if m.Load(bytes.NewReader(b)) != nil {
			return
		}
		m.Rank(corastream.Query{Recent: w.users[1], Now: w.now, N: 10, Reasons: true})
		m.Learn(corastream.Step{Item: "i1", Positive: true, Time: w.now, Recent: w.users[2]})
	})
}

// As the catalogue grows, lists of neighbours shrink so that the table stays within its limit.
func TestTheTableStaysWithinItsLimit(t *testing.T) {
	spec := Spec{Neighbours: 4096, History: 20, Repeats: RepeatsNo, Text: TextTitle, TrainAfter: 100, TrainRows: 1000, Judge: 200, MemoryLimit: 16 << 20}
	m, err := New(spec)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(5, 5))
	at := time.Unix(1e9, 0)
	var recent []corastream.Interaction
	for i := range 30000 {
		at = at.Add(time.Second)
		id := fmt.Sprint("x", r.IntN(2000))
		m.Learn(corastream.Step{Item: id, Positive: true, Time: at, Recent: recent[:min(len(recent), 20)]})
		if recent = append([]corastream.Interaction{{Item: id, Label: 1, Time: at}}, recent...); i%20 == 0 {
			recent = nil
		}
		recent = recent[:min(len(recent), 20)]
	}
	held := int64(0)
	for i := range m.covisit.lists {
		held += int64(len(m.covisit.lists[i].ids)) * neighbourSize
	}
	if held > spec.MemoryLimit || m.covisit.width >= 4096 {
		t.Errorf("%d bytes of %d, %d neighbours an item", held, spec.MemoryLimit, m.covisit.width)
	}
}

func TestAutoListsRepeatsWhereTheLogHasThem(t *testing.T) {
	for _, c := range []struct{ repeats, want bool }{{true, true}, {false, false}} {
		m, err := New(small())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 200 {
			m.Learn(corastream.Step{Item: fmt.Sprint("i", i), Positive: true, Met: c.repeats && i%4 == 0, Time: time.Unix(int64(i), 0)})
		}
		if m.Repeats() != c.want {
			t.Errorf("%+v", c)
		}
		own := []corastream.Interaction{{Item: "i7", Label: 1, Time: time.Unix(190, 0)}}
		listed := false
		for _, k := range m.Rank(corastream.Query{Recent: own, Now: time.Unix(200, 0), N: 300}) {
			listed = listed || k.Item == "i7"
		}
		if listed != c.want {
			t.Errorf("%+v: the user's own item listed: %v", c, listed)
		}
	}
}

func TestAWithdrawnItemIsNeverListed(t *testing.T) {
	m, w := learnt(t, small(), 2000, false)
	it := worldItem(5)
	it.Withdrawn = true
	m.Describe(it)
	for u := range worldUsers {
		for _, c := range m.Rank(corastream.Query{Recent: w.users[u][:5], Now: w.now, N: worldItems}) {
			if c.Item == it.ID {
				t.Fatal("a withdrawn item was listed")
			}
		}
	}
}

func TestInvertIsTheInverse(t *testing.T) {
	const n = 70
	r := rand.New(rand.NewPCG(9, 9))
	full := make([]float64, n*n)
	a := make([]float32, n*n)
	for i := range n {
		for j := range i + 1 {
			v := float64(r.IntN(20))
			if i == j {
				v += 400
			}
			full[i*n+j], full[j*n+i] = v, v
			a[i*n+j] = float32(v)
		}
	}
	invert(a, n)
	for i := range n {
		for j := range n {
			sum := 0.0
			for k := range n {
				sum += full[i*n+k] * float64(a[k*n+j])
			}
			want := 0.0
			if i == j {
				want = 1
			}
			if d := sum - want; d > 1e-4 || d < -1e-4 {
				t.Fatalf("A A^-1 [%d,%d] = %v", i, j, sum)
			}
		}
	}
}

func BenchmarkLearn(b *testing.B) {
	m, w := learnt(b, Default(), 6000, true)
	steps := make([]corastream.Step, 4096)
	for i := range steps {
		_, steps[i] = w.next(m.Window())
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Learn(steps[i%len(steps)])
	}
}

func BenchmarkRank(b *testing.B) {
	m, w := learnt(b, Default(), 6000, true)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m.Rank(corastream.Query{Recent: w.users[i%worldUsers], Now: w.now, N: 20})
	}
}
