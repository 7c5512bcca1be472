package generator

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/corastream/corastream"
)

func newStage(t testing.TB, spec Spec, cfg StageConfig) *Stage {
	t.Helper()
	s, err := NewStage(smallCheckpoint(t, spec, 6), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPairsOfOneUserShareOneMatrix(t *testing.T) {
	for _, kind := range []string{KindMLP, KindQFormer} {
		spec := smallSpec(kind, InputsUser)
		s := newStage(t, spec, DefaultStageConfig())
		pairs := somePairs(rand.New(rand.NewPCG(1, 1)), spec, 3, 4)
		w, p, err := s.Weights(t.Context(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		if p != s.Checkpoint().Projection {
			t.Error("another projection than the checkpoint's")
		}
		for i, x := range w {
			if &x.User[0] != &w[i/4*4].User[0] {
				t.Errorf("%s: pair %d has a matrix of its own", kind, i)
			}
			if i/4 > 0 && &x.User[0] == &w[0].User[0] {
				t.Errorf("%s: users share a matrix", kind)
			}
			if x.ItemScale != pairs[i].ItemScale(spec.Factors) || x.Item == nil || x.Generator != s.Version() || x.UserVersion != pairs[i].User.Version || x.ItemVersion != pairs[i].Item.Version {
				t.Errorf("%s: pair %d: scale %v, versions %d %d", kind, i, x.ItemScale, x.UserVersion, x.ItemVersion)
			}
		}
		// Dense agrees with the generator fed mu+b_u+b_i in one number.
		m := s.Checkpoint().Model
		in, lin := m.Inputs()
		x, l := make([]float32, in), make([]float32, lin)
		if err := m.UserInput(x, l, &pairs[5]); err != nil {
			t.Fatal(err)
		}
		l[spec.Taste] += pairs[5].ItemScale(spec.Factors)
		want, got := make([]float32, spec.Size()), make([]float32, spec.Size())
		m.Forward(want, x, l, 1)
		w[5].Dense(got)
		for k := range want {
			if d := want[k] - got[k]; d > 2e-6 || d < -2e-6 { // rounding of one product
				t.Fatalf("%s, entry %d: %v in one, %v in two parts", kind, k, want[k], got[k])
			}
		}
	}
}

func TestPaperPairsHaveTheirOwnMatrices(t *testing.T) {
	spec := smallSpec(KindQFormer, InputsPaper)
	s := newStage(t, spec, DefaultStageConfig())
	pairs := somePairs(rand.New(rand.NewPCG(1, 1)), spec, 2, 3)
	w, _, err := s.Weights(t.Context(), append(pairs, pairs[1]))
	if err != nil {
		t.Fatal(err)
	}
	for i := range pairs {
		if w[i].Item != nil || i > 0 && equalBits(w[i].User, w[0].User) {
			t.Errorf("pair %d: item column %v", i, w[i].Item)
		}
	}
	if &w[6].User[0] != &w[1].User[0] {
		t.Error("a pair named twice is made twice")
	}
}

// TestAClickChangesTheWeights: the same inputs are served from the cache, any other bit makes new weights, whatever the
// version numbers say.
func TestAClickChangesTheWeights(t *testing.T) {
	spec := smallSpec(KindMLP, InputsUser)
	s := newStage(t, spec, DefaultStageConfig())
	pairs := somePairs(rand.New(rand.NewPCG(2, 1)), spec, 2, 1)
	weights := func() []corastream.Weights {
		t.Helper()
		w, _, err := s.Weights(t.Context(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	first, again := weights(), weights()
	if &first[0].User[0] != &again[0].User[0] || s.Stats().Hits != 2 || s.Stats().Misses != 2 {
		t.Errorf("not served from the cache: %+v", s.Stats())
	}
	pairs[0].User.Vec = append([]float32(nil), pairs[0].User.Vec...)
	pairs[0].User.Vec[spec.Factors] += 1e-3 // the shared taste moved: the user's version did not
	moved := weights()
	if equalBits(moved[0].User, first[0].User) {
		t.Error("another taste, the same weights")
	}
	if &moved[1].User[0] != &first[1].User[0] {
		t.Error("the other user's weights were made again")
	}
	pairs[0].Mu += 0.5
	if w := weights(); equalBits(w[0].User, moved[0].User) {
		t.Error("another mu, the same weights")
	}
	if n := s.Stats().Entries; n != 2 {
		t.Errorf("%d entries for 2 users: the newest should replace the older", n)
	}
}

// TestAUserMayComeTwiceInOneCall: pairs taken before and after a click of one user get the weights of their own moment.
func TestAUserMayComeTwiceInOneCall(t *testing.T) {
	spec := smallSpec(KindMLP, InputsUser)
	s := newStage(t, spec, DefaultStageConfig())
	pairs := somePairs(rand.New(rand.NewPCG(2, 1)), spec, 1, 2)
	pairs[1].User.Bias += 0.5
	w, _, err := s.Weights(t.Context(), pairs)
	if err != nil {
		t.Fatal(err)
	}
	if equalBits(w[0].User, w[1].User) {
		t.Error("two moments of a user, one matrix")
	}
}

func TestTheLeastRecentlyUsedGoesFirst(t *testing.T) {
	one := []float32{1}
	c := newCache(2 * (&cached{key: "a", input: one, made: one}).size())
	c.put("a", one, one)
	c.put("b", one, one)
	c.get("a", one)
	c.put("c", one, one)
	if c.get("a", one) == nil || c.get("b", one) != nil || c.get("c", one) == nil {
		t.Error("after a, b, a, c in room for two, a and c should be kept")
	}
}

func TestCacheStaysWithinItsBytes(t *testing.T) {
	spec := smallSpec(KindMLP, InputsUser)
	one := (&cached{key: "a", input: make([]float32, spec.inputs()+spec.linearInputs()), made: make([]float32, spec.Size())}).size()
	for _, limit := range []int64{0, one - 1, one, 3*one + 5} {
		s := newStage(t, spec, StageConfig{CacheBytes: limit, Batch: 2})
		pairs := somePairs(rand.New(rand.NewPCG(2, 1)), spec, 7, 1)
		if _, _, err := s.Weights(t.Context(), pairs); err != nil {
			t.Fatal(err)
		}
		st := s.Stats()
		if st.Bytes > limit || int64(st.Entries) != limit/one || st.Bytes != int64(st.Entries)*one {
			t.Errorf("limit %d: %d entries of %d bytes each, %d in all", limit, st.Entries, one, st.Bytes)
		}
		if n := int64(st.Entries); n > 0 { // the most recently used stay
			before := st.Hits
			if _, _, err := s.Weights(t.Context(), pairs[7-n:]); err != nil || s.Stats().Hits-before != n {
				t.Errorf("limit %d: %d of the last %d users are kept (%v)", limit, s.Stats().Hits-before, n, err)
			}
		}
	}
}

// TestSwapIsAtomic: while checkpoints are swapped, every answer's weights and projection come from one of them.
func TestSwapIsAtomic(t *testing.T) {
	spec := smallSpec(KindMLP, InputsUser)
	a, b := smallCheckpoint(t, spec, 6), smallCheckpoint(t, spec, 7)
	s, err := NewStage(a, StageConfig{CacheBytes: 1 << 20, Batch: 1})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*corastream.Projection{s.Version(): a.Projection}
	made := map[string][]float32{}
	pairs := somePairs(rand.New(rand.NewPCG(2, 1)), spec, 3, 1)
	for _, c := range []*Checkpoint{b, a} {
		if err := s.Swap(c); err != nil {
			t.Fatal(err)
		}
		want[s.Version()] = c.Projection
		w, _, err := s.Weights(t.Context(), pairs)
		if err != nil {
			t.Fatal(err)
		}
		made[s.Version()] = w[0].User
	}
	if len(want) != 2 {
		t.Fatal("the checkpoints have one digest")
	}
	var wg, workers sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if err := s.Swap([]*Checkpoint{a, b}[i%2]); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 4 {
		workers.Go(func() {
			for range 200 {
				w, p, err := s.Weights(t.Context(), pairs)
				if err != nil {
					t.Error(err)
					return
				}
				if p != want[w[0].Generator] || !equalBits(w[0].User, made[w[0].Generator]) || w[2].Generator != w[0].Generator {
					t.Error("weights of one checkpoint with the projection of another")
					return
				}
			}
		})
	}
	workers.Wait()
	close(stop)
	wg.Wait()
}

func TestStageRefusesWhatItCanNotRead(t *testing.T) {
	spec := smallSpec(KindMLP, InputsUser)
	s := newStage(t, spec, DefaultStageConfig())
	pairs := somePairs(rand.New(rand.NewPCG(2, 1)), spec, 1, 1)
	pairs[0].User.Vec = pairs[0].User.Vec[:2]
	if _, _, err := s.Weights(t.Context(), pairs); !errors.Is(err, corastream.ErrMismatch) {
		t.Errorf("an embedding of another CF spec: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Weights(ctx, somePairs(rand.New(rand.NewPCG(2, 1)), spec, 1, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
	if _, err := NewStage(s.Checkpoint(), StageConfig{Batch: 0, CacheBytes: -1}); err == nil {
		t.Error("a stage without limits")
	}
}

// BenchmarkWeights: one user's W_A for 20 candidates, made and from the cache, at SmolLM2's width.
func BenchmarkWeights(b *testing.B) {
	spec := DefaultSpec()
	spec.Hidden = 576
	m, err := NewModel(spec, 1)
	if err != nil {
		b.Fatal(err)
	}
	c := &Checkpoint{Model: m, Projection: &corastream.Projection{}, digest: "bench"}
	s, err := NewStage(c, DefaultStageConfig())
	if err != nil {
		b.Fatal(err)
	}
	for _, users := range []int{1, 16, 64} {
		pairs := somePairs(rand.New(rand.NewPCG(2, 1)), spec, users, 20)
		run := func(b *testing.B, fresh bool) {
			for b.Loop() {
				if fresh {
					for i := range pairs {
						pairs[i].Mu += 1e-6
					}
				}
				if _, _, err := s.Weights(context.Background(), pairs); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*users)/b.Elapsed().Seconds(), "users/s")
		}
		b.Run(map[int]string{1: "1 user", 16: "16 users", 64: "64 users"}[users]+"/fresh", func(b *testing.B) { run(b, true) })
		b.Run(map[int]string{1: "1 user", 16: "16 users", 64: "64 users"}[users]+"/cached", func(b *testing.B) { run(b, false) })
	}
}

// TestForgetDropsAUsersWeights: those of every pair of the user, and nobody else's, whose id begins alike too.
func TestForgetDropsAUsersWeights(t *testing.T) {
	eachKind(t, func(t *testing.T, spec Spec) {
		s := newStage(t, spec, DefaultStageConfig())
		pairs := somePairs(rand.New(rand.NewPCG(2, 1)), spec, 3, 2)
		for i := range pairs {
			pairs[i].UserID = []string{"ann", "anna", "1:"}[i/2]
		}
		again := func() int64 {
			before := s.Stats().Misses
			if _, _, err := s.Weights(t.Context(), pairs); err != nil {
				t.Fatal(err)
			}
			return s.Stats().Misses - before
		}
		all := again()
		each := all / 3
		s.Forget("nobody")
		if n := again(); n != 0 {
			t.Fatalf("%d made again", n)
		}
		s.Forget("ann")
		if n := s.Stats().Entries; n != int(all-each) {
			t.Errorf("%d of %d entries are left, want those of two users", n, all)
		}
		if n := again(); n != each {
			t.Errorf("%d made again, want %d", n, each)
		}
	})
}
