package generator

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// Basis projects what the LLM made of a title onto c_i [m]: standardise each number, project on the first m principal
// components, divide by the spread of the first. It belongs to one LLM and template and ships with the checkpoint.
type Basis struct {
	In, Out    int       // 2*hidden, m
	Mean       []float32 // [In]
	Scale      []float32 // [In], 1/std
	Components []float32 // [Out][In], divided by the first component's spread
}

var _ corastream.Basis = (*Basis)(nil)

// Content implements corastream.Basis. The sums run in float64 in one order, so that equal states give equal bytes on
// every CPU; the result lies on the grid of corastream.QuantizeContent.
func (b *Basis) Content(s corastream.States) ([]float32, error) {
	if len(s.Title) != b.In {
		return nil, fmt.Errorf("%w: a title state of %d numbers, the basis was made for %d", corastream.ErrMismatch, len(s.Title), b.In)
	}
	x := make([]float64, b.In)
	for i, v := range s.Title {
		if v != v || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("title state %d is not a number", i)
		}
		x[i] = (float64(v) - float64(b.Mean[i])) * float64(b.Scale[i])
	}
	c := make([]float32, b.Out)
	for j := range c {
		var sum float64
		for i, w := range b.Components[j*b.In : (j+1)*b.In] {
			sum += x[i] * float64(w)
		}
		c[j] = float32(sum)
	}
	corastream.QuantizeContent(c)
	return c, nil
}

// Digest names the basis by content: contents made by bases of one digest may be compared.
func (b *Basis) Digest() string {
	h := sha256.New()
	var n [8]byte
	binary.LittleEndian.PutUint32(n[:4], uint32(b.In))
	binary.LittleEndian.PutUint32(n[4:], uint32(b.Out))
	h.Write(n[:])
	for _, part := range [][]float32{b.Mean, b.Scale, b.Components} {
		h.Write(bytesOf(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// FitBasis fits m components to a catalogue. Deterministic: each component's entry of largest size is positive. A catalogue of n items
// spans n-1 components at most, and those beyond are zero.
func FitBasis(states []corastream.States, m int) (*Basis, error) {
	if len(states) < 2 {
		return nil, corastream.Usagef("items", "give a catalogue of two items or more with titles", "%d items have a title", len(states))
	}
	d := len(states[0].Title)
	if m > d {
		return nil, corastream.Usagef("generator.taste", fmt.Sprintf("set cf: {content: %d} or less", d), "%d components of %d numbers", m, d)
	}
	b := &Basis{In: d, Out: m, Mean: make([]float32, d), Scale: make([]float32, d), Components: make([]float32, m*d)}
	x, err := b.standardise(states)
	if err != nil {
		return nil, err
	}
	n := len(states)
	cov := make([]float32, d*d)
	kernels.Gemm(cov, d, x, d, x, d, d, d, n, true, false, false)
	kernels.Scale(1/float32(n), cov)
	k := min(m, n-1)
	values, vectors, err := topComponents(cov, d, k)
	if err != nil {
		return nil, err
	}
	if !(values[0] > 0) {
		return nil, fmt.Errorf("fit the content basis: all %d title states are equal", n)
	}
	spread := math.Sqrt(values[0])
	for j := range k {
		top := 0.0
		for i := range d {
			if v := vectors.At(i, j); math.Abs(v) > math.Abs(top) {
				top = v
			}
		}
		for i := range d {
			b.Components[j*d+i] = float32(vectors.At(i, j) / math.Copysign(spread, top))
		}
	}
	return b, nil
}

// Subspace iteration: a full eigendecomposition of 1152 numbers takes 8 s, this 0.3 s.
const (
	basisSpare  = 16 // directions carried beyond those asked for, so that the last of them converge
	basisRounds = 30
)

// topComponents finds the m largest eigenvalues of the covariance cov [d][d], largest first, and their vectors [d][m], by
// subspace iteration from a fixed start and a final Rayleigh-Ritz step.
func topComponents(cov []float32, d, m int) ([]float64, *mat.Dense, error) {
	l := min(d, m+basisSpare)
	q, y := make([]float32, d*l), make([]float32, d*l)
	r := rand.New(rand.NewPCG(0x636f7261, 1))
	for i := range q {
		q[i] = float32(r.NormFloat64())
	}
	for range basisRounds {
		orthonormalise(q, d, l)
		kernels.Gemm(y, l, cov, d, q, l, d, l, d, false, false, false)
		q, y = y, q
	}
	orthonormalise(q, d, l)
	kernels.Gemm(y, l, cov, d, q, l, d, l, d, false, false, false)
	small := mat.NewSymDense(l, nil)
	for i := range l {
		for j := i; j < l; j++ {
			var sum float64
			for k := range d {
				sum += float64(q[k*l+i]) * float64(y[k*l+j])
			}
			small.SetSym(i, j, sum)
		}
	}
	var eig mat.EigenSym
	if !eig.Factorize(small, true) {
		return nil, nil, fmt.Errorf("fit the content basis: the eigenvalues did not converge")
	}
	ascending := eig.Values(nil)
	var turn mat.Dense
	eig.VectorsTo(&turn)
	values, vectors := make([]float64, m), mat.NewDense(d, m, nil)
	for j := range m {
		values[j] = ascending[l-1-j]
		for i := range d {
			var sum float64
			for k := range l {
				sum += float64(q[i*l+k]) * turn.At(k, l-1-j)
			}
			vectors.Set(i, j, sum)
		}
	}
	return values, vectors, nil
}

// orthonormalise replaces the columns of q [d][l] by an orthonormal basis of their span: Gram-Schmidt, twice. A column
// that vanishes (fewer than l directions vary) becomes 0.
func orthonormalise(q []float32, d, l int) {
	cols := make([][]float64, l)
	for j := range cols {
		c := make([]float64, d)
		for i := range c {
			c[i] = float64(q[i*l+j])
		}
		before := floats.Norm(c, 2)
		for range 2 {
			for _, o := range cols[:j] {
				floats.AddScaled(c, -floats.Dot(o, c), o)
			}
		}
		after := floats.Norm(c, 2)
		if after > 1e-7*before && after > 0 {
			floats.Scale(1/after, c)
		} else {
			clear(c)
		}
		cols[j] = c
		for i := range c {
			q[i*l+j] = float32(c[i])
		}
	}
}

// standardise fills Mean and Scale and returns the standardised states [n][d]; a number that never varies gets scale 0.
func (b *Basis) standardise(states []corastream.States) ([]float32, error) {
	d, n := b.In, len(states)
	mean, variance := make([]float64, d), make([]float64, d)
	for r, s := range states {
		if len(s.Title) != d {
			return nil, fmt.Errorf("fit the content basis: title state %d has %d numbers, the first has %d", r, len(s.Title), d)
		}
		for i, v := range s.Title {
			mean[i] += float64(v) / float64(n)
		}
	}
	for _, s := range states {
		for i, v := range s.Title {
			variance[i] += (float64(v) - mean[i]) * (float64(v) - mean[i]) / float64(n)
		}
	}
	for i := range d {
		if math.IsNaN(variance[i]) || math.IsInf(variance[i], 0) {
			return nil, fmt.Errorf("fit the content basis: number %d of the title states is not finite", i)
		}
		b.Mean[i] = float32(mean[i])
		if variance[i] > 1e-12 {
			b.Scale[i] = float32(1 / math.Sqrt(variance[i]))
		}
	}
	x := make([]float32, n*d)
	for r, s := range states {
		for i, v := range s.Title {
			x[r*d+i] = (v - b.Mean[i]) * b.Scale[i]
		}
	}
	return x, nil
}
