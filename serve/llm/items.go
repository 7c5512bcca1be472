package llm

import (
	"context"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// Encode implements corastream.Encoder: it reads items by their item prompts, in the pass that also fills the item cache. An
// item without a title gives a zero mean.
func (m *Model) Encode(ctx context.Context, items []corastream.Item) ([]corastream.States, error) {
	out := make([]corastream.States, 0, len(items))
	const step = 64
	for lo := 0; lo < len(items); lo += step {
		part := items[lo:min(lo+step, len(items))]
		ts := make([]tokens, len(part))
		for i, it := range part {
			var err error
			if ts[i], err = m.prompts.render(corastream.Prompt{ItemID: it.ID, Title: it.Title, Fields: it.Fields}); err != nil {
				return nil, err
			}
		}
		entries, err := m.entries(ctx, ts)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			out = append(out, e.states())
		}
		if m.opts.Progress != nil {
			m.opts.Progress(len(out), len(items))
		}
	}
	return out, nil
}

// entries returns the cached reading of each prompt and reads those that are missing.
func (m *Model) entries(ctx context.Context, ts []tokens) ([]*entry, error) {
	out, keys := make([]*entry, len(ts)), make([]entryKey, len(ts))
	missing := 0
	for i, t := range ts {
		keys[i] = t.key
		if out[i] = m.cache.get(keys[i]); out[i] == nil {
			missing++
		}
	}
	if missing == 0 {
		return out, nil
	}
	m.readMu.Lock()
	defer m.readMu.Unlock()
	made := map[entryKey]*entry{}
	var batch []int
	count := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		read := make([]tokens, len(batch))
		for i, j := range batch {
			read[i] = ts[j]
		}
		entries, err := m.read(ctx, read)
		if err != nil {
			return err
		}
		for i, j := range batch {
			made[keys[j]] = entries[i]
			m.cache.put(keys[j], entries[i])
		}
		batch, count = batch[:0], 0
		return nil
	}
	seen := map[entryKey]bool{}
	for i, t := range ts {
		if out[i] != nil || seen[keys[i]] {
			continue
		}
		if e := m.cache.get(keys[i]); e != nil { // another call has read it meanwhile
			made[keys[i]] = e
			continue
		}
		if count += len(t.ids); count > m.opts.BatchTokens {
			if err := flush(); err != nil {
				return nil, err
			}
			count = len(t.ids)
		}
		batch, seen[keys[i]] = append(batch, i), true
	}
	if err := flush(); err != nil {
		return nil, err
	}
	for i := range out {
		if out[i] == nil {
			out[i] = made[keys[i]]
		}
	}
	return out, nil
}

// read takes item prompts through the frozen model once. Prompts share the rows of their common beginning; a row's values depend
// on its own tokens alone, so an entry's bytes do not depend on what it is read with.
func (m *Model) read(ctx context.Context, ts []tokens) (entries []*entry, err error) {
	if !m.arch.readsGate() { // the device reads o's inputs
		if done, err := m.onGPU(ctx, "a reading", func(g *device) error { entries, err = g.read(ctx, ts); return err }); done || err != nil {
			return entries, err
		}
	}
	p, err := m.borrow(ctx)
	if err != nil {
		return nil, err
	}
	defer m.giveBack(p)
	a, dims := m.arch, m.cache.dims
	h, top := a.hidden, a.layers-dims.top
	t := newTrie(ts, ascending(len(ts)))
	answers := t.answers()
	entries = make([]*entry, len(ts))
	for i := range ts {
		entries[i] = dims.make(len(ts[i].ids) - 1)
	}
	s := t.plain()
	tail := s.tail(answers, ascending(len(answers)))
	act := p.reserve(max(s.rows, tail.rows)) // equal titles share all their rows
	if err := p.embed(t.tokens, act.x); err != nil {
		return nil, err
	}
	at := time.Now()
	for l := range a.layers {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if l > 0 {
			now := time.Now()
			m.readTime[l-1].Add(int64(now.Sub(at)))
			at = now
		}
		if l == m.opts.ReadLayer {
			for i := range ts {
				readTitle(entries[i].title(), act.x, h, t.paths[i], ts[i])
			}
			if m.opts.TextOnly {
				break
			}
		}
		if l == top {
			for i, r := range answers {
				copy(entries[i].state(), act.x[int(r)*h:])
			}
		}
		if l == 0 {
			p.project(l, s, nil, act)
		}
		if l >= top {
			for i, e := range entries {
				for j, row := range t.paths[i][:e.n] {
					key := act.qkv[int(row)*a.qkvWidth()+a.qWidth():]
					e.keep(l, j, key, key[a.kvWidth():])
				}
			}
		}
		if l == a.layers-1 { // only the answers' reading is wanted of the last layer
			p.attend(l, tail, act.qkv, act.att)
			if a.readsGate() {
				last := &activations{x: grow(&p.last, tail.rows*h), att: act.att, tap: grow(&p.tap, tail.rows*h)}
				for i, r := range answers {
					copy(last.x[i*h:(i+1)*h], act.x[int(r)*h:])
				}
				p.finish(l, tail, nil, last, last.x)
				act = last
			}
			keepAnswers(entries, a, l-top, act, ascending32(len(entries)))
			break
		}
		p.attend(l, s, act.qkv, act.att)
		if act.tap = nil; l >= top && a.readsGate() {
			act.tap = grow(&p.tap, s.rows*h)
		}
		p.finishAndProject(l, s, nil, act)
		if l >= top {
			keepAnswers(entries, a, l-top, act, answers)
		}
	}
	if !m.opts.TextOnly {
		m.readTime[a.layers-1].Add(int64(time.Since(at)))
	}
	m.forward.Add(int64(s.rows))
	return entries, nil
}

// ReadTimes is the time that Encode has spent in each layer on the CPU since Open.
func (m *Model) ReadTimes() []time.Duration {
	out := make([]time.Duration, len(m.readTime))
	for l := range out {
		out[l] = time.Duration(m.readTime[l].Load())
	}
	return out
}

// keepAnswers copies what is read of the answer tokens, which are at the given rows, in top layer i.
func keepAnswers(entries []*entry, a arch, i int, act *activations, rows []int32) {
	from, width := act.att, a.qWidth()
	if a.readsGate() {
		from, width = act.tap, a.hidden
	}
	for j, e := range entries {
		copy(e.answer(i), from[int(rows[j])*width:])
	}
}

// readTitle fills dst with the mean of the title tokens' states and the last token's.
func readTitle(dst, x []float32, h int, path []int32, t tokens) {
	mean := dst[:h]
	clear(mean)
	for _, r := range path[t.title:t.titleEnd] {
		kernels.Add(mean, x[int(r)*h:int(r+1)*h])
	}
	if n := t.titleEnd - t.title; n > 0 {
		kernels.Scale(1/float32(n), mean)
	}
	last := int(path[len(path)-1])
	copy(dst[h:], x[last*h:(last+1)*h])
}

func ascending32(n int) []int32 {
	s := make([]int32, n)
	for i := range s {
		s[i] = int32(i)
	}
	return s
}

func ascending(n int) []int {
	s := make([]int, n)
	for i := range s {
		s[i] = i
	}
	return s
}
