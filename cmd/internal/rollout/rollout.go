package rollout

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

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
)

// Config tries a new checkpoint beside the one in use. What POST /v1/rollout changes is kept in the data folder, and holds
// until this section or `checkpoint` changes.
type Config struct {
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

// Default tries nothing.
func Default() Config { return Config{Mode: ModeOff, Share: .05} }

const (
	ModeOff    = "off"
	ModeShadow = "shadow"
	ModeCanary = "canary"
)

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.Mode != ModeOff && c.Mode != ModeShadow && c.Mode != ModeCanary {
		errs = append(errs, corastream.Usagef("mode", "choose off, shadow or canary", "%q is not known", c.Mode))
	} else if c.Mode != ModeOff && c.Checkpoint == "" {
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

// Trial is one loaded checkpoint with counts of its lists and of the events that followed them.
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

// standing holds the checkpoints of a rollout and its mode. A change replaces it whole, so readers need no lock.
type standing struct {
	active, candidate, previous *Trial
	mode                        string
	share                       float64
	since                       time.Time
}

// Deps are the stages that a rollout tries checkpoints with.
type Deps struct {
	Config     Config
	Checkpoint string // the configured file
	Data       string // the folder that keeps a rollout over a restart

	Scorer corastream.Scorer // the frozen LLM
	LLM    string            // its digest
	Store  interface {
		View(ctx context.Context, read func(corastream.State) error) error
	}
	// Open opens a checkpoint's file for the LLM, the CF model and the content basis in use.
	Open func(path, basis string) (*generator.Stage, error)
	// Watch makes a monitor that judges a candidate.
	Watch func(candidate corastream.Generator) (*replay.Monitor, error)
	// Monitor judges the active checkpoint; nil while it is not open.
	Monitor func() *replay.Monitor
	Log     zerolog.Logger
}

// Rollout implements corastream.Arms and serve.Rollout, and corastream.Generator by the active checkpoint.
type Rollout struct {
	d       Deps
	changes sync.Mutex // one at a time
	now     atomic.Pointer[standing]
	shadow  *shadow
	watch   atomic.Pointer[replay.Monitor] // judges the candidate
	lists   lastLists
}

var (
	_ corastream.Arms      = (*Rollout)(nil)
	_ corastream.Generator = (*Rollout)(nil)
	_ serve.Rollout        = (*Rollout)(nil)
)

// New puts the opened checkpoint in use.
func New(d Deps, stage *generator.Stage, gate *Familiarity) *Rollout {
	r := &Rollout{d: d}
	r.now.Store(&standing{active: &Trial{file: d.Checkpoint, stage: stage, familiar: gate}, mode: ModeOff, since: time.Now()})
	r.shadow = newShadow(d.Scorer)
	return r
}

// Active is the checkpoint in use.
func (r *Rollout) Active() *Trial { return r.now.Load().active }

// NewTrial is a checkpoint in use where nothing runs that could try another one.
func NewTrial(file string, stage *generator.Stage, gate *Familiarity) *Trial {
	return &Trial{file: file, stage: stage, familiar: gate}
}

// Familiarity says whether the catalogue is like the one that the checkpoint was trained on.
func (t *Trial) Familiarity() *Familiarity { return t.familiar }

// Stage makes the checkpoint's weights.
func (t *Trial) Stage() *generator.Stage { return t.stage }

// Weights implements corastream.Generator by the active checkpoint.
func (r *Rollout) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	return r.now.Load().active.Weights(ctx, pairs)
}

// Arm implements corastream.Arms. The canary's users are those whose hash with its digest lies below the share: always the same
// ones, more of them when the share grows, and others for another checkpoint.
func (r *Rollout) Arm(user string) corastream.Arm {
	st := r.now.Load()
	name, t := "active", st.active
	if st.mode == ModeCanary && lot(st.candidate.stage.Version(), user) < st.share {
		name, t = ModeCanary, st.candidate
	}
	return corastream.Arm{Name: name, Generator: t, Versions: corastream.Versions{Generator: t.stage.Version(), LLM: r.d.LLM}}
}

// lot is a user's place in [0, 1).
func lot(digest, user string) float64 {
	sum := sha256.Sum256([]byte(digest + "\x00" + user))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// Scored implements corastream.Arms.
func (r *Rollout) Scored(arm string, pairs []corastream.Pair, prompts []corastream.Prompt, logits []corastream.Logits) {
	if st := r.now.Load(); st.mode == ModeShadow && arm == "active" {
		r.shadow.offer(st.candidate, pairs, prompts, logits)
	}
}

// Published counts recommendations by checkpoint, and remembers each user's list so that Observe can attribute later events.
func (r *Rollout) Published(recs []corastream.Recommendation) {
	st := r.now.Load()
	for _, rec := range recs {
		for _, t := range []*Trial{st.active, st.candidate} {
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
func (r *Rollout) Observe(ev corastream.Event, before corastream.Pair, user *corastream.UserState) {
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
func (r *Rollout) Content(s corastream.States) ([]float32, error) {
	st := r.now.Load()
	c, err := st.active.familiar.Content(s)
	for _, t := range []*Trial{st.candidate, st.previous} {
		if err == nil && t != nil {
			t.familiar.Note(c)
		}
	}
	return c, err
}

// Change implements serve.Rollout.
func (r *Rollout) Change(ctx context.Context, c serve.RolloutRequest) error {
	r.changes.Lock()
	defer r.changes.Unlock()
	st := *r.now.Load()
	switch c.Action {
	case ModeShadow, ModeCanary:
		if c.Action == ModeCanary {
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
		st.previous, st.active, st.candidate, st.mode, st.share = st.active, st.candidate, nil, ModeOff, 0
	case "rollback":
		switch {
		case st.candidate != nil:
			st.candidate, st.mode, st.share = nil, ModeOff, 0
		case st.previous != nil:
			st.active, st.previous = st.previous, nil // asked twice, it must not bring back what was just taken away
		default:
			return corastream.Usagef("action", "begin with shadow or canary", "nothing is being tried, and nothing was promoted")
		}
	default:
		return corastream.Usagef("action", "choose shadow, canary, promote or rollback", "%.40q is not known", c.Action)
	}
	if c.Checkpoint != "" && c.Action != ModeShadow && c.Action != ModeCanary {
		return corastream.Usagef("checkpoint", "leave it out", "%s is about what is being tried", c.Action)
	}
	if err := r.keep(&st); err != nil {
		return fmt.Errorf("keep the rollout: %w", err)
	}
	return r.set(&st, c.Action)
}

// set makes a standing hold, and watches a new candidate.
func (r *Rollout) set(st *standing, action string) error {
	old := r.now.Load()
	st.since = time.Now()
	if st.candidate != old.candidate {
		if err := r.watchOver(st.candidate); err != nil {
			return err
		}
		r.shadow.reset()
	}
	r.now.Store(st)
	event := r.d.Log.Info().Str("action", action).Str("mode", st.mode).Float64("share", st.share).Str("active", st.active.stage.Version())
	if st.candidate != nil {
		event = event.Str("candidate", st.candidate.stage.Version())
	}
	event.Msg("rollout")
	return nil
}

// watchOver gives the candidate a monitor of its own; nil ends the one before.
func (r *Rollout) watchOver(t *Trial) error {
	var next *replay.Monitor
	if t != nil {
		var err error
		if next, err = r.d.Watch(t); err != nil {
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
func (r *Rollout) find(name string) (string, error) {
	dir := r.d.Config.Dir
	if dir == "" {
		dir = filepath.Dir(r.d.Checkpoint)
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
func (r *Rollout) load(ctx context.Context, path string) (*Trial, error) {
	stage, err := r.d.Open(path, r.Active().stage.Checkpoint().Basis.Digest())
	if err != nil {
		return nil, err
	}
	t := &Trial{file: path, stage: stage, familiar: &Familiarity{stage: stage}}
	return t, r.d.Store.View(ctx, t.familiar.Fill)
}

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

func (r *Rollout) configured() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %+v", r.d.Checkpoint, r.d.Config))
	return fmt.Sprintf("%x", sum[:8])
}

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

// Begin restores the standing that POST /v1/rollout left, or takes the configured one.
func (r *Rollout) Begin(ctx context.Context) error {
	cfg, st := r.d.Config, *r.now.Load()
	k := kept{Mode: cfg.Mode, Share: cfg.Share, Active: r.d.Checkpoint, Candidate: cfg.Checkpoint}
	if cfg.Mode == ModeOff {
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

// Close ends the shadow's goroutine and the candidate's monitor, and waits for both.
func (r *Rollout) Close() error {
	r.shadow.close()
	return closeMonitor(r.watch.Swap(nil))
}

// Standing implements serve.Rollout.
func (r *Rollout) Standing() serve.RolloutStatus {
	st := r.now.Load()
	out := serve.RolloutStatus{Mode: st.mode, Share: st.share, Since: st.since.UTC(), Active: st.active.status(r.d.Monitor()), Previous: st.previous.status(nil)}
	if out.Candidate = st.candidate.status(r.watch.Load()); st.mode == ModeShadow {
		out.Shadow = r.shadow.figures()
	}
	return out
}

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
		if auc := float64(f.WindowCora); !math.IsNaN(auc) {
			out.AUC, out.AUCRows = &auc, f.WindowRows
		}
	}
	return out
}

// Gauges are the figures of each arm, on /metrics and the dashboard.
func (r *Rollout) Gauges() (out []serve.Gauge) {
	st := r.now.Load()
	for name, t := range map[string]*Trial{"active": st.active, "canary": st.candidate} {
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

// Fact is the line of the rollout on the dashboard.
func (r *Rollout) Fact() serve.Fact {
	st := r.now.Load()
	switch {
	case st.mode == ModeShadow:
		f := r.shadow.figures()
		return serve.Fact{Name: "rollout", Value: fmt.Sprintf("%s shadows: %d slates, %.0f %% with the same best item", st.candidate.stage.Version()[:12], f.Slates, 100*f.SameFirst)}
	case st.mode == ModeCanary:
		return serve.Fact{Name: "rollout", Value: fmt.Sprintf("%s answers %.3g %% of the users", st.candidate.stage.Version()[:12], 100*st.share)}
	case st.previous != nil:
		return serve.Fact{Name: "rollout", Value: fmt.Sprintf("promoted %s; %s can come back", st.since.UTC().Format(time.DateTime), st.previous.stage.Version()[:12])}
	}
	return serve.Fact{Name: "rollout", Value: "nothing is being tried"}
}
