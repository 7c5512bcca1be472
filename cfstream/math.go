package cfstream

import (
	"math"

	"github.com/corastream/corastream/cfstream/internal/num"
	"github.com/corastream/corastream/kernels"
)

// Sums of products are kernels.Dot, whose order is fixed. Every product below is converted before it is added: Go may otherwise fuse x*y+z into one rounding on the CPUs that
// can, and equal events would no longer give equal bytes everywhere. For the same
// reason exp is num.Exp.

// nudge takes one Adagrad step on a number: acc += grad^2, v -= rate*grad/sqrt(damp+acc).
func nudge(v, acc *float32, grad, rate, damp float32) {
	*acc += float32(grad * grad)
	*v -= float32(rate*grad) / float32(math.Sqrt(float64(damp+*acc)))
}

// adagrad takes one step on v for the gradient g*x + decay*v.
func adagrad(v, acc, x []float32, g, rate, decay, damp float32) {
	acc, x = acc[:len(v)], x[:len(v)]
	for i := range v {
		nudge(&v[i], &acc[i], float32(g*x[i])+float32(decay*v[i]), rate, damp)
	}
}

// adagrad2 steps p and q together for z = p.q: each one's gradient is the other as it was before the step.
func adagrad2(p, pAcc, q, qAcc []float32, g, rate, decay, damp float32) {
	pAcc, q, qAcc = pAcc[:len(p)], q[:len(p)], qAcc[:len(p)]
	for i := range p {
		dp, dq := float32(g*q[i])+float32(decay*p[i]), float32(g*p[i])+float32(decay*q[i])
		nudge(&p[i], &pAcc[i], dp, rate, damp)
		nudge(&q[i], &qAcc[i], dq, rate, damp)
	}
}

// add is y += a*x.
func add(y []float32, a float32, x []float32) {
	x = x[:len(y)]
	for i := range y {
		y[i] += float32(a * x[i])
	}
}

// times is y = W x, W [len(y), len(x)].
func times(y, w, x []float32) {
	n := len(x)
	for i := range y {
		y[i] = kernels.Dot(w[i*n:i*n+n], x)
	}
}

// timesT is y = W^T x, W [len(x), len(y)].
func timesT(y, w, x []float32) {
	clear(y)
	addTimesT(y, w, x)
}

func addTimesT(y, w, x []float32) {
	n := len(y)
	for i, v := range x {
		add(y, v, w[i*n:i*n+n])
	}
}

// cap1 bounds one number; a NaN becomes 0.
func cap1(x, limit float32) float32 {
	switch {
	case x > limit:
		return limit
	case x < -limit:
		return -limit
	case x != x:
		return 0
	}
	return x
}

// capNorm scales v back when its norm is over limit, and clears it when the norm is not a number.
func capNorm(v []float32, limit float32) {
	n2 := kernels.Dot(v, v)
	if n2 <= limit*limit {
		return
	}
	if !(n2 <= math.MaxFloat32) {
		for i := range v {
			v[i] = 0
		}
		return
	}
	s := limit / float32(math.Sqrt(float64(n2)))
	for i := range v {
		v[i] = float32(v[i] * s)
	}
}

// sigmoid is 1/(1+exp(-z)), equal on every CPU; z is bounded to +-30 first.
func sigmoid(z float32) float32 {
	return float32(1 / (1 + num.Exp(-float64(cap1(z, 30)))))
}

// hash64 is FNV-1a over s, mixed (splitmix64's finaliser) with n: the deterministic randomness of this package.
func hash64(s string, n uint64) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	h += (n + 1) * 0x9e3779b97f4a7c15
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
