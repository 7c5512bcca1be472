package main

import "fmt"

// packingARM transposes rows of a matrix, four at a time, into the order in which a tile reads them.
func packingARM() neon {
	v := newNeon("pack_arm64.s", "Packing. lda and step are the bytes between rows of a and of dst.")

	v.text("packNEON", "(dst *float32, step uintptr, a *float32, lda uintptr, k, rows int)", 48)
	v.note("dst[q][r] = a[r][q] for q < k, a multiple of 4, and r < rows, at most 4. Whole vectors are stored in order of q.")
	v.args("dst step a lda k rows", "R0 R1 R2 R3 R4 R5")
	v.rowsOf(4)
	v.loop("R4", 4, func() {
		for r := 0; r < 4; r++ {
			v.i("FMOVQ.P", fmt.Sprintf("16(R%d)", 8+r), fr(r))
		}
		v.n("trn1", 4, 0, 1)
		v.n("trn2", 5, 0, 1)
		v.n("trn1", 6, 2, 3)
		v.n("trn2", 7, 2, 3)
		v.n("zip1d", 16, 4, 6)
		v.n("zip1d", 17, 5, 7)
		v.n("zip2d", 18, 4, 6)
		v.n("zip2d", 19, 5, 7)
		for q := 0; q < 4; q++ {
			v.store("R0", "R1", 16+q, 1)
		}
	})
	v.ret()

	v.text("packPairNEON", "(dst *float32, step uintptr, a *float32, lda uintptr, k, rows int)", 48)
	v.note("the same of 64-bit values and two rows, for any k; a second row that is not there becomes the first")
	v.args("dst step a lda k rows", "R0 R1 R2 R3 R4 R5")
	v.rowsOf(2)
	v.loop("R4", 2, func() {
		v.i("FMOVQ.P", "16(R8)", "F0")
		v.i("FMOVQ.P", "16(R9)", "F1")
		v.n("zip1d", 2, 0, 1)
		v.n("zip2d", 3, 0, 1)
		v.store("R0", "R1", 2, 1)
		v.store("R0", "R1", 3, 1)
	})
	v.loop("R4", 1, func() {
		v.i("FMOVD.P", "8(R8)", "F0")
		v.i("FMOVD.P", "8(R9)", "F1")
		v.n("zip1d", 2, 0, 1)
		v.store("R0", "R1", 2, 1)
	})
	v.ret()
	return v
}

// rowsOf sets R8 and the registers after it to rows of a, R2, which are R3 apart; the last of R5 rows stands for those past it.
func (v neon) rowsOf(count int) {
	v.i("MOVD", "R2", "R8")
	for r := 1; r < count; r++ {
		last, row := fmt.Sprintf("R%d", 7+r), fmt.Sprintf("R%d", 8+r)
		v.i("ADD", "R3", last, row)
		v.i("CMP", r+1, "R5")
		v.i("CSEL", "LT", last, row, row)
	}
}
