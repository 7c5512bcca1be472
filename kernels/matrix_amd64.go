//go:build amd64 && !purego

package kernels

// The tiles of the assembly: rows of C kept in registers at a time.
const (
	rows512 = 14
	rows256 = 6
)

// packedBytes is how much packed A one round over the panels may use: with one panel of B it should stay in a 1 MiB L2.
const packedBytes = 640 << 10

// weights is what product needs of a packed matrix.
type weights interface {
	shape() (out, in int)
	// tileRows is the most rows that tile takes.
	tileRows() int
	// packedLen is how many words of 32 bits a packed row takes.
	packedLen() int
	// pack turns `rows` rows of A into the order that tile reads; dst has room for 16 words more.
	pack(dst, a []float32, lda, rows int, s *Scratch)
	// prepare is called before the tiles of a panel.
	prepare(p int, s *Scratch)
	// tile computes rows x up to 32 of C from packed rows and panel p.
	tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, s *Scratch)
}

// product packs as many rows of A as should stay in the cache, in blocks of even size, and takes them through all panels.
func product(w weights, c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	out, _ := w.shape()
	most, k := w.tileRows(), w.packedLen()
	group := max(1, packedBytes/(4*k*most)) * most
	for lo := 0; lo < m; lo += group {
		n := min(group, m-lo)
		blocks := (n + most - 1) / most
		packed := grow(&s.a, n*k+lanes)
		for t := 0; t < blocks; t++ {
			r0, r1 := t*n/blocks, (t+1)*n/blocks
			w.pack(packed[r0*k:], a[(lo+r0)*lda:], lda, r1-r0, s)
		}
		for p := 0; p < panels(out); p++ {
			w.prepare(p, s)
			cols := min(panel, out-p*panel)
			for t := 0; t < blocks; t++ {
				r0, r1 := t*n/blocks, (t+1)*n/blocks
				w.tile(c[(lo+r0)*ldc+p*panel:], ldc, packed[r0*k:], p, r1-r0, cols, accumulate, s)
			}
		}
	}
}

// rowsF32 is the height of a float32 tile.
func rowsF32() int {
	if current == avx2 {
		return rows256
	}
	return rows512
}

func (w *matrixF32) shape() (int, int)     { return w.out, w.in }
func (w *matrixF32) tileRows() int         { return rowsF32() }
func (w *matrixF32) packedLen() int        { return w.in }
func (w *matrixF32) prepare(int, *Scratch) {}

func (w *matrixF32) pack(dst, a []float32, lda, rows int, _ *Scratch) {
	packRows(dst, a, lda, w.in, rows)
}

func (w *matrixF32) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, _ *Scratch) {
	tileF32(c, ldc, a, w.data[p*panel*w.in:], panel, w.in, rows, cols, accumulate)
}

func (w *matrixF32) mul(c []float32, ldc int, a []float32, lda, m int, accumulate bool, s *Scratch) {
	if current == generic {
		w.mulGeneric(c, ldc, a, lda, m, accumulate, s)
		return
	}
	product(w, c, ldc, a, lda, m, accumulate, s)
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
