//go:build amd64 && !purego

package kernels

func gemm(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, transA, transB, accumulate bool) {
	gemmGeneric(c, ldc, a, lda, b, ldb, m, n, k, transA, transB, accumulate)
}
