package main

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
)

// RolloutConfig tries a new checkpoint beside the one in use. What POST /v1/rollout changes is kept in the data folder, and holds
// until this section or `checkpoint` changes.
type RolloutConfig struct {
	// Mode is off, shadow (the new checkpoint scores what the active one answers, unseen) or canary (it answers Share of the
	// users, always the same ones). Default off.
	Mode string `yaml:"mode"`
	// Checkpoint is the new one's file. It must be made for the same LLM, prompts, CF and content basis. Default none.
	Checkpoint string `yaml:"checkpoint"`
	// Share of the users that a canary answers. Default 0.05, over 0 and below 1.
	Share float64 `yaml:"share"`
	// Dir is where POST /v1/rollout finds files by name. Default: the folder of `checkpoint`.
	Dir string `yaml:"dir"`
}

// DefaultRollout tries nothing.
func DefaultRollout() RolloutConfig { return RolloutConfig{Mode: modeOff, Share: .05} }

const (
	modeOff    = "off"
	modeShadow = "shadow"
	modeCanary = "canary"
)

// Validate reports all problems at once.
func (c RolloutConfig) Validate() error {
	var errs []error
	if c.Mode != modeOff && c.Mode != modeShadow && c.Mode != modeCanary {
		errs = append(errs, corastream.Usagef("mode", "choose off, shadow or canary", "%q is not known", c.Mode))
	} else if c.Mode != modeOff && c.Checkpoint == "" {
		errs = append(errs, corastream.Usagef("checkpoint", "name the new checkpoint's file", "%s of nothing", c.Mode))
	}
	return errors.Join(append(errs, checkShare(c.Share))...)
}

func checkShare(share float64) error {
	if !(share > 0 && share < 1) {
		return corastream.Usagef("share", "choose a share over 0 and below 1; promote answers everybody", "%v is out of range", share)
	}
	return nil
}

// trial is one loaded checkpoint and what it did.
type trial struct {
	file  string
	stage *generator.Stage
	gate  *gate

	recommendations, items, followed, liked atomic.Int64
	scoreMicro                              atomic.Int64 // the sum of scores, in millionths
}

// Weights implements corastream.Generator.
func (t *trial) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	return t.gate.Weights(ctx, pairs)
}

// PerPair says that the checkpoint has no user's part.
func (t *trial) PerPair() bool { return t.stage.Checkpoint().Model.Spec.PerPair() }

// standing is how a rollout stands; it is replaced whole.
type standing struct {
	active, candidate, previous *trial
	mode                        string
	share                       float64
	since                       time.Time
}

// rollout implements corastream.Arms, serve.Rollout, and corastream.Generator for whatever is active.
type rollout struct {
	e       *engine
	changes sync.Mutex // one at a time
	now     atomic.Pointer[standing]
	shadow  *shadow
	watch   atomic.Pointer[replay.Monitor] // judges the candidate
	lists   lastLists
}

var (
	_ corastream.Arms      = (*rollout)(nil)
	_ corastream.Generator = (*rollout)(nil)
	_ serve.Rollout        = (*rollout)(nil)
)

// active is the checkpoint in use, also where nothing runs that could try another one.
func (e *engine) active() *trial {
	if e.rollout != nil {
		return e.rollout.now.Load().active
	}
	return &trial{file: e.cfg.Checkpoint, stage: e.stage, gate: e.gate}
}

// newRollout puts the engine's checkpoint in use.
func newRollout(e *engine) *rollout {
	r := &rollout{e: e}
	r.now.Store(&standing{active: &trial{file: e.cfg.Checkpoint, stage: e.stage, gate: e.gate}, mode: modeOff, since: time.Now()})
	r.shadow = newShadow(e.llm)
	return r
}

// Weights implements corastream.Generator by the active checkpoint.
func (r *rollout) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	return r.now.Load().active.Weights(ctx, pairs)
}

// Arm implements corastream.Arms. The canary's users are those whose hash with its digest lies below the share: always the same
// ones, more of them when the share grows, and others for another checkpoint.
func (r *rollout) Arm(user string) corastream.Arm {
	st := r.now.Load()
	name, t := "active", st.active
	if st.mode == modeCanary && lot(st.candidate.stage.Version(), user) < st.share {
		name, t = modeCanary, st.candidate
	}
	return corastream.Arm{Name: name, Generator: t, Versions: corastream.Versions{Generator: t.stage.Version(), LLM: r.e.llm.Digest()}}
}

// lot is a user's place in [0, 1).
func lot(digest, user string) float64 {
	sum := sha256.Sum256([]byte(digest + "\x00" + user))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// Scored implements corastream.Arms.
func (r *rollout) Scored(arm string, pairs []corastream.Pair, prompts []corastream.Prompt, logits []corastream.Logits) {
	if st := r.now.Load(); st.mode == modeShadow && arm == "active" {
		r.shadow.offer(st.candidate, pairs, prompts, logits)
	}
}

// published counts what went out, and remembers each user's list for what follows on it.
func (r *rollout) published(recs []corastream.Recommendation) {
	st := r.now.Load()
	for _, rec := range recs {
		for _, t := range []*trial{st.active, st.candidate} {
			if t == nil || rec.Versions.Generator != t.stage.Version() {
				continue
			}
			t.recommendations.Add(1)
			t.items.Add(int64(len(rec.Items)))
			for _, it := range rec.Items {
				t.scoreMicro.Add(int64(it.Score * 1e6))
			}
			r.lists.put(rec.User, t, rec.Items)
			break
		}
	}
}

// Observe implements corastream.Monitor.
func (r *rollout) Observe(ev corastream.Event, before corastream.Pair, user *corastream.UserState) {
	if t := r.lists.of(ev.User, ev.Item); t != nil {
		t.followed.Add(1)
		if ev.Positive() {
			t.liked.Add(1)
		}
	}
	if m := r.watch.Load(); m != nil {
		m.Observe(ev, before, user)
	}
}

// Content implements corastream.Basis: all checkpoints of a rollout have the same one.
func (r *rollout) Content(s corastream.States) ([]float32, error) {
	st := r.now.Load()
	c, err := st.active.gate.Content(s)
	for _, t := range []*trial{st.candidate, st.previous} {
		if err == nil && t != nil {
			t.gate.note(c)
		}
	}
	return c, err
}

// Change implements serve.Rollout.
func (r *rollout) Change(ctx context.Context, c serve.RolloutRequest) error {
	r.changes.Lock()
	defer r.changes.Unlock()
	st := *r.now.Load()
	switch c.Action {
	case modeShadow, modeCanary:
		if c.Action == modeCanary {
			if err := checkShare(c.Share); err != nil {
				return err
			}
		} else if c.Share != 0 {
			return corastream.Usagef("share", "leave it out", "a shadow answers nobody")
		}
		if c.Checkpoint != "" {
			path, err := r.find(c.Checkpoint)
			if err != nil {
				return err
			}
			if st.candidate, err = r.load(ctx, path); err != nil {
				return err
			}
		}
		if st.candidate == nil {
			return corastream.Usagef("checkpoint", "name the new checkpoint's file", "nothing is being tried")
		}
		st.mode, st.share = c.Action, c.Share
	case "promote":
		if st.candidate == nil {
			return corastream.Usagef("action", "begin with shadow or canary", "nothing is being tried")
		}
		st.previous, st.active, st.candidate, st.mode, st.share = st.active, st.candidate, nil, modeOff, 0
	case "rollback":
		switch {
		case st.candidate != nil:
			st.candidate, st.mode, st.share = nil, modeOff, 0
		case st.previous != nil:
			st.active, st.previous = st.previous, nil // asked twice, it must not bring back what was just taken away
		default:
			return corastream.Usagef("action", "begin with shadow or canary", "nothing is being tried, and nothing was promoted")
		}
	default:
		return corastream.Usagef("action", "choose shadow, canary, promote or rollback", "%.40q is not known", c.Action)
	}
	if c.Checkpoint != "" && c.Action != modeShadow && c.Action != modeCanary {
		return corastream.Usagef("checkpoint", "leave it out", "%s is about what is being tried", c.Action)
	}
	if err := r.keep(&st); err != nil {
		return fmt.Errorf("keep the rollout: %w", err)
	}
	return r.set(&st, c.Action)
}

// set makes a standing hold, and watches a new candidate.
func (r *rollout) set(st *standing, action string) error {
	old := r.now.Load()
	st.since = time.Now()
	if st.candidate != old.candidate {
		if err := r.watchOver(st.candidate); err != nil {
			return err
		}
		r.shadow.reset()
	}
	r.now.Store(st)
	event := r.e.log.Info().Str("action", action).Str("mode", st.mode).Float64("share", st.share).Str("active", st.active.stage.Version())
	if st.candidate != nil {
		event = event.Str("candidate", st.candidate.stage.Version())
	}
	event.Msg("rollout")
	return nil
}

// watchOver gives the candidate a monitor of its own; nil ends the one before.
func (r *rollout) watchOver(t *trial) error {
	var next *replay.Monitor
	if t != nil {
		bias, err := newCF(r.e.cfg, replay.Bias)
		if err != nil {
			return err
		}
		if next, err = replay.NewMonitor(replay.DefaultMonitor(), replay.MonitorDeps{
			Bias: bias, Generator: t, Scorer: r.e.llm, Prompt: r.e.catalogue.prompt, Warn: r.e.pipeline.Warn,
		}); err != nil {
			return err
		}
		next.Start()
	}
	return closeMonitor(r.watch.Swap(next))
}

func closeMonitor(m *replay.Monitor) error {
	if m == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return m.Close(ctx)
}

// find looks a name up in the rollout's folder: a caller names no paths.
func (r *rollout) find(name string) (string, error) {
	dir := r.e.cfg.Rollout.Dir
	if dir == "" {
		dir = filepath.Dir(r.e.cfg.Checkpoint)
	}
	if name != filepath.Base(name) || name == "." || name == ".." {
		return "", corastream.Usagef("checkpoint", "name a file of rollout.dir, without a folder", "%.80q is no file name", name)
	}
	path := filepath.Join(dir, name)
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return "", corastream.Usagef("checkpoint", "put it into rollout.dir first", "there is no file %.80q", name)
	}
	return path, nil
}

// load opens a checkpoint that fits all that is running, the content basis too: items were projected by it.
func (r *rollout) load(ctx context.Context, path string) (*trial, error) {
	w := want(r.e.llm, r.e.cfg.CF)
	w.Basis = r.now.Load().active.stage.Checkpoint().Basis.Digest()
	ck, err := generator.Open(path, w)
	if err != nil {
		return nil, corastream.Usagef("checkpoint", "train one for this LLM, these prompts and this CF, with `--basis` of the active checkpoint", "%v", err)
	}
	stage, err := newStage(ck, r.e.cfg.Generator, r.e.llm, r.e.log)
	if err != nil {
		return nil, err
	}
	t := &trial{file: path, stage: stage, gate: &gate{stage: stage}}
	return t, r.e.store.View(ctx, t.gate.fill)
}

// kept is the file that outlives a restart.
type kept struct {
	Config    string  `json:"config"` // a digest of what the configuration said: when that changes, it holds again
	Mode      string  `json:"mode"`
	Share     float64 `json:"share"`
	Active    string  `json:"active"`
	Candidate string  `json:"candidate,omitempty"`
	Previous  string  `json:"previous,omitempty"`
}

func (r *rollout) keptPath() string { return filepath.Join(r.e.cfg.Data, "rollout.json") }

func (r *rollout) configured() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %+v", r.e.cfg.Checkpoint, r.e.cfg.Rollout))
	return fmt.Sprintf("%x", sum[:8])
}

func (r *rollout) keep(st *standing) error {
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

// begin takes up what POST /v1/rollout left, or what the configuration says.
func (r *rollout) begin(ctx context.Context) error {
	cfg, st := r.e.cfg.Rollout, *r.now.Load()
	k := kept{Mode: cfg.Mode, Share: cfg.Share, Active: r.e.cfg.Checkpoint, Candidate: cfg.Checkpoint}
	if cfg.Mode == modeOff {
		k.Candidate = ""
	}
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
		r.e.log.Info().Str("file", r.keptPath()).Msg("the rollout goes on as it was left")
	default:
		r.e.log.Info().Str("file", r.keptPath()).Msg("the configuration has changed since: it holds again")
	}
	for _, x := range []struct {
		file string
		at   **trial
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

// close ends what runs beside.
func (r *rollout) close() error {
	r.shadow.close()
	return closeMonitor(r.watch.Swap(nil))
}

// Standing implements serve.Rollout.
func (r *rollout) Standing() serve.RolloutStatus {
	st := r.now.Load()
	out := serve.RolloutStatus{Mode: st.mode, Share: st.share, Since: st.since.UTC(), Active: st.active.status(r.e.monitor), Previous: st.previous.status(nil)}
	if out.Candidate = st.candidate.status(r.watch.Load()); st.mode == modeShadow {
		out.Shadow = r.shadow.figures()
	}
	return out
}

func (t *trial) status(m *replay.Monitor) *serve.TrialStatus {
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
		if auc := float64(f.WindowCora); !math.IsNaN(auc) {
			out.AUC, out.AUCRows = &auc, f.WindowRows
		}
	}
	return out
}

// gauges are the figures of each arm, on /metrics and the dashboard.
func (r *rollout) gauges() (out []serve.Gauge) {
	st := r.now.Load()
	for name, t := range map[string]*trial{"active": st.active, "canary": st.candidate} {
		if t == nil {
			continue
		}
		arm := map[string]string{"arm": name}
		out = append(out,
			serve.Gauge{Name: "arm_recommendations", Help: "Recommendations published, by arm, since its checkpoint was loaded.", Labels: arm, Value: float64(t.recommendations.Load())},
			serve.Gauge{Name: "arm_followed", Help: "Events on an item of the user's last list, by the arm that made it.", Labels: arm, Value: float64(t.followed.Load())},
			serve.Gauge{Name: "arm_liked", Help: "Those of them that liked it.", Labels: arm, Value: float64(t.liked.Load())})
	}
	return append(out, serve.Gauge{Name: "canary_share", Help: "Share of the users that the canary answers.", Value: st.share})
}

// fact is the dashboard's line.
func (r *rollout) fact() serve.Fact {
	st := r.now.Load()
	switch {
	case st.mode == modeShadow:
		f := r.shadow.figures()
		return serve.Fact{Name: "rollout", Value: fmt.Sprintf("%s shadows: %d slates, %.0f %% with the same best item", st.candidate.stage.Version()[:12], f.Slates, 100*f.SameFirst)}
	case st.mode == modeCanary:
		return serve.Fact{Name: "rollout", Value: fmt.Sprintf("%s answers %.3g %% of the users", st.candidate.stage.Version()[:12], 100*st.share)}
	case st.previous != nil:
		return serve.Fact{Name: "rollout", Value: fmt.Sprintf("promoted %s; %s can come back", st.since.UTC().Format(time.DateTime), st.previous.stage.Version()[:12])}
	}
	return serve.Fact{Name: "rollout", Value: "nothing is being tried"}
}
