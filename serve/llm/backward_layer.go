package llm

import (
	"github.com/corastream/corastream/kernels"
)

// finishBack undoes finish for the rows from priv on: t.dx comes in as the gradient of the layer's output and leaves as that
// of the residual after attention's input (o's residual branch included); t.datt becomes the gradient of attention's output.
func (p *pass) finishBack(l int, s *rowSet, b *backprop, act *activations, back transposed, order []int) {
	m, t, ly, d := p.m, &p.tape, &p.m.weights.layers[l], b.d
	h, o, f, r := m.arch.hidden, m.arch.qWidth(), m.arch.ffn, d.rank
	own := d.layers[l]
	n := s.rows - s.priv
	p.rows(n, func(lo, hi int, w *worker) {
		lo, hi = lo+s.priv, hi+s.priv
		k := hi - lo
		dx := t.dx[lo*h : hi*h]
		mid := act.mid[lo*h : hi*h]
		back.down.Mul(w.act, f, p.addedBack(lo, hi, ly.postFFN, act.ffnRaw, w), h, k, false, &w.scratch)
		for i := range k {
			m.arch.gatedBack(t.dgu[(lo+i)*2*f:(lo+i+1)*2*f], w.act[i*f:(i+1)*f], act.gateUp[(lo+i)*2*f:(lo+i+1)*2*f], w.gateUp)
		}
		dgu := t.dgu[lo*2*f : hi*2*f]
		back.gateUp.Mul(w.norm, h, dgu, 2*f, k, false, &w.scratch)
		if own.gateUp != nil {
			dt := t.dt[lo*r : hi*r]
			own.gateUp.back.Mul(dt, r, dgu, 2*f, k, false, &w.scratch)
			d.addBack(s, lo, hi, dt, w.norm, h, w)
			for i := range k {
				kernels.RMSNorm(t.norm[(lo+i)*h:(lo+i+1)*h], mid[i*h:(i+1)*h], ly.ffnNorm, m.arch.eps)
			}
		}
		for i := range k {
			normBack(dx[i*h:(i+1)*h], w.norm[i*h:(i+1)*h], mid[i*h:(i+1)*h], ly.ffnNorm, m.arch.eps)
		}
	})
	if own.gateUp != nil {
		p.gradients(s, b, l, ofGateUp, own.gateUp, t.norm, h, act.tg, t.dgu, order)
	}
	p.rows(n, func(lo, hi int, w *worker) {
		lo, hi = lo+s.priv, hi+s.priv
		datt := t.datt[lo*o : hi*o]
		dx := p.addedBack(lo, hi, ly.postAttn, act.oRaw, w)
		back.o.Mul(datt, o, dx, h, hi-lo, false, &w.scratch)
		if own.o != nil {
			dt := t.dt[lo*r : hi*r]
			own.o.back.Mul(dt, r, dx, h, hi-lo, false, &w.scratch)
			d.addBack(s, lo, hi, dt, datt, o, w)
		}
	})
	if own.o != nil {
		dy := t.dx
		if m.arch.postNorms {
			dy = t.dadd
		}
		p.gradients(s, b, l, ofO, own.o, act.att, o, act.to, dy, order)
	}
}

// projectBack undoes project: t.dqkv holds the gradients of the turned q, k and v, t.dx that of the residual stream, to which
// the gradient through the norm is added; the lowest adapted layer needs none.
func (p *pass) projectBack(l int, s *rowSet, b *backprop, act *activations, back transposed, order []int) {
	m, t, ly, d := p.m, &p.tape, &p.m.weights.layers[l], b.d
	h, q, r := m.arch.hidden, m.arch.qkvWidth(), d.rank
	own := d.layers[l].qkv
	heads := m.arch.heads + m.arch.kvHeads
	p.rows(s.rows-s.priv, func(lo, hi int, w *worker) {
		lo, hi = lo+s.priv, hi+s.priv
		k := hi - lo
		dqkv, dt := t.dqkv[lo*q:hi*q], t.dt[lo*r:hi*r]
		for i := range k {
			turnBack(dqkv[i*q:i*q+heads*m.arch.headDim], heads, m.arch.headDim, m, l, s.pos[lo+i], w)
			if n := m.arch.rawWidth(); n > 0 {
				m.normQKBack(ly, dqkv[i*q:i*q+n], act.raw[(lo+i)*n:(lo+i+1)*n], w)
			}
		}
		if own != nil {
			own.back.Mul(dt, r, dqkv, q, k, false, &w.scratch)
			for i := range k {
				kernels.RMSNorm(t.norm[(lo+i)*h:(lo+i+1)*h], act.x[(lo+i)*h:(lo+i+1)*h], ly.attnNorm, m.arch.eps)
			}
		}
		if l == d.lowest {
			return
		}
		back.qkv.Mul(w.norm, h, dqkv, q, k, false, &w.scratch)
		if own != nil {
			d.addBack(s, lo, hi, dt, w.norm, h, w)
		}
		for i := range k {
			normBack(t.dx[(lo+i)*h:(lo+i+1)*h], w.norm[i*h:(i+1)*h], act.x[(lo+i)*h:(lo+i+1)*h], ly.attnNorm, m.arch.eps)
		}
	})
	if own != nil {
		p.gradients(s, b, l, ofQKV, own, t.norm, h, act.tq, t.dqkv, order)
	}
}

// turnBack is the gradient of the rotation: a turn by the opposite angle.
func turnBack(v []float32, heads, headDim int, m *Model, l int, pos int32, w *worker) {
	cos, sin := m.anglesOf(l, pos)
	neg := grow(&w.ranks[2], len(sin))
	for i, x := range sin {
		neg[i] = -x
	}
	kernels.Rotate(v, heads, headDim, cos, neg, true)
}

// addBack adds W_A dT to dx for rows [lo, hi): the delta's own way back. dx begins at row lo.
func (d *delta) addBack(s *rowSet, lo, hi int, dt, dx []float32, ld int, w *worker) {
	r := d.rank
	within(s.groups, lo, hi, func(from, to int, a []float32) {
		kernels.Gemm(dx[(from-lo)*ld:], ld, dt[(from-lo)*r:], r, a, r, to-from, w.hidden, r, false, true, true)
	})
	within(s.shared, lo, hi, func(from, to int, a []float32) {
		u := w.rank(0, (to-from)*r)
		for i := from; i < to; i++ {
			kernels.AXPBY(s.scale[i-s.priv], dt[(i-lo)*r:(i-lo+1)*r], 0, u[(i-from)*r:(i-from+1)*r])
		}
		kernels.Gemm(dx[(from-lo)*ld:], ld, u, r, a, r, to-from, w.hidden, r, false, true, true)
	})
}

// gradients adds x^T dT to each pair's dW_A, and T^T dY to dP. Pairs, and columns of P, are spread over the workers, so that the
// sums do not depend on how many there are.
func (p *pass) gradients(s *rowSet, b *backprop, l, kind int, own *projection, x []float32, ldx int, t, dy []float32, order []int) {
	h, r, dt := p.m.arch.hidden, b.d.rank, p.tape.dt
	kernels.Parallel(p.m.opts.Threads, len(order), func(lo, hi, _ int) {
		for i := lo; i < hi; i++ {
			from, to := int(s.pairs[i].lo), int(s.pairs[i].hi)
			kernels.Gemm(b.g.DW[order[i]], r, x[from*ldx:], ldx, dt[from*r:], r, h, r, to-from, true, false, true)
		}
	})
	if b.dp[l][kind] == nil {
		b.dp[l][kind] = make([]float32, r*own.out)
	}
	const step = 64
	kernels.Parallel(p.m.opts.Threads, (own.out+step-1)/step, func(lo, hi, _ int) {
		c, n := lo*step, min(hi*step, own.out)-lo*step
		kernels.Gemm(b.dp[l][kind][c:], own.out, t[s.priv*r:], r, dy[s.priv*own.out+c:], own.out, r, n, s.rows-s.priv, true, false, true)
	})
}

// siluBack fills dgu (gate, then up) from the gradient of silu(gate)*up. tmp holds at least as many values.
func siluBack(dgu, dact, gu, tmp []float32) {
	f := len(dact)
	gate, up := gu[:f], gu[f:]
	ones, s := tmp[:f], dgu[f:]
	for i := range ones {
		ones[i] = 1
	}
	kernels.SiLUMul(s, gate, ones)
	for i, g := range gate {
		silu, sig := s[i], .5+g/4 // the sigmoid by its slope at 0 ...
		if g > 1e-3 || g < -1e-3 {
			sig = silu / g // ... and elsewhere from silu
		}
		dgu[i] = dact[i] * up[i] * (sig + silu*(1-sig))
		s[i] = dact[i] * silu
	}
}
