package kernels

import "fmt"

// Gemm computes C = op(A) op(B), or C += op(A) op(B) when accumulate, for small products whose B changes from call to call
// (low-rank deltas, the generator). C is [m][n] with rows ldc apart. op(A) is [m][k]: A itself with rows lda apart, or with
// transA the transpose of A [k][m]. op(B) is [k][n]: B itself, or with transB the transpose of B [n][k]. It allocates
// nothing; c must not overlap a or b.
func Gemm(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, transA, transB, accumulate bool) {
	if m <= 0 || n <= 0 {
		return
	}
	checkGemm(c, ldc, a, lda, b, ldb, m, n, k, transA, transB)
	if k <= 0 {
		if !accumulate {
			for i := 0; i < m; i++ {
				clear(c[i*ldc : i*ldc+n])
			}
		}
		return
	}
	gemm(c, ldc, a, lda, b, ldb, m, n, k, transA, transB, accumulate)
}

func checkGemm(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, transA, transB bool) {
	am, ak, bk, bn := m, k, k, n
	if transA {
		am, ak = k, m
	}
	if transB {
		bk, bn = n, k
	}
	if ldc < n || k > 0 && (lda < ak || ldb < bn) {
		panic(fmt.Sprintf("kernels.Gemm: a row stride is less than its row: ldc %d of %d, lda %d of %d, ldb %d of %d", ldc, n, lda, ak, ldb, bn))
	}
	need("Gemm", "c", len(c), span(m, n, ldc))
	need("Gemm", "a", len(a), span(am, ak, lda))
	need("Gemm", "b", len(b), span(bk, bn, ldb))
}

// gemmGeneric is the reference: C[i][j] = sum over p of op(A)[i][p] op(B)[p][j], p in order.
func gemmGeneric(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, transA, transB, accumulate bool) {
	ai, ap := lda, 1
	if transA {
		ai, ap = 1, lda
	}
	bp, bj := ldb, 1
	if transB {
		bp, bj = 1, ldb
	}
	for i := 0; i < m; i++ {
		for j0 := 0; j0 < n; j0 += panel {
			w := min(panel, n-j0)
			var acc [panel]float32
			to := c[i*ldc+j0:][:w]
			start(&acc, to, accumulate)
			for p := 0; p < k; p++ {
				x := a[i*ai+p*ap]
				q := p*bp + j0*bj
				for j := 0; j < w; j++ {
					acc[j] += x * b[q]
					q += bj
				}
			}
			copy(to, acc[:])
		}
	}
}
