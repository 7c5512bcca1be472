package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"

	"github.com/corastream/corastream"
)

// Report is what a run found. All of it is a function of configuration, data and seed.
type Report struct {
	Items      int     `json:"items"`       // read by the LLM
	Rows       int     `json:"rows"`        // that trained the generator
	Skipped    int     `json:"skipped"`     // events of items without a title
	Sampled    int     `json:"sampled"`     // rows of items drawn beside those taken; 0 where the log says what was not taken
	DecoderFit float64 `json:"decoder_fit"` // share of the contents' variance that the linear path's start reads from the LLM's states
	Epochs     []Epoch `json:"epochs"`
	Best       int     `json:"best"` // the epoch that the checkpoint holds, from 1
	// Holdout and Valid are prequential figures by model: cf, cora, and cora-shuffled, where each row gets another row's
	// prompt: as good as cora means that the LLM is a mere pass-through.
	Holdout map[string]Figures `json:"holdout"`
	Valid   map[string]Figures `json:"valid"`
	Resumed bool               `json:"resumed"` // went on from a state file
}

// Epoch is one epoch's mean loss and its AUC on the held-out rows.
type Epoch struct {
	Phase string  `json:"phase"`
	Loss  float64 `json:"loss"`
	AUC   float64 `json:"auc"`
}

// evalBatch is the rows scored in one call.
const evalBatch = 128

// score ranks rows by the LLM's Yes-No difference; prompts, when not nil, says whose prompt each row gets.
func (r *runner) score(ctx context.Context, rows []row, prompts []int, phase string) ([]float64, error) {
	out := make([]float64, 0, len(rows))
	for from := 0; from < len(rows); from += evalBatch {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		n := min(evalBatch, len(rows)-from)
		pairs, texts := make([]*corastream.Pair, n), make([]corastream.Prompt, n)
		for i := range n {
			pairs[i], texts[i] = &rows[from+i].pair, rows[from+i].prompt
			if prompts != nil {
				texts[i] = rows[prompts[from+i]].prompt
			}
		}
		x, lin, err := r.inputs(pairs)
		if err != nil {
			return nil, err
		}
		logits, err := r.deps.Scorer.Score(ctx, texts, r.weights(x, lin, n), r.proj)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", phase, err)
		}
		if len(logits) != n {
			return nil, fmt.Errorf("%s: %d logits of %d prompts", phase, len(logits), n)
		}
		for _, l := range logits {
			z := float64(l.Yes) - float64(l.No)
			if math.IsNaN(z) {
				return nil, fmt.Errorf("%s: the score is not a number: lower train.rate (%v)", phase, r.cfg.Rate)
			}
			out = append(out, z)
		}
		r.tell(Progress{Phase: phase, Done: from + n, Total: len(rows)})
	}
	return out, nil
}

func cfScores(rows []row) []float64 {
	out := make([]float64, len(rows))
	for i := range rows {
		out[i] = float64(rows[i].pair.Logit())
	}
	return out
}

// measure fills the report with the figures of the checkpoint as it will be served.
func (r *runner) measure(ctx context.Context, s *snapshots) error {
	var err error
	if r.report.Holdout, err = r.models(ctx, s.holdout); err != nil {
		return err
	}
	if len(s.valid) > 0 {
		r.report.Valid, err = r.models(ctx, s.valid)
	}
	return err
}

func (r *runner) models(ctx context.Context, rows []row) (map[string]Figures, error) {
	out := map[string]Figures{"cf": figuresOf(cfScores(rows), rows)}
	scores, err := r.score(ctx, rows, nil, "report")
	if err != nil {
		return nil, err
	}
	out["cora"] = figuresOf(scores, rows)
	scores, err = r.score(ctx, rows, rand.New(rand.NewPCG(r.cfg.Seed, 0x5407)).Perm(len(rows)), "report")
	if err != nil {
		return nil, err
	}
	out["cora-shuffled"] = figuresOf(scores, rows)
	return out, nil
}
