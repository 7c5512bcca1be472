package llm

import (
	"fmt"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// layer is one transformer block. Linears that read the same input are one matrix: q, k, v and gate, up.
type layer struct {
	attnNorm, ffnNorm    []float32 // [hidden]
	qNorm, kNorm         []float32 // [headDim]; nil when heads are not normed
	postAttn, postFFN    []float32 // [hidden]; nil when what is added is not normed
	qkv, o, gateUp, down kernels.Matrix

	// Biases of the linears; nil where the layer has none.
	bias                        []float32 // of q, k, v [qkvWidth]
	oBias, gateUpBias, downBias []float32 // [hidden], [2*ffn], [hidden]
}

func (l *layer) linears() [linearsPerLayer]*kernels.Matrix {
	return [...]*kernels.Matrix{&l.qkv, &l.o, &l.gateUp, &l.down}
}

// transposed is what the backward pass needs of a layer: dX = dY W.
type transposed struct {
	qkv, o, gateUp, down kernels.Matrix
}

// weights are the layers: packed from the file, or mapped from what an earlier start packed; the transposed ones are made on
// first use, so that serving does not pay for them.
type weights struct {
	file     *gguf.File
	arch     arch
	digest   string // of the file
	numerics string
	layers   []layer
	back     []func() (transposed, error)
	found    bool         // an earlier start had packed them
	unmap    func() error // nil when the weights are on the heap
	keepErr  error        // why the packed weights could not be kept
}

// loadWeights takes the linears from the file at packed when it can, and leaves them there when it could not; "" does neither.
func loadWeights(f *gguf.File, a arch, digest, numerics, packed string) (*weights, error) {
	w := &weights{file: f, arch: a, digest: digest, numerics: numerics, layers: make([]layer, a.layers), back: make([]func() (transposed, error), a.layers)}
	for l := range w.layers {
		if err := w.vectors(l, &w.layers[l]); err != nil {
			return nil, err
		}
		w.back[l] = sync.OnceValues(func() (transposed, error) { return w.transpose(l) })
	}
	if w.found = w.mapPacked(packed); w.found {
		return w, nil
	}
	errs := make([]error, a.layers)
	kernels.Parallel(2, a.layers, func(lo, hi, _ int) {
		for l := lo; l < hi; l++ {
			errs[l] = w.pack(l)
		}
	})
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	w.keepPacked(packed)
	w.swapForMapped(packed)
	return w, nil
}

// swapForMapped takes the linears from the file that they were just kept in, and lets go of those on the heap. Another model of this
// process that maps the same file, such as the one that reads items for lists, then has the same memory. Where the file can not be
// mapped the heap's stay.
func (w *weights) swapForMapped(packed string) {
	if packed == "" || w.keepErr != nil {
		return
	}
	packedOnHeap := make([][linearsPerLayer]kernels.Matrix, len(w.layers))
	for l := range w.layers {
		for i, m := range w.layers[l].linears() {
			packedOnHeap[l][i] = *m
		}
	}
	if !w.mapPacked(packed) {
		for l := range w.layers {
			for i, m := range w.layers[l].linears() {
				*m = packedOnHeap[l][i]
			}
		}
		return
	}
	clear(packedOnHeap)
	debug.FreeOSMemory() // or the next collection would find it, at twice the size
}

func (w *weights) close() error {
	if w.unmap == nil {
		return nil
	}
	unmap := w.unmap
	w.unmap, w.layers = nil, nil
	return unmap()
}

// vectors reads a layer's norms and biases.
func (w *weights) vectors(l int, out *layer) error {
	a := w.arch
	for _, v := range []struct {
		name  string
		there bool
		n     int
		dst   *[]float32
	}{
		{"attn_norm", true, a.hidden, &out.attnNorm},
		{"ffn_norm", true, a.hidden, &out.ffnNorm},
		{"attn_q_norm", a.headNorms, a.headDim, &out.qNorm},
		{"attn_k_norm", a.headNorms, a.headDim, &out.kNorm},
		{"post_attention_norm", a.postNorms, a.hidden, &out.postAttn},
		{"post_ffw_norm", a.postNorms, a.hidden, &out.postFFN},
	} {
		if !v.there {
			continue
		}
		*v.dst = make([]float32, v.n)
		if err := readVector(w.file, name(l, v.name+".weight"), *v.dst); err != nil {
			return err
		}
	}
	for i, lin := range a.linears(l) {
		var err error
		if *[...]*[]float32{&out.bias, &out.oBias, &out.gateUpBias, &out.downBias}[i], err = w.biases(lin); err != nil {
			return err
		}
	}
	return nil
}

// linear is one matrix to be: tensors of the file, one below the other.
type linear struct {
	in    int
	parts []linearPart
}

type linearPart struct {
	name  string
	out   int
	heads int // whose rows are put in halves; 0: as they are
}

// bias names the part's bias, which a file may lack.
func (p linearPart) bias() string { return strings.TrimSuffix(p.name, "weight") + "bias" }

func (l linear) out() (n int) {
	for _, p := range l.parts {
		n += p.out
	}
	return n
}

const linearsPerLayer = 4

// linears lists qkv, o, gateUp and down of a layer, in the order of layer.linears.
func (a arch) linears(l int) [linearsPerLayer]linear {
	heads, kvHeads := 0, 0
	if a.permuted {
		heads, kvHeads = a.heads, a.kvHeads
	}
	return [...]linear{
		{a.hidden, []linearPart{{name(l, "attn_q.weight"), a.qWidth(), heads}, {name(l, "attn_k.weight"), a.kvWidth(), kvHeads}, {name(l, "attn_v.weight"), a.kvWidth(), 0}}},
		{a.qWidth(), []linearPart{{name(l, "attn_output.weight"), a.hidden, 0}}},
		{a.hidden, []linearPart{{name(l, "ffn_gate.weight"), a.ffn, 0}, {name(l, "ffn_up.weight"), a.ffn, 0}}},
		{a.ffn, []linearPart{{name(l, "ffn_down.weight"), a.hidden, 0}}},
	}
}

// pack reads and packs the linears of layer l.
func (w *weights) pack(l int) error {
	into := w.layers[l].linears()
	for i, lin := range w.arch.linears(l) {
		if w.numerics == "int8" {
			m, err := w.asStored(lin)
			if err != nil {
				return err
			}
			if m != nil {
				*into[i] = m
				continue
			}
		}
		d, err := w.dense(lin)
		if err != nil {
			return err
		}
		switch w.numerics {
		case "int8":
			*into[i] = kernels.PackInt8(d, lin.out(), lin.in)
		case "bf16":
			*into[i] = kernels.PackBF16(d, lin.out(), lin.in)
		default:
			*into[i] = kernels.PackF32(d, lin.out(), lin.in)
		}
		w.release(lin)
	}
	return nil
}

// transpose packs a layer's linears for the backward pass: in bfloat16 where the forward pass is, and with 8-bit weights where the
// processor multiplies it, else in float32.
func (w *weights) transpose(l int) (t transposed, err error) {
	pack := kernels.PackF32T
	if w.numerics == "bf16" || w.numerics == "int8" && multipliesBF16(kernels.Level()) {
		pack = kernels.PackBF16T
	}
	into := [...]*kernels.Matrix{&t.qkv, &t.o, &t.gateUp, &t.down}
	for i, lin := range w.arch.linears(l) {
		d, err := w.dense(lin)
		if err != nil {
			return transposed{}, err
		}
		*into[i] = pack(d, lin.out(), lin.in)
	}
	return t, nil
}

// dense reads a linear row-major [out][in].
func (w *weights) dense(l linear) ([]float32, error) {
	d := make([]float32, l.out()*l.in)
	rest := d
	for _, p := range l.parts {
		part := rest[:p.out*l.in]
		if err := readMatrix(w.file, p.name, p.out, l.in, part); err != nil {
			return nil, err
		}
		if p.heads > 0 {
			halves(part, p.heads, p.out/p.heads, l.in)
		}
		rest = rest[len(part):]
	}
	return d, nil
}

func name(l int, tensor string) string { return fmt.Sprintf("blk.%d.%s", l, tensor) }

// halves puts the rows of each head from GGUF's order for Llama, where row 2i turns with row 2i+1, into the order of the
// published checkpoints, where row i turns with row i+headDim/2. So P's columns mean the same for every architecture, and
// an exported adapter fits the published model.
func halves[T byte | float32](v []T, heads, headDim, in int) {
	tmp := make([]T, headDim*in)
	for h := range heads {
		rows := v[h*headDim*in : (h+1)*headDim*in]
		copy(tmp, rows)
		for i := range headDim / 2 {
			copy(rows[i*in:(i+1)*in], tmp[2*i*in:(2*i+1)*in])
			copy(rows[(i+headDim/2)*in:(i+headDim/2+1)*in], tmp[(2*i+1)*in:(2*i+2)*in])
		}
	}
}
