//go:build amd64 && !purego

package kernels

// The tiles of the assembly: rows of C kept in registers at a time.
const (
	rows512 = 14
	rows256 = 6

	mostRows = rows512
)

// rowsF32 is the height of a float32 tile.
func rowsF32() int {
	if current == avx2 {
		return rows256
	}
	return rows512
}

// cut is where block t of n rows begins.
func cut(t, n, blocks int) int { return t * n / blocks }

// readsInPlace says that a tile of so many columns needs nothing readable after them.
func readsInPlace(cols int) bool { return current != avx2 || cols%16 == 0 }

// turn writes dst[q*step+r] = a[r*lda+q] for q < k, r < rows, rows <= 16, and may overwrite up to 15 values of dst after each
// row of it.
func turn(dst []float32, step int, a []float32, lda, k, rows int) {
	_, _ = dst[(k-1)*step+15], a[(rows-1)*lda+k-1]
	vec := 16
	if current == avx2 {
		vec = 8
		packAVX2(&dst[0], 4*uintptr(step), &a[0], 4*uintptr(lda), k, min(rows, vec))
		if rows > vec {
			packAVX2(&dst[vec], 4*uintptr(step), &a[vec*lda], 4*uintptr(lda), k, rows-vec)
		}
	} else {
		packAVX512(&dst[0], 4*uintptr(step), &a[0], 4*uintptr(lda), k, rows)
	}
	for q := k &^ (vec - 1); q < k; q++ {
		for r := 0; r < rows; r++ {
			dst[q*step+r] = a[r*lda+q]
		}
	}
}

// tileF32 computes rows x cols of C, cols <= 32, from packed A and rows of B ldb apart. On AVX2 each row of B must be readable up
// to the next multiple of 16.
func tileF32(c []float32, ldc int, a, b []float32, ldb, k, rows, cols int, accumulate bool) {
	if current >= avx512 {
		if cols <= 16 {
			gemmF32x16AVX512(&c[0], 4*uintptr(ldc), &a[0], &b[0], 4*uintptr(ldb), k, rows, uint32(1<<cols-1), accumulate)
		} else {
			gemmF32x32AVX512(&c[0], 4*uintptr(ldc), &a[0], &b[0], 4*uintptr(ldb), k, rows, uint32(1<<cols-1), accumulate)
		}
		return
	}
	for j := 0; j < cols; j += 16 {
		if cols-j >= 16 {
			gemmF32AVX2(&c[j], 4*uintptr(ldc), &a[0], &b[j], 4*uintptr(ldb), k, rows, accumulate)
			continue
		}
		// A part of a tile goes by way of a whole one.
		var t [rows256 * 16]float32
		for r := 0; r < rows && accumulate; r++ {
			copy(t[r*16:], c[r*ldc+j:r*ldc+cols])
		}
		gemmF32AVX2(&t[0], 4*16, &a[0], &b[j], 4*uintptr(ldb), k, rows, accumulate)
		for r := 0; r < rows; r++ {
			copy(c[r*ldc+j:r*ldc+cols], t[r*16:])
		}
	}
}
