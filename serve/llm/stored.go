package llm

import (
	"slices"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// asStored packs a linear whose tensors the 8-bit products take as the file has them, without loss: all of Q4_1, or of the K types that
// kernels.PackK knows. It is nil when they are of other types.
func (w *weights) asStored(l linear) (kernels.Matrix, error) {
	parts, same := make([]kernels.KRows, len(l.parts)), true
	for i, p := range l.parts {
		t, err := w.file.Tensor(p.name)
		if err != nil {
			return nil, err
		}
		parts[i] = kernels.KRows{Type: t.Type.String(), Out: p.out}
		same = same && t.Type == gguf.Q4_1
	}
	same = same && l.in%gguf.Q4_1.BlockSize() == 0
	if !same && !kernels.KStacks(parts, l.in) {
		return nil, nil
	}
	for i, p := range l.parts {
		var err error
		if parts[i].Blocks, err = w.blocks(p, l.in); err != nil {
			return nil, err
		}
	}
	defer w.release(l)
	if !same {
		return kernels.PackK(parts, l.in), nil
	}
	var all []byte
	for _, p := range parts {
		all = append(all, p.Blocks...)
	}
	return kernels.PackQ4_1(all, l.out(), l.in), nil
}

// kquants says whether asStored takes all linears of a model of K types. Sizes are not checked here: loading refuses those that are wrong.
func kquants(f *gguf.File, a arch) bool {
	for l := range a.layers {
		for _, lin := range a.linears(l) {
			parts := make([]kernels.KRows, len(lin.parts))
			for i, p := range lin.parts {
				t, err := f.Tensor(p.name)
				if err != nil {
					return false
				}
				parts[i] = kernels.KRows{Type: t.Type.String(), Out: p.out}
			}
			if !kernels.KStacks(parts, lin.in) {
				return false
			}
		}
	}
	return true
}

// blocks gives a part's blocks [out][in/block], the file's own where no rows have to change places.
func (w *weights) blocks(p linearPart, in int) ([]byte, error) {
	t, err := w.file.Tensor(p.name)
	if err != nil {
		return nil, err
	}
	row := in / t.Type.BlockSize() * t.Type.BlockBytes()
	if len(t.Dims) != 2 || t.RowLen() != in || t.Rows() != p.out || len(t.Raw) != p.out*row {
		return nil, corastream.Usagef(w.file.Name(), "use a sound model", "tensor %q has dimensions %v, wanted [%d %d]", p.name, t.Dims, in, p.out)
	}
	if err := finiteBlocks(w.file, t, row); err != nil {
		return nil, err
	}
	if p.heads == 0 {
		return t.Raw, nil
	}
	b := slices.Clone(t.Raw)
	halves(b, p.heads, p.out/p.heads, row)
	return b, nil
}

// release lets go of the file's memory that a linear was read from: it is not read again, unless for a backward pass.
func (w *weights) release(l linear) {
	for _, p := range l.parts {
		if t, err := w.file.Tensor(p.name); err == nil {
			w.file.Release(t.Raw)
		}
	}
}

// float16s tells where a block has its scales and minima in float16.
var float16s = map[gguf.Type][]int{gguf.Q4_1: {0, 2}, gguf.Q4_K: {0, 2}, gguf.Q5_K: {0, 2}, gguf.Q6_K: {208}}

// finiteBlocks refuses blocks whose scale or minimum is not a number: the exponents of float16 are all ones.
func finiteBlocks(f *gguf.File, t *gguf.Tensor, row int) error {
	for _, at := range float16s[t.Type] {
		for i := at + 1; i < len(t.Raw); i += t.Type.BlockBytes() {
			if t.Raw[i]&0x7c == 0x7c {
				return corastream.Usagef(f.Name(), "get the file again", "tensor %q: row %d has a block that is not finite", t.Name, i/row)
			}
		}
	}
	return nil
}
