package llm

import (
	"context"
	"fmt"
	"math"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// tapeBytes bounds what a backward pass keeps of the forward one; longer batches are cut.
const tapeBytes = 256 << 20

// Backward scores the prompts as Score does and returns the mean binary cross-entropy of the scored logit against labels in
// [0,1] (soft targets are fine) with its gradients: dLoss/dW_A [hidden*rank] of each row, and dLoss/dP. The model itself is
// frozen; keys and values of tokens that no delta reaches are constants.
func (m *Model) Backward(ctx context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection,
	labels []float32,
) (*corastream.Gradients, error) {
	if len(prompts) == 0 || len(labels) != len(prompts) {
		return nil, fmt.Errorf("llm: %d prompts with %d labels", len(prompts), len(labels))
	}
	for i, y := range labels {
		if !(y >= 0 && y <= 1) {
			return nil, fmt.Errorf("llm: label %d is %v; labels are from 0 to 1", i, y)
		}
	}
	d, err := m.newDelta(len(prompts), w, p, true)
	if err != nil {
		return nil, err
	}
	ts, err := m.render(prompts)
	if err != nil {
		return nil, err
	}
	b := m.newBackprop(d, labels)
	done, err := m.onGPU(ctx, "gradients", func(g *device) error {
		one, all := m.split(prompts, d)
		return g.backAll(ctx, b, one, all, ts, nil)
	})
	if err == nil && !done {
		b = m.newBackprop(d, labels) // the device may have added some already
		err = m.backAll(ctx, b, prompts, ts)
	}
	if err != nil {
		return nil, err
	}
	b.collect(p)
	return b.g, nil
}

func (m *Model) newBackprop(d *delta, labels []float32) *backprop {
	n, size := len(labels), m.arch.hidden*d.rank
	b := &backprop{d: d, labels: labels, loss: make([]float64, n), dp: make([][3][]float32, m.arch.layers), g: &corastream.Gradients{
		Scores: make([]float32, n), DW: make([][]float32, n), DP: map[corastream.Slot][]float32{},
	}}
	dw := make([]float32, n*size)
	for i := range b.g.DW {
		b.g.DW[i], dw = dw[:size], dw[size:]
	}
	return b
}

// score keeps a row's logit and its part of the loss.
func (b *backprop) score(row int, z float32) {
	b.g.Scores[row] = z
	label := float64(b.labels[row])
	b.loss[row] = max(float64(z), 0) - float64(z)*label + math.Log1p(math.Exp(-math.Abs(float64(z))))
}

// backprop gathers the gradients of a batch.
type backprop struct {
	d      *delta
	labels []float32
	loss   []float64
	dp     [][3][]float32 // by layer: of q|k|v, o, gate|up [rank][out], unscaled
	g      *corastream.Gradients
}

const (
	ofQKV = iota
	ofO
	ofGateUp
)

func (m *Model) backAll(ctx context.Context, b *backprop, prompts []corastream.Prompt, ts []tokens) error {
	a := m.arch
	perRow := 4 * (3*a.hidden + a.qkvWidth() + a.qWidth() + 2*a.ffn + 3*b.d.rank + a.rawWidth() + 2*a.addedWidth()) * max(1, a.layers-b.d.lowest)
	limit := max(1, tapeBytes/perRow)
	one, all := m.split(prompts, b.d)
	for _, c := range chunks(one, func(int) int { return 1 }, min(limit, pairRows)) {
		if err := m.backCached(ctx, b, ts, c); err != nil {
			return err
		}
	}
	for _, c := range chunks(all, func(i int) int { return len(ts[i].ids) }, min(limit, m.opts.BatchTokens)) {
		if err := m.backWhole(ctx, b, ts, c); err != nil {
			return err
		}
	}
	return nil
}

// collect turns the sums into the result: mean loss, and the gradient of each slot's own P.
func (b *backprop) collect(p *corastream.Projection) {
	var sum float64
	for _, x := range b.loss {
		sum += x
	}
	b.g.Loss = float32(sum / float64(len(b.loss)))
	for l := range b.d.layers {
		for k, q := range b.d.layers[l].all() {
			if q == nil {
				continue
			}
			for _, c := range q.slots {
				v := make([]float32, len(p.P[c.slot]))
				n := c.hi - c.lo
				for r := range b.d.rank {
					if src := b.dp[l][k]; src != nil {
						copy(v[r*n:(r+1)*n], src[r*q.out+c.lo:])
					}
				}
				kernels.Scale(b.d.scale, v)
				b.g.DP[c.slot] = v
			}
		}
	}
}

func (l *layerDelta) all() [3]*projection { return [3]*projection{l.qkv, l.o, l.gateUp} }

// backCached goes forward and back through the top layers, one token for each pair.
func (m *Model) backCached(ctx context.Context, b *backprop, ts []tokens, pairs []int) error {
	s, act, order, p, err := m.startCached(ctx, ts, pairs, b.d)
	if err != nil {
		return err
	}
	defer m.giveBack(p)
	for l := m.arch.layers - m.opts.TopLayers; l < b.d.lowest; l++ {
		if err := p.plainLayer(ctx, l, s, act); err != nil {
			return err
		}
	}
	m.cached.Add(int64(s.rows))
	return p.taped(ctx, b, s, s, nil, order, act.x)
}

// backWhole reads whole prompts up to the lowest adapted layer, then goes forward and back through the rest.
func (m *Model) backWhole(ctx context.Context, b *backprop, ts []tokens, pairs []int) error {
	p, err := m.borrow(ctx)
	if err != nil {
		return err
	}
	defer m.giveBack(p)
	order := b.d.order(pairs)
	t := newTrie(ts, order)
	s := t.plain()
	act := p.reserve(s.rows)
	if err := p.embed(t.tokens, act.x); err != nil {
		return err
	}
	m.forward.Add(int64(s.rows))
	for l := range min(b.d.lowest, m.arch.layers) {
		if err := p.plainLayer(ctx, l, s, act); err != nil {
			return err
		}
	}
	s, answers := p.fork(t, ts, order, b.d)
	tail := s.tail(answers, ascending(len(order)))
	tail.priv = 0
	b.d.assign(tail, order, func(int) int { return 1 })
	return p.taped(ctx, b, s, tail, answers, order, p.act.x)
}

// plainLayer takes rows through one layer that no delta reaches.
func (p *pass) plainLayer(ctx context.Context, l int, s *rowSet, act *activations) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	p.project(l, s, nil, act)
	p.attend(l, s, act.qkv, act.att)
	p.finish(l, s, nil, act, act.x)
	return nil
}

// tape holds the activations of the adapted layers and the gradients on their way down.
type tape struct {
	first  int
	layers []activations
	tail   activations // the last layer from its attention on, for the answers alone
	buf    []float32
	grad   []float32
	// gradients, by row: of the residual stream, of q|k|v, attention's output, gate|up and T; norm is a linear's input again
	dx, dqkv, datt, dgu, dt, norm []float32
	dadd                          []float32 // of what o and down gave, where that is normed before it is added
	out                           []float32 // the last layer's output for the answers
}

// carve cuts slices off one buffer.
type carve []float32

func (c *carve) take(n int) []float32 {
	s := (*c)[:n:n]
	*c = (*c)[n:]
	return s
}

// newTape lays out buffers for s through layers first.., and for tail in the last one.
func (p *pass) newTape(first int, s, tail *rowSet, rank int) *tape {
	a, t := p.m.arch, &p.tape
	n, k := a.layers-first, s.rows
	raw, added := a.rawWidth(), a.addedWidth()
	front := a.hidden + a.qkvWidth() + rank + raw
	back := a.qWidth() + a.hidden + 2*a.ffn + 2*rank + 2*added
	rows := max(s.rows, tail.rows)
	c := carve(grow(&t.buf, n*k*(front+back)+tail.rows*(back+2*a.hidden)))
	g := carve(grow(&t.grad, rows*(2*a.hidden+a.qkvWidth()+a.qWidth()+2*a.ffn+rank+added)))
	t.first, t.layers = first, t.layers[:0]
	for range n {
		t.layers = append(t.layers, activations{
			tape: true, x: c.take(k * a.hidden), qkv: c.take(k * a.qkvWidth()), tq: c.take(k * rank),
			att: c.take(k * a.qWidth()), mid: c.take(k * a.hidden), gateUp: c.take(k * 2 * a.ffn), to: c.take(k * rank), tg: c.take(k * rank),
			raw: c.take(k * raw), oRaw: c.take(k * added), ffnRaw: c.take(k * added),
		})
	}
	k = tail.rows
	t.tail = activations{
		tape: true, x: c.take(k * a.hidden), att: c.take(k * a.qWidth()), mid: c.take(k * a.hidden),
		gateUp: c.take(k * 2 * a.ffn), to: c.take(k * rank), tg: c.take(k * rank), oRaw: c.take(k * added), ffnRaw: c.take(k * added),
	}
	t.out = c.take(k * a.hidden)
	t.dx, t.norm, t.dqkv = g.take(rows*a.hidden), g.take(rows*a.hidden), g.take(rows*a.qkvWidth())
	t.datt, t.dgu, t.dt = g.take(rows*a.qWidth()), g.take(rows*2*a.ffn), g.take(rows*rank)
	t.dadd = g.take(rows * added)
	return t
}

// taped runs the adapted layers forward with a tape, then back. x is the residual stream at the lowest adapted layer. answers
// are the rows that tail gathers, nil when tail is s itself.
func (p *pass) taped(ctx context.Context, b *backprop, s, tail *rowSet, answers []int32, order []int, x []float32) error {
	a, d := p.m.arch, b.d
	h := a.hidden
	if d.lowest >= a.layers { // nothing is adapted: no layer to go through
		return fmt.Errorf("llm: the projection adapts no layer; there is nothing to train")
	}
	t := p.newTape(d.lowest, s, tail, d.rank)
	copy(t.layers[0].x, x[:s.rows*h])
	for l := d.lowest; l < a.layers; l++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		act := &t.layers[l-d.lowest]
		p.project(l, s, d, act)
		if l < a.layers-1 {
			p.attend(l, s, act.qkv, act.att)
			p.finish(l, s, d, act, t.layers[l-d.lowest+1].x)
			continue
		}
		p.attend(l, tail, act.qkv, t.tail.att)
		if answers == nil {
			copy(t.tail.x, act.x)
		}
		for i, r := range answers {
			copy(t.tail.x[i*h:(i+1)*h], act.x[int(r)*h:])
		}
		p.finish(l, tail, d, &t.tail, t.out)
	}
	p.headBack(b, t, order)
	for l := a.layers - 1; l >= d.lowest; l-- {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		back, err := p.m.weights.back[l]()
		if err != nil {
			return err
		}
		act, in, top := &t.layers[l-d.lowest], s, &t.layers[l-d.lowest]
		if l == a.layers-1 {
			in, top = tail, &t.tail
		}
		p.finishBack(l, in, b, top, back, order)
		clear(t.dqkv[s.priv*a.qkvWidth() : s.rows*a.qkvWidth()])
		p.attendBack(l, s, in, act.qkv)
		if l == a.layers-1 && answers != nil {
			scatter(t.dx[:s.rows*h], answers, h, p)
		}
		p.projectBack(l, s, b, act, back, order)
	}
	return nil
}

// scatter moves the gradients of gathered rows to their places; all other rows get none.
func scatter(dx []float32, rows []int32, h int, p *pass) {
	tmp := append(grow(&p.last, 0), dx[:len(rows)*h]...)
	clear(dx)
	for i, r := range rows {
		copy(dx[int(r)*h:(int(r)+1)*h], tmp[i*h:])
	}
	p.last = tmp[:0]
}

// headBack scores the answers, and starts the gradient: dLoss/dlogit = (sigmoid(logit) - label)/rows.
func (p *pass) headBack(b *backprop, t *tape, order []int) {
	m := p.m
	h := m.arch.hidden
	y, dy := make([]float32, h), make([]float32, h)
	for i, j := range order {
		x := t.out[i*h : (i+1)*h]
		kernels.RMSNorm(y, x, m.outNorm, m.arch.eps)
		z := logit(y, m.yes) - logit(y, m.no)
		b.score(j, z)
		g := float32((1/(1+math.Exp(-float64(z))) - float64(b.labels[j])) / float64(len(b.labels)))
		clear(dy)
		kernels.Axpy(g, m.yes, dy)
		if m.no != nil {
			kernels.Axpy(-g, m.no, dy)
		}
		dx := t.dx[i*h : (i+1)*h]
		clear(dx)
		normBack(dx, dy, x, m.outNorm, m.arch.eps)
	}
}

// normBack adds to dx the gradient of y = x w r, r = 1/sqrt(mean(x^2)+eps), given dy; dy is overwritten by dy w.
func normBack(dx, dy, x, w []float32, eps float32) {
	var dot float32
	for i, g := range dy {
		dy[i] = g * w[i]
	}
	dot = kernels.Dot(dy, x)
	n := float32(len(x))
	r := float32(1 / math.Sqrt(float64(kernels.Dot(x, x)/n+eps)))
	kernels.Axpy(r, dy, dx)
	kernels.Axpy(-dot*r*r*r/n, x, dx)
}
