package llm

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// traits are what a family of models does beyond Llama's block: x += o(attention(norm(x))), x += down(silu(gate) up of norm(x)).
type traits struct {
	headNorms bool // each head of q and k is normed before it turns
	postNorms bool // what attention and the feed-forward add is normed before it is added
	gelu      bool // the gate goes through GELU (tanh form) in place of SiLU
	embedRoot bool // rows of the embedding table are multiplied by sqrt(hidden)
	windows   bool // most layers see a window of the latest tokens alone, with rotary frequencies of their own

	permuted    bool // the file holds rows of q and k in pairs (2i, 2i+1), as converters to GGUF write Llama's
	ropeFactors bool // the file may hold a factor for each rotary frequency (rope_freqs.weight)

	window int       // tokens that such a layer sees, itself included
	period int       // every period-th layer sees all
	local  []float32 // rotary frequencies of the others [headDim/2]
}

// families are the architectures that can be read. Gemma 3: Gemma Team 2025, arXiv 2503.19786; Qwen 3: arXiv 2505.09388. Converters
// to GGUF store Gemma's norms with their 1 added, so that every norm is the same product here.
var families = map[string]traits{
	"llama":  {permuted: true, ropeFactors: true},
	"qwen2":  {},
	"qwen3":  {headNorms: true},
	"gemma3": {headNorms: true, postNorms: true, gelu: true, embedRoot: true, windows: true},
}

func familyNames() string { return strings.Join(slices.Sorted(maps.Keys(families)), ", ") }

// Gemma 3's constants that its files do not name: five layers with a window, then one without, the window layers' rotary base,
// and the number of layers of the one model (27B) that scales attention by the width of hidden/heads.
const (
	windowPeriod  = 6
	localBase     = 10000
	gemma27Layers = 62
)

// plain says that a layer computes as Llama's does. How the file lays its tensors out does not matter.
func (t traits) plain() bool {
	return !t.headNorms && !t.postNorms && !t.gelu && !t.embedRoot && !t.windows
}

// sees is how many tokens a row of layer l sees, itself included; 0: all.
func (a arch) sees(l int) int {
	if !a.windows || (l+1)%a.period == 0 {
		return 0
	}
	return a.window
}

// readsGate says that what is kept of the answer token in each top layer is the input of gate and up, since o's is not hidden wide
// and W_A can not read it.
func (a arch) readsGate() bool { return a.qWidth() != a.hidden }

// readLocalFreqs gives the rotary frequencies of layers with a window; no context extension reaches them.
func readLocalFreqs(f *gguf.File, a arch) ([]float32, error) {
	base, err := f.Float(a.name+".rope.freq_base_swa", localBase)
	if err != nil {
		return nil, err
	}
	if base <= 1 {
		return nil, corastream.Usagef(f.Name(), "use a sound model", "metadata key %q: %v is no base", a.name+".rope.freq_base_swa", base)
	}
	freqs := make([]float32, a.headDim/2)
	for i := range freqs {
		freqs[i] = float32(math.Pow(base, -2*float64(i)/float64(a.headDim)))
	}
	return freqs, nil
}

// normHeads norms the n heads of v in place, each with the weights w [headDim].
func normHeads(v []float32, n, headDim int, w []float32, eps float32) {
	for h := range n {
		head := v[h*headDim : (h+1)*headDim]
		kernels.RMSNorm(head, head, w, eps)
	}
}

// normQK norms the heads of q and k of a row q|k|v in place.
func (m *Model) normQK(ly *layer, row []float32) {
	a := m.arch
	normHeads(row[:a.qWidth()], a.heads, a.headDim, ly.qNorm, a.eps)
	normHeads(row[a.qWidth():][:a.kvWidth()], a.kvHeads, a.headDim, ly.kNorm, a.eps)
}

// normQKBack turns the gradients of normed heads into those of raw [turnedWidth], what they were before.
func (m *Model) normQKBack(ly *layer, grad, raw []float32, w *worker) {
	a := m.arch
	tmp := grow(&w.ranks[2], a.headDim)
	for h := range a.heads + a.kvHeads {
		weights := ly.qNorm
		if h >= a.heads {
			weights = ly.kNorm
		}
		g := grad[h*a.headDim : (h+1)*a.headDim]
		copy(tmp, g)
		clear(g)
		normBack(g, tmp, raw[h*a.headDim:(h+1)*a.headDim], weights, a.eps)
	}
}

// rawWidth is what a tape keeps of q and k before their norm; addedWidth of o's and the feed-forward's output before theirs.
func (a arch) rawWidth() int {
	if a.headNorms {
		return a.turnedWidth()
	}
	return 0
}

func (a arch) addedWidth() int {
	if a.postNorms {
		return a.hidden
	}
	return 0
}

// normAdded norms what rows [lo, hi) are about to add, in families that do so; raw, when there is a tape, keeps what it was.
func (m *Model) normAdded(sum, w, raw []float32, lo, hi int) {
	if w == nil {
		return
	}
	h := m.arch.hidden
	if len(raw) > 0 {
		copy(raw[lo*h:hi*h], sum)
	}
	for i := range hi - lo {
		kernels.RMSNorm(sum[i*h:(i+1)*h], sum[i*h:(i+1)*h], w, m.arch.eps)
	}
}

// addedBack returns the gradients of what rows [lo, hi) were given by o or down, from those of the residual: the same, unless it was
// normed, by w, before it was added; raw is what it was then.
func (p *pass) addedBack(lo, hi int, weights, raw []float32, w *worker) []float32 {
	t, h := &p.tape, p.m.arch.hidden
	dx := t.dx[lo*h : hi*h]
	if weights == nil {
		return dx
	}
	out, tmp := t.dadd[lo*h:hi*h], grow(&w.ranks[2], h)
	clear(out)
	for i := range hi - lo {
		copy(tmp, dx[i*h:(i+1)*h])
		normBack(out[i*h:(i+1)*h], tmp, raw[(lo+i)*h:(lo+i+1)*h], weights, p.m.arch.eps)
	}
	return out
}

// gated sets act to the feed-forward's middle for rows gate|up.
func (a arch) gated(act, gate, up []float32) {
	if !a.gelu {
		kernels.SiLUMul(act, gate, up)
		return
	}
	kernels.GELU(act, gate)
	for i, u := range up {
		act[i] *= u
	}
}

// gatedBack fills dgu (gate, then up) from the gradient of what gated made. tmp holds at least as many values.
func (a arch) gatedBack(dgu, dact, gu, tmp []float32) {
	if !a.gelu {
		siluBack(dgu, dact, gu, tmp)
		return
	}
	f := len(dact)
	gate, up, g := gu[:f], gu[f:], tmp[:f]
	kernels.GELU(g, gate)
	// gelu(x) = x s(z), s the sigmoid, z = 2 sqrt(2/pi) (x + 0.044715 x^3)
	const c0, c1 = 1.5957691216057308, 0.044715 * 1.5957691216057308
	for i, x := range gate {
		sig := .5 + x*c0/4 // the sigmoid by its slope at 0 ...
		if x > 1e-3 || x < -1e-3 {
			sig = g[i] / x // ... and elsewhere from gelu
		}
		slope := sig + g[i]*(1-sig)*(c0+3*c1*x*x)
		dgu[i] = dact[i] * up[i] * slope
		dgu[f+i] = dact[i] * g[i]
	}
}
