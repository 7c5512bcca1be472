package cuda

import "fmt"

// Arena is what an optimiser moves, on the device: parameters, their gradients and AdamW's moments, four buffers of one layout. The
// generator's slices and P's lie in it side by side; the frozen LLM reads P from it and leaves dLoss/dP in it (Learning). Used within Do
// alone.
type Arena struct {
	Params, Grads, First, Second *Buffer
	Values                       int // of each
	ends                         []int32
	endsAt, rates                *Buffer
	part, clip                   *Buffer
}

// Slice is one trained slice of an Arena on the host.
type Slice struct{ Data, First, Second []float32 }

// arenaLimit keeps offsets within an int32.
const arenaLimit = 1 << 30

// NewArena uploads slices, one behind the other; slice k begins at At(k).
func (q *Queue) NewArena(slices []Slice) (_ *Arena, err error) {
	a := &Arena{}
	for _, s := range slices {
		a.Values += len(s.Data)
		if a.Values > arenaLimit || len(s.First) != len(s.Data) || len(s.Second) != len(s.Data) {
			return nil, fmt.Errorf("cuda: an arena of %d values, at most %d (or moments of another length than their slice)", a.Values, arenaLimit)
		}
		a.ends = append(a.ends, int32(a.Values))
	}
	defer func() {
		if err != nil {
			_ = a.Free(q) // the first error is the one to tell
		}
	}()
	size := 4 * int64(a.Values)
	for _, b := range []struct {
		at    **Buffer
		bytes int64
	}{
		{&a.Params, size},
		{&a.Grads, size},
		{&a.First, size},
		{&a.Second, size},
		{&a.endsAt, 4 * int64(len(slices))},
		{&a.rates, 8 * int64(len(slices))},
		{&a.part, 8 * squareBlocks},
		{&a.clip, 8},
	} {
		if *b.at, err = q.Alloc(b.bytes); err != nil {
			return nil, err
		}
	}
	if err := errJoin(q.Zero(a.Grads, 0, size), Upload(q, a.endsAt, 0, a.ends)); err != nil {
		return nil, err
	}
	for k, s := range slices {
		at := 4 * int64(a.At(k))
		for _, x := range []struct {
			b *Buffer
			v []float32
		}{{a.Params, s.Data}, {a.First, s.First}, {a.Second, s.Second}} {
			if err := Upload(q, x.b, at, x.v); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

// At is the value with which slice k begins.
func (a *Arena) At(k int) int {
	if k == 0 {
		return 0
	}
	return int(a.ends[k-1])
}

// Param and Grad are the addresses of slice k.
func (a *Arena) Param(k int) Pointer { return a.Params.At(4 * int64(a.At(k))) }
func (a *Arena) Grad(k int) Pointer  { return a.Grads.At(4 * int64(a.At(k))) }

// Download copies parameters and moments into slices as NewArena took them; they hold them after Wait.
func (a *Arena) Download(q *Queue, slices []Slice) error {
	for k, s := range slices {
		at := 4 * int64(a.At(k))
		for _, x := range []struct {
			b *Buffer
			v []float32
		}{{a.Params, s.Data}, {a.First, s.First}, {a.Second, s.Second}} {
			if err := Download(q, x.v, x.b, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// Free gives the memory back.
func (a *Arena) Free(q *Queue) (err error) {
	for _, b := range a.Buffers() {
		if e := q.Free(b); err == nil {
			err = e
		}
	}
	return err
}

// Buffers lists the device memory that it holds.
func (a *Arena) Buffers() []*Buffer {
	return []*Buffer{a.Params, a.Grads, a.First, a.Second, a.endsAt, a.rates, a.part, a.clip}
}

// squareBlocks is how many parts a gradient's length is summed in.
const squareBlocks = 256

// AdamW's constants, as they enter a step.
type AdamW struct {
	Beta1, Beta2 float64
	Eps          float32
	C2           float32 // 1 / (1 - beta2^step)
	Clip         float32 // the gradient is scaled down to this length
}

// length launches the sum over the gradients: clip becomes {what they are scaled by, their length}.
func (a *Arena) length(q *Queue, clip float32) error {
	if err := q.Launch("grad_square", [3]int{squareBlocks, 1, 1}, block128, 1024, a.Grads, a.Values, a.part); err != nil {
		return err
	}
	return q.Launch("grad_length", [3]int{1, 1, 1}, [3]int{32, 1, 1}, 0, a.part, squareBlocks, clip, a.clip)
}

// Step launches one step of AdamW with each slice's rate and what it keeps of itself (1 - rate*decay), side by side: one kernel moves all
// slices or, when the gradient's length is not finite, none. clip {scale, length} holds after Wait.
func (a *Arena) Step(q *Queue, w AdamW, rates []float32, clip []float32) error {
	if len(rates) != 2*len(a.ends) || len(clip) != 2 {
		panic("cuda: AdamW needs two rates for each slice, and room for two values")
	}
	if err := Upload(q, a.rates, 0, rates); err != nil {
		return err
	}
	if err := a.length(q, w.Clip); err != nil {
		return err
	}
	if err := Download(q, clip, a.clip, 0); err != nil {
		return err
	}
	return q.Launch("adamw", [3]int{(a.Values + 127) / 128, 1, 1}, block128, 0, a.Params, a.Grads, a.First, a.Second, a.Values, a.endsAt, a.rates, len(a.ends),
		float32(w.Beta1), float32(w.Beta2), float32(1-w.Beta1), float32(1-w.Beta2), w.C2, w.Eps, a.clip)
}

// Learning is what a frozen LLM's backward pass on a device shares with an optimiser on the same one: it reads P where the optimiser
// keeps it, and leaves the gradients there.
type Learning struct {
	*Arena
	// Slice gives the slice of Arena that holds P of a slot [rank][out], layer and target as the projection names them.
	Slice func(layer int, target string) int
	// DW takes dLoss/dW_A: rows [hidden*rank] floats in the order of the prompts.
	DW *Buffer
}

// PForms writes an adapted linear's P as products read it (src/optim.cu).
func (q *Queue) PForms(params, columns Pointer, scale float32, out, rank int, down Pointer, ldd int, back Pointer, ldb int) error {
	return q.Launch("p_forms", [3]int{(ldb + 127) / 128, 1, 1}, block128, 0, params, columns, scale, out, rank, down, ldd, back, ldb)
}

// PTake adds dP [rank][out], times scale, to the arena's gradients.
func (q *Queue) PTake(dp, columns Pointer, scale float32, out, rank int, grads Pointer) error {
	return q.Launch("p_take", [3]int{(out + 127) / 128, 1, 1}, block128, 0, dp, columns, scale, out, rank, grads)
}

// PutRows makes row place[i] of dst row i of src.
func (q *Queue) PutRows(dst, src, place Pointer, rows, width int) error {
	return q.Launch("put_rows", [3]int{rows, 1, 1}, block128, 0, src, place, width, dst)
}
