package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/serve/llm/gguf"
)

// LLMFlags choose the cases of `bench llm`.
type LLMFlags struct {
	Cases    []string
	Numerics []string
	Threads  []int
	CacheDir string
	Prompts  string
	Items    []corastream.Item // the list case's catalogue; none: invented titles
}

// llmCase is one row of docs/measured/performance.md.
type llmCase struct {
	name    string
	prompts int
	tokens  int     // read, or for clicks one for each candidate
	share   float64 // of the layers that a token goes through
	run     func(ctx context.Context) error
}

// LLMCases are the names in the order of the table.
var LLMCases = []string{
	"prompt_110", "prefix_80_32x30", "click_20_n4", "click_20_n8", "deltas_off_8x110", "deltas_on_8x110", "catalogue_256_n4", "encode_64", "train_32_n4", listCase, "memory",
}

// DefaultLLMCases leaves out memory, which takes long to fill a cache, and needs a process of its own.
var DefaultLLMCases = LLMCases[:len(LLMCases)-1]

// LLM measures the cases that the flags choose, for each of the numerics and numbers of threads.
func LLM(ctx context.Context, d Deps, w io.Writer, length time.Duration, f LLMFlags) error {
	for _, c := range f.Cases {
		if !slices.Contains(LLMCases, c) {
			return corastream.Usagef("--cases "+c, "choose from "+strings.Join(LLMCases, ", "), "no such case")
		}
	}
	if len(f.Numerics) == 0 {
		if f.Numerics = []string{d.LLM.Numerics}; d.LLM.Numerics == "auto" {
			f.Numerics = append(f.Numerics, "int8")
		}
	}
	if len(f.Threads) == 0 {
		if f.Threads = []int{1}; d.LLM.Threads > 1 {
			f.Threads = append(f.Threads, d.LLM.Threads)
		}
	}
	d.LLM.CacheDir = f.CacheDir
	d.LLM.KVBytes = 256 << 20
	layers, err := layersOf(d.File)
	if err != nil {
		return err
	}
	// A click goes through all layers that the item cache keeps, so each N has a model of its own.
	byTop := map[int][]string{}
	for _, c := range f.Cases {
		top := 4
		switch c {
		case "click_20_n8":
			top = 8
		case "memory":
			top = layers
		case listCase:
			top = 1
		}
		top = min(top, layers)
		byTop[top] = append(byTop[top], c)
	}
	for _, n := range f.Numerics {
		for _, t := range f.Threads {
			for _, top := range slices.Sorted(maps.Keys(byTop)) {
				d.LLM.Numerics, d.LLM.Threads, d.LLM.TopLayers, f.Cases = n, t, top, byTop[top]
				m, err := d.OpenLLM(d.LLM)
				if err != nil {
					return err
				}
				if err := errors.Join(measureModel(ctx, m, t, w, length, f), m.Close()); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// layersOf reads how many layers a model file has.
func layersOf(path string) (int, error) {
	if path == "off" {
		return 1, nil
	}
	f, err := gguf.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	arch, err := f.String("general.architecture")
	if err != nil {
		return 0, err
	}
	n, err := f.Uint(arch + ".block_count")
	return int(n), err
}

func measureModel(ctx context.Context, m *llm.Model, threads int, w io.Writer, length time.Duration, f LLMFlags) error {
	if i := slices.Index(f.Cases, listCase); i >= 0 {
		if err := measureList(ctx, m, threads, w, length, f.Items); err != nil {
			return fmt.Errorf("case %s: %w", listCase, err)
		}
		if len(f.Cases) == 1 {
			return nil
		}
	}
	info := m.Info()
	cases, err := makeLLMCases(m, f.Prompts)
	if err != nil {
		return err
	}
	linear := float64(info.Hidden*(info.OInput+2*info.KVHeads*info.HeadDim) + info.OInput*info.Hidden + 3*info.Hidden*info.FFN)
	perToken := 2 * float64(info.Layers) * linear
	peak := peakRate(info.Numerics) * float64(min(threads, runtime.NumCPU()))
	for _, c := range cases {
		if !slices.Contains(f.Cases, c.name) {
			continue
		}
		if err := c.run(ctx); err != nil { // caches fill
			return fmt.Errorf("case %s: %w", c.name, err)
		}
		cpu := cpuTime()
		runs, took, err := Repeat(length, func() error { return c.run(ctx) })
		if err != nil {
			return fmt.Errorf("case %s: %w", c.name, err)
		}
		cpu = (cpuTime() - cpu) / time.Duration(runs+1) // with the warm-up
		s := took.Seconds()
		rate := float64(c.tokens) * perToken * c.share / s
		if err := line(w, map[string]any{
			"bench": "llm", "case": c.name, "numerics": info.Numerics, "threads": threads, "prompts_per_s": float64(c.prompts) / s,
			"tokens_per_s": float64(c.tokens) / s, "gflops": rate / 1e9, "peak_fraction": rate / peak, "runs": runs,
			"ms": took.Seconds() * 1e3, "cpu_ms": cpu.Seconds() * 1e3, "peak_mib": peakMemory() >> 20,
		}); err != nil {
			return err
		}
	}
	return nil
}

// peakRate measures what one core multiplies and adds a second: the numerics' kernel on a product that stays in the cache.
func peakRate(numerics string) float64 {
	const rows, out, in = 112, 256, 512
	weights, a, c := make([]float32, out*in), make([]float32, rows*in), make([]float32, rows*out)
	for i := range weights {
		weights[i] = float32(i%13) - 6
	}
	for i := range a {
		a[i] = float32(i%7) - 3
	}
	pack := map[string]func([]float32, int, int) kernels.Matrix{"bf16": kernels.PackBF16, "int8": kernels.PackInt8}[numerics]
	if pack == nil {
		pack = kernels.PackF32
	}
	m := pack(weights, out, in)
	var scratch kernels.Scratch
	best := time.Hour
	for range 300 {
		began := time.Now()
		m.Mul(c, out, a, in, rows, false, &scratch)
		best = min(best, time.Since(began))
	}
	return 2 * rows * out * in / best.Seconds()
}

// makeLLMCases prepares every case; with a file name the prompts' tokens go there too, for peers: a line for each prompt,
// its case first.
func makeLLMCases(m *llm.Model, file string) ([]llmCase, error) {
	info := m.Info()
	long := min(110, info.Context/2)
	prefix, suffix := long*8/11, long*3/11
	id := func(i int) int32 { return int32((1000 + 7919*i) % info.Vocab) }
	one, shared := [][]int32{make([]int32, long)}, make([][]int32, 32)
	for i := range one[0] {
		one[0][i] = id(i)
	}
	for k := range shared {
		shared[k] = append(shared[k], one[0][:prefix]...)
		for i := range suffix {
			shared[k] = append(shared[k], id(1000+k*suffix+i))
		}
	}
	out := []llmCase{
		tokensCase(m, "prompt_110", one, long),
		tokensCase(m, "prefix_80_32x30", shared, prefix+32*suffix),
	}
	titles := InventedTitles(256)
	for _, n := range []int{4, 8} {
		if n <= info.TopLayers {
			out = append(out, candidatesCase(m, fmt.Sprintf("click_20_n%d", n), titles[:20], n))
		}
	}
	out = append(out, deltaCases(m, long)...)
	out = append(out, candidatesCase(m, "catalogue_256_n4", titles, 4), encodeCase(m), trainCase(m, titles[:32]), memoryCase(m))
	if file == "" {
		return out, nil
	}
	var b strings.Builder
	line := func(name string, ids []int32) { fmt.Fprintln(&b, name, strings.Trim(fmt.Sprint(ids), "[]")) }
	line("prompt_110", one[0])
	for _, ids := range shared {
		line("prefix_80_32x30", ids)
	}
	for _, p := range titles[:20] {
		ids, err := m.PromptTokens(p)
		if err != nil {
			return nil, err
		}
		line("click_20", ids)
	}
	return out, os.WriteFile(file, []byte(b.String()), 0o644)
}

func tokensCase(m *llm.Model, name string, ids [][]int32, tokens int) llmCase {
	return llmCase{name, len(ids), tokens, 1, func(ctx context.Context) error {
		_, err := m.ScoreTokens(ctx, ids)
		return err
	}}
}

// candidatesCase is a click: the candidates of one user, whose W_A is new each time, from the item cache.
func candidatesCase(m *llm.Model, name string, prompts []corastream.Prompt, layers int) llmCase {
	spec := generator.DefaultSpec()
	spec.Hidden, spec.Layers, spec.Adapt = m.Info().Hidden, min(layers, m.Info().Layers), corastream.AdaptLast
	weights, projection := RandomWeights(spec, m, len(prompts))
	share := float64(spec.Layers) / float64(m.Info().Layers)
	return llmCase{name, len(prompts), len(prompts), share, func(ctx context.Context) error {
		_, err := m.Score(ctx, prompts, weights, projection)
		return err
	}}
}

// deltaCases read 8 texts that share no beginning, without and with a W_A of its own for each on q, k, v and o of all layers.
func deltaCases(m *llm.Model, long int) []llmCase {
	spec := generator.DefaultSpec()
	spec.Hidden, spec.Layers, spec.Adapt, spec.Rank = m.Info().Hidden, m.Info().Layers, corastream.AdaptAll, 16
	spec.Targets = []corastream.Target{corastream.TargetQ, corastream.TargetK, corastream.TargetV, corastream.TargetO}
	if _, ok := m.TargetWidths()[corastream.TargetO]; !ok {
		spec.Targets = spec.Targets[:3]
	}
	weights, projection := RandomWeights(spec, m, 8)
	r := rand.New(rand.NewPCG(7, 8))
	texts, tokens := make([]string, len(weights)), 0
	for i := range weights {
		weights[i].User = slices.Clone(weights[i].User)
		n := 0
		for n < long {
			texts[i] += string(rune('a'+r.IntN(26))) + []string{" ", ", ", ". "}[r.IntN(3)]
			n = len(m.TextTokens(texts[i]))
		}
		tokens += n
	}
	yes, _ := m.Token(" Yes")
	read := func(name string, w []corastream.Weights) llmCase {
		return llmCase{name, len(texts), tokens, 1, func(ctx context.Context) error {
			_, _, err := m.LabelLogits(ctx, texts, []int{yes}, w, projection)
			return err
		}}
	}
	return []llmCase{read("deltas_off_8x110", nil), read("deltas_on_8x110", weights)}
}

// trainCase is the LLM's part of a training step: 32 rows from the item cache, each with a W_A of its own, forward and backward.
func trainCase(m *llm.Model, prompts []corastream.Prompt) llmCase {
	spec := generator.DefaultSpec()
	spec.Hidden, spec.Layers, spec.Adapt = m.Info().Hidden, min(4, m.Info().Layers), corastream.AdaptLast
	weights, projection := RandomWeights(spec, m, len(prompts))
	labels := make([]float32, len(prompts))
	for i := range weights {
		weights[i].User, labels[i] = slices.Clone(weights[i].User), float32(i%2)
	}
	share := 3 * float64(spec.Layers) / float64(m.Info().Layers) // backward costs two forward passes
	return llmCase{"train_32_n4", len(prompts), len(prompts), share, func(ctx context.Context) error {
		_, err := m.Backward(ctx, prompts, weights, projection, labels)
		return err
	}}
}

// encodeCase reads 64 items that no cache has.
func encodeCase(m *llm.Model) llmCase {
	n := 0
	return llmCase{"encode_64", 64, 64 * 14, 1, func(ctx context.Context) error {
		items := make([]corastream.Item, 64)
		for i, p := range InventedTitles(len(items)) {
			items[i] = corastream.Item{ID: p.ItemID, Title: fmt.Sprint(p.Title, " ", 100+n)}
		}
		n++
		_, err := m.Encode(ctx, items)
		return err
	}}
}

// memoryCase fills the item cache to its limit of 256 MiB, once, then scores from it.
func memoryCase(m *llm.Model) llmCase {
	click := candidatesCase(m, "memory", InventedTitles(20), m.Info().Layers)
	full := false
	run := click.run
	click.run = func(ctx context.Context) error {
		for n := 0; !full; n++ {
			items := make([]corastream.Item, 64)
			for i, p := range InventedTitles(64 * (n + 1))[64*n:] {
				items[i] = corastream.Item{ID: p.ItemID, Title: p.Title}
			}
			if _, err := m.Encode(ctx, items); err != nil {
				return err
			}
			full = m.CacheStats().Evicted > 0
		}
		return run(ctx)
	}
	return click
}
