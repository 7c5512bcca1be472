package cuda

import (
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/corastream/corastream/kernels"
)

// uploads puts several slices on the device; the first error wins and the rest is not tried.
type uploads struct {
	q   *Queue
	err error
}

func (u *uploads) floats(v []float32) Pointer { return uploaded(u, v) }
func (u *uploads) ints(v []int32) Pointer     { return uploaded(u, v) }
func (u *uploads) halves(v []uint16) Pointer  { return uploaded(u, v) }

func uploaded[T Value](u *uploads, v []T) Pointer {
	if u.err != nil {
		return 0
	}
	var b *Buffer
	b, u.err = Put(u.q, v)
	return b.At(0)
}

// room makes a zeroed buffer.
func (u *uploads) room(bytes int) *Buffer {
	if u.err != nil {
		return nil
	}
	var b *Buffer
	if b, u.err = u.q.Alloc(int64(bytes)); u.err == nil {
		u.err = u.q.Zero(b, 0, b.Bytes())
	}
	return b
}

// run launches, unless something has failed: its arguments would be null then.
func (u *uploads) run(f func() error) {
	if u.err == nil {
		u.err = f()
	}
}

// fetch downloads n values and waits for them.
func fetch[T Value](u *uploads, b *Buffer, n int) []T {
	v := make([]T, n)
	if u.err == nil {
		u.err = errJoin(Download(u.q, v, b, 0), u.q.Wait())
	}
	return v
}

func llmCases() []Case {
	all := []Case{rmsCase(3, 48, 1), rmsCase(9, 576, 2), gatherCase(), headCase(5, 48, true), headCase(6, 576, false), titlesCase()}
	for i, s := range []struct{ hidden, rank, tiles int }{{48, 3, 4}, {64, 16, 5}, {576, 16, 3}, {96, 24, 3}} {
		all = append(all, deltaCase(s.hidden, s.rank, s.tiles, uint64(i)))
	}
	for i, s := range []struct {
		shape          AttendShape
		rows, before   []int
		cached, layers int
	}{
		{AttendShape{8, 3, 2}, []int{1, 1, 7}, []int{0, 5, 3}, 0, 1},
		{AttendShape{8, 3, 2}, []int{1, 1, 1}, []int{20, 33, 16}, 100, 2},
		{AttendShape{64, 3, 3}, []int{1, 30, 95}, []int{80, 0, 40}, 70, 3},
		{AttendShape{16, 1, 4}, []int{130, 2}, []int{0, 64}, 10, 1},
		{AttendShape{128, 8, 1}, []int{1, 20}, []int{70, 33}, 40, 1},
		{AttendShape{24, 4, 2}, []int{17}, []int{64}, 100, 2},
	} {
		all = append(all, attendCase(s.shape, s.rows, s.before, s.cached, s.layers, uint64(i)))
	}
	return all
}

func rmsCase(rows, width int, seed uint64) Case {
	x, w := draws(seed+10, rows*width, 2), draws(seed+11, width, 1)
	return Case{
		Name: fmt.Sprintf("rms_norm %dx%d", rows, width), Bound: boundBF16,
		CPU: func() []float32 {
			y := make([]float32, len(x))
			for i := range rows {
				kernels.RMSNorm(y[i*width:(i+1)*width], x[i*width:(i+1)*width], w, 1e-5)
			}
			return y
		},
		Device: func(q *Queue) ([]float32, error) {
			u, ld := &uploads{q: q}, Padded(width)
			out, err := q.Alloc(int64(2 * rows * ld)) // not cleared: the kernel writes the padding too
			u.err = err
			xb, wb := u.floats(x), u.floats(w)
			u.run(func() error { return q.RMSNorm(xb, wb, 1e-5, rows, width, out.At(0), ld) })
			h := fetch[uint16](u, out, rows*ld)
			for i := range rows {
				for j := width; j < ld; j++ {
					if h[i*ld+j] != 0 {
						return nil, fmt.Errorf("padding %d of row %d is %#x", j, i, h[i*ld+j])
					}
				}
			}
			return wide(h, rows, width, ld), u.err
		},
	}
}

func gatherCase() Case {
	src, index := draws(20, 9*40, 1), []int32{8, 0, 3, 3, 1}
	return Case{
		Name: "gather", Bound: 0,
		CPU: func() []float32 {
			var out []float32
			for _, r := range index {
				out = append(out, src[int(r)*40+4:int(r)*40+4+33]...)
			}
			return out
		},
		Device: func(q *Queue) ([]float32, error) {
			u := &uploads{q: q}
			out := u.room(4 * 5 * 33)
			s, ix := u.floats(src), u.ints(index)
			u.run(func() error { return q.Gather(out.At(0), 33, s, 40, 4, ix, 5, 33) })
			return fetch[float32](u, out, 5*33), u.err
		},
	}
}

func headCase(rows, width int, both bool) Case {
	x, norm, yes, no := draws(30, rows*width, 2), draws(31, width, 1), draws(32, width, 1), draws(33, width, 1)
	return Case{
		Name: fmt.Sprintf("head %dx%d", rows, width), Bound: boundF32,
		CPU: func() []float32 {
			out, y := make([]float32, 2*rows), make([]float32, width)
			for i := range rows {
				kernels.RMSNorm(y, x[i*width:(i+1)*width], norm, 1e-5)
				if out[2*i] = kernels.Dot(y, yes); both {
					out[2*i+1] = kernels.Dot(y, no)
				}
			}
			return out
		},
		Device: func(q *Queue) ([]float32, error) {
			u := &uploads{q: q}
			times := func(v []float32) []float32 {
				y := make([]float32, len(v))
				for i := range v {
					y[i] = v[i] * norm[i]
				}
				return y
			}
			out := u.room(8 * rows)
			xb, yb := u.floats(x), u.floats(times(yes))
			var nb Pointer
			if both {
				nb = u.floats(times(no))
			}
			u.run(func() error { return q.Head(xb, yb, nb, 1e-5, rows, width, out.At(0)) })
			return fetch[float32](u, out, 2*rows), u.err
		},
	}
}

func titlesCase() Case {
	const width = 200
	x, list, begin := draws(40, 12*width, 1), []int32{1, 2, 5, 9, 4, 0, 11, 6, 6}, []int32{0, 4, 5, 9}
	return Case{
		Name: "read_titles", Bound: boundF32,
		CPU: func() []float32 {
			out := make([]float32, 3*2*width)
			for i := range 3 {
				rows := list[begin[i]:begin[i+1]]
				mean := out[i*2*width : i*2*width+width]
				for _, r := range rows[:len(rows)-1] {
					kernels.Axpy(1/float32(len(rows)-1), x[int(r)*width:int(r+1)*width], mean)
				}
				copy(out[i*2*width+width:], x[int(rows[len(rows)-1])*width:][:width])
			}
			return out
		},
		Device: func(q *Queue) ([]float32, error) {
			u := &uploads{q: q}
			out := u.room(4 * 3 * 2 * width)
			xb, lb, bb := u.floats(x), u.ints(list), u.ints(begin)
			u.run(func() error { return q.ReadTitles(xb, width, lb, bb, 3, out.At(0)) })
			return fetch[float32](u, out, 3*2*width), u.err
		},
	}
}

// deltaCase has users of one to 16 rows, the last tile without an item's matrix.
func deltaCase(hidden, rank, count int, seed uint64) Case {
	r := rand.New(rand.NewPCG(seed, 50))
	mats := draws(seed+51, (count+1)*hidden*rank, .1)
	var tiles []DeltaTile
	rows := 2 // that no delta reaches
	for i := range count {
		t := DeltaTile{Row: int32(rows), N: int32(1 + r.IntN(16)), User: int32(i), Item: int32(count)}
		if i == count-1 {
			t.Item = -1
		}
		rows += int(t.N)
		tiles = append(tiles, t)
	}
	x, scale := draws(seed+52, rows*hidden, 1), draws(seed+53, rows, 1)
	return Case{
		Name: fmt.Sprintf("delta_down %dx%dx%d", rows, hidden, rank), Bound: boundBF16,
		CPU: func() []float32 {
			out, item := make([]float32, rows*rank), make([]float32, rank)
			size := hidden * rank
			for _, t := range tiles {
				for i := int(t.Row); i < int(t.Row+t.N); i++ {
					y := out[i*rank : (i+1)*rank]
					kernels.Gemm(y, rank, x[i*hidden:], hidden, mats[int(t.User)*size:int(t.User+1)*size], rank, 1, rank, hidden, false, false, false)
					if t.Item >= 0 {
						kernels.Gemm(item, rank, x[i*hidden:], hidden, mats[int(t.Item)*size:int(t.Item+1)*size], rank, 1, rank, hidden, false, false, false)
						kernels.Axpy(scale[i], item, y)
					}
				}
			}
			return out
		},
		Device: func(q *Queue) ([]float32, error) {
			u, ldt := &uploads{q: q}, Padded(rank)
			out := u.room(2 * rows * ldt)
			xb, mb, sb := u.halves(BF16Rows(x, rows, hidden)), u.halves(halvesOf(mats)), u.floats(scale)
			var flat []int32
			for _, t := range tiles {
				flat = append(flat, t.Row, t.N, t.User, t.Item)
			}
			tb := u.ints(flat)
			u.run(func() error { return q.DeltaDown(xb, Padded(hidden), tb, count, mb, sb, hidden, rank, out.At(0), ldt) })
			return wide(fetch[uint16](u, out, rows*ldt), rows, rank, ldt), u.err
		},
	}
}

// attendCase has runs of rows[i] queries behind before[i] keys, of which the first (cached percent) lie in shuffled pages and
// the others in rows of qkv.
func attendCase(s AttendShape, rows, before []int, cached, layers int, seed uint64) Case {
	r := rand.New(rand.NewPCG(seed, 60))
	qw, kvw := s.HeadDim*s.Group*s.KVHeads, s.HeadDim*s.KVHeads
	width, layer := qw+2*kvw, layers-1
	// The activations: rows that are context alone, then the runs'.
	total, pages := 0, 0
	for i := range rows {
		total += rows[i] + before[i]
		pages += (before[i] + PageTokens - 1) / PageTokens
	}
	qkv := draws(seed+61, total*width, 1)
	place := r.Perm(pages + 1)
	pool := make([]float32, (pages+1)*layers*PageTokens*2*kvw)
	for i := range pool {
		pool[i] = float32(math.NaN())
	}
	var runs []Run
	var refs []int32
	type seen struct{ k, v [][]float32 }
	keys := make([]seen, len(rows))
	next, page := 0, 0
	for i := range rows {
		run := Run{N: int32(rows[i]), Ref: int32(len(refs)), Before: int32(before[i])}
		inPages := before[i] * cached / 100
		for j := range before[i] {
			if j < inPages {
				ref := place[page+j/PageTokens]*PageTokens + j%PageTokens
				at := ((ref/PageTokens*layers+layer)*PageTokens + ref%PageTokens) * 2 * kvw
				copy(pool[at:at+2*kvw], draws(seed+uint64(1000+100*i+j), 2*kvw, 1))
				refs = append(refs, int32(ref))
				keys[i].k, keys[i].v = append(keys[i].k, pool[at:at+kvw]), append(keys[i].v, pool[at+kvw:at+2*kvw])
				continue
			}
			refs = append(refs, int32(-1-next))
			keys[i].k, keys[i].v = append(keys[i].k, qkv[next*width+qw:][:kvw]), append(keys[i].v, qkv[next*width+qw+kvw:][:kvw])
			next++
		}
		page += (inPages + PageTokens - 1) / PageTokens
		run.Row = int32(next)
		for range rows[i] {
			refs = append(refs, int32(-1-next))
			keys[i].k, keys[i].v = append(keys[i].k, qkv[next*width+qw:][:kvw]), append(keys[i].v, qkv[next*width+qw+kvw:][:kvw])
			next++
		}
		runs = append(runs, run)
	}
	out := int32(0)
	for i := range runs { // outputs in the opposite order of the runs
		runs[len(runs)-1-i].Out = out
		out += runs[len(runs)-1-i].N
	}
	scale := float32(1 / math.Sqrt(float64(s.HeadDim)))
	return Case{
		Name: fmt.Sprintf("attend %dx%dx%d rows %v behind %v, %d%% cached", s.HeadDim, s.Group, s.KVHeads, rows, before, cached), Bound: boundAttend,
		CPU: func() []float32 {
			y := make([]float32, int(out)*qw)
			var scratch kernels.Scratch
			for i, run := range runs {
				n := len(keys[i].k)
				k, v := make([]float32, n*kvw), make([]float32, n*kvw)
				for j := range n {
					copy(k[j*kvw:], keys[i].k[j])
					copy(v[j*kvw:], keys[i].v[j])
				}
				kernels.AttendBlock(y[int(run.Out)*qw:], qw, qkv[int(run.Row)*width:], width, int(run.N), []kernels.Stretch{{Keys: k, Values: v, N: n, Stride: kvw}},
					s.Group*s.KVHeads, s.KVHeads, s.HeadDim, scale, &scratch)
			}
			return y
		},
		Device: func(q *Queue) ([]float32, error) {
			if err := s.Check(); err != nil {
				return nil, err
			}
			u, p := &uploads{q: q}, s.Plan(runs, refs)
			ldq, ldo := Padded(width), Padded(qw)
			room := u.room(2 * int(out) * ldo)
			half := make([]uint16, len(pool))
			kernels.BF16FromF32(half, pool)
			a := Attend{
				QKV: u.halves(BF16Rows(qkv, total, width)), LDQ: ldq, QWidth: qw, KVWidth: kvw, Pool: u.halves(half), Layers: layers, Layer: layer,
				Few: u.ints(p.Few), Many: u.ints(p.Many), Runs: u.ints(p.Runs), Refs: u.ints(p.Refs), Out: room.At(0), LDO: ldo, Scale: scale,
			}
			u.run(func() error { return q.Attend(p, a) })
			return wide(fetch[uint16](u, room, int(out)*ldo), int(out), qw, ldo), u.err
		},
	}
}
