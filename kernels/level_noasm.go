//go:build !amd64 || purego

package kernels

func detect() level { return generic }

func (w *matrixF32) mul(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	w.mulGeneric(c, ldc, a, lda, m, accumulate)
}

func gemm(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, transA, transB, accumulate bool) {
	gemmGeneric(c, ldc, a, lda, b, ldb, m, n, k, transA, transB, accumulate)
}
