package llm

import (
	"fmt"
	"sync"

	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// layer is one transformer block. Linears that read the same input are one matrix: q, k, v and gate, up.
type layer struct {
	attnNorm, ffnNorm    []float32 // [hidden]
	bias                 []float32 // of q, k, v [qkvWidth]; nil when the model has none
	qkv, o, gateUp, down kernels.Matrix
}

// transposed is what the backward pass needs of a layer: dX = dY W.
type transposed struct {
	qkv, o, gateUp, down kernels.Matrix
}

// weights loads layers from the file; the transposed ones on first use, so that serving does not pay for them.
type weights struct {
	file   *gguf.File
	arch   arch
	layers []layer
	back   []func() (transposed, error)
}

type packer func(w []float32, out, in int) kernels.Matrix

func loadWeights(f *gguf.File, a arch, bf16 bool) (*weights, error) {
	pack, packT := kernels.PackF32, kernels.PackF32T
	if bf16 {
		pack, packT = kernels.PackBF16, kernels.PackBF16T
	}
	w := &weights{file: f, arch: a, layers: make([]layer, a.layers), back: make([]func() (transposed, error), a.layers)}
	errs := make([]error, a.layers)
	kernels.Parallel(2, a.layers, func(lo, hi, _ int) {
		for l := lo; l < hi; l++ {
			w.layers[l], errs[l] = w.load(l, pack)
		}
	})
	for l := range w.layers {
		if errs[l] != nil {
			return nil, errs[l]
		}
		w.back[l] = sync.OnceValues(func() (t transposed, err error) {
			t.qkv, t.o, t.gateUp, t.down, err = w.pack(l, packT)
			return t, err
		})
	}
	return w, nil
}

func (w *weights) load(l int, p packer) (out layer, err error) {
	a := w.arch
	out.attnNorm, out.ffnNorm = make([]float32, a.hidden), make([]float32, a.hidden)
	if err = readVector(w.file, name(l, "attn_norm.weight"), out.attnNorm); err != nil {
		return out, err
	}
	if err = readVector(w.file, name(l, "ffn_norm.weight"), out.ffnNorm); err != nil {
		return out, err
	}
	if a.bias {
		out.bias = make([]float32, a.qkvWidth())
		off := 0
		for _, b := range []struct {
			name  string
			heads int
			turns bool
		}{{"attn_q.bias", a.heads, true}, {"attn_k.bias", a.kvHeads, true}, {"attn_v.bias", a.kvHeads, false}} {
			v := out.bias[off : off+b.heads*a.headDim]
			if err = readVector(w.file, name(l, b.name), v); err != nil {
				return out, err
			}
			if b.turns && a.permuted {
				halves(v, b.heads, a.headDim, 1)
			}
			off += len(v)
		}
	}
	out.qkv, out.o, out.gateUp, out.down, err = w.pack(l, p)
	return out, err
}

// pack reads the linears of layer l and packs them with p.
func (w *weights) pack(l int, p packer) (qkv, o, gateUp, down kernels.Matrix, err error) {
	a := w.arch
	dense, err := w.dense(l)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	return p(dense.qkv, a.qkvWidth(), a.hidden), p(dense.o, a.hidden, a.qWidth()), p(dense.gateUp, 2*a.ffn, a.hidden),
		p(dense.down, a.hidden, a.ffn), nil
}

// dense holds a layer's linears row-major [out][in].
type dense struct{ qkv, o, gateUp, down []float32 }

func (w *weights) dense(l int) (dense, error) {
	a := w.arch
	d := dense{
		qkv: make([]float32, a.qkvWidth()*a.hidden), o: make([]float32, a.hidden*a.qWidth()),
		gateUp: make([]float32, 2*a.ffn*a.hidden), down: make([]float32, a.hidden*a.ffn),
	}
	q, k := a.qWidth()*a.hidden, a.kvWidth()*a.hidden
	for _, p := range []struct {
		name    string
		out, in int
		dst     []float32
	}{
		{"attn_q.weight", a.qWidth(), a.hidden, d.qkv[:q]},
		{"attn_k.weight", a.kvWidth(), a.hidden, d.qkv[q : q+k]},
		{"attn_v.weight", a.kvWidth(), a.hidden, d.qkv[q+k:]},
		{"attn_output.weight", a.hidden, a.qWidth(), d.o},
		{"ffn_gate.weight", a.ffn, a.hidden, d.gateUp[:a.ffn*a.hidden]},
		{"ffn_up.weight", a.ffn, a.hidden, d.gateUp[a.ffn*a.hidden:]},
		{"ffn_down.weight", a.hidden, a.ffn, d.down},
	} {
		if err := readMatrix(w.file, name(l, p.name), p.out, p.in, p.dst); err != nil {
			return dense{}, err
		}
	}
	if a.permuted {
		halves(d.qkv[:q], a.heads, a.headDim, a.hidden)
		halves(d.qkv[q:q+k], a.kvHeads, a.headDim, a.hidden)
	}
	return d, nil
}

func name(l int, tensor string) string { return fmt.Sprintf("blk.%d.%s", l, tensor) }

// halves puts the rows of each head from GGUF's order for Llama, where row 2i turns with row 2i+1, into the order of the
// published checkpoints, where row i turns with row i+headDim/2. So P's columns mean the same for every architecture, and
// an exported adapter fits the published model.
func halves(v []float32, heads, headDim, in int) {
	tmp := make([]float32, headDim*in)
	for h := range heads {
		rows := v[h*headDim*in : (h+1)*headDim*in]
		copy(tmp, rows)
		for i := range headDim / 2 {
			copy(rows[i*in:(i+1)*in], tmp[2*i*in:(2*i+1)*in])
			copy(rows[(i+headDim/2)*in:(i+headDim/2+1)*in], tmp[(2*i+1)*in:(2*i+2)*in])
		}
	}
}
