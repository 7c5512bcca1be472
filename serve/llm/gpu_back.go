package llm

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/corastream/corastream/kernels/cuda"
)

// deviceTape bounds what a backward pass keeps on the device; longer batches are cut.
const deviceTape = 4 << 30

// backAll does what Model.backAll does, on the device. With a DeviceBackprop, P comes from and gradients stay in its memory.
func (d *device) backAll(ctx context.Context, b *backprop, one, all []int, ts []tokens, on *DeviceBackprop) error {
	if b.d.lowest >= d.m.arch.layers {
		return errors.New("llm: the projection adapts no layer; there is nothing to train")
	}
	limit := max(1, int(min(deviceTape, d.Device.Info().MemoryBytes/4))/d.perRow(b.d))
	for _, c := range chunks(one, func(int) int { return 1 }, min(limit, devicePairs)) {
		if err := d.backCached(ctx, b, ts, c, on); err != nil {
			return err
		}
	}
	for _, c := range chunks(all, func(i int) int { return len(ts[i].ids) }, min(limit, deviceTokens)) {
		if err := d.backWhole(ctx, b, ts, c, on); err != nil {
			return err
		}
	}
	return nil
}

func (d *device) backCached(ctx context.Context, b *backprop, ts []tokens, pairs []int, on *DeviceBackprop) error {
	m, a := d.m, d.m.arch
	s, entries, states, order, err := d.cachedStage(ctx, ts, pairs, b.d)
	if err != nil {
		return err
	}
	return d.do(ctx, func(q *cuda.Queue) error {
		cached, err := d.pages.upload(q, entries)
		if err != nil {
			return err
		}
		if err := errors.Join(d.reserve(q, s.rows, 0), d.plan.put(q, d, s, cached, nil), cuda.Upload(q, d.work.x, 0, states)); err != nil {
			return err
		}
		for l := a.layers - m.opts.TopLayers; l < b.d.lowest; l++ {
			if err := errors.Join(d.project(q, l, s.rows, &d.plan, nil), d.attend(q, l, &d.plan), d.finish(q, l, s.rows, &d.plan, nil)); err != nil {
				return err
			}
		}
		return d.taped(ctx, q, b, s, s, cached, nil, order, on)
	})
}

func (d *device) backWhole(ctx context.Context, b *backprop, ts []tokens, pairs []int, on *DeviceBackprop) error {
	order := b.d.order(pairs)
	t := newTrie(ts, order)
	first := t.plain()
	frozen := make([]int, len(order))
	for i, j := range order {
		frozen[i] = b.d.frozen(ts[j])
	}
	s, from, answers := t.fork(frozen, ascending(len(order)))
	b.d.assign(s, order, func(i int) int { return len(t.paths[i]) - frozen[i] })
	tail := s.tail(answers, ascending(len(order)))
	tail.priv = 0
	b.d.assign(tail, order, func(int) int { return 1 })
	return d.do(ctx, func(q *cuda.Queue) error {
		if err := errors.Join(d.reserve(q, max(first.rows, s.rows), 0), d.plan.put(q, d, first, nil, nil), d.start(q, t.tokens)); err != nil {
			return err
		}
		for l := range b.d.lowest {
			if err := errors.Join(d.project(q, l, first.rows, &d.plan, nil), d.attend(q, l, &d.plan), d.finish(q, l, first.rows, &d.plan, nil)); err != nil {
				return err
			}
		}
		if err := d.rowsOf(q, from); err != nil {
			return err
		}
		return d.taped(ctx, q, b, s, tail, nil, answers, order, on)
	})
}

// passBack is one taped pass: its stages, buffers and operands.
type passBack struct {
	d        *device
	q        *cuda.Queue
	with     *delta
	x        *deviceDelta
	p        [][3]*cuda.Buffer
	g        grads
	layers   []taped
	last     taped
	ldt, ldr int
	iota     cuda.Pointer
	order    cuda.Pointer    // which prompt each answer is
	stages   [2]*rowSet      // s, and the tail in which the last layer ends
	plans    [2]*planBuffers // of them
	spans    [2]cuda.Pointer // rows of each pair in them
	tasks    [2]cuda.AttendBack
}

// taped runs the adapted layers forward with a tape, then back: Model.taped on the device. The residual stream is in work.x.
func (d *device) taped(ctx context.Context, q *cuda.Queue, b *backprop, s, tail *rowSet, cached [][]int32, answers []int32, order []int, on *DeviceBackprop) error {
	a, with := d.m.arch, b.d
	x, back, free, err := d.projections(q, with, on)
	if err != nil {
		return err
	}
	defer func() { _ = free() }() // its error has marked the device as lost
	pb := &passBack{d: d, q: q, with: with, x: x, p: back, ldt: x.ld, ldr: with.rank + with.rank%2, stages: [2]*rowSet{s, tail}, plans: [2]*planBuffers{&d.fork, &d.tail}}
	var zeros, rest carver
	d.lay(&zeros, &rest, with, s, tail, pb.ldt, pb.ldr)
	if err := q.Grow(&d.tapes, zeros.at+rest.at); err != nil {
		return err
	}
	if err := q.Zero(d.tapes, 0, zeros.at); err != nil {
		return err
	}
	pb.layers, pb.last, pb.g = d.lay(&carver{base: d.tapes.At(0)}, &carver{base: d.tapes.At(zeros.at)}, with, s, tail, pb.ldt, pb.ldr)
	if err := errors.Join(d.fork.put(q, d, s, cached, with), d.tail.put(q, d, tail, cached, with)); err != nil {
		return err
	}
	label, err := pb.upload(s, tail, cached, answers, b, order)
	if err != nil {
		return err
	}
	if err := pb.forward(ctx, answers); err != nil {
		return err
	}
	if err := q.HeadBack(d.work.x.At(0), d.yes.At(0), d.no.At(0), label, 1/float32(len(b.labels)), a.eps, tail.rows, a.hidden, pb.g.z, pb.g.dx, pb.g.dxh, d.ldh); err != nil {
		return err
	}
	for l := a.layers - 1; l >= with.lowest; l-- {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		turned, err := d.turned(q, l)
		if err != nil {
			return err
		}
		top, at := 0, &pb.layers[l-with.lowest]
		if l == a.layers-1 {
			top, at = 1, &pb.last
		}
		if err := errors.Join(pb.finishBack(l, top, at, turned), pb.attendBack(l, top), pb.scatter(l, answers), pb.projectBack(l, turned)); err != nil {
			return err
		}
	}
	if on != nil {
		return pb.leave(b, order, on)
	}
	return pb.collect(b, order)
}

// upload puts the lists of a pass into the index buffer: row numbers, places of the answers, spans, tasks; and the labels.
func (pb *passBack) upload(s, tail *rowSet, cached [][]int32, answers []int32, b *backprop, order []int) (label cuda.Pointer, err error) {
	var words []int32
	var at []int
	add := func(v []int32) { at, words = append(at, len(words)), append(words, v...) }
	iota := make([]int32, max(s.rows, tail.rows))
	for i := range iota {
		iota[i] = int32(i)
	}
	add(iota)
	place := make([]int32, s.rows)
	for i := range place {
		place[i] = -1
	}
	for i, r := range answers {
		place[r] = int32(i)
	}
	add(place)
	add(answers)
	for i, st := range pb.stages {
		var flat []int32
		for _, p := range st.pairs {
			flat = append(flat, p.lo, p.hi)
		}
		add(flat)
		t := backTasks(s, st, cached)
		add(t.queries)
		add(t.keys)
		pb.tasks[i] = cuda.AttendBack{QueryCount: len(t.queries) / 2, KeyCount: len(t.keys) / 2, MostKeys: t.mostKeys}
	}
	labels := make([]int32, len(order))
	for i, j := range order {
		labels[i] = int32(math.Float32bits(b.labels[j]))
	}
	add(labels)
	rows := make([]int32, len(order))
	for i, j := range order {
		rows[i] = int32(j)
	}
	add(rows)
	base, err := pb.d.indices(pb.q, words)
	if err != nil {
		return 0, err
	}
	pointer := func(i int) cuda.Pointer { return base + cuda.Pointer(4*at[i]) }
	pb.iota = pointer(0)
	pb.g.place, pb.g.answers = pointer(1), pointer(2)
	for i := range pb.stages {
		pb.spans[i], pb.tasks[i].Queries, pb.tasks[i].Keys = pointer(3+3*i), pointer(4+3*i), pointer(5+3*i)
		pb.tasks[i].DAtt, pb.tasks[i].DQKV, pb.tasks[i].Stats = pb.g.datt, pb.g.dqkv, pb.g.stats
	}
	pb.order = pointer(10)
	return pointer(9), nil
}

// copyRows keeps the residual stream.
func (pb *passBack) copyRows(to cuda.Pointer, rows int) error {
	h := pb.d.m.arch.hidden
	return pb.q.Gather(to, h, pb.d.work.x.At(0), h, 0, pb.iota, rows, h)
}

// withDelta adds the second operands of an adapted linear and makes T in t.
func (pb *passBack) withDelta(g *cuda.Gemm, of *cuda.Buffer, plan *planBuffers, x cuda.Pointer, ldx int, t cuda.Pointer) error {
	if of == nil {
		return nil
	}
	g.A2, g.LDA2, g.W2, g.LDW2, g.K2 = t, pb.ldt, of.At(0), pb.ldt, pb.ldt
	return pb.q.DeltaDown(x, ldx, plan.tiles, plan.tileCount, plan.mats, plan.scale.At(0), pb.d.m.arch.hidden, plan.rank, t, pb.ldt)
}

func (pb *passBack) forward(ctx context.Context, answers []int32) error {
	d, q, a := pb.d, pb.q, pb.d.m.arch
	for l := pb.with.lowest; l < a.layers; l++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t, ly, dl := &pb.layers[l-pb.with.lowest], &d.layers[l], &pb.x.layers[l]
		rows := pb.stages[0].rows
		if err := errors.Join(pb.copyRows(t.x, rows), q.RMSNorm(t.x, ly.attnNorm.At(0), a.eps, rows, a.hidden, pb.g.norm, d.ldh)); err != nil {
			return err
		}
		qkv := cuda.Gemm{
			End: "rope", M: rows, N: a.qkvWidth(), K: ly.inQKV, A: pb.g.norm, LDA: d.ldh, W: ly.qkv.At(0), LDW: ly.inQKV, Out: t.qkv, LDO: d.ldq,
			Bias: ly.bias.At(0), Angles: d.angles.At(0), Where: d.fork.pos, Turned: a.qWidth() + a.kvWidth(), Head: a.headDim,
		}
		if err := errors.Join(pb.withDelta(&qkv, dl.qkv, &d.fork, pb.g.norm, d.ldh, t.tq), q.Gemm(qkv)); err != nil {
			return err
		}
		top, at := 0, t
		if l == a.layers-1 {
			top, at = 1, &pb.last
		}
		plan := pb.plans[top]
		if err := q.Attend(plan.attend, pb.attention(l, top, t.qkv, at.att)); err != nil {
			return err
		}
		if top == 1 && answers != nil {
			h := a.hidden
			if err := q.Gather(d.work.other.At(0), h, d.work.x.At(0), h, 0, pb.g.answers, at.rows, h); err != nil {
				return err
			}
			d.work.x, d.work.other = d.work.other, d.work.x
		}
		if err := pb.finish(l, at, plan); err != nil {
			return err
		}
	}
	return nil
}

func (pb *passBack) attention(l, top int, qkv, att cuda.Pointer) cuda.Attend {
	d, a, plan := pb.d, pb.d.m.arch, pb.plans[top]
	return cuda.Attend{
		QKV: qkv, LDQ: d.ldq, QWidth: a.qWidth(), KVWidth: a.kvWidth(), Pool: d.pages.pool.At(0), Layers: d.pages.top,
		Layer: max(0, l-(a.layers-d.pages.top)), Few: plan.few, Many: plan.many, Runs: plan.runs, Refs: plan.refs, Out: att, LDO: d.ldo, Scale: d.m.scale,
	}
}

// finish is device.finish with a tape: gate and up are kept before they meet.
func (pb *passBack) finish(l int, t *taped, plan *planBuffers) error {
	d, q, a, ly, dl := pb.d, pb.q, pb.d.m.arch, &pb.d.layers[l], &pb.x.layers[l]
	x := d.work.x.At(0)
	o := cuda.Gemm{End: "add", M: t.rows, N: a.hidden, K: ly.inO, A: t.att, LDA: d.ldo, W: ly.o.At(0), LDW: ly.inO, Out: x, LDO: a.hidden}
	if err := errors.Join(pb.withDelta(&o, dl.o, plan, t.att, d.ldo, t.to), q.Gemm(o), pb.copyRows(t.mid, t.rows),
		q.RMSNorm(x, ly.ffnNorm.At(0), a.eps, t.rows, a.hidden, pb.g.norm, d.ldh)); err != nil {
		return err
	}
	gu := cuda.Gemm{End: "bf16", M: t.rows, N: 2 * a.ffn, K: ly.inGU, A: pb.g.norm, LDA: d.ldh, W: ly.gateUp.At(0), LDW: ly.inGU, Out: t.gu, LDO: d.ldgu()}
	if err := errors.Join(pb.withDelta(&gu, dl.gateUp, plan, pb.g.norm, d.ldh, t.tg), q.Gemm(gu)); err != nil {
		return err
	}
	return errors.Join(q.SwiGLU(t.gu, d.ldgu(), a.ffn, t.rows, d.work.act.At(0), d.ldf),
		q.Gemm(cuda.Gemm{End: "add", M: t.rows, N: a.hidden, K: ly.inDown, A: d.work.act.At(0), LDA: d.ldf, W: ly.down.At(0), LDW: ly.inDown, Out: x, LDO: a.hidden}))
}

// at is row `row` of rows of ld values of `size` bytes.
func at(p cuda.Pointer, row, ld, size int) cuda.Pointer { return p + cuda.Pointer(row*ld*size) }

// gradients adds to dW and dP of one adapted linear whose output's gradient is dy, and W_A dT to dx, the gradient of its input x. All
// pointers are to row 0 of the row set.
func (pb *passBack) gradients(l, kind, top int, x cuda.Pointer, ldx int, t, dy cuda.Pointer, ldy, out int, dx cuda.Pointer) error {
	d, q, h, r := pb.d, pb.q, pb.d.m.arch.hidden, pb.with.rank
	s, plan := pb.stages[top], pb.plans[top]
	n := s.rows - s.priv
	errs := []error{
		q.Gemm(cuda.Gemm{End: "floats", M: n, N: pb.ldr, K: ldy, A: at(dy, s.priv, ldy, 2), LDA: ldy, W: pb.p[l][kind].At(0), LDW: ldy, Out: at(pb.g.dt, s.priv, pb.ldr, 4), LDO: pb.ldr}),
		q.DeltaGrad(x, ldx, pb.g.dt, pb.ldr, pb.spans[top], len(s.pairs), h, r, pb.g.dw),
		q.PGrad(at(t, s.priv, pb.ldt, 2), pb.ldt, at(dy, s.priv, ldy, 2), ldy, n, out, r, pb.g.part, pb.g.dp[l][kind]),
	}
	if dx != 0 {
		errs = append(errs, q.DeltaUp(dx, pb.g.dt, pb.ldr, plan.tiles, plan.tileCount, plan.mats, plan.scale.At(0), d.m.arch.hidden, r))
	}
	return errors.Join(errs...)
}

// finishBack undoes finish: dx and its copy come in as the gradient of the layer's output and leave as that of the residual after
// attention's input; datt becomes the gradient of attention's output.
func (pb *passBack) finishBack(l, top int, t *taped, w *backLayer) error {
	d, q, a, g, s := pb.d, pb.q, pb.d.m.arch, &pb.g, pb.stages[top]
	ly, dl, n, p, ldgu := &d.layers[l], &pb.x.layers[l], s.rows-s.priv, s.priv, d.ldgu()
	if err := errors.Join(
		q.Gemm(cuda.Gemm{End: "bf16", M: n, N: a.ffn, K: d.ldh, A: at(g.dxh, p, d.ldh, 2), LDA: d.ldh, W: w.down.At(0), LDW: d.ldh, Out: at(g.dact, p, d.ldf, 2), LDO: d.ldf}),
		q.SwiGLUBack(at(g.dact, p, d.ldf, 2), d.ldf, at(t.gu, p, ldgu, 2), ldgu, a.ffn, n, at(g.dgu, p, ldgu, 2)),
		q.Gemm(cuda.Gemm{End: "floats", M: n, N: a.hidden, K: ldgu, A: at(g.dgu, p, ldgu, 2), LDA: ldgu, W: w.gateUp.At(0), LDW: ldgu, Out: at(g.dn, p, a.hidden, 4), LDO: a.hidden})); err != nil {
		return err
	}
	if dl.gateUp != nil {
		if err := errors.Join(q.RMSNorm(t.mid, ly.ffnNorm.At(0), a.eps, s.rows, a.hidden, g.norm, d.ldh),
			pb.gradients(l, ofGateUp, top, g.norm, d.ldh, t.tg, g.dgu, ldgu, 2*a.ffn, g.dn)); err != nil {
			return err
		}
	}
	if err := errors.Join(q.NormBack(at(g.dx, p, a.hidden, 4), at(g.dn, p, a.hidden, 4), at(t.mid, p, a.hidden, 4), ly.ffnNorm.At(0), a.eps, n, a.hidden, at(g.dxh, p, d.ldh, 2), d.ldh),
		q.Gemm(cuda.Gemm{End: "floats", M: n, N: a.qWidth(), K: d.ldh, A: at(g.dxh, p, d.ldh, 2), LDA: d.ldh, W: w.o.At(0), LDW: d.ldh, Out: at(g.datt, p, a.qWidth(), 4), LDO: a.qWidth()})); err != nil {
		return err
	}
	if dl.o == nil {
		return nil
	}
	return pb.gradients(l, ofO, top, t.att, d.ldo, t.to, g.dxh, d.ldh, a.hidden, g.datt)
}

// attendBack fills dqkv.
func (pb *passBack) attendBack(l, top int) error {
	a, s := pb.d.m.arch, pb.stages[0]
	if err := pb.clear(pb.g.dqkv, 4*s.rows*a.qkvWidth()); err != nil {
		return err
	}
	t := &pb.layers[l-pb.with.lowest]
	return pb.q.AttendBack(pb.plans[top].attend, pb.attention(l, top, t.qkv, 0), pb.tasks[top])
}

// clear zeroes a piece of the tape's buffer.
func (pb *passBack) clear(p cuda.Pointer, bytes int) error {
	return pb.q.Zero(pb.d.tapes, int64(p-pb.d.tapes.At(0)), int64(bytes))
}

// scatter moves the gradients of the answers to their rows, when the last layer's tail had gathered them.
func (pb *passBack) scatter(l int, answers []int32) error {
	if l != pb.d.m.arch.layers-1 || answers == nil {
		return nil
	}
	if err := pb.q.ScatterRows(pb.g.spare, pb.g.dx, pb.g.place, pb.stages[0].rows, pb.d.m.arch.hidden); err != nil {
		return err
	}
	pb.g.dx, pb.g.spare = pb.g.spare, pb.g.dx
	return nil
}

// projectBack undoes project; the lowest adapted layer passes nothing further down.
func (pb *passBack) projectBack(l int, w *backLayer) error {
	d, q, a, g, s := pb.d, pb.q, pb.d.m.arch, &pb.g, pb.stages[0]
	ly, t, n, p, width := &d.layers[l], &pb.layers[l-pb.with.lowest], s.rows-s.priv, s.priv, a.qkvWidth()
	if err := q.TurnBack(at(g.dqkv, p, width, 4), width, d.angles.At(0), at(d.fork.pos, p, 1, 4), a.qWidth()+a.kvWidth(), a.headDim, n, at(g.dqkvh, p, d.ldq, 2), d.ldq); err != nil {
		return err
	}
	down := l > pb.with.lowest
	if down {
		if err := q.Gemm(cuda.Gemm{End: "floats", M: n, N: a.hidden, K: d.ldq, A: at(g.dqkvh, p, d.ldq, 2), LDA: d.ldq, W: w.qkv.At(0), LDW: d.ldq, Out: at(g.dn, p, a.hidden, 4), LDO: a.hidden}); err != nil {
			return err
		}
	}
	if pb.x.layers[l].qkv != nil {
		dn := g.dn
		if !down {
			dn = 0
		}
		if err := errors.Join(q.RMSNorm(t.x, ly.attnNorm.At(0), a.eps, s.rows, a.hidden, g.norm, d.ldh),
			pb.gradients(l, ofQKV, 0, g.norm, d.ldh, t.tq, g.dqkvh, d.ldq, width, dn)); err != nil {
			return err
		}
	}
	if !down {
		return nil
	}
	return q.NormBack(at(g.dx, p, a.hidden, 4), at(g.dn, p, a.hidden, 4), at(t.x, p, a.hidden, 4), ly.attnNorm.At(0), a.eps, n, a.hidden, at(g.dxh, p, d.ldh, 2), d.ldh)
}

// collect downloads scores and gradients and adds them to b.
func (pb *passBack) collect(b *backprop, order []int) error {
	d, q, a, r := pb.d, pb.q, pb.d.m.arch, pb.with.rank
	n, size := len(order), pb.d.m.arch.hidden*r
	offset := func(p cuda.Pointer) int64 { return int64(p - d.tapes.At(0)) }
	z, dw := make([]float32, n), make([]float32, n*size)
	dp := make([][3][]float32, a.layers)
	errs := []error{cuda.Download(q, z, d.tapes, offset(pb.g.z)), cuda.Download(q, dw, d.tapes, offset(pb.g.dw))}
	for l := pb.with.lowest; l < a.layers; l++ {
		for k, p := range pb.with.layers[l].all() {
			if p != nil {
				dp[l][k] = make([]float32, r*p.out)
				errs = append(errs, cuda.Download(q, dp[l][k], d.tapes, offset(pb.g.dp[l][k])))
			}
		}
	}
	if err := errors.Join(append(errs, q.Wait())...); err != nil {
		return err
	}
	for _, v := range append([][]float32{z, dw}, flat(dp)...) {
		for i, x := range v {
			if x-x != 0 {
				return fmt.Errorf("gradient %d: %w", i, cuda.ErrNotFinite)
			}
		}
	}
	for i, j := range order {
		copy(b.g.DW[j], dw[i*size:])
		b.score(j, z[i])
	}
	for l := range dp {
		for k, v := range dp[l] {
			if v == nil {
				continue
			}
			if b.dp[l][k] == nil {
				b.dp[l][k] = make([]float32, len(v))
			}
			out := len(v) / r
			from := [...]func(int) int{a.turnedFrom, func(i int) int { return i }, a.alternateFrom}[k]
			for i, x := range v {
				b.dp[l][k][i/out*out+from(i%out)] += x
			}
		}
	}
	return nil
}

func flat(v [][3][]float32) (out [][]float32) {
	for _, x := range v {
		out = append(out, x[:]...)
	}
	return out
}
