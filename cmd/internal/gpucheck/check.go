//go:build gpu

package gpucheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/bench"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/kernels/cuda"
	"github.com/corastream/corastream/serve/llm"
)

// Deps are the parts of gpu-check that need the whole program.
type Deps struct {
	Version string
	// Freshness runs the whole pipeline on the device and writes the line of `bench freshness`. It returns how many answers the CPU gave.
	Freshness func(ctx context.Context, r FreshnessRun, w io.Writer) (answersOfCPU int64, err error)
}

// FreshnessRun is a pipeline that gpu-check measures.
type FreshnessRun struct {
	Device     *cuda.Device
	File       string // of the LLM
	LLM        llm.Options
	CF         cfstream.Spec
	Checkpoint string
	Candidates int
	Length     time.Duration
	Items      int // in the catalogue
}

// Sizes are what gpu-check measures: a model of SmolLM2-135M's shape, or one that the emulated driver gets through.
type Sizes struct {
	model                          modelShape
	prompts, length, clicks, items int
	rows                           []int
	gemmRows                       int
	bandwidth                      int64 // bytes
	spec                           generator.Spec
	factors                        int // of the paper's form: e_u and e_i are factors + taste + 1 wide
	checkPrompts                   int
	trainRows, clickItems          int
	bound                          float64
}

func FullSizes() Sizes {
	spec := generator.DefaultSpec()
	spec.Hidden = 576
	return Sizes{
		model: modelShape{layers: 30, hidden: 576, heads: 9, kv: 3, dim: 64, ffn: 1536}, prompts: 256, length: 110, clicks: 20, items: 512,
		rows: []int{64, 1024, 4096}, gemmRows: 28160, bandwidth: 4 << 30, spec: spec, factors: 191, checkPrompts: 16, trainRows: 64, clickItems: 200, bound: .1,
	}
}

func TinySizes() Sizes {
	spec := generator.DefaultSpec()
	spec.Hidden, spec.Layers, spec.Rank, spec.Width, spec.Taste = 64, 2, 4, 16, 8
	return Sizes{
		model: modelShape{layers: 3, hidden: 64, heads: 4, kv: 2, dim: 16, ffn: 96}, prompts: 4, length: 20, clicks: 4, items: 3,
		rows: []int{3, 40}, gemmRows: 70, bandwidth: 1 << 20, spec: spec, factors: 3, checkPrompts: 4, trainRows: 4, clickItems: 20, bound: .1,
	}
}

// checker is one run of gpu-check.
type checker struct {
	Sizes
	deps        Deps
	asked       Options
	w           io.Writer
	d           *cuda.Device
	length      time.Duration
	bad, failed int
	answers     int64 // of the CPU, in earlier processes of the run
	after       string
	began       time.Time
	until       time.Time
	dir         string // removed at the end
	count       cuda.Fallback

	mu      sync.Mutex
	figures map[string]float64 // what the goals are held to, by name
	why     error              // why the CPU answered last
}

// Run runs all parts, and returns an error when a parity line is not ok or a part failed.
func Run(ctx context.Context, deps Deps, s Sizes, o Options, w io.Writer) error {
	d, err := cuda.Open()
	if err != nil {
		return err
	}
	defer d.Close()
	c := &checker{Sizes: s, deps: deps, asked: o, w: w, d: d, length: time.Duration(o.Seconds * float64(time.Second)), began: time.Now(), figures: map[string]float64{}}
	c.count.Warn = c.tellCPU
	if err := c.take(o.Carried); err != nil {
		return err
	}
	c.until = c.began.Add(o.Limit)
	info := d.Info()
	if err := c.line("device", map[string]any{
		"name": info.Name, "compute": fmt.Sprintf("%d.%d", info.Major, info.Minor), "multiprocessors": info.Multiprocessors,
		"memory_gib": float64(info.MemoryBytes) / (1 << 30), "driver": info.DriverVersion, "build": deps.Version,
	}); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{c.parity, c.ceilings, c.products, c.generator, c.model, c.goals} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := json.NewEncoder(w).Encode(map[string]any{
		"gpu": "summary", "parity_failures": c.bad, "parts_failed": c.failed, "answers_of_the_cpu": c.answers + c.count.Count(),
		"seconds": time.Since(c.began).Seconds(),
	}); err != nil {
		return err
	}
	if c.bad > 0 || c.failed > 0 {
		return fmt.Errorf("%d parity lines are not ok, %d parts failed", c.bad, c.failed)
	}
	return nil
}

func (c *checker) line(kind string, v map[string]any) error {
	v["gpu"] = kind
	return json.NewEncoder(c.w).Encode(v)
}

func (c *checker) judge(name string, off, bound float64, err error) error {
	ok := err == nil && off <= bound
	if !ok {
		c.bad++
	}
	v := map[string]any{"case": name, "off": off, "bound": bound, "ok": ok}
	if math.IsInf(off, 0) || math.IsNaN(off) {
		v["off"] = fmt.Sprint(off)
	}
	if err != nil {
		v["error"] = err.Error()
	}
	return c.line("parity", v)
}

// timed repeats a queue's work for the configured time and gives the best run in milliseconds, as the device measured it.
func (c *checker) timed(q *cuda.Queue, f func() error) (best float64, err error) {
	if err := f(); err != nil {
		return 0, err
	}
	best = math.Inf(1)
	for began := time.Now(); math.IsInf(best, 1) || time.Since(began) < c.length/4; {
		ms, err := q.Time(f)
		if err != nil {
			return 0, err
		}
		best = min(best, ms)
	}
	return best, nil
}

// ceilings measures what the memory gives: writing, and copying.
func (c *checker) ceilings(ctx context.Context) error {
	return c.part(ctx, "ceilings", partLimit, func() error { return c.memory(ctx) })
}

func (c *checker) memory(ctx context.Context) error {
	return c.d.Do(ctx, func(q *cuda.Queue) (err error) {
		const row = 1 << 14 // bytes
		n := int(c.bandwidth / 2 / row)
		var a, b, index *cuda.Buffer
		defer func() {
			for _, b := range []*cuda.Buffer{a, b, index} {
				if e := q.Free(b); err == nil {
					err = e
				}
			}
		}()
		if a, err = q.Alloc(int64(n) * row); err != nil {
			return err
		}
		if b, err = q.Alloc(int64(n) * row); err != nil {
			return err
		}
		order := make([]int32, n)
		for i := range order {
			order[i] = int32(i)
		}
		if index, err = q.Alloc(int64(4 * n)); err != nil {
			return err
		}
		if err := errors.Join(q.Zero(b, 0, b.Bytes()), cuda.Upload(q, index, 0, order)); err != nil {
			return err
		}
		ms, err := c.timed(q, func() error { return q.Zero(a, 0, a.Bytes()) })
		if err != nil {
			return err
		}
		write := float64(a.Bytes()) / ms / 1e6
		c.set("memory written", write)
		ms, err = c.timed(q, func() error { return q.Gather(a.At(0), row/4, b.At(0), row/4, 0, index.At(0), n, row/4) })
		if err != nil {
			return err
		}
		return errors.Join(c.line("ceiling", map[string]any{"what": "memory written", "gb_per_s": write}),
			c.line("ceiling", map[string]any{"what": "memory copied, read and written", "gb_per_s": 2 * float64(a.Bytes()) / ms / 1e6}))
	})
}

// products measures gemm.cu alone on the model's shapes.
func (c *checker) products(ctx context.Context) error {
	m, rows := c.Sizes.model, c.gemmRows
	for _, p := range []struct {
		name, end string
		n, k      int
	}{
		{"qkv", "bf16", (m.heads + 2*m.kv) * m.dim, m.hidden},
		{"o", "add", m.hidden, m.heads * m.dim},
		{"gate, up", "swiglu", 2 * m.ffn, m.hidden},
		{"down", "add", m.hidden, m.ffn},
		{"4096", "bf16", 4096, 4096},
	} {
		if p.n > 4000 && rows < 1000 {
			continue
		}
		if err := c.part(ctx, "product: "+p.name, partLimit, func() error { return c.product(ctx, p.name, p.end, p.n, p.k) }); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) product(ctx context.Context, name, end string, n, k int) error {
	rows := c.gemmRows
	return c.d.Do(ctx, func(q *cuda.Queue) (err error) {
		r := rand.New(rand.NewPCG(1, 2))
		random := func(n int) []uint16 {
			v := make([]uint16, n)
			for i := range v { // random data: zeros would draw less power and run faster
				v[i] = uint16(r.Uint32())&0x80ff | 0x3f00
			}
			return v
		}
		ld := cuda.Padded(k)
		var bufs [3]*cuda.Buffer
		defer func() {
			for _, b := range bufs {
				if e := q.Free(b); err == nil {
					err = e
				}
			}
		}()
		for i, bytes := range []int{2 * rows * ld, 2 * n * ld, 4 * rows * n} {
			if bufs[i], err = q.Alloc(int64(bytes)); err != nil {
				return err
			}
		}
		if err := errors.Join(cuda.Upload(q, bufs[0], 0, random(rows*ld)), cuda.Upload(q, bufs[1], 0, random(n*ld)), q.Zero(bufs[2], 0, bufs[2].Bytes())); err != nil {
			return err
		}
		ms, err := c.timed(q, func() error {
			return q.Gemm(cuda.Gemm{End: end, M: rows, N: n, K: ld, A: bufs[0].At(0), LDA: ld, W: bufs[1].At(0), LDW: ld, Out: bufs[2].At(0), LDO: n})
		})
		if err != nil {
			return err
		}
		return c.line("product", map[string]any{"case": name, "rows": rows, "out": n, "in": k, "ms": ms, "tflops": 2 * float64(rows) * float64(n) * float64(k) / ms / 1e9})
	})
}

// generator measures W_A made: a stage whose every user has moved, and the kernels alone.
func (c *checker) generator(ctx context.Context) error {
	for _, s := range []generator.Spec{c.spec, c.paper()} {
		for _, bf16 := range []bool{false, true} {
			if err := c.made(ctx, s, bf16); err != nil {
				return err
			}
		}
	}
	return nil
}

// paper is the paper's form: a Q-Former on e_u and e_i.
func (c *checker) paper() generator.Spec {
	s := c.spec
	s.Kind, s.Inputs, s.Linear, s.Factors = generator.KindQFormer, generator.InputsPaper, false, c.factors
	return s
}

func (c *checker) made(ctx context.Context, spec generator.Spec, bf16 bool) error {
	m, err := generator.NewModel(spec, 5)
	if err != nil {
		return err
	}
	bound := 3e-2 // some bfloat16 roundings in a row, times 3 to 5; the Q-Former has 8 layers of them
	if spec.Kind == generator.KindQFormer {
		bound = .1
	}
	for _, rows := range c.rows {
		name := fmt.Sprintf("generator %s, %d rows, bf16 %v", spec.Kind, rows, bf16)
		if err := c.part(ctx, name, partLimit, func() error { return c.batch(ctx, name, m, rows, bf16, bound) }); err != nil {
			return err
		}
	}
	return nil
}

// batch makes so many rows.
func (c *checker) batch(ctx context.Context, name string, m *generator.Model, rows int, bf16 bool, bound float64) error {
	spec := &m.Spec
	b, err := generator.NewDeviceBench(m, &generator.GPU{Device: c.d, Fallback: &c.count, BF16: bf16}, rows)
	if err != nil {
		return err
	}
	off, err := b.Parity(ctx)
	if e := c.judge(name, off, bound, err); e != nil || err != nil {
		return e
	}
	ms, err := b.Kernels(ctx, c.length/4)
	if err != nil {
		return err
	}
	_, took, err := bench.Repeat(c.length, func() error { return b.Whole(ctx) })
	if err != nil {
		return err
	}
	each := cuda.RowsFormat{Width: spec.Size(), BF16: bf16}.Bytes()
	bytes := float64(rows) * float64(each)
	if kind := fmt.Sprintf("%s, bf16 %v: ", spec.Kind, bf16); bytes/ms/1e6 > c.figures[kind+"written"] { // the best number of rows
		c.set(kind+"written", bytes/ms/1e6)
		c.set(kind+"made", float64(rows)/ms*1e3)
	}
	return c.line("generator", map[string]any{
		"kind": spec.Kind, "bf16": bf16, "rows": rows, "bytes_each": each, "kernel_ms": ms, "written_gb_per_s": bytes / ms / 1e6,
		"weights_per_s_kernels": float64(rows) / ms * 1e3, "weights_per_s_to_the_host": float64(rows) / took.Seconds(),
	})
}
