package serve

import (
	"context"
	"net/http"
	"time"
)

// Rollout tries a new checkpoint beside the one in use.
type Rollout interface {
	Standing() RolloutStatus
	// Change takes one step. A step that is not possible is a *corastream.UsageError that names
	// the field.
	Change(ctx context.Context, c RolloutRequest) error
}

// RolloutRequest is the body of POST /v1/rollout.
type RolloutRequest struct {
	// Action is "shadow": the new checkpoint scores what the active one answers, and nobody sees
	// it; "canary": it answers a share of the users, always the same ones; "promote": it answers
	// everybody, and the one before is kept; "rollback": the trial ends, or after a promotion the
	// one before answers again.
	Action string `json:"action" api:"required;enum=shadow|canary|promote|rollback"`
	// Checkpoint is the file's name in rollout.dir; it may be left out once one is being tried.
	Checkpoint string `json:"checkpoint" api:"max=255"`
	// Share is the part of the users that a canary answers, over 0 and below 1.
	Share float64 `json:"share" api:"min=0;max=1"`
}

// RolloutStatus is the answer of GET /v1/rollout.
type RolloutStatus struct {
	Mode      string         `json:"mode" api:"enum=off|shadow|canary"` // "off", "shadow" or "canary"
	Share     float64        `json:"share"`                             // of a canary
	Since     time.Time      `json:"since"`                             // the last change
	Active    *TrialStatus   `json:"active"`
	Candidate *TrialStatus   `json:"candidate"`
	Previous  *TrialStatus   `json:"previous"` // what a rollback would bring back
	Shadow    *ShadowFigures `json:"shadow,omitempty"`
}

// TrialStatus is one checkpoint, with the figures since it was loaded.
type TrialStatus struct {
	File            string  `json:"file"`
	Checkpoint      string  `json:"checkpoint"`      // its digest
	Recommendations int64   `json:"recommendations"` // published since it was loaded
	MeanScore       float64 `json:"mean_score"`      // of the items published
	Followed        int64   `json:"followed"`        // events on an item of the user's last list
	Liked           int64   `json:"liked"`           // those of them that liked it
	// AUC is over the last rows of the stream, each scored before it was learnt. It is null
	// until both labels came.
	AUC     *float64 `json:"auc"`
	AUCRows int      `json:"auc_rows"`
}

// ShadowFigures compare the candidate's scores with those of the answers.
type ShadowFigures struct {
	Compared    int64   `json:"compared"`      // candidates of slates scored by both
	Dropped     int64   `json:"dropped"`       // slates left out because the shadow was behind
	Failed      int64   `json:"failed"`        // slates that the candidate could not score
	MeanAbsDiff float64 `json:"mean_abs_diff"` // of P(Yes)
	SameFirst   float64 `json:"same_first"`    // share of slates with the same best item
	Slates      int64   `json:"slates"`        // slates compared
	ScoringMS   float64 `json:"mean_slate_ms"` // the candidate's time for a slate
}

// rollout is GET /v1/rollout and, on the admin address, POST. Both answer with the state of the
// trial.
func (s *Server) rollout(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Rollout == nil {
		return missing("a checkpoint", "name one: a rollout tries a new checkpoint beside the one in use")
	}
	if r.Method == http.MethodPost {
		var q RolloutRequest
		if err := s.decode(w, r, &q); err != nil {
			return err
		}
		if err := s.deps.Rollout.Change(r.Context(), q); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, s.deps.Rollout.Standing())
	return nil
}
