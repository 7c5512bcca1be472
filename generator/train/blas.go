package train

import (
	"sync"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/gonum"
	"gorgonia.org/gorgonia"

	"github.com/corastream/corastream/kernels"
)

// kernelBLAS is gonum's BLAS with single-precision products by our kernels: a training step takes a third of the time.
type kernelBLAS struct{ gonum.Implementation }

// Sgemm computes C = alpha op(A) op(B) + beta C. What gorgonia asks for (alpha 1, beta 0 or 1) goes to kernels.Gemm.
func (k kernelBLAS) Sgemm(tA, tB blas.Transpose, m, n, depth int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	if alpha != 1 || beta != 0 && beta != 1 {
		k.Implementation.Sgemm(tA, tB, m, n, depth, alpha, a, lda, b, ldb, beta, c, ldc)
		return
	}
	kernels.Gemm(c, ldc, a, lda, b, ldb, m, n, depth, tA != blas.NoTrans, tB != blas.NoTrans, beta == 1)
}

// useKernels hands our BLAS to gorgonia, whose choice is one for the whole process.
var useKernels = sync.OnceFunc(func() { gorgonia.Use(kernelBLAS{}) })
