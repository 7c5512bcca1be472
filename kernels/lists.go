package kernels

import "math"

// Axpys adds several rows to y: y[i] += alpha[k]*x[k*stride+i] for k = 0, 1, ..., over len(y). Products and sums are rounded one by one
// and in that order, so that it gives the bytes of one Axpy after the other.
func Axpys(alpha, x []float32, stride int, y []float32) {
	if len(alpha) == 0 || len(y) == 0 {
		return
	}
	need("Axpys", "x", len(x), (len(alpha)-1)*stride+len(y))
	axpys(alpha, x, stride, y)
}

func axpysGeneric(alpha, x []float32, stride int, y []float32) {
	for k, a := range alpha {
		axpy(a, x[k*stride:k*stride+len(y)], y)
	}
}

// LogScaled writes ln(scale*x + add) over x for each x >= 0 of v, each operation rounded on its own: equal bytes everywhere. add is above 0.
// The absolute error is below 2e-7 times the larger of 1 and the logarithm's size.
func LogScaled(v []float32, scale, add float32) { logScaled(v, scale, add) }

// Ln is ln x for x > 0 (absolute error below 2e-7 times the larger of 1 and |ln x|), each operation rounded on its own: x = m 2^k with m
// in [0.7, 1.4), and the series of ln m in s = (m-1)/(m+1).
func Ln(x float32) float32 {
	b := math.Float32bits(x)
	k := int32(b>>23) - 127
	b = b&0x7fffff | 127<<23
	// Above the square root of 2, m is halved and k grows: both without a branch that can not be foretold.
	over := int32((0x3fb504f3-int32(b))>>31) & 1
	m := math.Float32frombits(b - uint32(over)<<23)
	k += over
	s := (m - 1) / (m + 1)
	z := float32(s * s)
	p := float32(z*0.2222222222) + 0.2857142857
	p = float32(p*z) + 0.4
	p = float32(p*z) + 0.6666666667
	p = float32(p*z) + 2
	return float32(s*p) + float32(float32(k)*0.69314718)
}

func logScaledGeneric(v []float32, scale, add float32) {
	for i, x := range v {
		v[i] = Ln(float32(x*scale) + add)
	}
}

// Index is the place of the first x in v, -1 where there is none.
func Index(v []int32, x int32) int { return index32(v, x) }

func index32Generic(v []int32, x int32) int {
	i := 0
	for ; i+4 <= len(v); i += 4 {
		w := v[i : i+4 : i+4]
		if w[0] == x {
			return i
		}
		if w[1] == x {
			return i + 1
		}
		if w[2] == x {
			return i + 2
		}
		if w[3] == x {
			return i + 3
		}
	}
	for ; i < len(v); i++ {
		if v[i] == x {
			return i
		}
	}
	return -1
}

// MinIndex is the place of the first of the lowest values of v, which has one at least and no NaN.
func MinIndex(v []float32) int {
	need("MinIndex", "v", len(v), 1)
	return minIndex(v)
}

func minIndexGeneric(v []float32) int {
	at, low := 0, v[0]
	for i, x := range v {
		if x < low {
			at, low = i, x
		}
	}
	return at
}
