package rollout

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
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

// standing holds the checkpoints of a rollout and its mode. A change replaces it whole, so readers
// need no lock and never see a candidate with another one's share.
//
// The candidate is being tried. The previous checkpoint is kept loaded after a promotion, so that a
// rollback is a change of pointers and not a load.
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

// Rollout implements corastream.Arms and serve.Rollout, and corastream.Generator by the active
// checkpoint.
//
// changes is held for a whole change, loading included, which may take seconds. Answers do not wait
// for it: they load `now` once and use what it holds to their end. An answer under way at a change
// ends with the checkpoint it began with.
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
func New(d Deps, stage *generator.Stage, familiar *Familiarity) *Rollout {
	r := &Rollout{d: d}
	r.now.Store(&standing{active: &Trial{file: d.Checkpoint, stage: stage, familiar: familiar}, mode: ModeOff, since: time.Now()})
	r.shadow = newShadow(d.Scorer)
	return r
}

// Active is the checkpoint in use.
func (r *Rollout) Active() *Trial { return r.now.Load().active }

// Weights implements corastream.Generator by the active checkpoint.
func (r *Rollout) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	return r.now.Load().active.Weights(ctx, pairs)
}

// Arm implements corastream.Arms. The canary's users are those whose hash with its digest lies
// below the share. They are always the same ones, so a user's lists do not switch back and forth. A
// larger share adds users to them, and another checkpoint gets other users, so nobody is a guinea
// pig for all of them.
func (r *Rollout) Arm(user string) corastream.Arm {
	st := r.now.Load()
	name, t := "active", st.active
	if st.mode == ModeCanary && lot(st.candidate.stage.Version(), user) < st.share {
		name, t = ModeCanary, st.candidate
	}
	return corastream.Arm{Name: name, Generator: t, Versions: corastream.Versions{Generator: t.stage.Version(), LLM: r.d.LLM}}
}

// lot is a user's fixed number in [0, 1): the first 53 bits of a hash, as many as a float64 holds
// exactly.
func lot(digest, user string) float64 {
	sum := sha256.Sum256([]byte(digest + "\x00" + user))
	return float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53)
}

// Scored implements corastream.Arms. In shadow mode it offers what the active checkpoint has scored
// to the candidate. It runs in the path of an answer, so offer only queues.
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

// Forget drops what is kept of a user, for erasure: the last list, and the weights that any checkpoint made.
func (r *Rollout) Forget(user string) {
	r.lists.forget(user)
	st := r.now.Load()
	for _, t := range []*Trial{st.active, st.candidate, st.previous} {
		if t != nil {
			t.stage.Forget(user)
		}
	}
}

// Observe implements corastream.Monitor. It runs inside a commit, so it must not wait: it counts an
// event that follows a list, and hands the row to the candidate's monitor, which drops rows when
// its queue is full.
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

// Content implements corastream.Basis: all checkpoints of a rollout have the same basis, or the
// items' stored contents would mean something else to one of them. Each checkpoint still has its
// own idea of a familiar catalogue, so each notes the content.
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

// Change implements serve.Rollout. It works on a copy of the standing. The file that outlives a
// restart is written first and the copy is stored last, so a failure before that leaves everything
// as it was.
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

// set makes a standing hold, and gives a new candidate a monitor and fresh shadow figures of its
// own. Called with changes held, or before anyone else knows the Rollout.
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

// watchOver gives the candidate a monitor of its own; nil ends the one before. The old monitor is
// closed after the swap, so that Observe never meets a closed one. Closing waits up to 5 s for the
// rows in its queue.
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

// Close ends the shadow's goroutine and the candidate's monitor, and waits for both.
func (r *Rollout) Close() error {
	r.shadow.close()
	return closeMonitor(r.watch.Swap(nil))
}
