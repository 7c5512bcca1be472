package mix

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/corastream/corastream/kernels"
)

// invertByOne is invert with one pivot after the other over the whole matrix.
func invertByOne(a []float32, n int) {
	col := make([]float32, n)
	for k := range n {
		d := 1 / a[k*n+k]
		copy(col, a[k*n:k*n+k])
		for i := k; i < n; i++ {
			col[i] = a[i*n+k]
		}
		for i := range n {
			if i != k && col[i] != 0 {
				kernels.Axpy(-float32(col[i]*d), col[:i+1], a[i*n:i*n+i+1])
			}
		}
		for i := range k {
			a[k*n+i] = float32(col[i] * d)
		}
		for i := k + 1; i < n; i++ {
			a[i*n+k] = float32(col[i] * d)
		}
		a[k*n+k] = -d
	}
	for i := range n {
		for j := range i + 1 {
			v := -a[i*n+j]
			a[i*n+j], a[j*n+i] = v, v
		}
	}
}

// Equal events have to give equal bytes in all builds, so sweeping in panels may not change a bit.
func TestAMatrixIsInvertedInPanelsAsByOnePivotAfterTheOther(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 5))
	for _, n := range []int{1, 2, 7, 8, 9, 16, 31, 100} {
		for _, filled := range []float64{0.05, 0.5, 1} { // with few entries many steps are 0
			a := make([]float32, n*n)
			for i := range n {
				for j := range i {
					if r.Float64() < filled {
						a[i*n+j] = float32(r.IntN(20))
					}
				}
				a[i*n+i] = float32(r.IntN(40)) + easePenalty
			}
			whole, want := slices.Clone(a), slices.Clone(a)
			invertByOne(want, n)
			invert(a, n)
			for i := range a {
				if math.Float32bits(a[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%d items: entry %d is %v, one by one %v", n, i, a[i], want[i])
				}
			}
			for i := range n { // and it is the inverse
				var row float64
				for k := range n {
					row += float64(whole[max(i, k)*n+min(i, k)]) * float64(a[k*n+i])
				}
				if math.Abs(row-1) > 1e-3 {
					t.Fatalf("%d items: row %d of the product has %v on the diagonal", n, i, row)
				}
			}
		}
	}
}

// A list's neighbours become candidates as one by one, the withdrawn and the met ones left out.
func TestCandidatesPutTogetherAreThoseOfOneByOne(t *testing.T) {
	m, err := New(Default())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		it := worldItem(i)
		it.Withdrawn = i%7 == 3
		m.Describe(it)
	}
	ids := []int32{5, 3, 8, 10, 11, 20, 31, 17, 2, 59}
	var got [2]ask
	for k := range got {
		q := &got[k]
		q.past = []past{{item: 8}, {item: 20}}
		q.begin(m, 1, false)
		q.put(11)
		if k == 0 {
			q.putAll(ids)
			q.putAll(ids)
		} else {
			for _, j := range ids {
				q.put(j)
			}
		}
	}
	if a, b := got[0], got[1]; !slices.Equal(a.cands, b.cands) || !slices.Equal(a.slot, b.slot) || !slices.Equal(a.met, b.met) || len(a.near) != len(b.near) || len(a.own) != len(a.cands) {
		t.Fatalf("candidates %v, met %v; one by one %v, met %v", a.cands, a.met, b.cands, b.met)
	}
}
