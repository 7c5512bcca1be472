package kernels

import "fmt"

// Scratch holds the buffers that Mul reuses. The zero value works; one per goroutine; it stops growing once it has seen the
// largest shapes.
type Scratch struct {
	a, b, t []float32 // packed rows of A (kernels of tiles alone); a panel made float32; rows on the way to a
	cold    bool      // the next panel has not been asked for; amd64 alone asks for one ahead of its use
}

func grow(s *[]float32, n int) []float32 {
	if cap(*s) < n {
		*s = make([]float32, n)
	}
	return (*s)[:n]
}

// panel is the number of columns packed side by side: two vectors of 16.
const panel = 32

func panels(out int) int { return (out + panel - 1) / panel }

func checkShape(function string, have, out, in int) {
	if out <= 0 || in <= 0 {
		panic(fmt.Sprintf("kernels.%s: shape %d x %d", function, out, in))
	}
	need(function, "w", have, out*in)
}

// checkMul holds the slices of a product against its sizes; false means that there is nothing to do.
func checkMul(function string, c []float32, ldc int, a []float32, lda int, m, out, in int) bool {
	if m <= 0 {
		return false
	}
	if ldc < out || lda < in {
		panic(fmt.Sprintf("kernels.%s: row strides ldc %d and lda %d are less than the %d outputs and %d inputs", function, ldc, lda, out, in))
	}
	need(function, "c", len(c), span(m, out, ldc))
	need(function, "a", len(a), span(m, in, lda))
	return true
}

// rowPanel adds a row of A times one panel of float32 to acc.
func rowPanel(acc *[panel]float32, a, b []float32) {
	for k, x := range a {
		r := (*[panel]float32)(b[k*panel:])
		for j := 0; j < panel; j += 4 {
			acc[j] += x * r[j]
			acc[j+1] += x * r[j+1]
			acc[j+2] += x * r[j+2]
			acc[j+3] += x * r[j+3]
		}
	}
}

// start begins a row's sums with zero or with what is in c: a product in several parts of k is then the same chain as one.
func start(acc *[panel]float32, c []float32, accumulate bool) {
	*acc = [panel]float32{}
	if accumulate {
		copy(acc[:], c)
	}
}
