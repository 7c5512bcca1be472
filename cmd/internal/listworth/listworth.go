// Package listworth tells the operator what the LLM's part of the lists is worth, which version of it answers, and what became of
// the versions that were trained.
//
// Status is for GET /v1/status and the dashboard, Watch for the log. Both read the list model and change nothing.
package listworth

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/serve"
)

// The findings about the LLM's part.
const (
	Early   = "too early" // too few likes to tell
	Gain    = "gain"      // the interval of the difference lies above 0
	Unclear = "unclear"   // it does not, and more likes may tell
	Nothing = "nothing"   // it does not, over all the likes that are kept
)

const (
	earlyRows = 1000
	allRows   = 5000
	every     = 2 * time.Second
)

// Finding says what the figures mean.
func Finding(w mix.Worth) string {
	switch {
	case w.Rows < earlyRows:
		return Early
	case w.CI[0] > 0:
		return Gain
	case w.Rows < allRows:
		return Unclear
	}
	return Nothing
}

// advice is what to do where the LLM's part is worth nothing.
const advice = "give the catalogue fields such as author, year, genre and tags (titles alone bring little; `corastream validate` shows what the " +
	"language model reads); or leave it: its weight is learnt and costs the lists nothing; --llm off saves the time of reading items " +
	"(a larger language model was no clear gain on the logs we measured: docs/measured/quality.md)"

// Says puts the finding in a sentence.
func Says(w mix.Worth) string {
	figures := fmt.Sprintf("NDCG@10 over the last %d likes is %.4f with it and %.4f without it (difference %+.4f [%+.4f, %+.4f])",
		w.Rows, w.With, w.Without, w.With-w.Without, w.CI[0], w.CI[1])
	switch Finding(w) {
	case Early:
		return fmt.Sprintf("too early to tell what the language model's part is worth: %d likes of %d", w.Rows, earlyRows)
	case Gain:
		return "the language model's part makes the lists better: " + figures
	case Unclear:
		return "it is not clear yet whether the language model's part makes the lists better: " + figures
	}
	if w.CI[1] < 0 {
		return "the language model's part makes the lists worse at present: " + figures
	}
	return "the language model's part is worth nothing on this data: " + figures
}

// Advice is what to do about it; "" where there is nothing to do.
func Advice(w mix.Worth) string {
	if Finding(w) == Nothing {
		return advice
	}
	return ""
}

// Status is what GET /v1/status says.
func Status(m *mix.Model) *serve.LLMStatus {
	w, t := m.Worth(), m.Trial()
	out := &serve.LLMStatus{
		Worth: serve.LLMWorth{
			NDCG10With: w.With, NDCG10Without: w.Without, CI: w.CI, Rows: w.Rows, Finding: Finding(w), Says: Says(w), Advice: Advice(w),
		},
		Version: t.Version, List: t.Active, TrainedAtEvent: t.TrainedAt, Coded: m.CodedItems(), Training: t.Training, Former: t.Former,
		Verdicts: []serve.LLMVerdict{},
	}
	if t.Rival != "" {
		out.Shadow = &serve.LLMShadow{
			Version: t.RivalID, List: t.Rival, TrainedAtEvent: t.RivalAt, Rows: t.Duel.Rows, OfRows: int64(t.Judge),
			Chance: t.Duel.Chance, CI: t.Duel.ChanceCI, NDCG10: t.Duel.NDCG10, NDCG10Active: t.Duel.Other,
		}
	}
	for _, v := range slices.Backward(t.Verdicts) {
		out.Verdicts = append(out.Verdicts, serve.LLMVerdict{
			Version: v.Version, Decision: v.Decision.String(), AtEvent: v.At, TrainedAtEvent: v.TrainedAt, Rows: v.Duel.Rows, Reason: v.Reason(),
		})
	}
	return out
}

// Watch logs each verdict, and what the LLM's part is worth whenever the finding changes, until ctx ends.
func Watch(ctx context.Context, m *mix.Model, log zerolog.Logger) {
	w := &watcher{log: log, passed: m.Trial().Passed, finding: Finding(m.Worth())}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look(m)
		}
	}
}

type watcher struct {
	log     zerolog.Logger
	passed  int64 // verdicts that were told
	finding string
}

func (w *watcher) look(m *mix.Model) {
	t := m.Trial()
	for _, v := range t.Verdicts[max(0, len(t.Verdicts)-int(t.Passed-w.passed)):] {
		ev := w.log.Info()
		if v.Decision == mix.TakenBack {
			ev = w.log.Warn()
		}
		ev.Int64("version", v.Version).Int64("trained_at_event", v.TrainedAt).Int64("at_event", v.At).Str("reason", v.Reason()).
			Msgf("the language model's part of the lists: a version was %s", v.Decision)
	}
	w.passed = t.Passed
	worth := m.Worth()
	if f := Finding(worth); f != w.finding && f != Early {
		w.finding = f
		ev := w.log.Info()
		if f == Nothing {
			ev = w.log.Warn().Str("fix", Advice(worth))
		}
		ev.Msg(Says(worth))
	}
}
