package generator

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/corastream/corastream"
)

// TestBasisIsThePrincipalComponents holds the fitted basis to a full eigendecomposition by gonum: the same contents up to
// the sign, which is fixed, for components whose eigenvalues are apart.
func TestBasisIsThePrincipalComponents(t *testing.T) {
	const n, hidden, m = 300, 20, 4
	r := rand.New(rand.NewPCG(1, 2))
	states := make([]corastream.States, n)
	directions := normal(r, 2*hidden*m)
	for i := range states {
		states[i].Title = normal(r, 2*hidden)
		for c := range m {
			z := float32(r.NormFloat64()) * float32(4-c)
			for j := range states[i].Title {
				states[i].Title[j] += z * directions[c*2*hidden+j]
			}
		}
	}
	b, err := FitBasis(states, m)
	if err != nil {
		t.Fatal(err)
	}
	x := mat.NewDense(n, 2*hidden, nil)
	for i, s := range states {
		for j, v := range s.Title {
			x.Set(i, j, float64((v-b.Mean[j])*b.Scale[j]))
		}
	}
	var svd mat.SVD
	if !svd.Factorize(x, mat.SVDThin) {
		t.Fatal("gonum's SVD did not converge")
	}
	var v mat.Dense
	svd.VTo(&v)
	spread := svd.Values(nil)[0] / math.Sqrt(n)
	for i, s := range states {
		c, err := b.Content(s)
		if err != nil {
			t.Fatal(err)
		}
		for k := range m {
			sign := 1.0
			if dot := componentDot(b, &v, k); dot < 0 {
				sign = -1
			}
			var want float64
			for j := range 2 * hidden {
				want += x.At(i, j) * v.At(j, k)
			}
			want *= sign / spread
			// The grid is 1/4096; measured beyond half of it: 2e-5.
			if math.Abs(float64(c[k])-want) > 0.5/4096+1e-4 {
				t.Fatalf("item %d, component %d: %v, the SVD gives %v", i, k, c[k], want)
			}
			if float64(c[k])*4096 != math.Trunc(float64(c[k])*4096) {
				t.Fatalf("content %v is off the grid", c[k])
			}
		}
	}
	for k := range m {
		row := b.Components[k*b.In : (k+1)*b.In]
		if high, low := slices.Max(row), slices.Min(row); high < -low {
			t.Errorf("component %d: entries from %v to %v, the one of largest size should be positive", k, low, high)
		}
	}
	again, err := FitBasis(states, m)
	if err != nil || again.Digest() != b.Digest() {
		t.Errorf("the same states give another basis (%v)", err)
	}
}

func componentDot(b *Basis, v *mat.Dense, k int) (dot float64) {
	for j := range b.In {
		dot += float64(b.Components[k*b.In+j]) * v.At(j, k)
	}
	return dot
}

func TestBasisRefusesWhatItCanNotRead(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	states := titles(r, 20, 5)
	b, err := FitBasis(states, 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Content(corastream.States{Title: make([]float32, 9)}); !errors.Is(err, corastream.ErrMismatch) {
		t.Errorf("a state of another width: %v", err)
	}
	bad := append([]float32(nil), states[0].Title...)
	bad[4] = float32(math.NaN())
	if _, err := b.Content(corastream.States{Title: bad}); err == nil {
		t.Error("a state that is not a number gives a content")
	}
	var usage *corastream.UsageError
	if _, err := FitBasis(states[:1], 3); !errors.As(err, &usage) {
		t.Errorf("one item: %v", err)
	}
	small, err := FitBasis(states[:4], 8) // four items span three components
	if err != nil {
		t.Fatal(err)
	}
	for k := range 8 {
		if used := floats.Norm(wide(small.Components[k*small.In:(k+1)*small.In]), 2) > 0; used != (k < 3) {
			t.Errorf("component %d of a basis of four items: in use is %v", k, used)
		}
	}
	states[7].Title = bad
	if _, err := FitBasis(states, 3); err == nil {
		t.Error("a basis of states that are not numbers")
	}
	for i := range states {
		states[i].Title = make([]float32, 10)
	}
	if _, err := FitBasis(states, 3); err == nil {
		t.Error("a basis of equal states")
	}
}

func wide(v []float32) []float64 {
	out := make([]float64, len(v))
	for i, x := range v {
		out[i] = float64(x)
	}
	return out
}

// TestNumbersThatNeverVaryAreLeftOut: a constant input has no spread to divide by.
func TestNumbersThatNeverVaryAreLeftOut(t *testing.T) {
	states := titles(rand.New(rand.NewPCG(1, 4)), 30, 5)
	for i := range states {
		states[i].Title[2] = 7
	}
	b, err := FitBasis(states, 3)
	if err != nil {
		t.Fatal(err)
	}
	c, err := b.Content(states[0])
	if err != nil || c[0] == 0 {
		t.Fatalf("content %v (%v)", c, err)
	}
	states[0].Title[2] = 1e6
	d, err := b.Content(states[0])
	if err != nil || !equalBits(c, d) {
		t.Errorf("a number that never varied moved the content: %v, %v (%v)", c, d, err)
	}
}
