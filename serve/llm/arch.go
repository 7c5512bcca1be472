package llm

import (
	"errors"
	"fmt"
	"math"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// arch is the shape of a model, read from the file's metadata.
type arch struct {
	name                    string
	layers, hidden, vocab   int
	heads, kvHeads, headDim int
	ffn, context            int
	eps                     float32
	freqs                   []float32 // rotary frequencies [headDim/2], scaling applied
	tied                    bool      // the head is the embedding table
	scale                   float32   // of attention
	traits
}

func (a arch) qWidth() int   { return a.heads * a.headDim }
func (a arch) kvWidth() int  { return a.kvHeads * a.headDim }
func (a arch) qkvWidth() int { return a.qWidth() + 2*a.kvWidth() }

// turnedWidth is the width of q and k, which turn with the position.
func (a arch) turnedWidth() int { return a.qWidth() + a.kvWidth() }

// Limits on what a file may ask for: far above any model of these families, far below what would exhaust memory by itself.
const (
	maxLayers  = 512
	maxWidth   = 1 << 17
	maxHeadDim = 256
)

// readArch reads and checks the shape; every refusal names the file and the key.
func readArch(f *gguf.File) (arch, error) {
	var a arch
	var err error
	if a.name, err = f.String("general.architecture"); err != nil {
		return a, err
	}
	bad := func(key, fix, what string, args ...any) error {
		return corastream.Usagef(f.Name(), fix, "metadata key %q: "+what, append([]any{key}, args...)...)
	}
	known := false
	if a.traits, known = families[a.name]; !known {
		return a, bad("general.architecture", "use a model of the "+familyNames()+" architecture", "%q is not supported", a.name)
	}
	a.tied = !f.Has("output.weight")

	var errs []error
	num := func(key string, lo, hi uint64, def ...uint64) int {
		key = a.name + "." + key
		v, err := f.Uint(key, def...)
		if err == nil && (v < lo || v > hi) {
			err = bad(key, "use a sound model", "%d is out of range %d to %d", v, lo, hi)
		}
		if err != nil {
			errs = append(errs, err)
			return 1
		}
		return int(v)
	}
	a.layers = num("block_count", 1, maxLayers)
	a.hidden = num("embedding_length", 1, maxWidth)
	a.ffn = num("feed_forward_length", 1, maxWidth)
	a.context = num("context_length", 1, 1<<24)
	a.heads = num("attention.head_count", 1, 1024)
	a.kvHeads = num("attention.head_count_kv", 1, 1024, uint64(a.heads))
	a.headDim = num("attention.key_length", 2, maxHeadDim, uint64(a.hidden/a.heads))
	if v := num("attention.value_length", 1, maxHeadDim, uint64(a.headDim)); v != a.headDim {
		errs = append(errs, bad(a.name+".attention.value_length", "use a model with equal widths", "%d differs from the keys' %d", v, a.headDim))
	}
	if d := num("rope.dimension_count", 1, maxHeadDim, uint64(a.headDim)); d != a.headDim {
		errs = append(errs, bad(a.name+".rope.dimension_count", "use a model that turns whole heads", "%d of %d is not supported", d, a.headDim))
	}
	if a.heads%a.kvHeads != 0 || a.headDim%2 != 0 {
		errs = append(errs, bad(a.name+".attention.head_count", "use a sound model", "%d heads of %d over %d key/value heads",
			a.heads, a.headDim, a.kvHeads))
	}
	if f.Has("blk.0.ffn_gate_inp.weight") {
		errs = append(errs, bad(a.name+".expert_count", "use a dense model", "mixtures of experts are not supported"))
	}
	if len(errs) == 0 {
		errs = append(errs, a.checkInventory(f))
	}
	a.scale = float32(1 / math.Sqrt(float64(a.headDim)))
	if a.windows {
		a.window = num("attention.sliding_window", 1, 1<<24)
		a.period = num("attention.sliding_window_pattern", 1, maxLayers, windowPeriod)
		if a.layers == gemma27Layers {
			a.scale = float32(1 / math.Sqrt(float64(a.hidden)/float64(a.heads)))
		}
	}
	for _, key := range []string{"attn_logit_softcapping", "final_logit_softcapping"} {
		if v, err := f.Float(a.name+"."+key, 0); err != nil || v != 0 {
			errs = append(errs, err, bad(a.name+"."+key, "use a model that does not cap its logits", "%v is not supported", v))
		}
	}
	eps, err := f.Float(a.name + ".attention.layer_norm_rms_epsilon")
	if err == nil && (eps <= 0 || eps > 1) {
		err = bad(a.name+".attention.layer_norm_rms_epsilon", "use a sound model", "%v is out of range", eps)
	}
	errs = append(errs, err)
	a.eps = float32(eps)
	if err := errors.Join(errs...); err != nil {
		return a, err
	}
	emb, err := f.Tensor("token_embd.weight")
	if err != nil {
		return a, err
	}
	if len(emb.Dims) != 2 || emb.RowLen() != a.hidden {
		return a, corastream.Usagef(f.Name(), "use a sound model", "tensor %q has dimensions %v, wanted [%d, vocabulary]",
			emb.Name, emb.Dims, a.hidden)
	}
	a.vocab = emb.Rows()
	if a.freqs, err = readFreqs(f, a); err != nil || !a.windows {
		return a, err
	}
	a.local, err = readLocalFreqs(f, a)
	return a, err
}

// readFreqs gives the rotary frequencies base^(-2i/d), divided by the file's factors: linear scaling, or a factor for
// each frequency (Llama 3's, which converters store as a tensor).
func readFreqs(f *gguf.File, a arch) ([]float32, error) {
	base, err := f.Float(a.name+".rope.freq_base", 10000)
	if err != nil {
		return nil, err
	}
	factor, err := f.Float(a.name+".rope.scaling.factor", 1)
	if err != nil {
		return nil, err
	}
	if old, err := f.Float(a.name+".rope.scale_linear", 1); err != nil {
		return nil, err
	} else if old != 1 {
		factor = old
	}
	kind, err := f.String(a.name+".rope.scaling.type", "linear")
	if err != nil {
		return nil, err
	}
	switch {
	case base <= 1 || factor < 1:
		return nil, corastream.Usagef(f.Name(), "use a sound model", "rope.freq_base %v, rope.scaling.factor %v", base, factor)
	case kind == "none":
		factor = 1
	case kind != "linear" && factor != 1:
		return nil, corastream.Usagef(f.Name(), "use the model without context extension", "metadata key %q: %q is not supported",
			a.name+".rope.scaling.type", kind)
	}
	freqs := make([]float32, a.headDim/2)
	each := make([]float32, len(freqs))
	for i := range each {
		each[i] = 1
	}
	if f.Has("rope_freqs.weight") {
		if err := readVector(f, "rope_freqs.weight", each); err != nil {
			return nil, err
		}
	}
	for i := range freqs {
		if !(each[i] > 0) {
			return nil, corastream.Usagef(f.Name(), "use a sound model", "tensor %q: factor %d is %v", "rope_freqs.weight", i, each[i])
		}
		freqs[i] = float32(math.Pow(base, -2*float64(i)/float64(a.headDim)) / factor / float64(each[i]))
	}
	return freqs, nil
}

// readVector reads a one-dimensional tensor of exactly len(dst) values.
func readVector(f *gguf.File, name string, dst []float32) error {
	t, err := f.Tensor(name)
	if err != nil {
		return err
	}
	if t.Elements() != len(dst) || t.RowLen() != len(dst) {
		return corastream.Usagef(f.Name(), "use a sound model", "tensor %q has dimensions %v, wanted [%d]", name, t.Dims, len(dst))
	}
	return finite(f, name, dst, t.Float32(dst))
}

// readMatrix reads a linear layer [out][in] into dst.
func readMatrix(f *gguf.File, name string, out, in int, dst []float32) error {
	t, err := f.Tensor(name)
	if err != nil {
		return err
	}
	if len(t.Dims) != 2 || t.RowLen() != in || t.Rows() != out {
		return corastream.Usagef(f.Name(), "use a sound model", "tensor %q has dimensions %v, wanted [%d %d]", name, t.Dims, in, out)
	}
	return finite(f, name, dst, t.Float32(dst))
}

// finite refuses weights that would make every score not a number.
func finite(f *gguf.File, name string, v []float32, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name(), err)
	}
	for i, x := range v {
		if x-x != 0 {
			return corastream.Usagef(f.Name(), "get the file again", "tensor %q: value %d is %v", name, i, x)
		}
	}
	return nil
}
