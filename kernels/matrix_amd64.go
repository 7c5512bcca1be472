//go:build amd64 && !purego

package kernels

// The tiles of the assembly: rows of C kept in registers at a time.
const (
	rows512 = 14
	rows256 = 6
)

// packedBytes is how much packed A one round over the panels may use: with one panel of B it should stay in a 1 MiB L2.
const packedBytes = 640 << 10

func (w *matrixF32) mul(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	most := rows512
	switch {
	case current == generic:
		w.mulGeneric(c, ldc, a, lda, m, accumulate)
		return
	case current == avx2:
		most = rows256
	}
	k := w.in
	group := max(most, packedBytes/(4*k*most)*most)
	for lo := 0; lo < m; lo += group {
		n := min(group, m-lo)
		blocks := (n + most - 1) / most
		packed := s.floats(n*k + lanes)
		for t := 0; t < blocks; t++ {
			r0, r1 := t*n/blocks, (t+1)*n/blocks
			packRows(packed[r0*k:], a[(lo+r0)*lda:], lda, k, r1-r0)
		}
		for p := 0; p < panels(w.out); p++ {
			cols := min(panel, w.out-p*panel)
			for t := 0; t < blocks; t++ {
				r0, r1 := t*n/blocks, (t+1)*n/blocks
				tile(c[(lo+r0)*ldc+p*panel:], ldc, packed[r0*k:], w.data[p*panel*k:], panel, k, r1-r0, cols, accumulate)
			}
		}
	}
}

// packRows writes rows of A, lda apart, as dst[k][rows], rows <= 14; dst has room for 16 values more.
func packRows(dst, a []float32, lda, k, rows int) {
	if rows == 1 {
		copy(dst, a[:k])
		return
	}
	turn(dst, rows, a, lda, k, rows)
}

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

// tile computes rows x cols of C, cols <= 32, from packed A and rows of B ldb apart. On AVX2 each row of B must be readable up
// to the next multiple of 16.
func tile(c []float32, ldc int, a, b []float32, ldb, k, rows, cols int, accumulate bool) {
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
		gemmF32AVX2(&t[0], 4*16, &a[0], &b[j], 4*uintptr(ldb), k, rows, false)
		for r := 0; r < rows; r++ {
			to, from := c[r*ldc+j:r*ldc+cols], t[r*16:]
			for q := range to {
				if accumulate {
					to[q] += from[q]
				} else {
					to[q] = from[q]
				}
			}
		}
	}
}
