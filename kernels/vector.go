package kernels

// lanes is the width in which Dot sums on every level.
const lanes = 16

// Dot returns the sum of a[i]*b[i] over the shorter length. The order is fixed on every level and CPU: lane j of 16 sums the
// products with i%16 == j in order, each product and each sum rounded to float32 on its own; then lane j takes lane j+8,
// j+4, j+2, j+1.
func Dot(a, b []float32) float32 {
	n := min(len(a), len(b))
	return dot(a[:n], b[:n])
}

// dotGeneric writes float32(x*y) so that no compiler fuses the product with the sum (arm64 would).
func dotGeneric(a, b []float32) float32 {
	var s [lanes]float32
	for len(a) >= lanes && len(b) >= lanes {
		x, y := (*[lanes]float32)(a), (*[lanes]float32)(b)
		for j := 0; j < lanes; j += 4 {
			s[j] += float32(x[j] * y[j])
			s[j+1] += float32(x[j+1] * y[j+1])
			s[j+2] += float32(x[j+2] * y[j+2])
			s[j+3] += float32(x[j+3] * y[j+3])
		}
		a, b = a[lanes:], b[lanes:]
	}
	for j, x := range a {
		s[j] += float32(x * b[j])
	}
	for w := lanes / 2; w > 0; w /= 2 {
		for j := 0; j < w; j++ {
			s[j] += s[j+w]
		}
	}
	return s[0]
}

// Axpy adds alpha*x to y: y[i] += alpha*x[i], over len(x); product and sum are rounded one by one, so every level and CPU
// gives equal bytes.
func Axpy(alpha float32, x, y []float32) {
	need("Axpy", "y", len(y), len(x))
	axpy(alpha, x, y[:len(x)])
}

func axpyGeneric(alpha float32, x, y []float32) {
	for i, v := range x {
		y[i] += float32(alpha * v)
	}
}

// AXPBY sets y to alpha*x + beta*y over len(x), each operation rounded on its own: equal bytes everywhere.
func AXPBY(alpha float32, x []float32, beta float32, y []float32) {
	need("AXPBY", "y", len(y), len(x))
	axpby(alpha, x, beta, y[:len(x)])
}

func axpbyGeneric(alpha float32, x []float32, beta float32, y []float32) {
	for i, v := range x {
		y[i] = float32(alpha*v) + float32(beta*y[i])
	}
}

// Scale multiplies x by alpha in place: equal bytes everywhere.
func Scale(alpha float32, x []float32) { scale(alpha, x) }

func scaleGeneric(alpha float32, x []float32) {
	for i := range x {
		x[i] *= alpha
	}
}

// Add adds x to dst, over len(x): dst[i] += x[i]; equal bytes everywhere.
func Add(dst, x []float32) {
	need("Add", "dst", len(dst), len(x))
	add(dst[:len(x)], x)
}

func addGeneric(dst, x []float32) {
	for i, v := range x {
		dst[i] += v
	}
}
