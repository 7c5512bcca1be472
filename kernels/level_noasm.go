//go:build (!amd64 && !arm64) || purego

package kernels

func detect() level { return generic }

// Without assembly the reference is all that a matrix needs.
type weights = packedMatrix

func product(w weights, c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	w.mulGeneric(c, ldc, a, lda, m, accumulate, s)
}

func gemm(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, transA, transB, accumulate bool) {
	gemmGeneric(c, ldc, a, lda, b, ldb, m, n, k, transA, transB, accumulate)
}

func dot(a, b []float32) float32 { return dotGeneric(a, b) }

func axpy(alpha float32, x, y []float32) { axpyGeneric(alpha, x, y) }

func axpby(alpha float32, x []float32, beta float32, y []float32) { axpbyGeneric(alpha, x, beta, y) }

func scale(alpha float32, x []float32) { scaleGeneric(alpha, x) }

func add(dst, x []float32) { addGeneric(dst, x) }

func mulScaled(dst, x, w []float32, r float32) { mulScaledGeneric(dst, x, w, r) }

func maxOf(x []float32) float32 { return maxGeneric(x) }

func expSum(x []float32, top float32) float32 { return expSumGeneric(x, top) }

func siluMul(dst, gate, up []float32) { siluMulGeneric(dst, gate, up) }

func gelu(dst, x []float32) { geluGeneric(dst, x) }

func rotateHalves(a, b, cos, sin []float32) { rotateHalvesGeneric(a, b, cos, sin) }

func rotatePairs(v, cos, sin []float32) { rotatePairsGeneric(v, cos, sin) }

func attendScores(scores, q, keys []float32, n, d, stride int, scale float32) {
	attendScoresGeneric(scores, q, keys, n, d, stride, scale)
}

func attendSum(dst, p, values []float32, n, d, stride int) {
	attendSumGeneric(dst, p, values, n, d, stride)
}

func attendOuter(dst, c, x []float32, n, d, stride int) {
	attendOuterGeneric(dst, c, x, n, d, stride)
}

func bf16FromF32([]uint16, []float32) int         { return 0 }
func f32FromBF16([]float32, []uint16) int         { return 0 }
func f32FromF16([]float32, []uint16) int          { return 0 }
func pairBF16([]uint32, []float32, []float32) int { return 0 }
func turnPanel(_, _ []float32, _, _ int) bool     { return false }

func attendBlock([]float32, int, []float32, int, int, int, []Stretch, int, int, int, float32, *Scratch) bool {
	return false
}
