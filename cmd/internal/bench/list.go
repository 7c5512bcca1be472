package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/kernels"
	"github.com/corastream/corastream/serve/llm"
)

// The list case: candidates of one user, ranked by v_u.C_i alone and by a pass through the LLM's top layer with the W_A that stands
// for it.
const (
	listCase       = "list_100_n1"
	listCandidates = 100
	listItems      = 400
	listWidth      = 96
	listHistory    = 10
	listUsers      = 8
)

// measureList reports the time of both ways, and how far the Yes-No logit that the pass moves is from v_u.C_i: at the strength of
// A = I, and at five times that.
func measureList(ctx context.Context, m *llm.Model, threads int, w io.Writer, length time.Duration, texts []corastream.Item) error {
	info := m.Info()
	widths, ok := m.TargetWidths()[corastream.TargetO]
	if !ok {
		return line(w, map[string]any{"bench": "llm", "case": listCase, "skipped": "o's input is not as wide as W_A"})
	}
	prompts := InventedTitles(listItems)
	if len(texts) > 0 {
		prompts = prompts[:0]
		for _, it := range texts {
			prompts = append(prompts, corastream.Prompt{ItemID: it.ID, Title: it.Title, Fields: it.Fields})
		}
	}
	if len(prompts) < 2*listCandidates {
		return corastream.Usagef("--texts", fmt.Sprintf("give a catalogue of at least %d titled items", 2*listCandidates), "%d are too few", len(prompts))
	}
	items := make([]corastream.Item, len(prompts))
	for i, p := range prompts {
		items[i] = corastream.Item{ID: p.ItemID, Title: p.Title, Fields: p.Fields}
	}
	var answers [][]float32
	for at := 0; at < len(items); at += 64 {
		states, err := m.Encode(ctx, items[at:min(at+64, len(items))])
		if err != nil {
			return err
		}
		for _, s := range states {
			answers = append(answers, s.Answer[len(s.Answer)-1])
		}
	}
	coder, err := generator.FitCoder(answers, listWidth)
	if err != nil {
		return err
	}
	codes := make([][]float32, len(answers))
	for i, a := range answers {
		if codes[i], err = coder.Code(a); err != nil {
			return err
		}
	}
	slot := corastream.Slot{Layer: info.Layers - 1, Target: corastream.TargetO}
	weights, err := generator.FitListWeights(ctx, m.Backward, slot, widths[1], prompts, answers, codes)
	if err != nil {
		return err
	}
	result := map[string]any{
		"bench": "llm", "case": listCase, "numerics": info.Numerics, "threads": threads, "items": len(items), "width": coder.Out,
		"decoder_r2": round(weights.R2, 5), "gradient_cosine": round(weights.Cosine, 4), "peak_mib": peakMemory() >> 20,
	}
	// The sum that the list model makes for each user, and 100 products.
	r := rand.New(rand.NewPCG(3, 4))
	user := make([]float32, coder.Out)
	identity := make([]float32, coder.Out*coder.Out)
	for i := range coder.Out {
		identity[i*coder.Out+i] = 1
	}
	mean := userMean(r, codes)
	scores := make([]float32, listCandidates)
	firstOrder := func() error {
		clear(user)
		for i, x := range mean {
			kernels.Axpy(x, identity[i*coder.Out:(i+1)*coder.Out], user)
		}
		for i := range scores {
			scores[i] = kernels.Dot(user, codes[i])
		}
		return nil
	}
	_, took, err := Repeat(length, func() error {
		for range 100 {
			if err := firstOrder(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	result["first_order_us"] = round(took.Seconds()*1e4, 1)
	candidates := prompts[:listCandidates]
	cpu := cpuTime()
	runs, took, err := Repeat(length, func() error {
		_, err := m.Score(ctx, candidates, sharedWeights(weights.User(user), len(candidates)), weights.Projection)
		return err
	})
	if err != nil {
		return err
	}
	result["through_layers_ms"] = round(took.Seconds()*1e3, 2)
	result["through_layers_cpu_ms"] = round((cpuTime()-cpu).Seconds()*1e3/float64(runs+1), 2)
	frozen, err := m.Score(ctx, candidates, sharedWeights(make([]float32, weights.Hidden), len(candidates)), weights.Projection)
	if err != nil {
		return err
	}
	for _, strength := range []float32{1, 5} {
		var d listDifference
		for range listUsers {
			v := userMean(r, codes)
			kernels.Scale(strength, v)
			moved, err := m.Score(ctx, candidates, sharedWeights(weights.User(v), len(candidates)), weights.Projection)
			if err != nil {
				return err
			}
			first, through := make([]float64, len(candidates)), make([]float64, len(candidates))
			for i := range candidates {
				first[i] = float64(kernels.Dot(v, codes[i]))
				through[i] = float64(moved[i].Yes-moved[i].No) - float64(frozen[i].Yes-frozen[i].No)
			}
			d.add(first, through)
		}
		result[fmt.Sprintf("strength_%g", strength)] = d.figures()
	}
	return line(w, result)
}

// userMean is m_u of ten items at random, as the list model makes it.
func userMean(r *rand.Rand, codes [][]float32) []float32 {
	out := make([]float32, len(codes[0]))
	var sum float32
	for l := range listHistory {
		lag := 1 / float32(1+l)
		kernels.Axpy(lag, codes[r.IntN(len(codes))], out)
		sum += lag * lag
	}
	kernels.Scale(1/float32(math.Sqrt(float64(sum)+0.1)), out)
	return out
}

func sharedWeights(user []float32, n int) []corastream.Weights {
	out := make([]corastream.Weights, n)
	for i := range out {
		out[i] = corastream.Weights{Hidden: len(user), Rank: 1, User: user}
	}
	return out
}

// listDifference holds what the pass moves against v_u.C_i.
type listDifference struct {
	rows, users             int
	square, spread, largest float64
	inOrder, pairs, ten     int
}

func (d *listDifference) add(first, through []float64) {
	mean := 0.0
	for _, x := range first {
		mean += x / float64(len(first))
	}
	for i := range first {
		e := through[i] - first[i]
		d.rows++
		d.square += e * e
		d.spread += (first[i] - mean) * (first[i] - mean)
		d.largest = max(d.largest, math.Abs(e))
		for j := range i {
			d.pairs++
			if (first[i] > first[j]) == (through[i] > through[j]) {
				d.inOrder++
			}
		}
	}
	d.users++
	best := topTen(first)
	for _, i := range topTen(through) {
		if slices.Contains(best, i) {
			d.ten++
		}
	}
}

func topTen(v []float64) []int {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(v[b], v[a]) })
	return order[:10]
}

func (d *listDifference) figures() map[string]float64 {
	n := float64(d.rows)
	return map[string]float64{
		"first_order_sd": round(math.Sqrt(d.spread/n), 4), "difference_rms": round(math.Sqrt(d.square/n), 5), "difference_max": round(d.largest, 5),
		"pairs_in_order": round(float64(d.inOrder)/float64(d.pairs), 5), "top10_shared": round(float64(d.ten)/float64(10*d.users), 4),
	}
}

func round(x float64, digits int) float64 {
	f := math.Pow(10, float64(digits))
	return math.Round(x*f) / f
}
