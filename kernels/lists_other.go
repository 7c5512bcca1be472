//go:build !amd64 || purego

package kernels

func axpys(alpha, x []float32, stride int, y []float32) {
	for k, a := range alpha {
		axpy(a, x[k*stride:k*stride+len(y)], y)
	}
}

func logScaled(v []float32, scale, add float32) { logScaledGeneric(v, scale, add) }

func index32(v []int32, x int32) int { return index32Generic(v, x) }

func minIndex(v []float32) int { return minIndexGeneric(v) }
