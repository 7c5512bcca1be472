package llm

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/corastream/corastream"
)

// entry is what the frozen model makes of one item prompt: all that scoring it for any user needs, and what Encode returns.
// It is read-only once made. data holds, in this order:
//
//	title   [2*hidden]              mean of the title tokens' states at ReadLayer, then the last token's
//	answer  [top][qWidth]           the o-projection's inputs at the answer token of the top layers, lowest first
//	state   [hidden]                the answer token's residual stream at the input of the lowest top layer
//	kv      [top][2][n][kvWidth]    keys (turned) and values of the n tokens before the answer token
type entry struct {
	data []float32
	n    int
	dims *entryDims
}

// entryDims are the sizes that all entries of a model share.
type entryDims struct{ layers, top, hidden, qWidth, kvWidth int }

func (d *entryDims) fixed() int     { return 3*d.hidden + d.top*d.qWidth }
func (d *entryDims) size(n int) int { return d.fixed() + 2*d.top*n*d.kvWidth }

func (d *entryDims) make(n int) *entry {
	return &entry{data: make([]float32, d.size(n)), n: n, dims: d}
}

func (e *entry) title() []float32 { return e.data[:2*e.dims.hidden] }
func (e *entry) answer(i int) []float32 {
	lo := 2*e.dims.hidden + i*e.dims.qWidth
	return e.data[lo : lo+e.dims.qWidth]
}
func (e *entry) state() []float32 { return e.data[e.dims.fixed()-e.dims.hidden : e.dims.fixed()] }

// keys and values of model layer l [n][kvWidth].
func (e *entry) keys(l int) []float32   { return e.kv(2 * (l - e.dims.layers + e.dims.top)) }
func (e *entry) values(l int) []float32 { return e.kv(2*(l-e.dims.layers+e.dims.top) + 1) }
func (e *entry) kv(i int) []float32 {
	w := e.n * e.dims.kvWidth
	lo := e.dims.fixed() + i*w
	return e.data[lo : lo+w]
}

// bytes is what the entry takes up in memory, its place in the cache's index included.
func (e *entry) bytes() int64 { return int64(4*len(e.data)) + 200 }

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
