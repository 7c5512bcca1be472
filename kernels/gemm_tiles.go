//go:build (amd64 || arm64) && !purego

package kernels

// gemmDepth is how much of k one round takes: a packed panel of B is then 64 KiB, and of A 28 KiB.
const gemmDepth = 512

// gemmBuffers are what one Gemm at a time packs into.
type gemmBuffers struct{ a, b []float32 }

var gemmPool pool[gemmBuffers]

// gemm works as mul does, but packs B only where a tile can not read it in place: transposed, or a panel that ends within a
// vector where the tile has no masks.
func gemm(c []float32, ldc int, a []float32, lda int, b []float32, ldb int, m, n, k int, transA, transB, accumulate bool) {
	if current == generic {
		gemmGeneric(c, ldc, a, lda, b, ldb, m, n, k, transA, transB, accumulate)
		return
	}
	most := rowsF32()
	buf := gemmPool.take()
	defer gemmPool.put(buf)
	group := packedBytes / (4 * gemmDepth * most) * most
	pa, packed := grow(&buf.a, min(group, m)*min(gemmDepth, k)+lanes), grow(&buf.b, gemmDepth*panel)
	for k0 := 0; k0 < k; k0 += gemmDepth {
		kc := min(gemmDepth, k-k0)
		add := accumulate || k0 > 0
		for lo := 0; lo < m; lo += group {
			rows := min(group, m-lo)
			blocks := (rows + most - 1) / most
			for t := 0; t < blocks; t++ {
				r0, r1 := t*rows/blocks, (t+1)*rows/blocks
				if transA {
					copyRows(pa[r0*kc:], a[k0*lda+lo+r0:], lda, kc, r1-r0)
				} else {
					packRows(pa[r0*kc:], a[(lo+r0)*lda+k0:], lda, kc, r1-r0)
				}
			}
			for j := 0; j < n; j += panel {
				cols := min(panel, n-j)
				pb, step := gemmPanel(packed, b, ldb, j, k0, cols, kc, transB)
				for t := 0; t < blocks; t++ {
					r0, r1 := t*rows/blocks, (t+1)*rows/blocks
					tileF32(c[(lo+r0)*ldc+j:], ldc, pa[r0*kc:], pb, step, kc, r1-r0, cols, add)
				}
			}
		}
	}
}

// gemmPanel gives rows k0 to k0+kc of columns j to j+cols of op(B) and the distance between them: in place or packed into buf.
func gemmPanel(buf, b []float32, ldb, j, k0, cols, kc int, transB bool) ([]float32, int) {
	switch {
	case transB:
		turn(buf, panel, b[j*ldb+k0:], ldb, kc, min(cols, 16))
		if cols > 16 {
			turn(buf[16:], panel, b[(j+16)*ldb+k0:], ldb, kc, cols-16)
		}
	case !readsInPlace(cols):
		for q := 0; q < kc; q++ {
			copy(buf[q*panel:], b[(k0+q)*ldb+j:][:cols])
		}
	default:
		return b[k0*ldb+j:], ldb
	}
	return buf, panel
}

// copyRows writes dst[k][rows] from rows of a transposed A, which lie so already, lda apart.
func copyRows(dst, a []float32, lda, k, rows int) {
	for q := 0; q < k; q++ {
		copy(dst[q*rows:q*rows+rows], a[q*lda:q*lda+rows])
	}
}
