package kernels

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// atLevels runs f on every level that this machine and build have.
func atLevels(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	before := Level()
	defer setLevel(t, before)
	for _, name := range Levels() {
		setLevel(t, name)
		t.Run(name, f)
	}
}

func benchLevels(b *testing.B, f func(b *testing.B)) {
	before := Level()
	defer setLevel(b, before)
	for _, name := range Levels() {
		setLevel(b, name)
		b.Run(name, f)
	}
}

func setLevel(t testing.TB, name string) {
	t.Helper()
	if err := SetLevel(name); err != nil {
		t.Fatal(err)
	}
}

// rate runs f b.N times and reports the fastest run's `work` per second, in billions of unit: on a shared machine the
// fastest is what the code can do.
func rate(b *testing.B, unit string, work float64, f func()) {
	b.Helper()
	turns := 1
	for {
		start := time.Now()
		for range turns {
			f()
		}
		if time.Since(start) > 100*time.Microsecond {
			break
		}
		turns *= 2
	}
	best := time.Duration(math.MaxInt64)
	b.ResetTimer()
	for n := 0; n < b.N; n += turns {
		start := time.Now()
		for range turns {
			f()
		}
		best = min(best, time.Since(start))
	}
	b.ReportMetric(work*float64(turns)/float64(best), "G"+unit+"/s")
}

// guarded is a slice with known words before and after it, at an odd offset, so that vectors are not aligned.
type guarded struct {
	all []float32
	x   []float32
}

const guardWord = 0x7fc0dead // a NaN, which poisons any sum that reads it

func newGuarded(n, offset int) *guarded {
	g := &guarded{all: make([]float32, n+offset+40)}
	for i := range g.all {
		g.all[i] = math.Float32frombits(guardWord)
	}
	g.x = g.all[offset+1 : offset+1+n]
	return g
}

func (g *guarded) check(t testing.TB, what string) {
	t.Helper()
	lo := cap(g.all) - cap(g.x)
	for i, v := range g.all {
		if (i < lo || i >= lo+len(g.x)) && math.Float32bits(v) != guardWord {
			t.Fatalf("%s: guard word %d of slice [%d:%d) overwritten by %v", what, i, lo, lo+len(g.x), v)
		}
	}
}

func random(r *rand.Rand, x []float32) []float32 {
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// sameBits says that two slices are equal bit for bit, any NaN equal to any other.
func sameBits(a, b []float32) error {
	if len(a) != len(b) {
		return fmt.Errorf("%d values, not %d", len(a), len(b))
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) && (a[i] == a[i] || b[i] == b[i]) {
			return fmt.Errorf("value %d is %v (%08x), not %v (%08x)", i, a[i], math.Float32bits(a[i]), b[i], math.Float32bits(b[i]))
		}
	}
	return nil
}
