package rollout

import (
	"context"
	"math"
	"path/filepath"
	"sync/atomic"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
)

// Trial is one loaded checkpoint with counts of its lists and of the events that followed them.
// Counts are atomic, since answers and commits add to them at once.
type Trial struct {
	file     string
	stage    *generator.Stage
	familiar *Familiarity

	recommendations, items, followed, liked atomic.Int64
	scoreMicro                              atomic.Int64 // the sum of scores, in millionths
}

// Weights implements corastream.Generator.
func (t *Trial) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	return t.familiar.Weights(ctx, pairs)
}

// PerPair says that the checkpoint has no user's part.
func (t *Trial) PerPair() bool { return t.stage.Checkpoint().Model.Spec.PerPair() }

// NewTrial is a checkpoint in use where nothing runs that could try another one.
func NewTrial(file string, stage *generator.Stage, familiar *Familiarity) *Trial {
	return &Trial{file: file, stage: stage, familiar: familiar}
}

// Familiarity says whether the catalogue is like the one that the checkpoint was trained on.
func (t *Trial) Familiarity() *Familiarity { return t.familiar }

// Stage makes the checkpoint's weights.
func (t *Trial) Stage() *generator.Stage { return t.stage }

// status reports the counts since the checkpoint was loaded. m judges it; nil, as for a previous one that gets no more rows, leaves the
// AUC out. t may be nil, so that callers need not ask whether there is a candidate.
func (t *Trial) status(m *replay.Monitor) *serve.TrialStatus {
	if t == nil {
		return nil
	}
	out := &serve.TrialStatus{
		File: filepath.Base(t.file), Checkpoint: t.stage.Version(), Recommendations: t.recommendations.Load(), Followed: t.followed.Load(), Liked: t.liked.Load(),
	}
	if n := t.items.Load(); n > 0 {
		out.MeanScore = float64(t.scoreMicro.Load()) / 1e6 / float64(n)
	}
	if m != nil {
		f := m.Figures()
		// The window's AUC and not the whole run's: two checkpoints loaded at different times are compared over the same latest rows.
		if auc := float64(f.WindowCora); !math.IsNaN(auc) {
			out.AUC, out.AUCRows = &auc, f.WindowRows
		}
	}
	return out
}
