package cuda

import (
	"fmt"
	"math"
)

// The kernels of src/optim.cu beside loops in float64: the sums are as long as in a training step, in another order there.
func learnCases() []Case {
	all := []Case{adamwCase(), normCase(9, 3, 40), mixCase(3, 4, 24, 3), unitCase(3, 34), formsCase()}
	for i, s := range []struct{ rows, k, size, d int }{{1, 5, 7, 7}, {33, 20, 136, 136}, {19, 12, 24, 8}} {
		all = append(all, linearCase(s.rows, s.k, s.size, s.d, uint64(i)))
	}
	return all
}

// boundLearn is what float32 sums differ by: measured 3.4e-7 on the emulated driver; a device fuses products and has an expf of its own.
const boundLearn = 3e-6

// results joins what several kernels left.
func results(u *uploads, parts ...*Buffer) []float32 {
	var out []float32
	for _, b := range parts {
		if u.err == nil {
			out = append(out, fetch[float32](u, b, int(b.Bytes()/4))...)
		}
	}
	return out
}

func float32s(v ...[]float64) (out []float32) {
	for _, part := range v {
		for _, x := range part {
			out = append(out, float32(x))
		}
	}
	return out
}

func linearCase(rows, k, size, d int, seed uint64) Case {
	x, w, b, dy, a := draws(seed+70, rows*k, 1), draws(seed+71, k*size, .3), draws(seed+72, size, 1), draws(seed+73, rows*size, 1), draws(seed+74, rows*k, 1)
	at := func(i, j int) int { return (j/d*k+i)*d + j%d }
	return Case{
		Name: fmt.Sprintf("learn: linear %dx%dx%d, matrices of %d", rows, k, size, d), Bound: boundLearn,
		CPU: func() []float32 {
			y, dw, dx := make([]float64, rows*size), make([]float64, k*size), make([]float64, rows*k)
			for r := range rows {
				for j := range size {
					y[r*size+j] = float64(b[j])
					for i := range k {
						y[r*size+j] += float64(x[r*k+i]) * float64(w[at(i, j)])
						dw[at(i, j)] += float64(x[r*k+i]) * float64(dy[r*size+j])
						dx[r*k+i] += float64(dy[r*size+j]) * float64(w[at(i, j)])
					}
				}
				for i := range k {
					v := float64(a[r*k+i])
					inner := math.Sqrt(2/math.Pi) * (v + .044715*v*v*v)
					t := math.Tanh(inner)
					slope := .5*(1+t) + .5*v*(1-t*t)*math.Sqrt(2/math.Pi)*(1+3*.044715*v*v)
					dx[r*k+i] = dx[r*k+i]*slope + 1
				}
			}
			return float32s(y, dw, dx)
		},
		Device: func(q *Queue) ([]float32, error) {
			u := &uploads{q: q}
			y, dw, dx := u.room(4*rows*size), u.room(4*k*size), u.floats(ones(rows*k))
			xb, wb, bb, db, ab := u.floats(x), u.floats(w), u.floats(b), u.floats(dy), u.floats(a)
			u.run(func() error {
				return q.Launch("learn_affine", [3]int{(size + 127) / 128, (rows + 15) / 16, 1}, block128, 0, xb, wb, bb, rows, k, size, d, y)
			})
			u.run(func() error {
				return q.Launch("learn_outer", [3]int{(size + 127) / 128, (k + 15) / 16, 1}, block128, 0, xb, k, db, rows, size, d, dw)
			})
			u.run(func() error {
				return q.Launch("learn_back", [3]int{rows, (k + 3) / 4, 1}, block128, 0, db, wb, ab, k, size, d, 1, dx)
			})
			return results(u, y, dw, &Buffer{ptr: uint64(dx), bytes: int64(4 * rows * k)}), u.err
		},
	}
}

func ones(n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = 1
	}
	return v
}

func normCase(rows, group, width int) Case {
	h, y, scale, bias, d := draws(80, rows*width, 1), draws(81, rows/group*width, 1), draws(82, width, 1), draws(83, width, 1), draws(84, rows*width, 1)
	const eps = 1e-6
	return Case{
		Name: "learn: norm, there and back", Bound: boundLearn,
		CPU: func() []float32 {
			out, dx, ds := make([]float64, rows*width), make([]float64, rows*width), make([]float64, width)
			for r := range rows {
				v, mean, square := make([]float64, width), 0., 0.
				for i := range v {
					v[i] = float64(h[r*width+i]) + float64(y[r/group*width+i])
					mean += v[i] / float64(width)
				}
				for _, x := range v {
					square += (x - mean) * (x - mean) / float64(width)
				}
				inv, sum, dot := 1/math.Sqrt(square+eps), 0., 0.
				for i := range v {
					v[i] = (v[i] - mean) * inv
					g := float64(d[r*width+i])
					out[r*width+i] = v[i]*float64(scale[i]) + float64(bias[i])
					ds[i] += g * v[i]
					sum += g * float64(scale[i]) / float64(width)
					dot += g * float64(scale[i]) * v[i] / float64(width)
				}
				for i := range v {
					dx[r*width+i] = inv * (float64(d[r*width+i])*float64(scale[i]) - sum - v[i]*dot)
				}
			}
			return float32s(out, dx, ds)
		},
		Device: func(q *Queue) ([]float32, error) {
			u := &uploads{q: q}
			unit, inv, out, dx, ds := u.room(4*rows*width), u.room(4*rows), u.room(4*rows*width), u.room(4*rows*width), u.room(4*width)
			hb, yb, sb, bb, db := u.floats(h), u.floats(y), u.floats(scale), u.floats(bias), u.floats(d)
			u.run(func() error {
				return q.Launch("learn_norm", rowBlocks(rows), block128, 0, hb, yb, group, sb, bb, float32(eps), rows, width, unit, inv, out)
			})
			u.run(func() error {
				return q.Launch("learn_norm_back", rowBlocks(rows), block128, 0, db, unit, inv, sb, rows, width, dx)
			})
			u.run(func() error {
				return q.Launch("learn_scale_back", [3]int{(width + 127) / 128, 1, 1}, block128, 0, db, unit, rows, width, ds)
			})
			return results(u, out, dx, ds), u.err
		},
	}
}

func mixCase(groups, nq, width, heads int) Case {
	n := groups * nq * width
	q, k, v, g := draws(90, n, 1), draws(91, n, 1), draws(92, n, 1), draws(93, n, 1)
	d := width / heads
	scale := 1 / math.Sqrt(float64(d))
	return Case{
		Name: "learn: self-attention, there and back", Bound: boundLearn,
		CPU: func() []float32 {
			out, dq, dk, dv := make([]float64, n), make([]float64, n), make([]float64, n), make([]float64, n)
			for gr := range groups {
				for c := range heads {
					at := func(row, i int) int { return (gr*nq+row)*width + c*d + i }
					for i := range nq {
						p, dp, sum, dot := make([]float64, nq), make([]float64, nq), 0., 0.
						for j := range nq {
							for x := range d {
								p[j] += float64(q[at(i, x)]) * float64(k[at(j, x)]) * scale
								dp[j] += float64(g[at(i, x)]) * float64(v[at(j, x)])
							}
							p[j] = math.Exp(p[j])
							sum += p[j]
						}
						for j := range nq {
							p[j] /= sum
							dot += p[j] * dp[j]
						}
						for j := range nq {
							ds := p[j] * (dp[j] - dot) * scale
							for x := range d {
								out[at(i, x)] += p[j] * float64(v[at(j, x)])
								dq[at(i, x)] += ds * float64(k[at(j, x)])
								dk[at(j, x)] += ds * float64(q[at(i, x)])
								dv[at(j, x)] += p[j] * float64(g[at(i, x)])
							}
						}
					}
				}
			}
			return float32s(out, dq, dk, dv)
		},
		Device: func(qu *Queue) ([]float32, error) {
			u := &uploads{q: qu}
			p, ds := u.room(4*groups*heads*nq*nq), u.room(4*groups*heads*nq*nq)
			out, dq, dk, dv := u.room(4*n), u.room(4*n), u.room(4*n), u.room(4*n)
			qb, kb, vb, gb := u.floats(q), u.floats(k), u.floats(v), u.floats(g)
			u.run(func() error {
				return qu.Launch("learn_mix", [3]int{groups, 1, 1}, block128, 0, qb, kb, vb, nq, width, heads, float32(scale), p, out)
			})
			u.run(func() error {
				return qu.Launch("learn_mix_back", [3]int{groups, 1, 1}, block128, 0, gb, qb, kb, vb, p, nq, width, heads, float32(scale), ds, dq, dk, dv)
			})
			return results(u, out, dq, dk, dv), u.err
		},
	}
}

func unitCase(rows, size int) Case {
	raw, path, d, gain := draws(100, rows*size, 1), draws(101, rows*size, 1), draws(102, rows*size, 1), []float32{1.5}
	return Case{
		Name: "learn: W_A of its raw form, there and back", Bound: boundBF16, // W_A itself is rounded
		CPU: func() []float32 {
			out, draw, dgain := make([]float64, rows*size), make([]float64, rows*size), make([]float64, rows)
			for r := range rows {
				square, dot := 0., 0.
				for i := range size {
					square += float64(raw[r*size+i]) * float64(raw[r*size+i])
				}
				inv := 1 / math.Sqrt(square+1e-12)
				for i := range size {
					out[(rows-1-r)*size+i] = float64(path[r*size+i]) + 1.5*inv*float64(raw[r*size+i])
					dot += inv * float64(raw[r*size+i]) * float64(d[r*size+i])
				}
				dgain[r] = dot
				for i := range size {
					draw[r*size+i] = 1.5 * inv * (float64(d[r*size+i]) - inv*float64(raw[r*size+i])*dot)
				}
			}
			return float32s(out, draw, dgain)
		},
		Device: func(q *Queue) ([]float32, error) {
			u := &uploads{q: q}
			where := make([]int32, rows)
			for i := range where {
				where[i] = int32(rows - 1 - i)
			}
			half, inv, dgain := u.room(2*rows*size), u.room(4*rows), u.room(4*rows)
			rb, pb, db, gb, at := u.floats(raw), u.floats(path), u.floats(d), u.floats(gain), u.ints(where)
			u.run(func() error {
				return q.Launch("learn_unit", [3]int{rows, 1, 1}, block128, 16, rb, pb, gb, float32(1e-12), size, at, half, inv)
			})
			u.run(func() error {
				return q.Launch("learn_unit_back", [3]int{rows, 1, 1}, block128, 16, rb, db, gb, inv, size, dgain)
			})
			made := wide(fetch[uint16](u, half, rows*size), rows, size, size)
			return append(made, results(u, &Buffer{ptr: uint64(rb), bytes: int64(4 * rows * size)}, dgain)...), u.err
		},
	}
}

// formsCase has P of two targets in an arena, one of which an adapted linear takes as its columns 0..4 in the opposite order; columns 5 to 7
// are another's.
func formsCase() Case {
	const rank, out, own, scale = 3, 8, 5, 2
	params, dp := draws(110, 4+rank*own, 1), draws(111, rank*out, 1)
	begin := func(n int) int { return 4 + own - 1 - n }
	return Case{
		Name: "learn: P's forms and gradients", Bound: boundBF16,
		CPU: func() []float32 {
			down, back, grads := make([]float32, out*Pad), make([]float32, (rank+1)*Pad), make([]float32, len(params))
			for n := range own {
				for r := range rank {
					v := scale * params[begin(n)+r*own]
					down[n*Pad+r], back[r*Pad+n] = v, v
					grads[begin(n)+r*own] = scale * dp[r*out+n]
				}
			}
			return append(append(down, back...), grads...)
		},
		Device: func(q *Queue) ([]float32, error) {
			u := &uploads{q: q}
			columns := make([]int32, 2*out)
			for n := range out {
				columns[2*n] = -1
				if n < own {
					columns[2*n], columns[2*n+1] = int32(begin(n)), own
				}
			}
			down, back, grads := u.room(2*out*Pad), u.room(2*(rank+1)*Pad), u.room(4*len(params))
			pb, db, cb := u.floats(params), u.floats(dp), u.ints(columns)
			u.run(func() error { return q.PForms(pb, cb, scale, out, rank, down.At(0), Pad, back.At(0), Pad) })
			u.run(func() error { return q.PTake(db, cb, scale, out, rank, grads.At(0)) })
			v := wide(fetch[uint16](u, down, out*Pad), out, Pad, Pad)
			v = append(v, wide(fetch[uint16](u, back, (rank+1)*Pad), rank+1, Pad, Pad)...)
			return append(v, results(u, grads)...), u.err
		},
	}
}

// adamwCase takes two steps over three slices; the second's gradient is clipped.
func adamwCase() Case {
	sizes, values := []int{5, 130, 700}, 835
	start := draws(120, values, 1)
	grads := [][]float32{draws(121, values, 1e-2), draws(122, values, 1)}
	rates := []float32{1e-2, 1, 2e-2, .99, 3e-2, .9}
	w := AdamW{Beta1: .9, Beta2: .999, Eps: 1e-8, C2: 100, Clip: 1}
	return Case{
		Name: "learn: AdamW", Bound: boundLearn,
		CPU: func() []float32 {
			p, m, v := make([]float64, values), make([]float64, values), make([]float64, values)
			var clips []float64
			for i, x := range start {
				p[i] = float64(x)
			}
			for _, g := range grads {
				length := 0.
				for _, x := range g {
					length += float64(x) * float64(x)
				}
				length = math.Sqrt(length)
				by := min(1, float64(w.Clip)/length)
				clips = append(clips, by, length)
				for i := range p {
					slice := 0
					for at := sizes[0]; at <= i; at += sizes[slice] {
						slice++
					}
					x := float64(g[i]) * by
					m[i], v[i] = .9*m[i]+(1-.9)*x, .999*v[i]+(1-.999)*x*x
					p[i] = float64(rates[2*slice+1])*p[i] - float64(rates[2*slice])*m[i]/(math.Sqrt(v[i]*float64(w.C2))+float64(w.Eps))
				}
			}
			return float32s(p, m, v, clips)
		},
		Device: func(q *Queue) ([]float32, error) {
			var slices []Slice
			for from, k := 0, 0; k < len(sizes); from, k = from+sizes[k], k+1 {
				slices = append(slices, Slice{Data: append([]float32(nil), start[from:from+sizes[k]]...), First: make([]float32, sizes[k]), Second: make([]float32, sizes[k])})
			}
			a, err := q.NewArena(slices)
			if err != nil {
				return nil, err
			}
			var clips []float32
			for _, g := range grads {
				clip := make([]float32, 2)
				for _, err := range []error{q.Wait(), Upload(q, a.Grads, 0, g), a.Step(q, w, rates, clip), q.Wait()} {
					if err != nil {
						return nil, err
					}
				}
				clips = append(clips, clip...)
			}
			if err := errJoin(a.Download(q, slices), q.Wait()); err != nil {
				return nil, err
			}
			var p, m, v []float32
			for _, s := range slices {
				p, m, v = append(p, s.Data...), append(m, s.First...), append(v, s.Second...)
			}
			return append(append(append(p, m...), v...), clips...), a.Free(q)
		},
	}
}
