package mix

import (
	"slices"

	"github.com/corastream/corastream/cfstream/internal/num"
	"github.com/corastream/corastream/kernels"
)

// fit makes v_u [d] = 10 gain A' m_u of m_u = sum over lags of lag_l C[x_l] / sqrt(sum of lag_l^2 + 0.1).
type fit struct {
	lag  [steerLags]float32
	gain float32
	a    []float32 // [d][d]
}

// newFit is where all training starts, and a working start by itself: A = I, so that items like the last ones go up.
func newFit(d int) fit {
	f := fit{gain: 0.1, a: make([]float32, d*d)}
	for l := range f.lag {
		f.lag[l] = 1 / float32(1+l)
	}
	for i := range d {
		f.a[i*d+i] = 1
	}
	return f
}

// mean leaves m_u in m and returns the root it was divided by, 0 when no item of the history has a code (-1 stands for those without).
func (f *fit) mean(m, codes []float32, past []int32) float32 {
	clear(m)
	var sum float32
	any := false
	for l, x := range past {
		if x < 0 {
			continue
		}
		any = true
		sum += float32(f.lag[l] * f.lag[l])
		kernels.Axpy(f.lag[l], row(codes, x, len(m)), m)
	}
	if !any {
		return 0
	}
	root := num.Sqrt32(sum + 0.1)
	kernels.Scale(1/root, m)
	return root
}

func (f *fit) user(v, m []float32) {
	clear(v)
	d := len(m)
	for i, x := range m {
		kernels.Axpy(10*float32(f.gain*x), f.a[i*d:i*d+d], v)
	}
}

// features leaves v_u.C_i of a row's candidates in w.x, and says whether any item of its history has a code.
func (f *fit) features(codes []float32, coded []bool, past, cand []int32, w *tuneWork) bool {
	clear(w.x[:])
	var ids [steerLags]int32
	for l, x := range past {
		if ids[l] = x; x >= 0 && !coded[x] {
			ids[l] = -1
		}
	}
	if f.mean(w.m, codes, ids[:]) == 0 {
		return false
	}
	f.user(w.v, w.m)
	for k, j := range cand {
		if j >= 0 && coded[j] {
			w.x[k] = clip(kernels.Dot(w.v, row(codes, j, len(w.m))))
		}
	}
	return true
}

// rows is a ring of likes to train on.
type rows struct {
	most int       // kept at once
	kept int64     // ever
	past []int32   // [rows][steerLags], newest first, -1: none
	cand []int32   // [rows][tuneTop], the target first, -1: none
	z    []float32 // [rows][tuneTop], the mixture's score without the LLM
	of   []int32   // [rows], whose weights the mixture used, and how many likes before it are not kept: rowOf
}

func (r *rows) put(of int32) (past, cand []int32, z []float32) {
	at := int(r.kept % int64(r.most))
	r.kept++
	if at*tuneTop == len(r.cand) {
		r.past = append(r.past, make([]int32, steerLags)...)
		r.cand = append(r.cand, make([]int32, tuneTop)...)
		r.z = append(r.z, make([]float32, tuneTop)...)
		r.of = append(r.of, 0)
	}
	r.of[at] = of
	return r.past[at*steerLags:][:steerLags], r.cand[at*tuneTop:][:tuneTop], r.z[at*tuneTop:][:tuneTop]
}

func (r *rows) n() int { return len(r.z) / tuneTop }

func (r *rows) clone() rows {
	return rows{most: r.most, kept: r.kept, past: slices.Clone(r.past), cand: slices.Clone(r.cand), z: slices.Clone(r.z), of: slices.Clone(r.of)}
}

// The training: softmax cross-entropy of z + v_u.C_i over the mixture's best, AdamW without decay (Kingma and Ba, 2015), a warm-up of
// tuneWarm steps, then down to 0. Each step also goes a little of the way to the active version, so that a new one keeps what its rows do
// not speak of (proximal term, as in PESO, arXiv 2510.25093).
const (
	tuneTop    = 100
	tuneEpochs = 3
	tuneBatch  = 256
	tuneRate   = 5e-3 // of A; lags and gain go five times as fast
	tuneFast   = 5
	tuneWarm   = 20
	tuneBeta1  = 0.9
	tuneBeta2  = 0.98
	tuneClip   = 1   // the gradient's length
	tunePull   = 0.1 // of the rate: how far a step goes to the active version
)

// tuning is one training, with all it reads.
type tuning struct {
	d     int
	codes []float32
	coded []bool
	rows  rows
	from  fit
	// toward is the active version's fit, which is only read; nil: none.
	toward *fit
	seed   uint64
	held   int   // newest rows that are left out
	active share // of the active version, where rows are held out
}

// gradient of a batch, in the order of a fit's numbers: A, then lags, then gain.
type gradient struct{ a, rest []float32 }

func (t *tuning) run() fit {
	f := t.from
	f.a = slices.Clone(f.a)
	d := t.d
	for i, x := range t.rows.past {
		if x >= 0 && !t.coded[x] {
			t.rows.past[i] = -1
		}
	}
	order := t.order()
	n := len(order)
	g := gradient{make([]float32, d*d), make([]float32, steerLags+1)}
	m1, m2 := make([]float32, d*d+steerLags+1), make([]float32, d*d+steerLags+1)
	batch := min(tuneBatch, n)
	steps := tuneEpochs * (n / batch)
	w := newTuneWork(d)
	b1, b2 := float32(1), float32(1)
	step := 0
	for range tuneEpochs {
		for i := n - 1; i > 0; i-- {
			t.seed = t.seed*6364136223846793005 + 1442695040888963407
			j := int((t.seed >> 33) % uint64(i+1))
			order[i], order[j] = order[j], order[i]
		}
		for at := 0; at+batch <= n; at += batch {
			clear(g.a)
			clear(g.rest)
			for _, r := range order[at : at+batch] {
				t.learn(&f, int(r), g, w)
			}
			step++
			b1, b2 = b1*tuneBeta1, b2*tuneBeta2
			rate := rateAt(step, steps)
			f.move(g, m1, m2, 1/float32(batch), rate, b1, b2)
			if t.toward != nil {
				f.approach(t.toward, tunePull*rate)
			}
		}
	}
	return f
}

// rateAt rises over tuneWarm steps and falls along 1-3t^2+2t^3, which is a cosine's half wave to 1 part in 50.
func rateAt(step, steps int) float32 {
	t := float32(step) / float32(max(steps, 1))
	rate := 1 - float32(float32(t*t)*(3-2*t))
	return tuneRate * rate * min(1, float32(step)/tuneWarm)
}

type tuneWork struct {
	m, v, dv, at []float32
	p, x         [tuneTop]float32 // x: features, 0 where there is none
	step         softmaxStep
}

func newTuneWork(d int) *tuneWork {
	return &tuneWork{m: make([]float32, d), v: make([]float32, d), dv: make([]float32, d), at: make([]float32, d)}
}

// learn adds row r's gradient.
func (t *tuning) learn(f *fit, r int, g gradient, w *tuneWork) {
	d := t.d
	past, cand, z := t.rows.past[r*steerLags:][:steerLags], t.rows.cand[r*tuneTop:][:tuneTop], t.rows.z[r*tuneTop:][:tuneTop]
	root := f.mean(w.m, t.codes, past)
	if root == 0 {
		return
	}
	f.user(w.v, w.m)
	top := float32(-1e30)
	for k, j := range cand {
		if j < 0 {
			continue
		}
		w.p[k] = z[k]
		if t.coded[j] {
			w.p[k] += kernels.Dot(w.v, row(t.codes, j, d))
		}
		top = max(top, w.p[k])
	}
	var sum float32
	for k, j := range cand {
		if j >= 0 {
			w.p[k] = num.Exp32(w.p[k] - top)
			sum += w.p[k]
		}
	}
	clear(w.dv)
	for k, j := range cand {
		if j < 0 || !t.coded[j] {
			continue
		}
		p := w.p[k] / sum
		if k == 0 {
			p--
		}
		kernels.Axpy(p, row(t.codes, j, d), w.dv)
	}
	tenfold := 10 * f.gain
	var dGain float32
	for i, x := range w.m {
		w.at[i] = kernels.Dot(f.a[i*d:i*d+d], w.dv)
		dGain += float32(10*x) * w.at[i]
		kernels.Axpy(float32(tenfold*x), w.dv, g.a[i*d:i*d+d])
	}
	g.rest[steerLags] += dGain
	kernels.Scale(tenfold, w.at) // now the gradient of m
	along := kernels.Dot(w.at, w.m) / float32(root*root)
	for l, x := range past {
		if x >= 0 {
			g.rest[l] += kernels.Dot(w.at, row(t.codes, x, d))/root - float32(f.lag[l]*along)
		}
	}
}

// move is a step of Adam against share*g, its length clipped. b1 and b2 are the betas to the power of the step.
func (f *fit) move(g gradient, m1, m2 []float32, share, rate, b1, b2 float32) {
	length := num.Sqrt32(kernels.Dot(g.a, g.a)+kernels.Dot(g.rest, g.rest)) * share
	if length > tuneClip {
		share *= tuneClip / length
	}
	rate1 := 1 / (1 - b1)
	rate2 := 1 / (1 - b2)
	one := func(k int, x *float32, grad, rate float32) {
		grad *= share
		m1[k] = float32(tuneBeta1*m1[k]) + float32((1-tuneBeta1)*grad)
		m2[k] = float32(tuneBeta2*m2[k]) + float32(float32((1-tuneBeta2)*grad)*grad)
		*x -= float32(rate*float32(m1[k]*rate1)) / (num.Sqrt32(float32(m2[k]*rate2)) + 1e-8)
	}
	for k := range f.a {
		one(k, &f.a[k], g.a[k], rate)
	}
	n := len(f.a)
	for l := range f.lag {
		one(n+l, &f.lag[l], g.rest[l], tuneFast*rate)
	}
	one(n+steerLags, &f.gain, g.rest[steerLags], tuneFast*rate)
}

// approach goes a share of the way to another fit, five times as far with the lags and the gain.
func (f *fit) approach(to *fit, share float32) {
	one := func(x *float32, to, share float32) { *x += float32(share * (to - *x)) }
	for k := range f.a {
		one(&f.a[k], to.a[k], share)
	}
	for l := range f.lag {
		one(&f.lag[l], to.lag[l], tuneFast*share)
	}
	one(&f.gain, to.gain, tuneFast*share)
}
