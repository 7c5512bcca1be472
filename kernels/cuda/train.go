package cuda

// The launches of src/train.cu: what a backward pass needs beside products.

var block128 = [3]int{128, 1, 1}

// SwiGLU writes act [rows][lda] from gate and up alternating in gu [rows][ldg].
func (q *Queue) SwiGLU(gu Pointer, ldg, f, rows int, act Pointer, lda int) error {
	return q.Launch("swiglu", [3]int{rows, 1, 1}, block128, 0, gu, ldg, f, act, lda)
}

// SwiGLUBack writes dgu [rows][ldg] from dact [rows][lda].
func (q *Queue) SwiGLUBack(dact Pointer, lda int, gu Pointer, ldg, f, rows int, dgu Pointer) error {
	return q.Launch("swiglu_back", [3]int{rows, 1, 1}, block128, 0, dact, lda, gu, ldg, f, dgu)
}

// HeadBack writes the logits z [rows] and starts the gradient: dx [rows][width] and its bfloat16 copy [rows][ld].
func (q *Queue) HeadBack(x, yes, no, label Pointer, share, eps float32, rows, width int, z, dx, copied Pointer, ld int) error {
	return q.Launch("head_back", rowBlocks(rows), block128, 0, x, yes, no, label, share, eps, rows, width, z, dx, copied, ld)
}

// NormBack adds to dx the gradient through a norm, and writes the copy.
func (q *Queue) NormBack(dx, dy, x, w Pointer, eps float32, rows, width int, copied Pointer, ld int) error {
	return q.Launch("norm_back", rowBlocks(rows), block128, 0, dx, dy, x, w, eps, rows, width, copied, ld)
}

// TurnBack undoes the rotation of d [rows][width] and rounds it.
func (q *Queue) TurnBack(d Pointer, width int, angles, pos Pointer, turned, head, rows int, out Pointer, ldq int) error {
	return q.Launch("turn_back", [3]int{rows, 1, 1}, block128, 0, d, width, angles, pos, turned, head, out, ldq)
}

// ScatterRows makes row i of dst row place[i] of src, or zeros where that is -1.
func (q *Queue) ScatterRows(dst, src, place Pointer, rows, width int) error {
	return q.Launch("scatter_rows", [3]int{rows, 1, 1}, block128, 0, dst, src, place, width)
}

// DeltaUp adds W_A dT to dx [row][hidden] for the rows of tiles.
func (q *Queue) DeltaUp(dx, dt Pointer, ldt int, tiles Pointer, count int, mats, scale Pointer, hidden, rank int) error {
	return q.Launch("delta_up", [3]int{count, (hidden + 127) / 128, 1}, block128, 0, dx, dt, ldt, tiles, mats, scale, hidden, rank)
}

// DeltaGrad adds x^T dT over the rows of each span to dw [spans][hidden][rank].
func (q *Queue) DeltaGrad(x Pointer, ldx int, dt Pointer, ldt int, spans Pointer, count, hidden, rank int, dw Pointer) error {
	return q.Launch("delta_grad", [3]int{count, (hidden + 127) / 128, (rank + 15) / 16}, block128, 0, x, ldx, dt, ldt, spans, hidden, rank, dw)
}

// PSplits is how many parts PGrad sums over rows; part holds that many [rank][out].
func PSplits(rows int) int { return max(1, min(64, rows/64)) }

// PGrad adds T^T dY to dp [rank][out].
func (q *Queue) PGrad(t Pointer, ldt int, dy Pointer, ldy, rows, out, rank int, part, dp Pointer) error {
	splits := PSplits(rows)
	each := (rows + splits - 1) / splits
	if err := q.Launch("p_grad", [3]int{(out + 127) / 128, splits, (rank + 15) / 16}, block128, 0, t, ldt, dy, ldy, rows, each, out, rank, part); err != nil {
		return err
	}
	return q.Launch("p_sum", [3]int{(rank*out + 127) / 128, 1, 1}, block128, 0, part, splits, rank*out, dp)
}

// AttendBack names the two lists of a plan's backward pass: {run, query} of the queries that take gradients, {run, key} of the keys.
type AttendBack struct {
	Queries, Keys        Pointer
	QueryCount, KeyCount int
	DAtt, DQKV, Stats    Pointer // [out row][QWidth]; [row][QWidth+2*KVWidth], clear; [out row][heads][3]
	MostKeys             int     // that one query sees
}

// AttendBack writes the gradients of queries, keys and values, given that of attention's output.
func (q *Queue) AttendBack(p *AttendPlan, a Attend, b AttendBack) error {
	s, warp := p.shape, [3]int{32, 1, 1}
	if b.QueryCount > 0 {
		if err := q.Launch("attend_back_q", [3]int{b.QueryCount, s.KVHeads * s.Group, 1}, warp, 4*(2*b.MostKeys+2*s.HeadDim), a.QKV, a.LDQ, a.QWidth, a.KVWidth,
			a.Pool, a.Layers, a.Layer, b.Queries, a.Runs, a.Refs, b.DAtt, b.DQKV, b.Stats, s.HeadDim, s.Group, a.Scale); err != nil {
			return err
		}
	}
	if b.KeyCount == 0 {
		return nil
	}
	return q.Launch("attend_back_kv", [3]int{b.KeyCount, s.KVHeads, 1}, warp, 0, a.QKV, a.LDQ, a.QWidth, a.KVWidth, b.Keys, a.Runs, a.Refs, b.DAtt, b.DQKV, b.Stats,
		s.HeadDim, s.Group, a.Scale)
}
