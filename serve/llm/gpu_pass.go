package llm

import (
	"context"
	"errors"
	"fmt"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/kernels/cuda"
)

// activationBuffers are the values of one batch on the device. Padding of bfloat16 rows is zero and stays so.
type activationBuffers struct {
	x, other *cuda.Buffer // [rows][hidden] floats: the residual stream, and where it is gathered to
	norm     *cuda.Buffer // [rows][ldh]
	qkv      *cuda.Buffer // [rows][ldq]
	att      *cuda.Buffer // [rows][ldo]
	act      *cuda.Buffer // [rows][ldf]
	t        *cuda.Buffer // [rows][padded rank] W_A^T x
	index    *cuda.Buffer // row numbers of a pass, one list behind the other
	indexAt  int64
	stale    []*cuda.Buffer // index buffers that became too small, which the pass may still read
	out      *cuda.Buffer
}

func (w *activationBuffers) all() []**cuda.Buffer {
	return []**cuda.Buffer{&w.x, &w.other, &w.norm, &w.qkv, &w.att, &w.act, &w.t, &w.index, &w.out}
}

func (w *activationBuffers) free(q *cuda.Queue) error {
	var errs []error
	for _, b := range w.all() {
		errs = append(errs, q.Free(*b))
		*b = nil
	}
	return errors.Join(append(errs, w.clearIndex(q))...)
}

// clearIndex makes room for the lists of another pass.
func (w *activationBuffers) clearIndex(q *cuda.Queue) error {
	var errs []error
	for _, b := range w.stale {
		errs = append(errs, q.Free(b))
	}
	w.stale, w.indexAt = nil, 0
	return errors.Join(errs...)
}

// reserve begins a pass: it makes room for rows; ldt is the padded rank, 0 without a delta.
func (d *device) reserve(q *cuda.Queue, rows, ldt int) error {
	h := d.m.arch.hidden
	if err := d.work.clearIndex(q); err != nil {
		return err
	}
	for _, b := range []struct {
		at    **cuda.Buffer
		bytes int
		clear bool
	}{
		{&d.work.x, 4 * rows * h, false},
		{&d.work.other, 4 * rows * h, false},
		{&d.work.norm, 2 * rows * d.ldh, false},
		{&d.work.qkv, 2 * rows * d.ldq, true},
		{&d.work.att, 2 * rows * d.ldo, true},
		{&d.work.act, 2 * rows * d.ldf, true},
		{&d.work.t, 2 * rows * ldt, false},
	} {
		grow := q.Grow
		if b.clear {
			grow = q.GrowCleared
		}
		if err := grow(b.at, int64(b.bytes)); err != nil {
			return err
		}
	}
	return q.Zero(d.work.t, 0, int64(2*rows*ldt)) // rows without a delta have T = 0
}

// indices uploads row numbers behind those of the same pass, which earlier launches may still read.
func (d *device) indices(q *cuda.Queue, v []int32) (cuda.Pointer, error) {
	w, n := &d.work, (4*int64(len(v))+255)/256*256
	if w.index == nil || w.indexAt+n > w.index.Bytes() {
		room := max(2*n, 1<<16)
		if w.index != nil {
			room = max(room, 2*w.index.Bytes())
			w.stale = append(w.stale, w.index)
			w.index = nil
		}
		fresh, err := q.Alloc(room)
		if err != nil {
			return 0, err
		}
		w.index, w.indexAt = fresh, 0
	}
	at := w.indexAt
	w.indexAt += n
	return w.index.At(at), cuda.Upload(q, w.index, at, v)
}

// rowsOf moves the residual stream's rows: row i becomes row from[i] of the old.
func (d *device) rowsOf(q *cuda.Queue, from []int32) error {
	at, err := d.indices(q, from)
	if err != nil {
		return err
	}
	h := d.m.arch.hidden
	if err := q.Gather(d.work.other.At(0), h, d.work.x.At(0), h, 0, at, len(from), h); err != nil {
		return err
	}
	d.work.x, d.work.other = d.work.other, d.work.x
	return nil
}

// add makes T for one linear's input and says which second operands its product takes.
func (d *device) add(q *cuda.Queue, g *cuda.Gemm, p *planBuffers, x *cuda.Buffer, ldx int, of *cuda.Buffer, ld int) error {
	if of == nil {
		return nil
	}
	g.A2, g.LDA2, g.W2, g.LDW2, g.K2 = d.work.t.At(0), ld, of.At(0), ld, ld
	return q.DeltaDown(x.At(0), ldx, p.tiles, p.tileCount, p.mats, p.scale.At(0), d.m.arch.hidden, p.rank, d.work.t.At(0), ld)
}

// project computes q, k and v of rows of the residual stream.
func (d *device) project(q *cuda.Queue, l, rows int, p *planBuffers, x *deviceDelta) error {
	a, w, ly := d.m.arch, &d.work, &d.layers[l]
	if err := q.RMSNorm(w.x.At(0), ly.attnNorm.At(0), a.eps, rows, a.hidden, w.norm.At(0), d.ldh); err != nil {
		return err
	}
	g := cuda.Gemm{
		End: "rope", M: rows, N: a.qkvWidth(), K: ly.inQKV, A: w.norm.At(0), LDA: d.ldh, W: ly.qkv.At(0), LDW: ly.inQKV,
		Out: w.qkv.At(0), LDO: d.ldq, Bias: ly.bias.At(0), Angles: d.angles.At(0), Where: p.pos, Turned: a.qWidth() + a.kvWidth(), Head: a.headDim,
	}
	if x != nil {
		if err := d.add(q, &g, p, w.norm, d.ldh, x.layers[l].qkv, x.ld); err != nil {
			return err
		}
	}
	return q.Gemm(g)
}

// attend fills att with layer l's attention.
func (d *device) attend(q *cuda.Queue, l int, p *planBuffers) error {
	a := d.m.arch
	return q.Attend(p.attend, cuda.Attend{
		QKV: d.work.qkv.At(0), LDQ: d.ldq, QWidth: a.qWidth(), KVWidth: a.kvWidth(), Pool: d.pages.pool.At(0),
		Layers: d.pages.top, Layer: max(0, l-(a.layers-d.pages.top)), Few: p.few, Many: p.many, Runs: p.runs, Refs: p.refs,
		Out: d.work.att.At(0), LDO: d.ldo, Scale: d.m.scale,
	})
}

// finish takes rows from attention to the next layer.
func (d *device) finish(q *cuda.Queue, l, rows int, p *planBuffers, x *deviceDelta) error {
	a, w, ly := d.m.arch, &d.work, &d.layers[l]
	o := cuda.Gemm{End: "add", M: rows, N: a.hidden, K: ly.inO, A: w.att.At(0), LDA: d.ldo, W: ly.o.At(0), LDW: ly.inO, Out: w.x.At(0), LDO: a.hidden}
	gu := cuda.Gemm{End: "swiglu", M: rows, N: 2 * a.ffn, K: ly.inGU, A: w.norm.At(0), LDA: d.ldh, W: ly.gateUp.At(0), LDW: ly.inGU, Out: w.act.At(0), LDO: d.ldf}
	down := cuda.Gemm{End: "add", M: rows, N: a.hidden, K: ly.inDown, A: w.act.At(0), LDA: d.ldf, W: ly.down.At(0), LDW: ly.inDown, Out: w.x.At(0), LDO: a.hidden}
	if x != nil {
		if err := d.add(q, &o, p, w.att, d.ldo, x.layers[l].o, x.ld); err != nil {
			return err
		}
	}
	if err := q.Gemm(o); err != nil {
		return err
	}
	if err := q.RMSNorm(w.x.At(0), ly.ffnNorm.At(0), a.eps, rows, a.hidden, w.norm.At(0), d.ldh); err != nil {
		return err
	}
	if x != nil {
		if err := d.add(q, &gu, p, w.norm, d.ldh, x.layers[l].gateUp, x.ld); err != nil {
			return err
		}
	}
	if err := q.Gemm(gu); err != nil {
		return err
	}
	return q.Gemm(down)
}

// logits reads the head for rows of the residual stream.
func (d *device) logits(q *cuda.Queue, order []int, out []corastream.Logits) error {
	rows := len(order)
	if err := q.Grow(&d.work.out, int64(8*rows)); err != nil {
		return err
	}
	if err := q.Head(d.work.x.At(0), d.yes.At(0), d.no.At(0), d.m.arch.eps, rows, d.m.arch.hidden, d.work.out.At(0)); err != nil {
		return err
	}
	v := make([]float32, 2*rows)
	if err := cuda.Download(q, v, d.work.out, 0); err != nil {
		return err
	}
	if err := q.Wait(); err != nil {
		return err
	}
	if err := finiteLogits(v); err != nil {
		return err
	}
	for i, j := range order {
		out[j] = corastream.Logits{Yes: v[2*i], No: v[2*i+1]}
	}
	return nil
}

// How much goes through the device at once.
const (
	devicePairs  = 4096
	deviceTokens = 32768
)

// score does what Model.Score does, on the device.
func (d *device) score(ctx context.Context, ts []tokens, one, all []int, with *delta, out []corastream.Logits) error {
	for _, c := range chunks(one, func(int) int { return 1 }, devicePairs) {
		if err := d.scoreCached(ctx, ts, c, with, out); err != nil {
			return err
		}
	}
	for _, c := range d.m.batchesOf(all, ts, with, max(deviceTokens, d.m.opts.BatchTokens)) {
		if err := d.scoreWhole(ctx, ts, c, with, out); err != nil {
			return err
		}
	}
	return nil
}

// scoreCached takes one token of each pair through the top layers, behind its item's pages.
func (d *device) scoreCached(ctx context.Context, ts []tokens, pairs []int, with *delta, out []corastream.Logits) error {
	m, a := d.m, d.m.arch
	s, entries, states, order, err := d.cachedStage(ctx, ts, pairs, with)
	if err != nil {
		return err
	}
	err = d.do(ctx, func(q *cuda.Queue) error {
		x, err := d.delta(q, with)
		if err != nil {
			return err
		}
		cached, err := d.pages.upload(q, entries)
		if err != nil {
			return err
		}
		if err := d.reserve(q, s.rows, x.width()); err != nil {
			return err
		}
		if err := d.plan.put(q, d, s, cached, with); err != nil {
			return err
		}
		if err := cuda.Upload(q, d.work.x, 0, states); err != nil {
			return err
		}
		for l := a.layers - m.opts.TopLayers; l < a.layers; l++ {
			if err := d.project(q, l, s.rows, &d.plan, x); err != nil {
				return err
			}
			if err := d.attend(q, l, &d.plan); err != nil {
				return err
			}
			if err := d.finish(q, l, s.rows, &d.plan, x); err != nil {
				return err
			}
		}
		return d.logits(q, order, out)
	})
	if err == nil {
		m.cached.Add(int64(s.rows))
	}
	return err
}

// cachedStage is one answer token for each pair, behind its item's pages, with its state: Model.startCached without the CPU's buffers.
func (d *device) cachedStage(ctx context.Context, ts []tokens, pairs []int, with *delta) (s *rowSet, entries []*entry, states []float32, order []int, err error) {
	order = with.order(pairs)
	mine := make([]tokens, len(order))
	for i, j := range order {
		mine[i] = ts[j]
	}
	if entries, err = d.m.entries(ctx, mine); err != nil {
		return nil, nil, nil, nil, err
	}
	h := d.m.arch.hidden
	s, states = &rowSet{rows: len(order)}, make([]float32, len(order)*h)
	for i, e := range entries {
		r := int32(i)
		s.pos = append(s.pos, int32(e.n))
		s.runs = append(s.runs, run{lo: r, hi: r + 1, out: r, ext: e})
		copy(states[i*h:], e.state())
	}
	if with == nil {
		s.priv = s.rows
	}
	with.assign(s, order, func(int) int { return 1 })
	return s, entries, states, order, nil
}

// width is the padded rank, 0 without a delta.
func (x *deviceDelta) width() int {
	if x == nil {
		return 0
	}
	return x.ld
}

// start puts the tokens' rows of the embedding table into the residual stream.
func (d *device) start(q *cuda.Queue, t []int32) error {
	at, err := d.indices(q, t)
	if err != nil {
		return err
	}
	h := d.m.arch.hidden
	return q.Gather(d.work.x.At(0), h, d.embedding.At(0), h, 0, at, len(t), h)
}

// scoreWhole reads whole prompts, as Model.whole does.
func (d *device) scoreWhole(ctx context.Context, ts []tokens, pairs []int, with *delta, out []corastream.Logits) error {
	m, a := d.m, d.m.arch
	order := with.order(pairs)
	t := newTrie(ts, order)
	first := t.plain()
	answers := t.answers()
	fork, second, from := a.layers, first, []int32(nil)
	if with != nil {
		fork = min(with.lowest, fork)
	}
	if fork < a.layers {
		frozen := make([]int, len(order))
		for i, j := range order {
			frozen[i] = with.frozen(ts[j])
		}
		second, from, answers = t.fork(frozen, ascending(len(order)))
		with.assign(second, order, func(i int) int { return len(t.paths[i]) - frozen[i] })
	}
	tail := second.tail(answers, ascending(len(order)))
	if with != nil {
		tail.priv = 0
		with.assign(tail, order, func(int) int { return 1 })
	}
	err := d.do(ctx, func(q *cuda.Queue) error {
		x, err := d.delta(q, with)
		if err != nil {
			return err
		}
		if err := d.reserve(q, max(first.rows, second.rows, tail.rows), x.width()); err != nil {
			return err
		}
		if err := d.plan.put(q, d, first, nil, nil); err != nil {
			return err
		}
		if err := d.start(q, t.tokens); err != nil {
			return err
		}
		s, now, plan := first, (*deviceDelta)(nil), &d.plan
		for l := range a.layers {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if l == fork {
				if err := d.rowsOf(q, from); err != nil {
					return err
				}
				if err := d.fork.put(q, d, second, nil, with); err != nil {
					return err
				}
				s, now, plan = second, x, &d.fork
			}
			if err := d.project(q, l, s.rows, plan, now); err != nil {
				return err
			}
			if l < a.layers-1 {
				if err := errors.Join(d.attend(q, l, plan), d.finish(q, l, s.rows, plan, now)); err != nil {
					return err
				}
				continue
			}
			if err := d.tail.put(q, d, tail, nil, with); err != nil {
				return err
			}
			if err := d.attend(q, l, &d.tail); err != nil {
				return err
			}
			if err := d.rowsOf(q, answers); err != nil {
				return err
			}
			if now != nil { // T of the layer's projections has other rows
				if err := q.Zero(d.work.t, 0, int64(2*tail.rows*now.ld)); err != nil {
					return err
				}
			}
			if err := d.finish(q, l, tail.rows, &d.tail, now); err != nil {
				return err
			}
		}
		return d.logits(q, order, out)
	})
	if err == nil {
		m.forward.Add(int64(first.rows))
	}
	return err
}

// read takes item prompts through the frozen model once, as Model.read does.
func (d *device) read(ctx context.Context, ts []tokens) ([]*entry, error) {
	m, a, dims := d.m, d.m.arch, d.m.cache.dims
	top := a.layers - dims.top
	t := newTrie(ts, ascending(len(ts)))
	entries, answers := make([]*entry, len(ts)), t.answers()
	var list, begin, kept []int32 // rows of titles with the answer's behind; rows whose K/V are kept
	for i, path := range t.paths {
		entries[i] = dims.make(len(path) - 1)
		begin = append(begin, int32(len(list)))
		list = append(append(list, path[ts[i].title:ts[i].titleEnd]...), answers[i])
		kept = append(kept, path[:len(path)-1]...)
	}
	begin = append(begin, int32(len(list)))
	s := t.plain()
	tail := s.tail(answers, ascending(len(answers)))
	n, kv, qw := len(ts), a.kvWidth(), a.qWidth()
	titles, states := make([]float32, n*2*a.hidden), make([]float32, n*a.hidden)
	keys, atts := make([][]uint16, dims.top), make([][]uint16, dims.top)
	err := d.do(ctx, func(q *cuda.Queue) error {
		if err := d.reserve(q, max(s.rows, tail.rows), 0); err != nil {
			return err
		}
		if err := errors.Join(d.plan.put(q, d, s, nil, nil), d.tail.put(q, d, tail, nil, nil), d.start(q, t.tokens)); err != nil {
			return err
		}
		// Row numbers for the read-outs stay for all layers.
		words := append(append(append(append([]int32(nil), list...), begin...), kept...), answers...)
		words = append(words, 0)
		for i := range n { // of the last layer's attention, which has the answers alone
			words = append(words, int32(i))
		}
		numbers, err := d.indices(q, words)
		if err != nil {
			return err
		}
		at := func(i int) cuda.Pointer { return numbers + cuda.Pointer(4*i) }
		beginAt := len(list)
		keptAt := beginAt + len(begin)
		answersAt := keptAt + len(kept)
		inOrder := answersAt + n + 1
		gathered := func(src cuda.Pointer, lds, from int, index cuda.Pointer, rows, words int, get func(b *cuda.Buffer) error) error {
			if rows == 0 {
				return nil
			}
			if err := q.Grow(&d.work.out, int64(4*rows*words)); err != nil {
				return err
			}
			if err := q.Gather(d.work.out.At(0), words, src, lds, from, index, rows, words); err != nil {
				return err
			}
			return get(d.work.out)
		}
		for l := range a.layers {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if l == m.opts.ReadLayer {
				if err := q.Grow(&d.work.out, int64(8*n*a.hidden)); err != nil {
					return err
				}
				if err := errors.Join(q.ReadTitles(d.work.x.At(0), a.hidden, at(0), at(beginAt), n, d.work.out.At(0)), cuda.Download(q, titles, d.work.out, 0)); err != nil {
					return err
				}
			}
			if l == top {
				if err := gathered(d.work.x.At(0), a.hidden, 0, at(answersAt), n, a.hidden, func(b *cuda.Buffer) error { return cuda.Download(q, states, b, 0) }); err != nil {
					return err
				}
			}
			if err := d.project(q, l, s.rows, &d.plan, nil); err != nil {
				return err
			}
			last := l == a.layers-1
			if err := d.attend(q, l, map[bool]*planBuffers{false: &d.plan, true: &d.tail}[last]); err != nil {
				return err
			}
			if l >= top {
				i := l - top
				keys[i], atts[i] = make([]uint16, len(kept)*2*kv), make([]uint16, n*qw)
				index := at(answersAt)
				if last {
					index = at(inOrder)
				}
				if err := errors.Join(
					gathered(d.work.qkv.At(0), d.ldq/2, qw/2, at(keptAt), len(kept), kv, func(b *cuda.Buffer) error { return cuda.Download(q, keys[i], b, 0) }),
					gathered(d.work.att.At(0), d.ldo/2, 0, index, n, qw/2, func(b *cuda.Buffer) error { return cuda.Download(q, atts[i], b, 0) })); err != nil {
					return err
				}
			}
			if last {
				break
			}
			if err := d.finish(q, l, s.rows, &d.plan, nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	row := 0
	for i, e := range entries {
		copy(e.title(), titles[i*2*a.hidden:])
		copy(e.state(), states[i*a.hidden:])
		for l := range dims.top {
			kernels.F32FromBF16(e.answer(l), atts[l][i*qw:(i+1)*qw])
			for j := range e.n {
				from := keys[l][(row+j)*2*kv:][:2*kv]
				key, value := e.kv16[e.row(top+l, 0, j):][:kv], e.kv16[e.row(top+l, 1, j):][:kv]
				for k := range kv {
					key[a.turnedFrom(k)] = from[k]
				}
				copy(value, from[kv:])
			}
		}
		row += e.n
		for _, v := range e.data {
			if v-v != 0 {
				return nil, fmt.Errorf("reading of item %d: %w", i, cuda.ErrNotFinite)
			}
		}
	}
	m.forward.Add(int64(s.rows))
	return entries, nil
}
