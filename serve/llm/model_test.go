package llm

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve/llm/gguf"
)

var (
	_ corastream.Scorer  = (*Model)(nil)
	_ corastream.Encoder = (*Model)(nil)
)

// `adapt: all` is what merging (alpha/r) P^T W_A^T into every adapted weight gives: 20 pairs, no code shared. Measured: largest
// difference 4e-5 on logits that spread over 15 (float32 noise).
func TestAdaptAllEqualsDenseMerge(t *testing.T) {
	for _, s := range []shape{tinyLlama, tinyQwen, tinyGemma, tinyGemmaWide, tinyBiased} {
		m := s.open(t)
		ps, ws := pairs(m, 20, 3, 4, false, 21)
		p := project(m, 4, corastream.AdaptAll, 0, allTargets, 22)
		o := newOracle(t, m)
		o.merge = true
		want := oracleScore(t, m, o, ps, ws, p)
		got, err := m.Score(context.Background(), ps, ws, p)
		if err != nil {
			t.Fatal(err)
		}
		if worst, spread := compare(got, want); worst > 1e-4 || spread < 1 {
			t.Errorf("%s: largest difference %g, spread %g", s.arch, worst, spread)
		}
		base, err := m.Score(context.Background(), ps, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		if worst, _ := compare(base, want); worst < .1 {
			t.Errorf("%s: the delta changes nothing", s.arch)
		}
	}
}

func TestBaseModelEqualsPlainForward(t *testing.T) {
	for _, s := range []shape{tinyLlama, tinyQwen, tinyWide, tinyGemma, tinyGemmaWide, tinyQwen3, tinyBiased} {
		for _, history := range []bool{false, true} {
			m := s.open(t)
			ps, _ := pairs(m, 10, 3, 1, history, 3)
			want := oracleScore(t, m, newOracle(t, m), ps, nil, nil)
			got, err := m.Score(context.Background(), ps, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if worst, spread := compare(got, want); worst > 2.5e-5*spread || spread < 1 {
				t.Errorf("%s: largest difference %g, spread %g", s.arch, worst, spread)
			}
			ts, err := m.prompts.render(ps[0])
			if err != nil {
				t.Fatal(err)
			}
			direct, err := m.ScoreTokens(context.Background(), [][]int32{ts.ids, ts.ids[:3]})
			if err != nil || history && direct[0] != got[0] || compareOne(direct[0], want[0]) > 1e-4 {
				t.Errorf("%s: %v by tokens, %v by prompt, %v", s.arch, direct, got[0], err)
			}
			row, err := m.Logits(context.Background(), ts.ids)
			if err != nil {
				t.Fatal(err)
			}
			tr := newOracle(t, m).forward(ts.ids, nil)
			for id, v := range row {
				if w := newOracleLogit(t, m, tr, id); math.Abs(float64(v)-w) > 1e-4 {
					t.Fatalf("logit of %d is %v, want %v", id, v, w)
				}
			}
		}
	}
}

func compareOne(got corastream.Logits, want [2]float64) float64 {
	worst, _ := compare([]corastream.Logits{got}, [][2]float64{want})
	return worst
}

func newOracleLogit(t *testing.T, m *Model, tr *trace, id int) float64 {
	return newOracle(t, m).logit(tr, id)
}

// Batches larger than the limits are cut, and give the same scores.
func TestCutBatchesScoreTheSame(t *testing.T) {
	for _, adapt := range []corastream.Adapt{corastream.AdaptAll, corastream.AdaptSuffix, corastream.AdaptLast} {
		m, small := tinyLlama.open(t), tinyLlama.open(t, func(o *Options) { o.BatchTokens, o.Threads = 16, 1 })
		ps, ws := pairs(m, 30, 4, 2, true, 8)
		p := project(m, 2, adapt, 2, allTargets, 8)
		a, err1 := m.Score(context.Background(), ps, ws, p)
		b, err2 := small.Score(context.Background(), ps, ws, p)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: scores depend on the batch", adapt)
		}
	}
}

// The number of threads changes no bit of scores, readings or gradients.
func TestThreadsChangeNothing(t *testing.T) {
	for _, adapt := range []corastream.Adapt{corastream.AdaptAll, corastream.AdaptSuffix, corastream.AdaptLast} {
		var want *corastream.Gradients
		for _, n := range []int{1, 2, 3, 7} {
			m := tinyQwen.open(t, func(o *Options) { o.Threads = n })
			ps, ws := pairs(m, 9, 3, 3, adapt == corastream.AdaptAll, 4)
			p := project(m, 3, adapt, 2, allTargets, 4)
			g, err := m.Backward(context.Background(), ps, ws, p, []float32{1, 0, 1, 0, 1, 0, 1, 0, 1})
			if err != nil {
				t.Fatal(err)
			}
			scores, err := m.Score(context.Background(), ps, ws, p)
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range scores {
				if s.Yes-s.No != g.Scores[i] {
					t.Errorf("%s: row %d is scored %v and trained as %v", adapt, i, s.Yes-s.No, g.Scores[i])
				}
			}
			if want == nil {
				want = g
			} else if !reflect.DeepEqual(g, want) {
				t.Errorf("%s: %d threads give other gradients", adapt, n)
			}
		}
	}
}

// A trainer changes P in place: a score must see it.
func TestChangedProjectionIsSeen(t *testing.T) {
	m := tinyLlama.open(t)
	ps, ws := pairs(m, 4, 2, 3, false, 4)
	p := project(m, 3, corastream.AdaptLast, 3, allTargets, 4)
	score := func() []corastream.Logits {
		s, err := m.Score(context.Background(), ps, ws, p)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := score()
	if again := score(); !reflect.DeepEqual(again, first) {
		t.Error("a prepared projection scores otherwise")
	}
	for slot, v := range p.P {
		old := v[len(v)-1]
		v[len(v)-1]++
		if changed := score(); reflect.DeepEqual(changed, first) {
			t.Errorf("a change of %v is not seen", slot)
		}
		v[len(v)-1] = old
	}
	p.Alpha *= 2
	if reflect.DeepEqual(score(), first) {
		t.Error("a change of alpha is not seen")
	}
	p.Alpha /= 2
	if again := score(); !reflect.DeepEqual(again, first) {
		t.Error("going back scores otherwise")
	}
}

func TestYesOnlyScoresByYesAlone(t *testing.T) {
	both, yes := tinyLlama.open(t), tinyLlama.open(t, func(o *Options) { o.Score = "yes" })
	ps, ws := pairs(both, 5, 2, 2, false, 8)
	p := project(both, 2, corastream.AdaptLast, 3, attention, 8)
	a, err1 := both.Score(context.Background(), ps, ws, p)
	b, err2 := yes.Score(context.Background(), ps, ws, p)
	g, err3 := yes.Backward(context.Background(), ps, ws, p, make([]float32, 5))
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	for i := range a {
		if a[i].Yes != b[i].Yes || a[i].No == 0 || b[i].No != 0 || g.Scores[i] != b[i].Yes {
			t.Errorf("row %d: %v, %v, %v", i, a[i], b[i], g.Scores[i])
		}
	}
}

func TestManyCallersGetTheSameAnswers(t *testing.T) {
	m := tinyLlama.open(t, func(o *Options) { o.CacheDir, o.KVBytes = t.TempDir(), 1<<20 })
	ps, ws := pairs(m, 12, 3, 3, false, 1)
	hs, vs := pairs(m, 6, 2, 3, true, 2)
	last, all := project(m, 3, corastream.AdaptLast, 3, allTargets, 1), project(m, 3, corastream.AdaptAll, 1, allTargets, 2)
	items := catalogue()
	labels := make([]float32, len(ps))
	type answer struct {
		a, b []corastream.Logits
		s    []corastream.States
		g    *corastream.Gradients
	}
	work := func() (r answer, err error) {
		var errs [4]error
		r.a, errs[0] = m.Score(context.Background(), ps, ws, last)
		r.b, errs[1] = m.Score(context.Background(), hs, vs, all)
		r.s, errs[2] = m.Encode(context.Background(), items)
		r.g, errs[3] = m.Backward(context.Background(), ps, ws, last, labels)
		return r, errors.Join(errs[:]...)
	}
	want, err := work()
	if err != nil {
		t.Fatal(err)
	}
	fresh := tinyLlama.open(t)
	m = fresh // all of them miss the cache at once
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			got, err := work()
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("answers differ, or %v", err)
			}
		})
	}
	wg.Wait()
	if s := fresh.CacheStats(); s.Entries > 16 {
		t.Errorf("items were kept twice: %+v", s)
	}
}

func TestCancelledCallsEnd(t *testing.T) {
	m := tinyLlama.open(t)
	cause := errors.New("gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	ps, ws := pairs(m, 3, 1, 2, false, 1)
	hs, vs := pairs(m, 3, 1, 2, true, 1)
	p := project(m, 2, corastream.AdaptLast, 3, allTargets, 1)
	_, err1 := m.Score(ctx, ps, ws, p)
	_, err2 := m.Score(ctx, hs, vs, p)
	_, err3 := m.Encode(ctx, catalogue())
	_, err4 := m.Backward(ctx, ps, ws, p, make([]float32, 3))
	_, err5 := m.Logits(ctx, []int32{1, 2})
	_, err6 := m.ScoreTokens(ctx, [][]int32{{1, 2}})
	for i, err := range []error{err1, err2, err3, err4, err5, err6} {
		if !errors.Is(err, cause) {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	if s := m.CacheStats(); s.ForwardTokens != 0 {
		t.Errorf("cancelled calls computed: %+v", s)
	}
	if _, err := m.Score(context.Background(), ps, ws, p); err != nil {
		t.Errorf("after a cancelled call: %v", err)
	}
}

func TestClosedModelRefuses(t *testing.T) {
	m, err := openTiny(t, tinyLlama, tinyOptions())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Encode(context.Background(), catalogue()); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("%v", err)
	}
}

func TestWeightsThatDoNotFitAreRefusedByName(t *testing.T) {
	m, wide := tinyLlama.open(t), tinyWide.open(t)
	ps, ws := pairs(m, 2, 1, 2, false, 1)
	_, narrow := pairs(wide, 2, 1, 2, false, 1)
	ok := project(m, 2, corastream.AdaptLast, 3, attention, 1)
	with := func(slot corastream.Slot, n int) *corastream.Projection {
		return &corastream.Projection{Rank: 2, Alpha: 4, Adapt: corastream.AdaptLast, P: map[corastream.Slot][]float32{slot: make([]float32, n)}}
	}
	for _, c := range []struct {
		m    *Model
		w    []corastream.Weights
		p    *corastream.Projection
		want string
	}{
		{m, narrow, ok, "[32, 2]"},
		{m, ws[:1], ok, "2 prompts but 1 weights"},
		{m, ws, nil, "projection"},
		{m, ws, with(corastream.Slot{Layer: 9, Target: corastream.TargetQ}, 96), "layer 9"},
		{m, ws, with(corastream.Slot{Layer: 4, Target: corastream.TargetQ}, 7), "needs 2 x 48"},
		{m, ws, with(corastream.Slot{Layer: 4, Target: "down"}, 96), `target "down" can not be adapted: its input is 40 wide, W_A has 48 rows`},
		{m, ws, with(corastream.Slot{Layer: 4, Target: "head"}, 96), `"head"`},
		{wide, narrow, with(corastream.Slot{Layer: 2, Target: corastream.TargetO}, 64), `target "o" can not be adapted: its input is 64 wide`},
		{m, ws, &corastream.Projection{Rank: 2, Alpha: 4, Adapt: "some"}, `"some"`},
	} {
		_, err := c.m.Score(context.Background(), ps, c.w, c.p)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	for _, y := range [][]float32{{0}, {0, 2}, {0, -1}, {0, float32(math.NaN())}} {
		if _, err := m.Backward(context.Background(), ps, ws, ok, y); err == nil {
			t.Errorf("labels %v are taken", y)
		}
	}
}

func TestBadModelFilesAreRefusedByName(t *testing.T) {
	for name, c := range map[string]struct {
		change func(w *gguf.Writer, s shape)
		shape  shape
		want   string
	}{
		"architecture": {nil, shape{"gpt2", 2, 16, 2, 2, 8, 16, true, false}, "general.architecture"},
		"odd heads":    {nil, shape{"llama", 2, 16, 3, 2, 8, 16, true, false}, "llama.attention.head_count"},
		"odd head":     {nil, shape{"llama", 2, 15, 3, 3, 5, 16, true, false}, "llama.attention.head_count"},
		"no layers":    {nil, shape{"llama", 0, 16, 2, 2, 8, 16, true, false}, "llama.block_count"},
		"yarn": {func(w *gguf.Writer, s shape) {
			must(w.Set("llama.rope.scaling.type", "yarn"))
			must(w.Set("llama.rope.scaling.factor", float32(4)))
		}, tinyLlama, "llama.rope.scaling.type"},
		"experts": {func(w *gguf.Writer, s shape) {
			must(w.Add("blk.0.ffn_gate_inp.weight", gguf.F32, []int{1}, []float32{1}))
		}, tinyLlama, "experts"},
		"short bias": {func(w *gguf.Writer, s shape) { must(w.Add("blk.0.attn_output.bias", gguf.F32, []int{1}, []float32{1})) }, tinyLlama, "attn_output.bias"},
		"bias of the head": {func(w *gguf.Writer, s shape) {
			must(w.Add("output.bias", gguf.F32, []int{262}, make([]float32, 262)))
		}, tinyQwen, `tensor "output.bias"`},
		"a layer too many": {func(w *gguf.Writer, s shape) {
			must(w.Add("blk.5.attn_norm.weight", gguf.F32, []int{48}, make([]float32, 48)))
		}, tinyLlama, `tensor "blk.5.attn_norm.weight" has no place in a llama model of 5 layers`},
		"an unknown tensor": {func(w *gguf.Writer, s shape) {
			must(w.Add("blk.3.attn_sinks.weight", gguf.F32, []int{6}, make([]float32, 6)))
		}, tinyLlama, "blk.3.attn_sinks.weight"},
		"normed heads in a later layer": {func(w *gguf.Writer, s shape) {
			must(w.Add("blk.4.attn_k_norm.weight", gguf.F32, []int{8}, make([]float32, 8)))
		}, tinyLlama, "blk.4.attn_k_norm.weight"},
		"partial turn": {func(w *gguf.Writer, s shape) { must(w.Set("llama.rope.dimension_count", uint32(4))) }, tinyLlama, "llama.rope.dimension_count"},
		"normed heads": {func(w *gguf.Writer, s shape) {
			must(w.Add("blk.0.attn_q_norm.weight", gguf.F32, []int{8}, make([]float32, 8)))
		}, tinyLlama, "attn_q_norm.weight"},
		"normed additions": {func(w *gguf.Writer, s shape) {
			must(w.Add("blk.0.post_ffw_norm.weight", gguf.F32, []int{32}, make([]float32, 32)))
		}, tinyQwen3, "post_ffw_norm.weight"},
	} {
		t.Run(name, func(t *testing.T) {
			w := c.shape.write(1)
			if c.change != nil {
				c.change(w, c.shape)
			}
			f, err := gguf.Parse("model.gguf", w.Bytes())
			if err == nil {
				_, err = newModel(f, tinyOptions())
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "model.gguf") {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// What a file may say of Gemma's windows is bounded, and a cap on logits is not passed over.
func TestBadKeysOfGemmaAreRefusedByName(t *testing.T) {
	for key, v := range map[string]any{
		"attention.sliding_window": uint32(0), "attention.sliding_window_pattern": uint32(1 << 30), "rope.freq_base_swa": float32(0),
		"final_logit_softcapping": float32(30), "attention.key_length": uint32(4096),
	} {
		f, err := gguf.Parse("model.gguf", tinyGemma.writeWith(1, gguf.F32, map[string]any{key: v}).Bytes())
		if err == nil {
			_, err = newModel(f, tinyOptions())
		}
		if err == nil || !strings.Contains(err.Error(), "gemma3."+key) || !strings.Contains(err.Error(), "model.gguf") {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestNotANumberInWeightsIsRefused(t *testing.T) {
	for _, name := range []string{"blk.2.ffn_up.weight", "blk.1.attn_k_norm.weight", "blk.3.post_attention_norm.weight"} {
		f, err := gguf.Parse("model.gguf", tinyGemma.write(1).Bytes())
		if err != nil {
			t.Fatal(err)
		}
		q, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		copy(q.Raw[8:], []byte{0, 0, 0xc0, 0x7f})
		if _, err := newModel(f, tinyOptions()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOptionsReportAllProblemsAtOnce(t *testing.T) {
	o := Default()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	o.Threads, o.Score, o.KVBytes, o.Numerics = 0, "maybe", 5, "f64"
	err := o.Validate()
	for _, want := range []string{"llm.threads", "llm.score", "llm.kv_bytes", "llm.numerics"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// Parts hold as many prompts as make BatchTokens rows, what neighbours share counted once, up to where a delta acts.
func TestBatchesCountSharedRowsOnce(t *testing.T) {
	m := tinyLlama.open(t, func(o *Options) { o.BatchTokens = 40 })
	ts := make([]tokens, 6)
	for i := range ts {
		for j := range 20 {
			id := int32(j)
			if j >= 15 {
				id = int32(100*i + j)
			}
			ts[i].ids = append(ts[i].ids, id)
		}
		ts[i].title = 10
	}
	frozen := &delta{prepared: &prepared{adapt: corastream.AdaptSuffix}}
	whole := &delta{prepared: &prepared{adapt: corastream.AdaptAll}}
	for name, c := range map[string]struct {
		d    *delta
		want []int
	}{"base": {nil, []int{5, 1}}, "suffix": {frozen, []int{3, 3}}, "all": {whole, []int{2, 2, 2}}} {
		var got []int
		for _, part := range m.batches(ascending(len(ts)), ts, c.d) {
			got = append(got, len(part))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: parts of %v, want %v", name, got, c.want)
		}
	}
}
