package llm

import (
	"context"
	"errors"
	"fmt"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// Score implements corastream.Scorer: the logits of " Yes" and " No" behind each prompt, each with its own weights; nil weights
// score the frozen model. Item prompts whose delta acts on the answer token of the top layers start from the item cache.
func (m *Model) Score(ctx context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection) ([]corastream.Logits, error) {
	d, err := m.newDelta(len(prompts), w, p, false)
	if err != nil {
		return nil, err
	}
	ts, err := m.render(prompts)
	if err != nil {
		return nil, err
	}
	out := make([]corastream.Logits, len(prompts))
	one, all := m.split(prompts, d)
	if done, err := m.onGPU(ctx, "scores", func(g *device) error { return g.score(ctx, ts, one, all, d, out) }); done || err != nil {
		return out, err
	}
	for _, c := range chunks(one, func(int) int { return 1 }, pairRows) {
		if err := m.scoreCached(ctx, ts, c, d, out); err != nil {
			return nil, err
		}
	}
	for _, c := range m.batches(all, ts, d) {
		if err := m.scoreWhole(ctx, ts, c, d, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pairRows is how many pairs go through the top layers at once.
const pairRows = 512

func (m *Model) render(prompts []corastream.Prompt) ([]tokens, error) {
	ts := make([]tokens, len(prompts))
	for i, q := range prompts {
		var err error
		if ts[i], err = m.prompts.render(q); err != nil {
			return nil, err
		}
	}
	return ts, nil
}

// split tells which prompts can start from the item cache and which must be read whole.
func (m *Model) split(prompts []corastream.Prompt, d *delta) (one, all []int) {
	fits := d == nil || d.adapt == corastream.AdaptLast && d.lowest >= m.arch.layers-m.opts.TopLayers
	for i, q := range prompts {
		if fits && len(q.History) == 0 {
			one = append(one, i)
		} else {
			all = append(all, i)
		}
	}
	return one, all
}

// chunks cuts a list so that the sizes of each part add up to at most limit; a larger single one stands alone.
func chunks(list []int, size func(i int) int, limit int) [][]int {
	var out [][]int
	lo, sum := 0, 0
	for i, p := range list {
		n := size(p)
		if i > lo && sum+n > limit {
			out, lo, sum = append(out, list[lo:i]), i, 0
		}
		sum += n
	}
	if lo < len(list) {
		out = append(out, list[lo:])
	}
	return out
}

// batches cuts a list of whole prompts so that each part makes at most BatchTokens rows; a longer prompt stands alone. What a
// prompt shares with the one before it makes no rows, up to where the delta begins to act.
func (m *Model) batches(list []int, ts []tokens, d *delta) [][]int {
	return m.batchesOf(list, ts, d, m.opts.BatchTokens)
}

// batchesOf does so for another limit of rows.
func (m *Model) batchesOf(list []int, ts []tokens, d *delta, limit int) [][]int {
	var out [][]int
	lo, sum := 0, 0
	for i, p := range list {
		ids, shared := ts[p].ids, 0
		if i > lo {
			before := ts[list[i-1]].ids
			for shared < min(len(ids), len(before)) && ids[shared] == before[shared] {
				shared++
			}
		}
		frozen := d.frozen(ts[p])
		n := max(len(ids)-shared, max(0, frozen-shared)+len(ids)-frozen)
		if i > lo && sum+n > limit {
			out, lo, sum, n = append(out, list[lo:i]), i, 0, len(ids)
		}
		sum += n
	}
	if lo < len(list) {
		out = append(out, list[lo:])
	}
	return out
}

// scoreCached is the hot path: one token of each pair through the top layers.
func (m *Model) scoreCached(ctx context.Context, ts []tokens, pairs []int, d *delta, out []corastream.Logits) error {
	s, act, order, p, err := m.startCached(ctx, ts, pairs, d)
	if err != nil {
		return err
	}
	defer m.giveBack(p)
	// Rows do not read each other's, so each worker takes its own through all layers: none waits for another.
	kernels.Parallel(m.opts.Threads, s.rows, func(lo, hi, worker int) {
		for lo < hi && ctx.Err() == nil {
			end := min(hi, lo+blockRows)
			p.top(s, d, act, lo, end, &p.workers[worker])
			lo = end
		}
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	m.cached.Add(int64(s.rows))
	p.logits(act.x, order, out)
	return nil
}

// top takes rows [lo, hi) of a row set of single answer tokens through the layers that the item cache keeps.
func (p *pass) top(s *rowSet, d *delta, act *activations, lo, hi int, w *worker) {
	m := p.m
	for l := m.arch.layers - m.opts.TopLayers; l < m.arch.layers; l++ {
		m.projectRows(l, s, d, act, lo, hi, w)
		for i := lo; i < hi; i++ {
			p.attendRun(l, &s.runs[i], 0, m.arch.kvHeads, act.qkv, act.att, w)
		}
		m.finishRows(l, s, d, act, act.x, lo, hi, w)
	}
}

// startCached makes the row set of one answer token for each pair, behind its item's cached K/V.
func (m *Model) startCached(ctx context.Context, ts []tokens, pairs []int, d *delta) (*rowSet, *activations, []int, *pass, error) {
	order := d.order(pairs)
	mine := make([]tokens, len(order))
	for i, j := range order {
		mine[i] = ts[j]
	}
	entries, err := m.entries(ctx, mine)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	p, err := m.borrow(ctx)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	h := m.arch.hidden
	s := &rowSet{rows: len(order)}
	act := p.reserve(s.rows)
	for i, e := range entries {
		r := int32(i)
		s.pos = append(s.pos, int32(e.n))
		s.runs = append(s.runs, run{lo: r, hi: r + 1, out: r, ext: e})
		copy(act.x[i*h:(i+1)*h], e.state())
	}
	if d == nil {
		s.priv = s.rows
	}
	d.assign(s, order, func(int) int { return 1 })
	return s, act, order, p, nil
}

func (m *Model) scoreWhole(ctx context.Context, ts []tokens, pairs []int, d *delta, out []corastream.Logits) error {
	return m.whole(ctx, ts, pairs, d, func(p *pass, x []float32, order []int) { p.logits(x, order, out) })
}

// whole reads whole prompts; what they share is computed once, and rows split where the delta begins to act. done gets the
// final residual stream at the answers, in the given order.
func (m *Model) whole(ctx context.Context, ts []tokens, pairs []int, d *delta, done func(p *pass, x []float32, order []int)) error {
	p, err := m.borrow(ctx)
	if err != nil {
		return err
	}
	defer m.giveBack(p)
	order := d.order(pairs)
	t := newTrie(ts, order)
	s := t.plain()
	answers := t.answers()
	act := p.reserve(max(s.rows, len(order))) // equal texts share all their rows, and each has an answer
	if err := p.embed(t.tokens, act.x); err != nil {
		return err
	}
	m.forward.Add(int64(s.rows))
	fork := m.arch.layers
	if d != nil {
		fork = min(d.lowest, fork)
	}
	var with *delta
	projected := false // by the layer before
	for l := range m.arch.layers {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if l == fork {
			s, answers = p.fork(t, ts, order, d)
			act, with = &p.act, d
		}
		if !projected {
			p.project(l, s, with, act)
		}
		if l == m.arch.layers-1 {
			s, act = p.answersOnly(l, s, act, answers, order, with)
		} else {
			p.attend(l, s, act.qkv, act.att)
		}
		if projected = l+1 < m.arch.layers && l+1 != fork; projected {
			p.finishAndProject(l, s, with, act)
		} else {
			p.finish(l, s, with, act, act.x)
		}
	}
	done(p, act.x, order)
	return nil
}

// fork goes from shared rows to rows of each pair, copying the residual stream.
func (p *pass) fork(t *trie, ts []tokens, order []int, d *delta) (*rowSet, []int32) {
	frozen := make([]int, len(order))
	for i, j := range order {
		frozen[i] = d.frozen(ts[j])
	}
	s, from, answers := t.fork(frozen, ascending(len(order)))
	d.assign(s, order, func(i int) int { return len(t.paths[i]) - frozen[i] })
	h := p.m.arch.hidden
	x := append([]float32(nil), p.act.x...)
	act := p.reserve(s.rows)
	for i, r := range from {
		copy(act.x[i*h:(i+1)*h], x[int(r)*h:])
	}
	return s, answers
}

// answersOnly attends in the last layer for the answers alone and gathers their rows.
func (p *pass) answersOnly(l int, s *rowSet, act *activations, answers []int32, order []int, d *delta) (*rowSet, *activations) {
	t := s.tail(answers, ascending(len(order)))
	if d != nil {
		t.priv = 0
		d.assign(t, order, func(int) int { return 1 })
	}
	h := p.m.arch.hidden
	last := &activations{x: grow(&p.last, t.rows*h), att: act.att}
	p.attend(l, t, act.qkv, act.att)
	for i, r := range answers {
		copy(last.x[i*h:(i+1)*h], act.x[int(r)*h:])
	}
	return t, last
}

// logits reads the head's two rows for each row of x.
func (p *pass) logits(x []float32, order []int, out []corastream.Logits) {
	h := p.m.arch.hidden
	y := p.workers[0].norm[:h]
	for i, j := range order {
		kernels.RMSNorm(y, x[i*h:(i+1)*h], p.m.outNorm, p.m.arch.eps)
		out[j] = corastream.Logits{Yes: logit(y, p.m.yes), No: logit(y, p.m.no)}
	}
}

// ScoreTokens returns the frozen model's logits of " Yes" and " No" behind each token sequence; what they share at their
// beginning is computed once.
func (m *Model) ScoreTokens(ctx context.Context, ids [][]int32) ([]corastream.Logits, error) {
	ts := make([]tokens, len(ids))
	for i := range ids {
		if err := m.checkTokens(ids[i]); err != nil {
			return nil, err
		}
		ts[i].ids = ids[i]
	}
	out := make([]corastream.Logits, len(ids))
	for _, c := range m.batches(ascending(len(ids)), ts, nil) {
		if err := m.scoreWhole(ctx, ts, c, nil, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Logits returns the full row of the vocabulary behind the tokens [vocab]: the frozen model's next-token logits.
func (m *Model) Logits(ctx context.Context, ids []int32) ([]float32, error) {
	if err := m.checkTokens(ids); err != nil {
		return nil, err
	}
	head, err := m.head()
	if err != nil {
		return nil, err
	}
	out := make([]float32, m.arch.vocab)
	errs := make([]error, m.opts.Threads)
	err = m.whole(ctx, []tokens{{ids: ids}}, []int{0}, nil, func(p *pass, x []float32, _ []int) {
		y := make([]float32, m.arch.hidden)
		kernels.RMSNorm(y, x[:len(y)], m.outNorm, m.arch.eps)
		kernels.Parallel(m.opts.Threads, len(out), func(lo, hi, worker int) {
			row := p.workers[worker].norm[:len(y)]
			for i := lo; i < hi && errs[worker] == nil; i++ {
				if errs[worker] = head.Row(row, i); errs[worker] == nil {
					out[i] = kernels.Dot(y, row)
				}
			}
		})
	})
	return out, errors.Join(append(errs, err)...)
}

func (m *Model) checkTokens(ids []int32) error {
	if len(ids) == 0 || len(ids) > m.opts.ContextTokens {
		return fmt.Errorf("llm: %d tokens; 1 to %d (llm.context_tokens) can be read", len(ids), m.opts.ContextTokens)
	}
	for i, id := range ids {
		if id < 0 || int(id) >= m.arch.vocab {
			return fmt.Errorf("llm: token %d is %d; the vocabulary has %d", i, id, m.arch.vocab)
		}
	}
	return nil
}
