package main

import "fmt"

func attentionARM() neon {
	v := newNeon("attention_arm64.s", "One query head against n cached positions, stride bytes apart; d is a multiple of 16.")

	v.text("attendScoresNEON", "(scores, q, keys *float32, stride uintptr, n, d int, scale float32)", 52)
	v.note("scores[t] = scale * q.k_t, four positions at a time; past the last one it is repeated and not stored")
	v.args("scores q keys stride n d", "R0 R1 R2 R3 R5 R6")
	v.parameter("scale+48(FP)", 31)
	group, single, end := v.label("group"), v.label("single"), v.label("end")
	v.i("CMP", 1, "R5")
	v.i("BLT", end)
	v.at(group)
	v.rowsOf(4)
	for n := 0; n < 16; n++ {
		v.zero(n)
	}
	v.i("MOVD", "R1", "R12")
	v.i("MOVD", "R6", "R13")
	v.loop("R13", 16, func() {
		v.load("R12", "+", 16, 4)
		for t := 0; t < 4; t++ {
			k := 20 + 4*(t%2)
			v.load(fmt.Sprintf("R%d", 8+t), "+", k, 4)
			for n := 0; n < 4; n++ {
				v.n("fmla", 4*t+n, k+n, 16+n)
			}
		}
	})
	for t := 0; t < 4; t++ {
		v.n("fadd", 4*t, 4*t, 4*t+1)
		v.n("fadd", 4*t+2, 4*t+2, 4*t+3)
		v.n("fadd", 4*t, 4*t, 4*t+2)
	}
	v.n("faddp", 0, 0, 4)
	v.n("faddp", 8, 8, 12)
	v.n("faddp", 0, 0, 8)
	v.n("fmul", 0, 0, 31)
	v.i("CMP", 4, "R5")
	v.i("BLT", single)
	v.store("R0", "+", 0, 1)
	v.i("ADD", "R3<<2", "R2", "R2")
	v.i("SUBS", 4, "R5")
	v.i("BNE", group)
	v.i("B", end)
	v.at(single)
	v.i("FMOVS.P", "F0", "4(R0)")
	v.i("VEXT", 4, vb(0), vb(0), vb(0))
	v.i("SUBS", 1, "R5")
	v.i("BNE", single)
	v.at(end)
	v.ret()

	v.text("attendSumNEON", "(dst, p, values *float32, stride uintptr, n, d int)", 48)
	v.note("dst += p[t] v_t for t in order, 64 columns in registers, then 16")
	v.args("dst p values stride n d", "R0 R1 R2 R3 R5 R6")
	for _, cols := range []int{64, 16} {
		v.loop("R6", cols, func() {
			nv := cols / 4
			v.columns("R0", "", 0, nv, v.load)
			v.i("MOVD", "R1", "R8")
			v.i("MOVD", "R2", "R9")
			v.rows(nv, func(next string, n, k int) {
				v.load("R9", next, k, 4)
				for m := 0; m < 4; m++ {
					v.n("fmla", n+m, k+m, 31)
				}
			})
			v.columns("R0", "+", 0, nv, v.store)
			v.i("ADD", 4*cols, "R2")
		})
	}
	v.ret()

	v.text("attendOuterNEON", "(dst, c, x *float32, stride uintptr, n, d int)", 48)
	v.note("row t of dst += c[t] x, 64 columns of x in registers, then 16")
	v.args("dst c x stride n d", "R0 R1 R2 R3 R5 R6")
	for _, cols := range []int{64, 16} {
		v.loop("R6", cols, func() {
			nv := cols / 4
			v.columns("R2", "+", 0, nv, v.load)
			v.i("MOVD", "R1", "R8")
			v.i("MOVD", "R0", "R9")
			v.rows(nv, func(next string, n, k int) {
				v.load("R9", "", k, 4)
				for m := 0; m < 4; m++ {
					v.n("fmla", k+m, n+m, 31)
				}
				v.store("R9", next, k, 4)
			})
			v.i("ADD", 4*cols, "R0")
		})
	}
	v.ret()
	return v
}

// columns loads or stores nv registers, a multiple of four; step "" leaves ptr where it was.
func (v neon) columns(ptr, step string, first, nv int, access func(ptr, step string, first, count int)) {
	for n := 0; n < nv; n += 4 {
		access(ptr, "+", first+n, 4)
	}
	if step == "" {
		v.i("SUB", 16*nv, ptr)
	}
}

// rows walks n (R5) rows at R9, R3 bytes apart, each with its factor at R8 in V31. strip takes a row's vectors four at a time: those from
// n on belong into V[k] to V[k+3], and next is how R9 goes on behind them.
func (v neon) rows(nv int, strip func(next string, n, k int)) {
	v.i("MOVD", "R5", "R10")
	v.i("SUB", 16*(nv-4), "R3", "R11")
	v.loop("R10", 1, func() {
		v.broadcast("R8", 31)
		for n := 0; n < nv; n += 4 {
			next := "+"
			if n+4 == nv {
				next = "R11"
			}
			strip(next, n, 20+n%8)
		}
	})
}
