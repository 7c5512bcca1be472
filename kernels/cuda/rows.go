package cuda

import (
	"container/list"
	"fmt"
	"weak"

	"github.com/corastream/corastream/kernels"
)

// RowsFormat says what Rows holds: rows of one width in one format.
type RowsFormat struct {
	Width int
	// BF16 keeps values in bfloat16, as the LLM's products read them: half the memory, half the bytes to write and read.
	BF16 bool
}

// Bytes is the size of a row.
func (f RowsFormat) Bytes() int64 {
	if f.BF16 {
		return 2 * int64(f.Width)
	}
	return 4 * int64(f.Width)
}

// Rows keeps rows of values on the device beside their host copies, so that what one stage made there need not be uploaded again
// for the next: W_A goes from the generator to the LLM without leaving the device. A row is found by the address of its host
// copy, which must not be written to again; a copy that was collected is never found, even if its address is taken anew. The
// least recently used rows give way. Used within Do alone.
type Rows struct {
	format RowsFormat
	buf    *Buffer
	slots  int
	byKey  map[weak.Pointer[float32]]*list.Element
	order  *list.List // of rowSlot, most recently used first
}

type rowSlot struct {
	slot int
	key  weak.Pointer[float32] // zero when the slot holds nothing that can be found
}

// Rows gives the rows of a format, with room for at least n of them at a time.
func (q *Queue) Rows(f RowsFormat, n int) (*Rows, error) {
	r := q.d.rows[f]
	if r == nil {
		r = &Rows{format: f}
		q.d.rows[f] = r
	}
	if n <= r.slots {
		return r, nil
	}
	n += n / 2
	if err := q.Free(r.buf); err != nil {
		return nil, err
	}
	r.buf, r.slots, r.byKey, r.order = nil, 0, map[weak.Pointer[float32]]*list.Element{}, list.New()
	buf, err := q.Alloc(f.Bytes() * int64(n))
	if err != nil {
		return nil, err
	}
	r.buf, r.slots = buf, n
	for i := range n {
		r.order.PushFront(&rowSlot{slot: i})
	}
	return r, nil
}

// Take gives a slot for new content, to be written by a kernel or an upload; Bind makes it findable.
func (r *Rows) Take() (slot int) {
	e := r.order.Back()
	s := e.Value.(*rowSlot)
	delete(r.byKey, s.key)
	s.key = weak.Pointer[float32]{}
	r.order.MoveToFront(e)
	return s.slot
}

// Bind ties a slot, the most recently taken ones first, to its host copy.
func (r *Rows) Bind(slot int, host []float32) {
	if len(host) != r.format.Width {
		panic(fmt.Sprintf("cuda.Rows: a row of %d values, not %d", len(host), r.format.Width))
	}
	for e := r.order.Front(); e != nil; e = e.Next() {
		if s := e.Value.(*rowSlot); s.slot == slot {
			delete(r.byKey, s.key)
			s.key = weak.Make(&host[0])
			r.byKey[s.key] = e
			return
		}
	}
}

// Place gives the slot of a host row for content that a kernel is about to write: what it held before is gone.
func (r *Rows) Place(host []float32) (slot int) {
	if e := r.byKey[weak.Make(&host[0])]; e != nil {
		r.order.MoveToFront(e)
		return e.Value.(*rowSlot).slot
	}
	slot = r.Take()
	r.Bind(slot, host)
	return slot
}

// Find gives the slot of a host row, uploading it when the device does not hold it.
func (r *Rows) Find(q *Queue, host []float32) (slot int, err error) {
	if e := r.byKey[weak.Make(&host[0])]; e != nil {
		r.order.MoveToFront(e)
		return e.Value.(*rowSlot).slot, nil
	}
	slot = r.Take()
	if err := r.write(q, slot, host); err != nil {
		return 0, err
	}
	r.Bind(slot, host)
	return slot, nil
}

func (r *Rows) write(q *Queue, slot int, host []float32) error {
	if !r.format.BF16 {
		return Upload(q, r.buf, r.offset(slot), host)
	}
	half := make([]uint16, len(host))
	kernels.BF16FromF32(half, host)
	return Upload(q, r.buf, r.offset(slot), half)
}

// Download copies the rows of neighbouring slots from first on into v; v holds them after Wait. Where rows are kept in bfloat16, widen
// has to be called then.
func (r *Rows) Download(q *Queue, v []float32, first int) (widen func(), err error) {
	if !r.format.BF16 {
		return func() {}, Download(q, v, r.buf, r.offset(first))
	}
	half := make([]uint16, len(v))
	return func() { kernels.F32FromBF16(v, half) }, Download(q, half, r.buf, r.offset(first))
}

func (r *Rows) offset(slot int) int64 { return int64(slot) * r.format.Bytes() }

// Buffer holds the rows: slot i begins at value i*width.
func (r *Rows) Buffer() *Buffer { return r.buf }
