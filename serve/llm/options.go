package llm

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/corastream/corastream"
)

// Options says how a frozen LLM is read and how much it may hold. The zero value is not valid: start from Default.
type Options struct {
	// Threads is how many cores one call uses. Default: GOMAXPROCS, range 1..1024.
	Threads int `yaml:"threads"`
	// Numerics is the precision of weights, products and cached K/V: "f32" (the oracle), "bf16" (half the memory, twice as
	// fast where the CPU multiplies bfloat16: AVX512_BF16, or BFMMLA on arm64), "int8" (8-bit products, the file's own weights
	// where they are Q4_1, Q4_K, Q5_K or Q6_K; the fastest and smallest, hold its ranking to f32's before use) or "auto": int8
	// where all linears of the file are Q4_K, Q5_K or Q6_K in rows of a multiple of 256, else bf16 where the CPU multiplies it,
	// else f32. On a GPU auto is bf16. What is cached on disk is kept apart by it. Default auto.
	Numerics string `yaml:"numerics"`
	// Template makes prompts. Default: DefaultTemplate.
	Template Template `yaml:"template"`
	// ChatTemplate is how conversations are written: "chatml", "llama3", "gemma", "llama2", "mistral", "vicuna", "zephyr", or "auto":
	// by the markers of the file's own template. Default auto.
	ChatTemplate string `yaml:"chat_template"`
	// TitleTokens caps a title, field or history line. Default 48, range 1..1024.
	TitleTokens int `yaml:"title_tokens"`
	// Score is the logit that Backward trains and Score reports: "yes-no" (logit of " Yes" less that of " No") or "yes"
	// (the paper's: Logits.No is then 0, so that P ranks by " Yes" alone). Default yes-no.
	Score string `yaml:"-"`
	// ReadLayer is where Encode reads the title: the residual stream after that many layers. Default 0: two thirds of
	// the layers (20 of 30), range 0..layers.
	ReadLayer int `yaml:"-"`
	// TextOnly ends a reading at ReadLayer: Encode's answers, and what scoring starts from, are then zeros. Default false.
	TextOnly bool `yaml:"-"`
	// TopLayers is how many top layers the item cache keeps; a checkpoint that adapts lower ones is scored without the
	// cache. Default 4, range 1..layers.
	TopLayers int `yaml:"top_layers"`
	// KVBytes bounds the item cache in memory. Default 512 MiB, at least 1 MiB.
	KVBytes int64 `yaml:"kv_bytes"`
	// ContextTokens bounds a prompt; the oldest history titles are left out to fit. Default 1024, range 16..the
	// model's own context.
	ContextTokens int `yaml:"context_tokens"`
	// BatchTokens is how many prompt tokens go through the layers at once; it bounds working memory (about 45 kB each
	// for a hidden size of 576). Default 1024, range 16..65536; a longer prompt still goes through, alone.
	BatchTokens int `yaml:"-"`
	// CacheDir keeps on disk what was read of each item, and the packed weights, so that a next start maps them. Processes and data
	// folders may share it. The commands take "" for corastream in the user's cache folder ($XDG_CACHE_HOME, or ~/.cache), and for
	// llm in the data folder where that is there already or the former can not be written. Default "".
	CacheDir string `yaml:"cache_dir"`
	// DiskBytes bounds a file of readings in CacheDir. A full file is begun anew, unless this process uses most of it. Default 4 GiB,
	// at least 1 MiB.
	DiskBytes int64 `yaml:"disk_bytes"`
	// CacheBytes bounds CacheDir: when a model is opened, files that were used longest ago are removed until the rest fits. Default
	// 16 GiB, at least 1 MiB.
	CacheBytes int64 `yaml:"cache_bytes"`
	// Device is where scores and readings are computed: auto (a GPU when this binary has the path and the machine a device), cpu
	// or gpu. A GPU computes in bf16. Default auto.
	Device string `yaml:"device"`
	// GPU is the device in use; nil is the CPU.
	GPU *GPU `yaml:"-"`
	// Progress is told how many of an Encode call's items are read; nil is silent.
	Progress func(done, total int) `yaml:"-"`
}

// Default returns the defaults above.
func Default() Options {
	return Options{
		Threads: runtime.GOMAXPROCS(0), Numerics: "auto", Template: DefaultTemplate(), ChatTemplate: "auto", TitleTokens: 48, Score: "yes-no",
		TopLayers: 4, KVBytes: 512 << 20, ContextTokens: 1024, BatchTokens: 1024, DiskBytes: 4 << 30, CacheBytes: 16 << 30,
		Device: "auto",
	}
}

// Validate reports all problems at once; what depends on the model (layers, context) is checked by Open.
func (o Options) Validate() error {
	return errors.Join(
		inRange("llm.threads", int64(o.Threads), 1, 1024),
		oneOf("llm.numerics", o.Numerics, "auto", "f32", "bf16", "int8"),
		o.Template.Validate(),
		oneOf("llm.chat_template", o.ChatTemplate, chatNames()...),
		inRange("llm.title_tokens", int64(o.TitleTokens), 1, 1024),
		oneOf("llm.score", o.Score, "yes-no", "yes"),
		inRange("llm.read_layer", int64(o.ReadLayer), 0, 1024),
		inRange("llm.top_layers", int64(o.TopLayers), 1, 1024),
		inRange("llm.kv_bytes", o.KVBytes, 1<<20, 1<<50),
		inRange("llm.context_tokens", int64(o.ContextTokens), 16, 1<<20),
		inRange("llm.batch_tokens", int64(o.BatchTokens), 16, 65536),
		inRange("llm.disk_bytes", o.DiskBytes, 1<<20, 1<<50),
		inRange("llm.cache_bytes", o.CacheBytes, 1<<20, 1<<50),
		o.validateDevice(),
	)
}

// automatic is the numerics that "auto" stands for at a level of the kernels. kquants says that the 8-bit products take every linear of
// the model as the file has it: such a model is then a quarter of its size in bfloat16 and at least 1.3 times as fast, and
// the rounding is that of 8-bit activations alone (docs/measured/performance.md).
func automatic(level string, kquants bool) string {
	switch {
	case kquants:
		return "int8"
	case multipliesBF16(level):
		return "bf16"
	}
	return "f32"
}

// multipliesBF16 says whether processors of a level have products of bfloat16.
func multipliesBF16(level string) bool { return level == "avx512bf16" || level == "i8mmbf16" }

func inRange(key string, v, lo, hi int64) error {
	if v < lo || v > hi {
		return corastream.Usagef(key, fmt.Sprintf("choose from %d to %d", lo, hi), "%d is out of range", v)
	}
	return nil
}

func oneOf(key, v string, allowed ...string) error {
	for _, a := range allowed {
		if v == a {
			return nil
		}
	}
	return corastream.Usagef(key, fmt.Sprintf("choose one of %q", allowed), "%q is not known", v)
}
