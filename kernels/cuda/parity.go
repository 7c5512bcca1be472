package cuda

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/corastream/corastream/kernels"
)

// Case is one kernel of the device beside package kernels' own: the same inputs, two results. The table is run on three engines:
// generic Go, the CPU's assembly, and CUDA (or the emulated driver); `corastream gpu-check` runs it on a device.
type Case struct {
	Name string
	// Bound is the largest difference allowed, as Compare has it.
	Bound float64
	// CPU computes the result with package kernels, at its current level; Device on the device.
	CPU    func() []float32
	Device func(q *Queue) ([]float32, error)
}

// Compare gives the largest difference between two results, each as a part of its reference value plus the reference's root mean
// square; a NaN in either is infinitely far.
func Compare(reference, got []float32) float64 {
	if len(reference) != len(got) {
		return math.Inf(1)
	}
	var square, worst float64
	for _, r := range reference {
		square += float64(r) * float64(r)
	}
	rms := math.Sqrt(square / float64(max(1, len(reference))))
	for i, r := range reference {
		d := math.Abs(float64(r) - float64(got[i]))
		if !(d <= math.MaxFloat64) {
			return math.Inf(1)
		}
		if d > 0 {
			worst = max(worst, d/(rms+math.Abs(float64(r))))
		}
	}
	return worst
}

// Check runs the table on the device against package kernels as it stands; tell is called for every case.
func Check(ctx context.Context, d *Device, tell func(name string, off, bound float64, err error)) {
	for _, c := range Cases() {
		off, err := c.Off(ctx, d)
		tell(c.Name, off, c.Bound, err)
	}
}

// Off runs the case on the device and gives the difference to package kernels.
func (c Case) Off(ctx context.Context, d *Device) (float64, error) {
	var got []float32
	if err := d.Do(ctx, func(q *Queue) (err error) {
		got, err = c.Device(q)
		return err
	}); err != nil {
		return math.Inf(1), err
	}
	return Compare(c.CPU(), got), nil
}

// Cases is the parity table.
func Cases() []Case {
	var all []Case
	all = append(all, gemmCases()...)
	all = append(all, llmCases()...)
	all = append(all, learnCases()...)
	return all
}

// draws makes n values of a normal distribution, rounded to bfloat16 so that both engines start from the same numbers.
func draws(seed uint64, n int, sd float64) []float32 {
	r := rand.New(rand.NewPCG(seed, uint64(n)))
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(sd * r.NormFloat64())
	}
	return rounded(v)
}

// rounded rounds to bfloat16 in place.
func rounded(v []float32) []float32 {
	kernels.F32FromBF16(v, halvesOf(v))
	return v
}

// halvesOf rounds to bfloat16.
func halvesOf(v []float32) []uint16 {
	h := make([]uint16, len(v))
	kernels.BF16FromF32(h, v)
	return h
}

// puts uploads rows of floats as bfloat16.
func puts(q *Queue, v []float32, n, width int) (*Buffer, error) {
	return Put(q, BF16Rows(v, n, width))
}

// wide reads rows [n][width] of bfloat16, ld values apart.
func wide(h []uint16, n, width, ld int) []float32 {
	v := make([]float32, n*width)
	for i := range n {
		kernels.F32FromBF16(v[i*width:(i+1)*width], h[i*ld:i*ld+width])
	}
	return v
}

// What can differ: sums in another order, some 1e-6 (measured; 3e-6 in the longest), times 3; a result rounded to bfloat16, 2^-9
// of itself, and where that was rounded before it was used (rope) a few times as much; attention rounds its weights as well (measured 8e-3).
const (
	boundF32    = 1e-5
	boundBF16   = 8e-3
	boundAttend = 1.6e-2
)

// gemmCases has every end of a product, in shapes that fill blocks and that do not, with and without the second pair of operands.
func gemmCases() []Case {
	var all []Case
	for i, s := range []struct{ m, n, k, k2 int }{{1, 8, 32, 0}, {17, 64, 96, 16}, {33, 40, 48, 5}, {130, 136, 64, 16}, {200, 320, 160, 0}} {
		for _, end := range []string{"floats", "bf16", "gelu", "add", "rope", "swiglu"} {
			all = append(all, gemmCase(end, s.m, s.n, s.k, s.k2, uint64(i)))
		}
	}
	return all
}

func gemmCase(end string, m, n, k, k2 int, seed uint64) Case {
	sd := 1 / math.Sqrt(float64(k))
	a, w := draws(seed+1, m*k, 1), draws(seed+2, n*k, sd)
	a2, w2 := draws(seed+3, m*k2, .3), draws(seed+4, n*k2, .3)
	old, bias := draws(seed+5, m*n, 1), draws(seed+6, n, .5)
	head, turned := 8, n/2/8*8
	angles, pos := draws(seed+7, 50*head, 1), make([]int32, m)
	for i := range pos {
		pos[i] = int32(i * 7 % 50)
	}
	c := Case{Name: fmt.Sprintf("gemm %s %dx%dx%d+%d", end, m, n, k, k2), Bound: boundBF16}
	if end == "floats" || end == "add" {
		c.Bound = boundF32
	}
	c.CPU = func() []float32 {
		out := make([]float32, m*n)
		if end == "add" {
			copy(out, old)
		}
		kernels.Gemm(out, n, a, k, w, k, m, n, k, false, true, true)
		if k2 > 0 {
			kernels.Gemm(out, n, a2, k2, w2, k2, m, n, k2, false, true, true)
		}
		if end != "add" {
			for i := range m {
				kernels.Add(out[i*n:(i+1)*n], bias)
			}
		}
		switch end {
		case "gelu":
			kernels.GELU(out, out)
		case "rope":
			for i := range m {
				at := angles[int(pos[i])*head:]
				kernels.Rotate(out[i*n:i*n+turned], turned/head, head, at[:head/2], at[head/2:head], false)
			}
		case "swiglu":
			half := make([]float32, m*n/2)
			for i := range half {
				g, u := out[2*i:2*i+1], out[2*i+1:2*i+2]
				kernels.SiLUMul(half[i:i+1], g, u)
			}
			return half
		}
		return out
	}
	c.Device = func(q *Queue) ([]float32, error) {
		g := Gemm{End: end, M: m, N: n, K: Padded(k), K2: Padded(k2), LDA: Padded(k), LDW: Padded(k), LDA2: Padded(k2), LDW2: Padded(k2), Turned: turned, Head: head}
		half := end != "floats" && end != "add"
		g.LDO = n
		if end == "swiglu" {
			g.LDO = Padded(n / 2)
		}
		out, err := q.Alloc(int64(m*g.LDO) * 4)
		if err != nil {
			return nil, err
		}
		if end == "add" {
			err = Upload(q, out, 0, old)
		} else {
			err = q.Zero(out, 0, out.Bytes())
		}
		if err != nil {
			return nil, err
		}
		ab, err := puts(q, a, m, k)
		if err != nil {
			return nil, err
		}
		wb, err := puts(q, w, n, k)
		if err != nil {
			return nil, err
		}
		g.A, g.W, g.Out = ab.At(0), wb.At(0), out.At(0)
		if k2 > 0 {
			a2b, err := puts(q, a2, m, k2)
			if err != nil {
				return nil, err
			}
			w2b, err := puts(q, w2, n, k2)
			if err != nil {
				return nil, err
			}
			g.A2, g.W2 = a2b.At(0), w2b.At(0)
		}
		if end != "add" {
			b, err := Put(q, bias)
			if err != nil {
				return nil, err
			}
			g.Bias = b.At(0)
		}
		if end == "rope" {
			ang, err := Put(q, angles)
			if err != nil {
				return nil, err
			}
			where, err := Put(q, pos)
			if err != nil {
				return nil, err
			}
			g.Angles, g.Where = ang.At(0), where.At(0)
		}
		if err := q.Gemm(g); err != nil {
			return nil, err
		}
		if !half {
			v := make([]float32, m*n)
			err := Download(q, v, out, 0)
			return v, errJoin(err, q.Wait())
		}
		h := make([]uint16, m*g.LDO)
		if err := errJoin(Download(q, h, out, 0), q.Wait()); err != nil {
			return nil, err
		}
		if end == "swiglu" {
			return wide(h, m, n/2, g.LDO), nil
		}
		return wide(h, m, n, n), nil
	}
	return c
}

func errJoin(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
