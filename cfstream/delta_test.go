package cfstream_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
)

// deltaKinds are those that a cluster divides, with implicit events' negatives among the steps.
var deltaKinds = []string{cfstream.Bias, cfstream.MF, cfstream.Hybrid}

func merger(t testing.TB, kind string) (cfstream.Model, corastream.Merger) {
	t.Helper()
	m := model(t, kind, nil)
	g, ok := m.(corastream.Merger)
	if !ok {
		t.Fatalf("%s can not be merged", kind)
	}
	return m, g
}

// learn applies events, every third of them implicit, days apart so that demand fades between them.
func learn(t testing.TB, s *corastream.Memory, l corastream.Learner, events []corastream.Event) {
	t.Helper()
	for i, ev := range events {
		ev.Implicit, ev.Time = i%3 == 0, time.Date(2024, 1, 1+i%40, i%24, 0, 0, 0, time.UTC)
		if err := s.Apply(l, ev); err != nil {
			t.Fatal(err)
		}
	}
}

// deltas are what a shard sends: its items' and the shared vector's differences since an earlier state.
func deltas(t testing.TB, g corastream.Merger, before, after *corastream.Memory) (map[string]corastream.Embedding, corastream.Embedding) {
	t.Helper()
	out := map[string]corastream.Embedding{}
	for n := range after.Items() {
		is, _ := after.ItemAt(uint32(n))
		was, _ := before.Item(is.ID)
		if is.Version != was.Version {
			out[is.ID] = g.ItemDelta(is.ID, &was.Embedding, &is.Embedding)
		}
	}
	was, _ := before.Shared()
	is, _ := after.Shared()
	return out, g.SharedDelta(was, is)
}

func merge(t testing.TB, g corastream.Merger, s *corastream.Memory, items map[string]corastream.Embedding, shared corastream.Embedding) {
	t.Helper()
	for n := range s.Items() { // in a fixed order
		it, _ := s.ItemAt(uint32(n))
		if d, ok := items[it.ID]; ok {
			if err := g.MergeItem(it, &d); err != nil {
				t.Fatal(err)
			}
		}
	}
	own, _ := s.Shared()
	if err := g.MergeShared(own, &shared); err != nil {
		t.Fatal(err)
	}
}

// apart is the largest difference of two vectors' numbers, each relative to 1 or to the number itself where that is larger.
func apart(t testing.TB, name string, a, b *corastream.Embedding) float64 {
	t.Helper()
	if a.Count != b.Count || a.Version != b.Version {
		t.Errorf("%s: %d events and version %d, want %d and %d", name, a.Count, a.Version, b.Count, b.Version)
	}
	if len(a.Vec) != len(b.Vec) || len(a.Acc) != len(b.Acc) {
		t.Fatalf("%s: widths %d and %d, want %d and %d", name, len(a.Vec), len(a.Acc), len(b.Vec), len(b.Acc))
	}
	off := func(x, y float32) float64 {
		return math.Abs(float64(x)-float64(y)) / max(1, math.Abs(float64(y)))
	}
	worst := off(a.Bias, b.Bias)
	for i := range a.Vec {
		worst = max(worst, off(a.Vec[i], b.Vec[i]))
	}
	for i := range a.Acc {
		worst = max(worst, off(a.Acc[i], b.Acc[i]))
	}
	return worst
}

func stateApart(t testing.TB, a, b *corastream.Memory) float64 {
	t.Helper()
	x, _ := a.Shared()
	y, _ := b.Shared()
	worst := apart(t, "shared", x, y)
	for n := range b.Items() {
		want, _ := b.ItemAt(uint32(n))
		have, _ := a.Item(want.ID)
		worst = max(worst, apart(t, want.ID, &have.Embedding, &want.Embedding))
	}
	return worst
}

func begin(w world) *corastream.Memory {
	s := corastream.NewMemory()
	for _, it := range w.items {
		s.Put(it)
	}
	return s
}

// Rounding measured: at most 6.5e-8, half a unit in the last place of a number near 1; the bound is three times that.
func TestOneShardsStepsMergeIntoAnUntouchedCopy(t *testing.T) {
	for _, kind := range deltaKinds {
		t.Run(kind, func(t *testing.T) {
			m, g := merger(t, kind)
			w := makeWorld(3, 60, 40, 3000, 1, 1)
			for _, known := range []int{0, 1500} { // into fresh records, and into those of a running shard
				owner := begin(w)
				learn(t, owner, m, w.events[:known])
				shard := owner.Clone()
				learn(t, shard, m, w.events[known:])
				items, shared := deltas(t, g, owner, shard)
				if len(items) == 0 {
					t.Fatal("nothing was learnt")
				}
				merge(t, g, owner, items, shared)
				if off := stateApart(t, owner, shard); off > 2e-7 {
					t.Errorf("after %d events: merged and stepped vectors are %.2g apart", known, off)
				} else {
					t.Logf("after %d events: %.2g apart", known, off)
				}
			}
		})
	}
}

func TestAMergedDemandFadesAsALearntOneDoes(t *testing.T) {
	m, g := merger(t, cfstream.MF)
	demand := m
	at := func(day int, n int64) corastream.Event {
		ev := event(n, "u", "i", 1)
		ev.Time = time.Date(2024, 1, day, 0, 0, 0, 0, time.UTC)
		return ev
	}
	// The owner has likes of the 1st and the 20th; another shard one of the 10th, late, and one of the 40th.
	for _, days := range [][]int{{10}, {31}, {10, 31}} {
		all, owner, shard := corastream.NewMemory(), corastream.NewMemory(), corastream.NewMemory()
		for n, day := range []int{1, 20} {
			for _, s := range []*corastream.Memory{all, owner} {
				if err := s.Apply(m, at(day, int64(n))); err != nil {
					t.Fatal(err)
				}
			}
		}
		for n, day := range days {
			for _, s := range []*corastream.Memory{all, shard} {
				if err := s.Apply(m, at(day, int64(9+n))); err != nil {
					t.Fatal(err)
				}
			}
		}
		there, _ := shard.Item("i")
		d := g.ItemDelta("i", nil, &there.Embedding)
		it, _ := owner.Item("i")
		if err := g.MergeItem(it, &d); err != nil {
			t.Fatal(err)
		}
		want, _ := all.Item("i")
		if a, b := demand.Demand(it), demand.Demand(want); math.Abs(float64(a-b)) > 1e-5 || math.IsInf(float64(b), 0) {
			t.Errorf("likes of days %v: demand %v, want %v", days, a, b)
		}
	}
}

// moved is the root mean square by which items' and the shared biases of two states differ.
func moved(a, b *corastream.Memory) float64 {
	sum, n := 0.0, 0.0
	add := func(x, y float32) {
		sum += float64(x-y) * float64(x-y)
		n++
	}
	x, _ := a.Shared()
	y, _ := b.Shared()
	add(x.Bias, y.Bias)
	for i := range b.Items() {
		it, _ := b.ItemAt(uint32(i))
		other, _ := a.Item(it.ID)
		add(other.Bias, it.Bias)
	}
	return math.Sqrt(sum / n)
}

// Eight shards learn 375 events each from one base. Measured: merged, in either order, biases end .28 to .39 from where learning in
// turn would bring them, which is how much the order of events decides; the plain sum of the eight differences 1.4 to 1.7 away.
func TestDeltasOfOneBaseMergeToWhatLearningInTurnWouldMake(t *testing.T) {
	for _, kind := range deltaKinds {
		t.Run(kind, func(t *testing.T) {
			const shards, each = 8, 375
			m, g := merger(t, kind)
			w := makeWorld(4, 60, 40, 3000, 1, 1)
			start := begin(w)
			inTurn, there, back, summed := start.Clone(), start.Clone(), start.Clone(), start.Clone()
			learn(t, inTurn, m, w.events[:shards*each])
			var items [shards]map[string]corastream.Embedding
			var shared [shards]corastream.Embedding
			for n := range shards {
				shard := start.Clone()
				learn(t, shard, m, w.events[each*n:each*(n+1)])
				items[n], shared[n] = deltas(t, g, start, shard)
				for id, d := range items[n] {
					it, _ := summed.Item(id)
					it.Bias += d.Bias
				}
				mu, _ := summed.Shared()
				mu.Bias += shared[n].Bias
			}
			for n := range shards {
				merge(t, g, there, items[n], shared[n])
				merge(t, g, back, items[shards-1-n], shared[shards-1-n])
			}
			way, sum := moved(inTurn, start), moved(summed, inTurn)
			for name, s := range map[string]*corastream.Memory{"there": there, "back": back} {
				off := moved(s, inTurn)
				t.Logf("%s: moved %.3g, merged %.3g off, summed %.3g off", name, way, off, sum)
				if off > sum/3 {
					t.Errorf("%s: learning in turn moves biases by %.3g; merged ones are %.3g off, summed ones %.3g", name, way, off, sum)
				}
			}
			// What only counts does commute.
			for n := range there.Items() {
				a, _ := there.ItemAt(uint32(n))
				b, _ := back.Item(a.ID)
				if a.Count != b.Count || a.Version != b.Version || len(a.Acc) != len(b.Acc) {
					t.Fatalf("%s: %d events in %d steps, and %d in %d", a.ID, a.Count, a.Version, b.Count, b.Version)
				}
				for i := range a.Acc {
					if math.Abs(float64(a.Acc[i]-b.Acc[i])) > 5e-7*max(1, math.Abs(float64(b.Acc[i]))) {
						t.Errorf("%s: sum %d is %v or %v by the order of deltas", a.ID, i, a.Acc[i], b.Acc[i])
					}
				}
			}
		})
	}
}

// Sixteen shards keep learning the same hot item from copies that are four rounds old. Plain sums swing to the bounds of a bias
// within a few rounds; merged deltas stay where one process would be.
func TestStaleShardsDoNotRunAway(t *testing.T) {
	const shards, rounds, each, lag = 16, 60, 20, 4
	m, g := merger(t, cfstream.Bias)
	owner := corastream.NewMemory()
	var old []*corastream.Memory
	n := int64(0)
	for range rounds {
		old = append(old, owner.Clone())
		base := old[max(0, len(old)-lag)]
		for s := range shards {
			copied := base.Clone()
			for k := range each {
				n++
				label := float32(1)
				if k%4 == 3 { // three in four like it: z = ln 3
					label = 0
				}
				if err := copied.Apply(m, event(n, fmt.Sprint("u", s, "-", n), "hot", label)); err != nil {
					t.Fatal(err)
				}
			}
			items, shared := deltas(t, g, base, copied)
			merge(t, g, owner, items, shared)
		}
		it, _ := owner.Item("hot")
		mu, _ := owner.Shared()
		// Measured: z stays below 2.0 on its way, and both parts below 1.9.
		if z := mu.Bias + it.Bias; math.Abs(float64(z)) > 3 || math.Abs(float64(mu.Bias)) > 3 || math.Abs(float64(it.Bias)) > 3 {
			t.Fatalf("mu %v, b_i %v, where three in four like the item", mu.Bias, it.Bias)
		}
	}
	p, err := corastream.PairOf(owner, m, "new", "hot")
	if z := p.Logit(); err != nil || math.Abs(float64(z)-math.Log(3)) > 0.8 {
		t.Errorf("z of a new user is %v (%v), want about ln 3", z, err)
	} else {
		t.Logf("z %v, mu %v, b_i %v", z, p.Mu, p.Item.Bias)
	}
}

func TestADeltaThatNoStepsMakeIsRefusedAndLeavesNothing(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	cases := map[string]func(d *corastream.Embedding){
		"a bias that is no number": func(d *corastream.Embedding) { d.Bias = nan },
		"an infinite bias":         func(d *corastream.Embedding) { d.Bias = -inf },
		"a bias beyond bounds":     func(d *corastream.Embedding) { d.Bias = 50 },
		"a NaN":                    func(d *corastream.Embedding) { d.Vec[0] = nan },
		"an infinity":              func(d *corastream.Embedding) { d.Vec[len(d.Vec)-1] = inf },
		"a number beyond bounds":   func(d *corastream.Embedding) { d.Vec[0] = 1e9 },
		"too wide":                 func(d *corastream.Embedding) { d.Vec = append(d.Vec, 0) },
		"too narrow":               func(d *corastream.Embedding) { d.Vec = d.Vec[:1] },
		"no vector":                func(d *corastream.Embedding) { d.Vec = nil },
		"no sums":                  func(d *corastream.Embedding) { d.Acc = nil },
		"one sum too many":         func(d *corastream.Embedding) { d.Acc = append(d.Acc, make([]float32, 3)...) },
		"a sum that shrinks":       func(d *corastream.Embedding) { d.Acc[0] = -1 },
		"a sum that is no number":  func(d *corastream.Embedding) { d.Acc[0] = nan },
		"an infinite sum":          func(d *corastream.Embedding) { d.Acc[0] = inf },
		"more events than steps":   func(d *corastream.Embedding) { d.Count = uint32(d.Version) + 1 },
		"more taken back":          func(d *corastream.Embedding) { d.Count = -uint32(d.Version) - 1 },
		"too many steps":           func(d *corastream.Embedding) { d.Version = math.MaxUint64 },
	}
	m, g := merger(t, cfstream.Hybrid)
	w := makeWorld(5, 20, 10, 400, 1, 1)
	s := begin(w)
	learn(t, s, m, w.events)
	it, _ := s.Item("i1")
	shared, _ := s.Shared()
	refused := func(name string, err error) {
		t.Helper()
		if !errors.Is(err, corastream.ErrCorrupt) && !errors.Is(err, corastream.ErrMismatch) {
			t.Errorf("%s: %v, want ErrCorrupt or ErrMismatch", name, err)
		} else if !strings.Contains(err.Error(), "fix:") {
			t.Errorf("%s: %v names no fix", name, err)
		}
	}
	for name, spoil := range cases {
		before := s.Clone()
		d := g.ItemDelta("i1", nil, &it.Embedding)
		spoil(&d)
		refused("item, "+name, g.MergeItem(it, &d))
		d = g.SharedDelta(nil, shared)
		spoil(&d)
		refused("shared, "+name, g.MergeShared(shared, &d))
		if off := stateApart(t, s, before); off != 0 {
			t.Errorf("%s: refused, and yet the state moved by %v", name, off)
		}
	}
	// The like's hour belongs to items alone.
	d := g.ItemDelta("i1", nil, &it.Embedding)
	d.Acc[len(d.Acc)-1] = 1e9
	refused("a like in the far future", g.MergeItem(it, &d))
	// A record of another spec takes nothing.
	d = g.ItemDelta("i1", nil, &it.Embedding)
	refused("another spec's record", g.MergeItem(&corastream.ItemState{Item: corastream.Item{ID: "x"}, Embedding: corastream.Embedding{Vec: []float32{1}}}, &d))
}

func TestMergingKeepsTheBoundsOfAStep(t *testing.T) {
	m, g := merger(t, cfstream.Hybrid)
	w := makeWorld(6, 20, 10, 400, 1, 1)
	s := begin(w)
	learn(t, s, m, w.events)
	it, _ := s.Item("i1")
	shared, _ := s.Shared()
	for n := range 100 {
		d := g.ItemDelta("i1", nil, &it.Embedding)
		d.Bias, d.Vec[0], d.Acc[0], d.Count, d.Version = 40, 100, math.MaxFloat32, math.MaxInt32, math.MaxUint32
		if err := g.MergeItem(it, &d); err != nil {
			t.Fatal(n, err)
		}
		d = g.SharedDelta(nil, shared)
		d.Bias, d.Vec[0], d.Vec[width], d.Acc[0], d.Count, d.Version = -40, 100, 40, math.MaxFloat32, 1, 1
		if err := g.MergeShared(shared, &d); err != nil {
			t.Fatal(n, err)
		}
	}
	norm := 0.0
	for _, x := range it.Vec {
		norm += float64(x) * float64(x)
	}
	if it.Bias != 20 || math.Sqrt(norm) > 50.01 || it.Acc[0] != math.MaxFloat32 || it.Count != math.MaxUint32 {
		t.Errorf("item: bias %v, norm %v, sum %v, count %d", it.Bias, math.Sqrt(norm), it.Acc[0], it.Count)
	}
	if shared.Bias != -20 || shared.Vec[width] != 20 {
		t.Errorf("shared: mu %v, gamma %v", shared.Bias, shared.Vec[width])
	}
	learn(t, s, m, w.events) // and it learns on
	if p, err := corastream.PairOf(s, m, "u1", "i1"); err != nil || math.IsNaN(float64(p.Logit())) {
		t.Errorf("after merging: %v, %v", p.Logit(), err)
	}
}

func TestModelsThatCanNotBeDividedSayWhy(t *testing.T) {
	for _, kind := range cfstream.Kinds {
		for _, layers := range []int{0, 2} {
			if layers > 0 && kind != cfstream.Hybrid && kind != cfstream.LightGCN {
				continue
			}
			t.Run(fmt.Sprint(kind, layers), func(t *testing.T) {
				m := model(t, kind, func(s *cfstream.Spec) { s.Layers = layers })
				err := cfstream.Shardable(m.Spec())
				_, merges := m.(corastream.Merger)
				if merges != (err == nil) {
					t.Fatalf("merges: %v, but Shardable says %v", merges, err)
				}
				var usage *corastream.UsageError
				if err != nil && (!errors.As(err, &usage) || usage.Fix == "" || !strings.Contains(err.Error(), kind)) {
					t.Errorf("%v names neither the kind nor a fix", err)
				}
			})
		}
	}
}

// FuzzMerge: whatever a delta holds, it is refused or leaves finite numbers within a step's bounds, and the model learns on.
func FuzzMerge(f *testing.F) {
	m := model(f, cfstream.Hybrid, nil)
	g := m.(corastream.Merger)
	seed := corastream.NewMemory()
	if err := seed.Apply(m, event(1, "u", "i", 1)); err != nil {
		f.Fatal(err)
	}
	known, _ := seed.Item("i")
	d := g.ItemDelta("i", nil, &known.Embedding)
	pack := func(d corastream.Embedding) []byte {
		var b []byte
		for _, v := range [][]float32{{d.Bias}, d.Vec, d.Acc} {
			for _, x := range v {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
		}
		return b
	}
	f.Add(pack(d), uint8(len(d.Vec)), uint32(1), uint64(1))
	f.Add(pack(corastream.Embedding{Bias: 40, Vec: slices.Repeat([]float32{100}, 2*16+1), Acc: slices.Repeat([]float32{math.MaxFloat32}, 18)}), uint8(33), uint32(9), uint64(1<<40))
	f.Fuzz(func(t *testing.T, raw []byte, width uint8, count uint32, version uint64) {
		if len(raw) < 4 || len(raw) > 1<<12 {
			return
		}
		var v []float32
		for ; len(raw) >= 4; raw = raw[4:] {
			v = append(v, math.Float32frombits(binary.LittleEndian.Uint32(raw)))
		}
		n := 1 + min(int(width), len(v)-1)
		d := corastream.Embedding{Bias: v[0], Vec: v[1:n], Acc: v[n:], Count: count, Version: version}
		s := seed.Clone()
		it, _ := s.Item("i")
		shared, _ := s.Shared()
		_ = g.MergeItem(it, &d)
		_ = g.MergeShared(shared, &d)
		for _, v := range [][]float32{{it.Bias, shared.Bias}, it.Vec, it.Acc, shared.Vec, shared.Acc} {
			for i, x := range v {
				if x != x || math.IsInf(float64(x), 0) {
					t.Fatalf("number %d is %v after %+v", i, x, d)
				}
			}
		}
		if math.Abs(float64(it.Bias)) > 20 || math.Abs(float64(shared.Bias)) > 20 {
			t.Fatalf("biases %v and %v", it.Bias, shared.Bias)
		}
		if err := s.Apply(m, event(2, "u", "i", 0)); err != nil {
			t.Fatal(err)
		}
		if p, err := corastream.PairOf(s, m, "u", "i"); err != nil || math.IsNaN(float64(p.Logit())) {
			t.Fatal(p.Logit(), err)
		}
	})
}
