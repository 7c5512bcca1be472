package llm

import (
	"errors"
	"unsafe"

	"github.com/corastream/corastream/kernels/cuda"
)

// planBuffers is a row set on the device: positions, what attends to what, which rows take which W_A.
type planBuffers struct {
	attend          *cuda.AttendPlan
	tileCount, rank int
	mats            cuda.Pointer
	words, scale    *cuda.Buffer // positions, runs, refs, tiles of attention, tiles of deltas, one behind the other
	pos             cuda.Pointer
	runs, refs      cuda.Pointer
	few, many       cuda.Pointer
	tiles           cuda.Pointer
}

func (p *planBuffers) free(q *cuda.Queue) error {
	err := errors.Join(q.Free(p.words), q.Free(p.scale))
	*p = planBuffers{}
	return err
}

// put uploads a row set. refs names the pages of cached entries, by run; d is the row set's delta, or nil.
func (p *planBuffers) put(q *cuda.Queue, g *device, s *rowSet, cached [][]int32, d *delta) error {
	runs, refs := attendRuns(s, cached)
	p.attend = g.shape.Plan(runs, refs)
	var tiles []cuda.DeltaTile
	p.mats, p.rank = 0, 0
	if d != nil {
		rows, err := g.matrices(q, d, s)
		if err != nil {
			return err
		}
		if tiles, err = deltaTiles(q, rows, s); err != nil {
			return err
		}
		p.mats, p.rank = rows.Buffer().At(0), d.rank
	}
	p.tileCount = len(tiles)
	var flat []int32
	for _, t := range tiles {
		flat = append(flat, t.Row, t.N, t.User, t.Item)
	}
	parts := [...][]int32{s.pos, p.attend.Runs, p.attend.Refs, p.attend.Few, p.attend.Many, flat}
	at := [...]*cuda.Pointer{&p.pos, &p.runs, &p.refs, &p.few, &p.many, &p.tiles}
	var words []int32
	var begin [len(parts)]int
	for i, v := range parts {
		begin[i] = len(words)
		words = append(words, v...)
	}
	if err := q.Grow(&p.words, 4*int64(len(words))); err != nil {
		return err
	}
	if err := cuda.Upload(q, p.words, 0, words); err != nil {
		return err
	}
	for i := range at {
		*at[i] = p.words.At(4 * int64(begin[i]))
	}
	if d == nil {
		return nil
	}
	scale := make([]float32, s.rows)
	copy(scale[s.priv:], s.scale)
	if err := q.Grow(&p.scale, 4*int64(len(scale))); err != nil {
		return err
	}
	return cuda.Upload(q, p.scale, 0, scale)
}

// attendRuns writes a row set's runs as the kernel takes them: every key by name. cached lists the pages of each run's entry.
func attendRuns(s *rowSet, cached [][]int32) (runs []cuda.Run, refs []int32) {
	for i := range s.runs {
		r := &s.runs[i]
		run := cuda.Run{Row: r.lo, N: r.hi - r.lo, Out: r.out, Ref: int32(len(refs))}
		if r.ext != nil {
			for t := range r.ext.n {
				refs = append(refs, cached[i][t/cuda.PageTokens]*cuda.PageTokens+int32(t%cuda.PageTokens))
			}
		}
		for _, c := range r.ctx {
			for row := c.lo; row < c.hi; row++ {
				refs = append(refs, -1-row)
			}
		}
		run.Before = int32(len(refs)) - run.Ref
		for row := r.lo; row < r.hi; row++ {
			refs = append(refs, -1-row)
		}
		runs = append(runs, run)
	}
	return runs, refs
}

// matrices gives room for all of a row set's W_A at a time.
func (g *device) matrices(q *cuda.Queue, d *delta, s *rowSet) (*cuda.Rows, error) {
	distinct := map[*float32]bool{}
	for _, list := range [][]group{s.groups, s.shared} {
		for _, x := range list {
			distinct[unsafe.SliceData(x.a)] = true
		}
	}
	return q.Rows(cuda.RowsFormat{Width: g.m.arch.hidden * d.rank, BF16: true}, len(distinct)+1)
}

// deltaTiles cuts the rows that carry a delta into tiles of one matrix each, and sees to it that the matrices are on the device.
func deltaTiles(q *cuda.Queue, rows *cuda.Rows, s *rowSet) ([]cuda.DeltaTile, error) {
	const most = 16
	slots := map[*float32]int32{}
	slot := func(a []float32) (int32, error) {
		k := unsafe.SliceData(a)
		if at, ok := slots[k]; ok {
			return at, nil
		}
		n, err := rows.Find(q, a)
		slots[k] = int32(n)
		return int32(n), err
	}
	var out []cuda.DeltaTile
	for _, g := range s.groups {
		user, err := slot(g.a)
		if err != nil {
			return nil, err
		}
		for lo := g.lo; lo < g.hi; {
			hi, item := min(lo+most, g.hi), int32(-1)
			for _, x := range s.shared {
				if x.lo <= lo && lo < x.hi {
					if item, err = slot(x.a); err != nil {
						return nil, err
					}
					hi = min(hi, x.hi)
				} else if lo < x.lo {
					hi = min(hi, x.lo)
				}
			}
			out = append(out, cuda.DeltaTile{Row: int32(lo), N: int32(hi - lo), User: user, Item: item})
			lo = hi
		}
	}
	return out, nil
}
