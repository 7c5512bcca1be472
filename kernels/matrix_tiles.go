//go:build (amd64 || arm64) && !purego

package kernels

// packedBytes is how much packed A one round over the panels may use: with one panel of B it should stay in a 1 MiB L2.
const packedBytes = 640 << 10

// weights is what product needs of a packed matrix.
type weights interface {
	packedMatrix
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
	out := w.Out()
	most, k := w.tileRows(), w.packedLen()
	group := max(1, packedBytes/(4*k*most)) * most
	for lo := 0; lo < m; lo += group {
		n := min(group, m-lo)
		blocks := (n + most - 1) / most
		packed := grow(&s.a, (n+1)*k+lanes) // one row more, for tiles of pairs of rows
		for t := 0; t < blocks; t++ {
			r0, r1 := cut(t, n, blocks), cut(t+1, n, blocks)
			w.pack(packed[r0*k:], a[(lo+r0)*lda:], lda, r1-r0, s)
		}
		for p := 0; p < panels(out); p++ {
			w.prepare(p, s)
			cols := min(panel, out-p*panel)
			for t := 0; t < blocks; t++ {
				r0, r1 := cut(t, n, blocks), cut(t+1, n, blocks)
				w.tile(c[(lo+r0)*ldc+p*panel:], ldc, packed[r0*k:], p, r1-r0, cols, accumulate, s)
			}
		}
	}
}

func (w *matrixF32) tileRows() int         { return rowsF32() }
func (w *matrixF32) packedLen() int        { return w.in }
func (w *matrixF32) prepare(int, *Scratch) {}

func (w *matrixF32) pack(dst, a []float32, lda, rows int, _ *Scratch) {
	packRows(dst, a, lda, w.in, rows)
}

func (w *matrixF32) tile(c []float32, ldc int, a []float32, p, rows, cols int, accumulate bool, _ *Scratch) {
	tileF32(c, ldc, a, w.data[p*panel*w.in:], panel, w.in, rows, cols, accumulate)
}

// packRows writes rows of A, lda apart, as dst[k][rows], rows <= 16; dst has room for 16 values more.
func packRows(dst, a []float32, lda, k, rows int) {
	if rows == 1 {
		copy(dst, a[:k])
		return
	}
	turn(dst, rows, a, lda, k, rows)
}

// turnPanel fills a panel of 32-bit words with `rows` rows of w: dst[k][j] = w[j][k]; false if it is left to generic Go, as a part
// panel is.
func turnPanel(dst, w []float32, k, rows int) bool {
	if current == generic || rows != panel {
		return false
	}
	turn(dst, panel, w, k, k, 16)
	turn(dst[16:], panel, w[16*k:], k, k, 16)
	return true
}
