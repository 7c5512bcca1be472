package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// kept is the content of rollout.json, which outlives a restart.
type kept struct {
	Config    string  `json:"config"` // a digest of what the configuration said: when that changes, it holds again
	Mode      string  `json:"mode"`
	Share     float64 `json:"share"`
	Active    string  `json:"active"`
	Candidate string  `json:"candidate,omitempty"`
	Previous  string  `json:"previous,omitempty"`
}

func (r *Rollout) keptPath() string { return filepath.Join(r.d.Data, "rollout.json") }

// configured is a digest of what the configuration says about checkpoints. The kept standing is for
// that configuration alone: an operator who changes the file means the file.
func (r *Rollout) configured() string {
	// Builds before had three more keys in the section. The digest has their defaults, so that a standing of such a build holds.
	sum := sha256.Sum256(fmt.Appendf(nil, "%q {Mode:off Checkpoint: Share:0.05 Dir:%s}", r.d.Checkpoint, r.d.Config.Dir))
	return fmt.Sprintf("%x", sum[:8])
}

// keep writes rollout.json whole (generator.WriteFile renames), so that a kill leaves the old
// standing or the new one.
func (r *Rollout) keep(st *standing) error {
	k := kept{Config: r.configured(), Mode: st.mode, Share: st.share, Active: st.active.file}
	if st.candidate != nil {
		k.Candidate = st.candidate.file
	}
	if st.previous != nil {
		k.Previous = st.previous.file
	}
	b, err := json.Marshal(k)
	if err != nil {
		return err
	}
	return generator.WriteFile(r.keptPath(), b)
}

// Begin restores the standing that POST /v1/rollout left, or begins with the configured checkpoint
// alone. A checkpoint that can not be loaded any more is an error, since answering with another one
// without a word would falsify the trial.
func (r *Rollout) Begin(ctx context.Context) error {
	st := *r.now.Load()
	k := kept{Mode: ModeOff, Active: r.d.Checkpoint}
	b, err := os.ReadFile(r.keptPath())
	var was kept
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case json.Unmarshal(b, &was) != nil:
		return corastream.Usagef(r.keptPath(), "remove it: the configuration holds then", "it is no rollout's file")
	case was.Config == r.configured():
		k = was
		r.d.Log.Info().Str("file", r.keptPath()).Msg("the rollout goes on as it was left")
	default:
		r.d.Log.Info().Str("file", r.keptPath()).Msg("the configuration has changed since: it holds again")
	}
	for _, x := range []struct {
		file string
		at   **Trial
	}{{k.Active, &st.active}, {k.Candidate, &st.candidate}, {k.Previous, &st.previous}} {
		if x.file == "" || *x.at != nil && (*x.at).file == x.file {
			continue
		}
		if *x.at, err = r.load(ctx, x.file); err != nil {
			return fmt.Errorf("rollout: %s: %w", x.file, err)
		}
	}
	st.mode, st.share = k.Mode, k.Share
	return r.set(&st, "start")
}
