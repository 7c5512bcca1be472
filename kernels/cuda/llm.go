package cuda

import "fmt"

// The launches of src/llm.cu. Rows of bfloat16 are padded as Padded says, padding zero.

const blockRows = 4 // rows of a block where each has a warp

func rowBlocks(rows int) [3]int { return [3]int{(rows + blockRows - 1) / blockRows, 1, 1} }

// RMSNorm writes out [rows][ld] bf16 from x [rows][width]; width is a multiple of 4.
func (q *Queue) RMSNorm(x, w Pointer, eps float32, rows, width int, out Pointer, ld int) error {
	return q.Launch("rms_norm", rowBlocks(rows), [3]int{128, 1, 1}, 0, x, w, eps, rows, width, out, ld)
}

// Gather copies rows of 4-byte words: row i of dst is row index[i] of src, from word `from` on.
func (q *Queue) Gather(dst Pointer, ldd int, src Pointer, lds, from int, index Pointer, rows, words int) error {
	if rows == 0 {
		return nil
	}
	return q.Launch("gather", rowBlocks(rows), [3]int{128, 1, 1}, 0, dst, ldd, src, lds, from, index, rows, words)
}

// Head writes out [rows][2], the logits of two words whose rows of the head are multiplied by the last norm's weight.
func (q *Queue) Head(x, yes, no Pointer, eps float32, rows, width int, out Pointer) error {
	return q.Launch("head", rowBlocks(rows), [3]int{128, 1, 1}, 0, x, yes, no, eps, rows, width, out)
}

// ReadTitles writes out [items][2*width]: the mean of rows list[begin[i]:begin[i+1]-1], then row list[begin[i+1]-1].
func (q *Queue) ReadTitles(x Pointer, width int, list, begin Pointer, items int, out Pointer) error {
	return q.Launch("read_titles", [3]int{items, 1, 1}, [3]int{128, 1, 1}, 0, x, width, list, begin, out)
}

// DeltaTile is at most 16 consecutive rows with the same W_A = User + scale[row]*Item; Item may be -1. Both are slots of Rows.
type DeltaTile struct{ Row, N, User, Item int32 }

// DeltaDown writes T = W_A^T x of the tiles' rows, t [rows][ldt] bf16; mats holds [hidden][rank] bfloat16 for each slot.
func (q *Queue) DeltaDown(x Pointer, ldx int, tiles Pointer, count int, mats, scale Pointer, hidden, rank int, t Pointer, ldt int) error {
	if count == 0 {
		return nil
	}
	return q.Launch("delta_down", [3]int{count, (rank + 15) / 16, 1}, [3]int{128, 1, 1}, 8192, x, ldx, tiles, mats, scale, hidden, rank, t, ldt)
}

// PageTokens is how many tokens a page of cached keys and values holds.
const PageTokens = 16

// Run is consecutive query rows [Row, Row+N) of one sequence; its output goes to rows from Out on. Before keys come ahead of its
// own; refs from Ref on name all of them, Before+N.
type Run struct{ Row, N, Out, Ref, Before int32 }

// AttendPlan is what attends to what, as the kernel takes it; it serves all layers. Few are the runs of few rows, one warp
// each; Many the others.
type AttendPlan struct {
	Runs      []int32
	Refs      []int32
	Few, Many []int32 // tiles: run, first query
	shape     AttendShape
}

// AttendShape is the geometry of heads.
type AttendShape struct{ HeadDim, Group, KVHeads int }

// width is the kernel form's head width; 0 when there is none.
func (s AttendShape) width() int {
	for _, w := range []int{16, 64, 128} {
		if s.HeadDim <= w {
			return w
		}
	}
	return 0
}

// Check refuses shapes that no kernel has a form for.
func (s AttendShape) Check() error {
	if s.width() == 0 || s.HeadDim%8 != 0 || s.Group < 1 || s.Group > 16 {
		return fmt.Errorf("cuda: no attention for heads of %d values, %d to a key (fix: heads of at most 128, a multiple of 8, at most 16 to a key)", s.HeadDim, s.Group)
	}
	return nil
}

// Plan cuts runs into tiles.
func (s AttendShape) Plan(runs []Run, refs []int32) *AttendPlan {
	p := &AttendPlan{Refs: refs, shape: s}
	for i, r := range runs {
		p.Runs = append(p.Runs, r.Row, r.N, r.Out, r.Ref, r.Before, 0, 0, 0) // the kernel's runs are 8 ints apart
		few, many := int32(16/s.Group), int32(64/s.Group)
		if r.N <= 2*few {
			for at := int32(0); at < r.N; at += few {
				p.Few = append(p.Few, int32(i), at)
			}
			continue
		}
		for at := int32(0); at < r.N; at += many {
			p.Many = append(p.Many, int32(i), at)
		}
	}
	return p
}

// Attend is one layer's attention. QKV rows hold queries [QWidth], keys [KVWidth], values [KVWidth]; Pool is the paged cache
// [page][Layers][PageTokens][2*KVWidth].
type Attend struct {
	QKV             Pointer
	LDQ             int
	QWidth, KVWidth int
	Pool            Pointer
	Layers, Layer   int
	Few, Many       Pointer
	Runs, Refs      Pointer
	Out             Pointer
	LDO             int
	Scale           float32
}

// Attend launches a plan that was uploaded.
func (q *Queue) Attend(p *AttendPlan, a Attend) error {
	w := p.shape.width()
	keys := 64
	if w == 128 {
		keys = 32
	}
	for _, t := range []struct {
		tiles Pointer
		count int
		warps int
	}{{a.Few, len(p.Few) / 2, 1}, {a.Many, len(p.Many) / 2, 4}} {
		if t.count == 0 {
			continue
		}
		if err := q.Launch(fmt.Sprintf("attend_%d_%d", w, t.warps), [3]int{t.count, p.shape.KVHeads, 1}, [3]int{32 * t.warps, 1, 1},
			2*(w+8)*(16*t.warps+2*keys), a.QKV, a.LDQ, a.QWidth, a.KVWidth, a.Pool, a.Layers, a.Layer, t.tiles, a.Runs, a.Refs, a.Out, a.LDO,
			p.shape.HeadDim, p.shape.Group, a.Scale); err != nil {
			return err
		}
	}
	return nil
}
