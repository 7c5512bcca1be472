package kernels

import "math"

// RMSNorm sets dst[i] = x[i] * w[i] / sqrt(mean(x^2) + eps), over len(x) values (Zhang and Sennrich 2019). dst may be x.
func RMSNorm(dst, x, w []float32, eps float32) {
	need("RMSNorm", "dst", len(dst), len(x))
	need("RMSNorm", "w", len(w), len(x))
	if len(x) == 0 {
		return
	}
	r := float32(1 / math.Sqrt(float64(Dot(x, x)/float32(len(x))+eps)))
	mulScaled(dst[:len(x)], x, w[:len(x)], r)
}

// mulScaledGeneric sets dst[i] = (x[i]*r) * w[i].
func mulScaledGeneric(dst, x, w []float32, r float32) {
	for i, v := range x {
		dst[i] = v * r * w[i]
	}
}

// Softmax replaces x by exp(x - max(x)) over its sum. Minus infinity gives 0; a NaN or an infinity makes all of it NaN, as
// does a slice of nothing but minus infinity.
func Softmax(x []float32) {
	if len(x) == 0 {
		return
	}
	top := maxOf(x)
	if s := expSum(x, top); s != s || math.IsInf(float64(top), 0) {
		nan := float32(math.NaN())
		for i := range x {
			x[i] = nan
		}
	} else {
		Scale(1/s, x)
	}
}

func maxGeneric(x []float32) float32 {
	top := x[0]
	for _, v := range x[1:] {
		if v > top {
			top = v
		}
	}
	return top
}

// expSumGeneric replaces x by exp(x - top) and returns the sum.
func expSumGeneric(x []float32, top float32) float32 {
	var s float32
	for i, v := range x {
		e := exp32(v - top)
		x[i] = e
		s += e
	}
	return s
}

// SiLUMul sets dst[i] = gate[i] * sigmoid(gate[i]) * up[i], over len(gate) values: the middle of a SwiGLU feed-forward (Shazeer
// 2020). dst may be gate or up.
func SiLUMul(dst, gate, up []float32) {
	need("SiLUMul", "dst", len(dst), len(gate))
	need("SiLUMul", "up", len(up), len(gate))
	siluMul(dst[:len(gate)], gate, up[:len(gate)])
}

func siluMulGeneric(dst, gate, up []float32) {
	for i, g := range gate {
		dst[i] = g / (1 + exp32(-g)) * up[i]
	}
}

// GELU sets dst[i] = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the tanh form (Hendrycks and Gimpel 2016), over len(x)
// values. dst may be x.
func GELU(dst, x []float32) {
	need("GELU", "dst", len(dst), len(x))
	gelu(dst[:len(x)], x)
}

// geluGeneric uses (1 + tanh(z))/2 = 1/(1 + exp(-2z)).
func geluGeneric(dst, x []float32) {
	for i, v := range x {
		z := v * (geluA + geluB*v*v)
		dst[i] = v / (1 + exp32(-z))
	}
}

const (
	geluA = 1.5957691216057308       // 2 sqrt(2/pi)
	geluB = 0.044715 * geluA         // times x^2
	log2e = 1.4426950408889634       // 1/ln 2
	ln2Hi = 0.693359375              // ln 2 in 9 bits, so that n*ln2Hi is exact
	ln2Lo = -2.12194440054690583e-04 // the rest of it

	expLow  = -104 // exp of less rounds to 0 in float32
	expHigh = 89   // exp of more is infinite
)

// expPoly are the coefficients of exp(r) = 1 + r + r^2 p(r) on |r| <= ln(2)/2, highest power first (the minimax fit of Cephes'
// expf; 1 unit in the last place).
var expPoly = [6]float32{1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1}

// exp32 is the reference of the vector exponential: n = round(x log2 e), r = x - n ln 2, 2^n (1 + r + r^2 p(r)).
func exp32(x float32) float32 {
	switch {
	case x != x:
		return x
	case x > expHigh:
		x = expHigh
	case x < expLow:
		x = expLow
	}
	n := float32(math.RoundToEven(float64(x * log2e)))
	r := x - n*ln2Hi - n*ln2Lo
	p := expPoly[0]
	for _, c := range expPoly[1:] {
		p = p*r + c
	}
	p = p*r*r + r + 1
	// n leaves the range of one exponent at both ends: multiply in two halves.
	h := int32(n) >> 1
	return p * pow2(h) * pow2(int32(n)-h)
}

func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }
