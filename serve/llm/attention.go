package llm

import "github.com/corastream/corastream/kernels"

// attend fills att with the attention of every run of the row set.
func (p *pass) attend(l int, s *rowSet, qkv, att []float32) {
	p.eachRun(s, func(r *run, from, to int, w *worker) { p.attendRun(l, r, from, to, qkv, att, w) })
}

// attendRun does the query heads of the key/value heads [from, to) of a run.
func (p *pass) attendRun(l int, r *run, from, to int, qkv, att []float32, w *worker) {
	a := p.m.arch
	d, group, o := a.headDim, a.heads/a.kvHeads, a.qWidth()
	cache := p.stretches(l, r, from, qkv, w)
	p.m.attendBlock(l, att[int(r.out)*o+from*group*d:], qkv[int(r.lo)*a.qkvWidth()+from*group*d:], int(r.hi-r.lo), cache, to-from, w)
}

// attendBlock is kernels.AttendBlock for m rows and kvHeads key/value heads of layer l, each row with the window that the layer has.
// It changes cache.
func (m *Model) attendBlock(l int, att, q []float32, rows int, cache []kernels.Stretch, kvHeads int, w *worker) {
	a := m.arch
	group, o, total := a.heads/a.kvHeads, a.qWidth(), 0
	for _, c := range cache {
		total += c.N
	}
	window := a.sees(l)
	if window == 0 || total <= window {
		kernels.AttendBlock(att, o, q, a.qkvWidth(), rows, cache, kvHeads*group, kvHeads, a.headDim, m.scale, &w.scratch)
		return
	}
	own := &cache[len(cache)-1]
	before := total - rows // positions before the rows
	own.N -= rows
	dropped := 0
	for i := range rows {
		own.N++
		dropped += drop(cache, before+i+1-dropped-window)
		kernels.AttendBlock(att[i*o:], o, q[i*a.qkvWidth():], a.qkvWidth(), 1, cache, kvHeads*group, kvHeads, a.headDim, m.scale, &w.scratch)
	}
}

// drop cuts the first n positions off the stretches and returns how many those were.
func drop(cache []kernels.Stretch, n int) (dropped int) {
	for i := range cache {
		c := &cache[i]
		k := max(0, min(n-dropped, c.N))
		c.Keys, c.Values, c.N = c.Keys[min(k*c.Stride, len(c.Keys)):], c.Values[min(k*c.Stride, len(c.Values)):], c.N-k
		dropped += k
	}
	return dropped
}

// eachRun spreads runs over the workers, the key/value heads [from, to) of one at a time: all of them where there are runs
// enough, else head by head.
func (p *pass) eachRun(s *rowSet, f func(r *run, from, to int, w *worker)) {
	heads, threads := p.m.arch.kvHeads, p.m.opts.Threads
	step := heads
	if threads > 1 && len(s.runs) < 4*threads {
		step = 1
	}
	parts := (heads + step - 1) / step
	units := int64(len(s.runs) * parts)
	p.next.Store(0)
	kernels.Parallel(threads, threads, func(_, _, worker int) {
		for {
			u := p.next.Add(1) - 1
			if u >= units {
				return
			}
			from := int(u) % parts * step
			f(&s.runs[int(u)/parts], from, min(from+step, heads), &p.workers[worker])
		}
	})
}

// stretches lists the keys and values that a run attends to, from key/value head g on: the item cache's, those of earlier rows,
// its own.
func (p *pass) stretches(l int, r *run, g int, qkv []float32, w *worker) []kernels.Stretch {
	a := p.m.arch
	q, kv := a.qkvWidth(), a.kvWidth()
	off := g * a.headDim
	cache := w.cache[:0]
	if r.ext != nil {
		cache = append(cache, r.ext.stretch(l, off, w))
	}
	rows := func(c span) {
		keys := qkv[int(c.lo)*q+a.qWidth()+off : int(c.hi)*q]
		cache = append(cache, kernels.Stretch{Keys: keys, Values: keys[kv:], N: int(c.hi - c.lo), Stride: q})
	}
	for _, c := range r.ctx {
		rows(c)
	}
	rows(span{r.lo, r.hi})
	w.cache = cache
	return cache
}

// attendBack adds the gradients of attention to t.dqkv, given t.datt by the rows of in. Only rows of s from priv on take
// gradients: the others are constants.
func (p *pass) attendBack(l int, s, in *rowSet, qkv []float32) {
	p.eachRun(in, func(r *run, from, to int, w *worker) {
		if int(r.lo) >= s.priv {
			for g := from; g < to; g++ {
				p.attendRunBack(l, r, s.priv, g, qkv, w)
			}
		}
	})
}

// attendRunBack does the query heads of key/value head g. A run has its keys of rows from priv on to itself, so that no
// two workers add to the same row.
func (p *pass) attendRunBack(l int, r *run, priv, g int, qkv []float32, w *worker) {
	a, t := p.m.arch, &p.tape
	d, q, o := a.headDim, a.qkvWidth(), a.qWidth()
	group := a.heads / a.kvHeads
	cache := p.stretches(l, r, g, qkv, w)
	own := &cache[len(cache)-1]
	n := 0
	for _, c := range cache[:len(cache)-1] {
		n += c.N
	}
	both := grow(&w.scores, 2*(n+own.N))
	cut := grow(&w.cut, len(cache)) // positions that the layer's window has left behind, by stretch
	clear(cut)
	window := a.sees(l)
	own.N = 0
	for row := r.lo; row < r.hi; row++ {
		own.N++ // a row sees itself and those before it
		for i := 0; i < len(cache) && window > 0 && n+own.N > window; i++ {
			held := cache[i].N
			drop(cache[i:i+1], n+own.N-window)
			gone := held - cache[i].N
			if cut[i] += gone; &cache[i] != own {
				n -= gone
			}
		}
		probs, ds := both[:n+own.N], both[n+own.N:2*(n+own.N)]
		for h := g * group; h < (g+1)*group; h++ {
			query := qkv[int(row)*q+h*d:][:d]
			dout := t.datt[int(r.out+row-r.lo)*o+h*d:][:d]
			at := 0
			for _, c := range cache {
				kernels.AttendScores(probs[at:], query, c.Keys, c.N, d, c.Stride, w.scale)
				kernels.AttendScores(ds[at:], dout, c.Values, c.N, d, c.Stride, 1)
				at += c.N
			}
			kernels.Softmax(probs)
			mean := kernels.Dot(probs, ds)
			for i, x := range probs {
				ds[i] = x * (ds[i] - mean) * w.scale
			}
			at = 0
			dq := t.dqkv[int(row)*q+h*d:][:d]
			for i, c := range cache {
				kernels.AttendSum(dq, ds[at:], c.Keys, c.N, d, c.Stride)
				if lo := r.first(i); lo >= priv {
					lo += cut[i]
					keys := t.dqkv[lo*q+o+g*d:]
					kernels.AttendOuter(keys, ds[at:], query, c.N, d, q)
					kernels.AttendOuter(keys[a.kvWidth():], probs[at:], dout, c.N, d, q)
				}
				at += c.N
			}
		}
	}
}

// first is the row at which stretch i begins, -1 for the item cache's. Rows of a stretch are all from priv on or all before.
func (r *run) first(i int) int {
	if r.ext != nil {
		i--
	}
	switch {
	case i < 0:
		return -1
	case i < len(r.ctx):
		return int(r.ctx[i].lo)
	}
	return int(r.lo)
}
