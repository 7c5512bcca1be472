// Package num has the numbers that learning needs, equal on every CPU. Every product is converted before it is added: Go may
// otherwise fuse x*y+z into one rounding on the CPUs that can, and equal events would no longer give equal bytes everywhere.
package num

import (
	"math"

	"github.com/corastream/corastream/kernels"
)

// Exp is e^x. math.Exp has assembly on some CPUs and not on others. x = k ln2 + r, |r| <= ln2/2, and the Taylor sum of r to
// degree 13 (error below 1e-16). Below -700 it is 0, above 700 it is e^700.
func Exp(x float64) float64 {
	const (
		ln2Hi = 6.93147180369123816490e-01
		ln2Lo = 1.90821492927058770002e-10
	)
	switch {
	case x < -700:
		return 0
	case x > 700:
		x = 700
	}
	k := math.Floor(float64(x*math.Log2E) + 0.5)
	r := x - float64(k*ln2Hi)
	r -= float64(k * ln2Lo)
	sum := 1.0
	for n := 13.0; n > 0; n-- {
		sum = 1 + float64(float64(r/n)*sum)
	}
	return math.Ldexp(sum, int(k))
}

// Exp2 is 2^x.
func Exp2(x float64) float64 { return Exp(x * math.Ln2) }

// Exp32 is e^x in single precision (relative error below 3e-7), 0 below -87 and e^87 above 87.
func Exp32(x float32) float32 {
	switch {
	case !(x >= -87):
		return 0
	case x > 87:
		x = 87
	}
	k := float32(math.Floor(float64(float32(x*1.4426950408889634) + 0.5)))
	r := x - float32(k*0.693145751953125)
	r -= float32(k * 1.42860682030941723212e-6)
	p := float32(1.9875691500e-4)
	p = float32(p*r) + 1.3981999507e-3
	p = float32(p*r) + 8.3334519073e-3
	p = float32(p*r) + 4.1665795894e-2
	p = float32(p*r) + 1.6666665459e-1
	p = float32(p*r) + 5.0000001201e-1
	p = float32(float32(p*r)*r) + r + 1
	return p * math.Float32frombits(uint32(int32(k)+127)<<23)
}

// Ln32 is ln x for x > 0 in single precision (absolute error below 2e-7 times the larger of 1 and |ln x|).
func Ln32(x float32) float32 { return kernels.Ln(x) }

// LnOf writes ln(scale*x + add) over x for each x >= 0 of v, as Ln32(float32(scale*x)+add) would. add is above 0.
func LnOf(v []float32, scale, add float32) { kernels.LogScaled(v, scale, add) }

// Sqrt32 is the square root, which IEEE 754 rounds the same everywhere.
func Sqrt32(x float32) float32 { return float32(math.Sqrt(float64(x))) }
