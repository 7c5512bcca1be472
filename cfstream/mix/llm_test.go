package mix

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/corastream/corastream/kernels"
)

const turnedRows = 20_000

// turned is a tuning whose targets' codes are those of the last item, turned by one place: no start with A = I finds them.
func turned(n, d int) *tuning {
	r := rand.New(rand.NewPCG(4, 4))
	t := &tuning{d: d, from: newFit(d), seed: 1, rows: rows{most: turnedRows}}
	const items = 60
	for range items {
		for range d {
			t.codes = append(t.codes, float32(r.NormFloat64())/float32(math.Sqrt(float64(d))))
		}
		t.coded = append(t.coded, true)
	}
	for i := range items / 2 { // item 30+i is item i turned
		for k := range d {
			t.codes[(items/2+i)*d+(k+1)%d] = t.codes[i*d+k]
		}
	}
	for range n {
		past, cand, z := t.rows.put(0)
		for l := range past {
			past[l] = -1
		}
		last := int32(r.IntN(items / 2))
		past[0], past[1] = last, int32(r.IntN(items/2))
		for k := range cand {
			cand[k], z[k] = -1, 0
		}
		cand[0] = last + items/2
		for k := 1; k < 20; k++ {
			for cand[k] = int32(r.IntN(items)); cand[k] == cand[0]; {
				cand[k] = int32(r.IntN(items))
			}
			z[k] = float32(r.NormFloat64()) / 4
		}
	}
	return t
}

// loss is the reference: cross-entropy by the definition, in float64.
func (t *tuning) loss(f *fit) (loss float64, first int) {
	m, v := make([]float32, t.d), make([]float32, t.d)
	for r := range t.rows.n() {
		f.mean(m, t.codes, t.rows.past[r*steerLags:][:steerLags])
		f.user(v, m)
		var sum, target float64
		best := true
		for k, j := range t.rows.cand[r*tuneTop:][:tuneTop] {
			if j < 0 {
				continue
			}
			s := float64(t.rows.z[r*tuneTop+k]) + float64(kernels.Dot(v, row(t.codes, j, t.d)))
			if sum += math.Exp(s); k == 0 {
				target = s
			} else if s > target {
				best = false
			}
		}
		loss += math.Log(sum) - target
		if best {
			first++
		}
	}
	return loss, first
}

// Differences of the loss in float32 are good to about 1e-3 of the largest derivative (measured: 4e-4).
func TestTheGradientIsTheLosssSlope(t *testing.T) {
	tu := turned(30, 8)
	f := newFit(8)
	r := rand.New(rand.NewPCG(6, 6))
	for i := range f.a {
		f.a[i] += float32(r.NormFloat64()) / 5
	}
	g := gradient{make([]float32, 64), make([]float32, steerLags+1)}
	for i := range tu.rows.n() {
		tu.learn(&f, i, g, newTuneWork(8))
	}
	top := 0.0
	for _, x := range append(append([]float32{}, g.a...), g.rest...) {
		top = max(top, math.Abs(float64(x)))
	}
	check := func(name string, x *float32, got float32) {
		t.Helper()
		was, h := *x, float32(1e-2)
		*x = was + h
		up, _ := tu.loss(&f)
		*x = was - h
		down, _ := tu.loss(&f)
		*x = was
		if want := (up - down) / float64(2*h); math.Abs(want-float64(got)) > 5e-3*top {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for i := 0; i < 64; i += 5 {
		check("a", &f.a[i], g.a[i])
	}
	check("lag 0", &f.lag[0], g.rest[0])
	check("lag 1", &f.lag[1], g.rest[1])
	h := f.gain
	check("gain", &f.gain, g.rest[steerLags])
	if f.gain != h {
		t.Fatal("the check moved the fit")
	}
}

func TestTrainingFindsWhatTheStartDoesNot(t *testing.T) {
	tu := turned(turnedRows, 8)
	start := tu.from
	before, first := tu.loss(&start)
	f := tu.run()
	after, found := tu.loss(&f)
	t.Logf("loss %.3f -> %.3f, first %d -> %d of %d", before/turnedRows, after/turnedRows, first, found, tu.rows.n())
	if after > 0.9*before || found < 2*first {
		t.Errorf("training changed little")
	}
	again := turned(turnedRows, 8).run()
	if again.gain != f.gain || again.a[5] != f.a[5] {
		t.Error("the same rows gave another fit")
	}
}

// BenchmarkTrain is one whole training of the LLM's part: the rows, candidates and width of the defaults.
func BenchmarkTrain(b *testing.B) {
	spec := Default()
	t := turned(spec.TrainRows, spec.Codes)
	r := rand.New(rand.NewPCG(5, 5))
	for i := range t.rows.cand {
		if t.rows.cand[i] < 0 {
			t.rows.cand[i], t.rows.z[i] = int32(r.IntN(len(t.coded))), float32(r.NormFloat64())
		}
	}
	for i := range t.rows.past {
		if t.rows.past[i] < 0 {
			t.rows.past[i] = int32(r.IntN(len(t.coded)))
		}
	}
	for b.Loop() {
		t.run()
	}
}
