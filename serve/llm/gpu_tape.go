package llm

import (
	"errors"

	"github.com/corastream/corastream/kernels/cuda"
)

// backLayer holds a layer's weights turned: rows are inputs, for dX = dY W.
type backLayer struct{ qkv, o, gateUp, down *cuda.Buffer }

// turned gives them, uploading a layer's when it first goes back.
func (d *device) turned(q *cuda.Queue, l int) (*backLayer, error) {
	if d.back == nil {
		d.back = make([]*backLayer, d.m.arch.layers)
	}
	if d.back[l] != nil {
		return d.back[l], nil
	}
	a, b := d.m.arch, &backLayer{}
	at := [...]**cuda.Buffer{&b.qkv, &b.o, &b.gateUp, &b.down}
	order := [...]func(int) int{a.turnedFrom, nil, a.alternateFrom, nil}
	for i, lin := range a.linears(l) {
		dense, err := d.m.weights.dense(lin)
		if err != nil {
			return nil, err
		}
		out := lin.out()
		rows := make([]float32, lin.in*out)
		for n := range out {
			from := n
			if order[i] != nil {
				from = order[i](n)
			}
			for k, v := range dense[from*lin.in : (from+1)*lin.in] {
				rows[k*out+n] = v
			}
		}
		if err := hold(d, q, at[i], cuda.BF16Rows(rows, lin.in, out)); err != nil {
			return nil, err
		}
	}
	d.back[l] = b
	return b, nil
}

// taped is what the forward pass through one adapted layer leaves for the way back; layouts as activationBuffers'.
type taped struct {
	rows                             int
	x, qkv, att, mid, gu, tq, to, tg cuda.Pointer
}

// grads are the gradients on their way, by row of the row set: floats, and bfloat16 copies for the next product.
type grads struct {
	dx, dn, dqkv, datt, stats, dt, spare cuda.Pointer
	dxh, dqkvh, dgu, dact, norm          cuda.Pointer
	part, dw, z                          cuda.Pointer
	place, answers                       cuda.Pointer      // where rows of the last layer's tail come from
	dp                                   [][3]cuda.Pointer // by layer: of q|k|v, o, gate|up
}

// carver cuts one buffer into pieces. Without a buffer it only counts.
type carver struct {
	base cuda.Pointer
	at   int64
}

func (c *carver) take(bytes int) cuda.Pointer {
	p := c.base + cuda.Pointer(c.at)
	c.at += int64(bytes+255) / 256 * 256
	return p
}

// lay places tape and gradients for s through layers d.lowest.., with tail in the last one. What begins as zero goes to z: sums, T (rows
// without a delta have none) and rows with a padding that no kernel writes. The rest is written before it is read.
func (d *device) lay(z, c *carver, with *delta, s, tail *rowSet, ldt, ldr int) (layers []taped, last taped, g grads) {
	a, r := d.m.arch, with.rank
	padded := func(bytes, ld, width int) cuda.Pointer {
		if ld != width {
			return z.take(bytes)
		}
		return c.take(bytes)
	}
	upper := func(t *taped, rows int) {
		t.rows = rows
		t.x, t.mid = c.take(4*rows*a.hidden), c.take(4*rows*a.hidden)
		t.att, t.gu = padded(2*rows*d.ldo, d.ldo, a.qWidth()), padded(2*rows*d.ldgu(), d.ldgu(), 2*a.ffn)
		t.to, t.tg = z.take(2*rows*ldt), z.take(2*rows*ldt)
	}
	for l := with.lowest; l < a.layers; l++ {
		t := taped{rows: s.rows}
		if l < a.layers-1 {
			upper(&t, s.rows)
		} else {
			t.x = c.take(4 * s.rows * a.hidden)
		}
		t.qkv, t.tq = padded(2*s.rows*d.ldq, d.ldq, a.qkvWidth()), z.take(2*s.rows*ldt)
		layers = append(layers, t)
	}
	upper(&last, tail.rows)
	rows := max(s.rows, tail.rows)
	g.dx, g.dn, g.spare = c.take(4*rows*a.hidden), c.take(4*rows*a.hidden), c.take(4*rows*a.hidden)
	g.dqkv, g.datt, g.dt = c.take(4*rows*a.qkvWidth()), c.take(4*rows*a.qWidth()), c.take(4*rows*ldr)
	g.stats = c.take(12 * rows * a.heads)
	g.dxh, g.norm, g.dqkvh = c.take(2*rows*d.ldh), c.take(2*rows*d.ldh), c.take(2*rows*d.ldq)
	g.dgu, g.dact = c.take(2*rows*d.ldgu()), padded(2*rows*d.ldf, d.ldf, a.ffn)
	g.part = c.take(4 * cuda.PSplits(rows) * r * max(a.qkvWidth(), a.hidden, 2*a.ffn))
	g.dw, g.z = z.take(4*tail.rows*a.hidden*r), c.take(4*tail.rows)
	g.dp = make([][3]cuda.Pointer, a.layers)
	for l := with.lowest; l < a.layers; l++ {
		for k, p := range with.layers[l].all() {
			if p != nil {
				g.dp[l][k] = z.take(4 * r * p.out)
			}
		}
	}
	return layers, last, g
}

// ldgu is the padded width of gate|up.
func (d *device) ldgu() int { return cuda.Padded(2 * d.m.arch.ffn) }

// perRow is about what lay takes for a row of the row set.
func (d *device) perRow(with *delta) int {
	a := d.m.arch
	layer := 8*a.hidden + 2*(d.ldq+d.ldo+d.ldgu()) + 6*cuda.Padded(with.rank)
	return max(1, a.layers-with.lowest)*layer + 16*a.hidden + 8*a.qkvWidth() + 8*d.ldgu()
}

// backPlan lists, for one row set's attention, the queries and keys that take gradients.
type backPlan struct {
	queries, keys []int32
	mostKeys      int
}

// backTasks does so for the runs of in, whose rows are those of s: rows from s.priv on take gradients.
func backTasks(s, in *rowSet, cached [][]int32) backPlan {
	runs, refs := attendRuns(in, cached)
	var p backPlan
	for i, r := range runs {
		if int(r.Row) < s.priv {
			continue
		}
		p.mostKeys = max(p.mostKeys, int(r.Before+r.N))
		for k := range r.N {
			p.queries = append(p.queries, int32(i), k)
		}
		for k := range r.Before + r.N {
			if ref := refs[r.Ref+k]; ref < 0 && int(-1-ref) >= s.priv {
				p.keys = append(p.keys, int32(i), k)
			}
		}
	}
	return p
}

// backs is a projection for the way back: (alpha/r) P of each layer [even rank][padded out].
func (d *device) backs(q *cuda.Queue, with *delta) (_ [][3]*cuda.Buffer, free func() error, err error) {
	a := d.m.arch
	out := make([][3]*cuda.Buffer, a.layers)
	free = func() error {
		var errs []error
		for l := range out {
			for _, b := range out[l] {
				errs = append(errs, q.Free(b))
			}
		}
		return errors.Join(errs...)
	}
	even := with.rank + with.rank%2
	for l := range out {
		for k, p := range with.layers[l].all() {
			if p == nil {
				continue
			}
			order := [...]func(int) int{a.turnedFrom, nil, a.alternateFrom}[k]
			rows := make([]float32, even*p.out)
			for r := range with.rank {
				for n := range p.out {
					from := n
					if order != nil {
						from = order(n)
					}
					rows[r*p.out+n] = with.scale * p.values[r*p.out+from]
				}
			}
			if out[l][k], err = cuda.Put(q, cuda.BF16Rows(rows, even, p.out)); err != nil {
				return nil, nil, errors.Join(err, free())
			}
		}
	}
	return out, free, nil
}
