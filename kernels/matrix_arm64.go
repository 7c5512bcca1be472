//go:build !purego

package kernels

// The tiles of the assembly, as rows of C by columns: each keeps 24 vectors of sums, in pairs of rows and columns (2 x 2 to a vector)
// where the instructions multiply matrices.
const (
	mostRows = 12 // beside 8 columns; 6 beside 16, 3 beside 32
	rowsInt8 = 6  // beside 8 columns; 3 or, of pairs, 2 beside 16: 8-bit sums take twice the registers
)

func rowsF32() int { return mostRows }

// cut is where block t of n rows begins: at the next even row, so that only the last block can have a row without its pair.
func cut(t, n, blocks int) int {
	return min(n, (t*n+2*blocks-1)/(2*blocks)*2)
}

// readsInPlace says that a tile of so many columns needs nothing readable after them.
func readsInPlace(cols int) bool { return cols%8 == 0 }

// turn writes dst[q*step+r] = a[r*lda+q] for q < k, r < rows, rows <= 16, and may overwrite up to 3 values of dst after each row of
// it. The rows that do not make four come first, as only their vectors reach past the end of a row.
func turn(dst []float32, step int, a []float32, lda, k, rows int) {
	_, _ = dst[(k-1)*step+(rows+3)&^3-1], a[(rows-1)*lda+k-1]
	whole := rows &^ 3
	if whole < rows {
		packNEON(&dst[whole], 4*uintptr(step), &a[whole*lda], 4*uintptr(lda), k, rows-whole)
	}
	for r := 0; r < whole; r += 4 {
		packNEON(&dst[r], 4*uintptr(step), &a[r*lda], 4*uintptr(lda), k, 4)
	}
	for q := k &^ 3; q < k; q++ {
		for r := 0; r < rows; r++ {
			dst[q*step+r] = a[r*lda+q]
		}
	}
}

// tileF32 computes rows x cols of C, cols <= 32, from packed A and rows of B ldb apart. Each row of B must be readable up to the next
// multiple of 8.
func tileF32(c []float32, ldc int, a, b []float32, ldb, k, rows, cols int, accumulate bool) {
	up, to := 4*uintptr(ldb), 4*uintptr(ldc)
	for j := 0; j < cols; {
		switch left := cols - j; {
		case left >= 32 && rows <= 3:
			gemmF32x32NEON(&c[j], to, &a[0], &b[j], up, k, rows, accumulate)
			j += 32
		case left >= 16 && rows <= 6:
			gemmF32x16NEON(&c[j], to, &a[0], &b[j], up, k, rows, accumulate)
			j += 16
		case left >= 8:
			gemmF32x8NEON(&c[j], to, &a[0], &b[j], up, k, rows, accumulate)
			j += 8
		default:
			var e edgeTile
			gemmF32x8NEON(e.begin(c[j:], ldc, rows, left, accumulate), 4*8, &a[0], &b[j], up, k, rows, accumulate)
			e.end(c[j:], ldc, rows, left)
			j = cols
		}
	}
}

// edgeTile is where a tile of fewer than 8 columns is done as a whole one.
type edgeTile [mostRows * 8]float32

// begin takes the columns over from c when they are accumulated to; end gives them back.
func (e *edgeTile) begin(c []float32, ldc, rows, cols int, accumulate bool) *float32 {
	for r := 0; r < rows && accumulate; r++ {
		copy(e[r*8:], c[r*ldc:r*ldc+cols])
	}
	return &e[0]
}

func (e *edgeTile) end(c []float32, ldc, rows, cols int) {
	for r := 0; r < rows; r++ {
		copy(c[r*ldc:r*ldc+cols], e[r*8:])
	}
}

// packPairs writes rows of 64-bit values, lda words of 32 bits apart, as dst[k][pairs of rows][2]; a row without its pair stands for
// both.
func packPairs(dst, a []float32, lda, k, rows int) {
	pairs := (rows + 1) / 2
	_, _ = dst[4*pairs*k-1], a[(rows-1)*lda+2*k-1]
	for p := 0; p < pairs; p++ {
		packPairNEON(&dst[4*p], 16*uintptr(pairs), &a[2*p*lda], 4*uintptr(lda), k, min(2, rows-2*p))
	}
}
