package llm

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// entry is what the frozen model makes of one item prompt: all that scoring it for any user needs, and what Encode returns.
// It is read-only once made. data holds, in this order:
//
//	title   [2*hidden]              mean of the title tokens' states at ReadLayer, then the last token's
//	answer  [top][hidden]           the inputs of o (of gate and up where o's are not hidden wide) at the answer token of the
//	                                top layers, lowest first
//	state   [hidden]                the answer token's residual stream at the input of the lowest top layer
//
// kv [top][2][n][kvWidth] holds keys (turned) and values of the n tokens before the answer token; kv16 instead, as bfloat16,
// unless the model computes in float32.
type entry struct {
	data []float32
	kv   []float32
	kv16 []uint16
	n    int
	dims *entryDims
}

// entryDims are the sizes that all entries of a model share.
type entryDims struct {
	layers, top, hidden, kvWidth int
	bf16                         bool
	numerics                     string
}

func (d *entryDims) fixed() int      { return (3 + d.top) * d.hidden }
func (d *entryDims) pairs(n int) int { return 2 * d.top * n * d.kvWidth }

// bytes is the size of an entry's values.
func (d *entryDims) bytes(n int) int {
	if d.bf16 {
		return 4*d.fixed() + 2*d.pairs(n)
	}
	return 4 * (d.fixed() + d.pairs(n))
}

func (d *entryDims) make(n int) *entry {
	e := &entry{data: make([]float32, d.fixed()), n: n, dims: d}
	if d.bf16 {
		e.kv16 = make([]uint16, d.pairs(n))
	} else {
		e.kv = make([]float32, d.pairs(n))
	}
	return e
}

func (e *entry) title() []float32 { return e.data[:2*e.dims.hidden] }
func (e *entry) answer(i int) []float32 {
	lo := (2 + i) * e.dims.hidden
	return e.data[lo : lo+e.dims.hidden]
}
func (e *entry) state() []float32 { return e.data[e.dims.fixed()-e.dims.hidden : e.dims.fixed()] }

// row is where token t's key (0) or value (1) of model layer l lies.
func (e *entry) row(l, which, t int) int {
	return ((2*(l-e.dims.layers+e.dims.top)+which)*e.n + t) * e.dims.kvWidth
}

// keep copies key and value of token t in layer l.
func (e *entry) keep(l, t int, key, value []float32) {
	k, v, n := e.row(l, 0, t), e.row(l, 1, t), e.dims.kvWidth
	if e.dims.bf16 {
		kernels.BF16FromF32(e.kv16[k:k+n], key[:n])
		kernels.BF16FromF32(e.kv16[v:v+n], value[:n])
		return
	}
	copy(e.kv[k:k+n], key)
	copy(e.kv[v:v+n], value)
}

// stretch is keys and values of layer l from head g on; bfloat16 ones are widened into w.
func (e *entry) stretch(l, off int, w *worker) kernels.Stretch {
	k, v, n := e.row(l, 0, 0), e.row(l, 1, 0), e.n*e.dims.kvWidth
	if e.n == 0 {
		return kernels.Stretch{Stride: e.dims.kvWidth}
	}
	if !e.dims.bf16 {
		return kernels.Stretch{Keys: e.kv[k+off : k+n], Values: e.kv[v+off : v+n], N: e.n, Stride: e.dims.kvWidth}
	}
	both := grow(&w.kv, 2*n) // values lie behind the keys in kv16 too
	kernels.F32FromBF16(both, e.kv16[k:k+2*n])
	return kernels.Stretch{Keys: both[off:n], Values: both[n+off:], N: e.n, Stride: e.dims.kvWidth}
}

// bytes is what the entry takes up in memory, its place in the cache's index included.
func (e *entry) bytes() int64 { return int64(e.dims.bytes(e.n)) + 250 }

// states copies what Encode returns.
func (e *entry) states() corastream.States {
	s := corastream.States{Title: append([]float32(nil), e.title()...)}
	for i := range e.dims.top {
		s.Answer = append(s.Answer, append([]float32(nil), e.answer(i)...))
	}
	return s
}

// entryKey is the content that an entry depends on, beside the model: the prompt's tokens and which of them are the title.
type entryKey [sha256.Size]byte

func keyOf(t tokens) entryKey {
	b := make([]byte, 0, 8+4*len(t.ids))
	b = binary.LittleEndian.AppendUint32(b, uint32(t.title))
	b = binary.LittleEndian.AppendUint32(b, uint32(t.titleEnd))
	for _, id := range t.ids {
		b = binary.LittleEndian.AppendUint32(b, uint32(id))
	}
	return sha256.Sum256(b)
}
