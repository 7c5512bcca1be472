package llm

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm/gguf"
	"github.com/corastream/corastream/serve/llm/token"
)

// Model is a frozen LLM: it scores prompts (corastream.Scorer), reads items (corastream.Encoder) and gives gradients to the
// weights of its deltas (Backward). Safe for concurrent use; Close must come last.
type Model struct {
	opts      Options
	arch      arch
	file      *gguf.File
	weights   *weights
	embedding *gguf.Tensor
	prompts   *prompter
	outNorm   []float32    // [hidden]
	yes, no   []float32    // the head's rows [hidden]; no is nil when only " Yes" counts
	scale     float32      // of attention
	cos, sin  []float32    // [context][headDim/2]
	local     [2][]float32 // the same for layers with a window; nil without them
	digest    string
	cache     *cache
	passes    chan *pass
	ready     ready
	chat      *chat // nil, with chatErr why: the model can score, but nobody knows how to talk with it
	chatErr   error
	fullHead  func() ([]kernels.Matrix, error)
	gpu       *device    // nil: the CPU does all
	readMu    sync.Mutex // one pass reads items: callers that miss the same ones wait instead of reading them twice

	closed  atomic.Bool
	forward atomic.Int64 // tokens that went through layers from the embedding on
	cached  atomic.Int64 // tokens that started from the item cache

	readTime []atomic.Int64 // nanoseconds that readings took, by layer
}

// maxPasses bounds the batches that go through the layers at a time, and with them the working memory.
const maxPasses = 4

// Open reads a GGUF file of an architecture in families (traits.go).
func Open(path string, o Options) (*Model, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := newModel(f, o)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return m, nil
}

// newModel takes over f when it succeeds.
func newModel(f *gguf.File, o Options) (*Model, error) {
	a, err := readArch(f)
	if err != nil {
		return nil, err
	}
	if o.ReadLayer == 0 {
		o.ReadLayer = max(1, a.layers*2/3)
	}
	if a.layers > 1 && o.ReadLayer >= a.layers || o.TopLayers > a.layers || o.ContextTokens > a.context {
		return nil, corastream.Usagef(f.Name(), "lower what is too high",
			"read_layer %d, top_layers %d, context_tokens %d do not fit a model of %d layers and %d tokens of context",
			o.ReadLayer, o.TopLayers, o.ContextTokens, a.layers, a.context)
	}
	o.deviceNumerics()
	if o.Numerics == "auto" {
		o.Numerics = automatic(kernels.Level(), kquants(f, a))
	}
	m := &Model{opts: o, arch: a, file: f, digest: fileDigest(f, o.CacheDir), scale: a.scale, readTime: make([]atomic.Int64, a.layers)}
	tok, err := token.New(f)
	if err != nil {
		return nil, err
	}
	if m.prompts, err = newPrompter(o, tok); err != nil {
		return nil, err
	}
	m.chat, m.chatErr = newChat(f, o, tok)
	m.fullHead = sync.OnceValues(m.packHead)
	if m.embedding, err = f.Tensor("token_embd.weight"); err != nil {
		return nil, err
	}
	m.outNorm = make([]float32, a.hidden)
	if err := readVector(f, "output_norm.weight", m.outNorm); err != nil {
		return nil, err
	}
	if err := m.readHead(tok); err != nil {
		return nil, err
	}
	if m.weights, err = loadWeights(f, a, m.digest, o.Numerics, packedPath(o.CacheDir, m.digest, o.Numerics)); err != nil {
		return nil, err
	}
	m.cos, m.sin = angles(o.ContextTokens, a.freqs)
	if a.windows {
		m.local[0], m.local[1] = angles(o.ContextTokens, a.local)
	}
	m.passes = make(chan *pass, maxPasses)
	for range maxPasses {
		m.passes <- nil // made when first used
	}
	if m.cache, err = openCache(m); err != nil {
		return nil, errors.Join(err, m.weights.close())
	}
	if o.CacheDir != "" {
		trimCache(o.CacheDir, o.CacheBytes, time.Now())
	}
	m.startDevice()
	return m, nil
}

// readHead finds the rows of " Yes" and " No".
func (m *Model) readHead(tok *token.Tokenizer) error {
	row := func(word string) ([]float32, error) {
		id, ok := tok.ID(" " + word)
		if !ok {
			return nil, corastream.Usagef(m.file.Name(), "use a model whose vocabulary has it", "%q is not one token", " "+word)
		}
		head, err := m.head()
		if err != nil {
			return nil, err
		}
		v := make([]float32, m.arch.hidden)
		return v, head.Row(v, int(id))
	}
	var err error
	if m.yes, err = row("Yes"); err != nil {
		return err
	}
	if m.opts.Score == "yes-no" {
		m.no, err = row("No")
	}
	return err
}

// head is the tensor of the LM head: its own, or the embedding table.
func (m *Model) head() (*gguf.Tensor, error) {
	if m.arch.tied {
		return m.embedding, nil
	}
	t, err := m.file.Tensor("output.weight")
	if err == nil && (t.RowLen() != m.arch.hidden || t.Rows() != m.arch.vocab) {
		err = corastream.Usagef(m.file.Name(), "use a sound model", "tensor %q has dimensions %v, wanted [%d %d]", t.Name, t.Dims,
			m.arch.hidden, m.arch.vocab)
	}
	return t, err
}

// angles fills the cosines and sines of all positions [positions][len(freqs)].
func angles(positions int, freqs []float32) (cos, sin []float32) {
	n := len(freqs)
	cos, sin = make([]float32, positions*n), make([]float32, positions*n)
	for pos := range positions {
		kernels.RoPEAngles(cos[pos*n:(pos+1)*n], sin[pos*n:(pos+1)*n], pos, freqs)
	}
	return cos, sin
}

func (m *Model) angles(pos int32) (cos, sin []float32) { return m.anglesOf(m.arch.layers-1, pos) }

// anglesOf gives the rotation of layer l at a position.
func (m *Model) anglesOf(l int, pos int32) (cos, sin []float32) {
	half := m.arch.headDim / 2
	lo, hi := int(pos)*half, (int(pos)+1)*half
	if m.arch.sees(l) > 0 {
		return m.local[0][lo:hi], m.local[1][lo:hi]
	}
	return m.cos[lo:hi], m.sin[lo:hi]
}

// borrow waits for working memory; the caller gives it back.
func (m *Model) borrow(ctx context.Context) (*pass, error) {
	if m.closed.Load() {
		return nil, errors.New("llm: the model is closed")
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case p := <-m.passes:
		if m.closed.Load() { // while waiting
			m.passes <- p
			return nil, errors.New("llm: the model is closed")
		}
		if p == nil {
			p = newPass(m)
		}
		return p, nil
	}
}

func (m *Model) giveBack(p *pass) { m.passes <- p }

// Close frees the file and the item cache. Calls under way end first; later ones fail.
func (m *Model) Close() error {
	if m.closed.Swap(true) {
		return nil
	}
	for range maxPasses {
		<-m.passes
	}
	for range maxPasses {
		m.passes <- nil
	}
	return errors.Join(m.gpu.close(), m.cache.close(), m.weights.close(), m.file.Close())
}

// Digest is the SHA-256 of the model file in hex.
func (m *Model) Digest() string { return m.digest }

// TemplateDigest names the prompts: templates and the cap on titles.
func (m *Model) TemplateDigest() string { return m.opts.Template.digest(m.opts.TitleTokens) }

// Info is the model's shape.
type Info struct {
	Arch       string
	Layers     int
	Hidden     int
	Heads      int
	KVHeads    int
	HeadDim    int
	FFN        int
	OInput     int // width of the o-projection's input, heads*headDim
	Vocab      int
	Context    int
	ReadLayer  int  // where Encode reads titles
	TextOnly   bool // and nothing above
	TopLayers  int  // layers that the item cache keeps
	WeightsMiB int
	Numerics   string // f32, bf16 or int8: what auto has become
	Mapped     bool   // the packed weights were in CacheDir already
}

// Info returns the model's shape.
func (m *Model) Info() Info {
	a, bytes := m.arch, 0
	for _, l := range m.weights.layers {
		bytes += l.qkv.Bytes() + l.o.Bytes() + l.gateUp.Bytes() + l.down.Bytes()
	}
	return Info{
		Arch: a.name, Layers: a.layers, Hidden: a.hidden, Heads: a.heads, KVHeads: a.kvHeads, HeadDim: a.headDim, FFN: a.ffn,
		OInput: a.qWidth(), Vocab: a.vocab, Context: a.context, ReadLayer: m.opts.ReadLayer, TopLayers: m.opts.TopLayers,
		WeightsMiB: bytes >> 20, Numerics: m.opts.Numerics, TextOnly: m.opts.TextOnly, Mapped: m.weights.found,
	}
}

// TargetWidths gives the input and output widths of every target that a delta can take, by name.
func (m *Model) TargetWidths() map[corastream.Target][2]int {
	a := m.arch
	w := map[corastream.Target][2]int{
		corastream.TargetQ: {a.hidden, a.qWidth()}, corastream.TargetK: {a.hidden, a.kvWidth()}, corastream.TargetV: {a.hidden, a.kvWidth()},
		corastream.TargetGate: {a.hidden, a.ffn}, corastream.TargetUp: {a.hidden, a.ffn},
	}
	if a.qWidth() == a.hidden {
		w[corastream.TargetO] = [2]int{a.qWidth(), a.hidden}
	}
	return w
}

// logit is the dot product of a normed state with a row of the head.
func logit(x, row []float32) float32 {
	if row == nil {
		return 0
	}
	return kernels.Dot(x, row)
}
