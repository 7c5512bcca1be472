package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/serve"
	"github.com/corastream/corastream/store"
)

// life is one process: from the opening of the store to its death or its orderly end.
type life struct {
	*schedule
	w     *world
	store *store.Store
	ctx   context.Context
	last  bool // nothing fails any more, and all has to be done in the end
	ended bool
	err   error
}

func (w *world) count(what string) { w.counts[what]++ }

// fail reports a broken promise with all that is needed to see it again.
func (l *life) fail(format string, args ...any) { l.w.fail(format, args...) }

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("seed %d: %s\nthe last steps:\n%s\nto see it again: CORASTREAM_SEED=%d CORASTREAM_EVENTS=%d CORASTREAM_TRACE=trace.txt go test ./cmd/simulation -count=1 -run 'TestSimulation$' -v",
		w.seed, fmt.Sprintf(format, args...), join(w.tail), w.seed, w.n+w.left)
}

func join(lines []string) (out string) {
	for _, l := range lines {
		out += "  " + l + "\n"
	}
	return out
}

// storeConfig is small, so that Badger flushes and compacts within a short run.
func storeConfig(w *world) store.Config {
	c := store.Default()
	c.MemoryLimit, c.ReserveBytes, c.SyncWrites = 32<<20, 32<<20, false
	c.HistoryLimit, c.DedupeLimit = 16384, 65536
	c.MaxDirty = 16 + int(w.seed*37%200) // small: big batches become several transactions
	return c
}

// live runs one process. It returns false when the world is done.
func (w *world) live(last bool) (over bool) {
	w.dirs++
	copied := filepath.Join(filepath.Dir(w.dir), fmt.Sprint("store-", w.dirs))
	killed := false
	synctest.Test(w.t, func(t *testing.T) {
		l := &life{schedule: &schedule{w: w}, w: w, last: last}
		var err error
		if l.store, err = store.Open(w.dir, storeConfig(w), store.WithDerived(new(toldList)), store.WithClock(func() time.Time { return w.now })); err != nil {
			t.Fatalf("seed %d: open: %v", w.seed, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		l.ctx = ctx
		p := l.pipeline()
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.err = p.Run(ctx)
			l.mu.Lock()
			l.ended = true
			l.mu.Unlock()
		}()
		killed = l.drive(copied)
		cancel()
		<-done
		if err := l.store.Close(); err != nil {
			t.Errorf("seed %d: close: %v", w.seed, err)
		}
		over = last
		if !killed {
			l.orderly()
		}
	})
	if killed {
		if err := os.RemoveAll(w.dir); err != nil {
			w.t.Fatal(err)
		}
		w.dir = copied
	}
	return over
}

// pipeline wires the real pipeline to the stages of this world, as cmd/corastream does.
func (l *life) pipeline() *corastream.Pipeline {
	w := l.w
	cf, err := cfstream.New(w.cf)
	if err != nil {
		w.t.Fatal(err)
	}
	retriever := serve.NewRetriever(serve.DefaultRetrieverConfig(), cf, cf.Demand)
	if err := l.store.View(l.ctx, retriever.Rebuild); err != nil {
		w.t.Fatalf("seed %d: index: %v", w.seed, err)
	}
	config := corastream.DefaultPipelineConfig()
	config.Candidates, config.Items, config.RecommendBatch, config.ReadBatch = 5, 3, 1+int(w.seed%16), 1+int(w.seed%7)
	m := model{l}
	p := &corastream.Pipeline{
		Config: config, Source: l.newSource(), Store: disk{l, l.store}, Learner: cf, Predictor: cf, Retriever: retriever,
		Generator: m, Scorer: m, Sink: topics{l}, DeadLetters: topics{l},
		Versions: corastream.Versions{Generator: "sim", LLM: "sim"}, Now: func() time.Time { return w.now },
	}
	if w.cf.Kind == "hybrid" {
		p.Encoder, p.Basis = m, m
	}
	return p
}

// drive is the scheduler's loop. It returns true when it has killed the process, whose folder was copied as it was.
func (l *life) drive(copied string) (killed bool) {
	w := l.w
	for {
		l.settle()
		l.mu.Lock()
		ended := l.ended
		l.mu.Unlock()
		l.promises()
		if ended {
			return false
		}
		w.steps++
		w.pass(time.Duration(w.rng.IntN(20)) * time.Millisecond)
		if !l.last && w.chance(w.mix.clock) { // the process's clock is set, forwards or back
			w.now = w.now.Add(time.Duration(w.rng.Int64N(int64(4*time.Minute))) - 2*time.Minute)
			w.count("clock set")
		}
		if w.left > 0 && w.rng.IntN(8) == 0 {
			for range min(w.left, 1+w.rng.IntN(w.mix.batch)) {
				w.produce()
			}
		}
		if !l.last && w.chance(w.mix.kill) {
			w.note("killed")
			w.count("kills")
			if err := copyFolder(w.dir, copied); err != nil {
				w.t.Fatal(err)
			}
			l.kill()
			return true
		}
		st := l.next()
		if st == nil {
			if w.left > 0 {
				continue
			}
			if !l.last { // all is done and this process could still be hurt: the next one ends the world
				w.note("idle")
				l.kill()
				return false
			}
			l.fail("nobody can go on, and the pipeline has not ended")
			l.kill()
			return false
		}
		w.note("%s: %s", st.who, st.what)
		l.release(st)
	}
}

// alone says that learning is all that could go on: nobody is owed anything and nothing waits to be read. It ends a run
// only then, so that the end of the log does not race with a wake-up.
func (l *life) alone() bool { return len(l.at) == 1 }

// promises holds after every step what must hold at all times.
func (l *life) promises() {
	w := l.w
	for _, p := range w.parts {
		mark, _, err := l.store.Next(p)
		if err != nil {
			l.fail("watermark of %v: %v", p, err)
		}
		if mark < w.marks[p] || mark > int64(len(w.log[p])) {
			l.fail("the watermark of %v went from %d to %d, the log ends at %d", p, w.marks[p], mark, len(w.log[p]))
		}
		w.marks[p] = mark
		for bad := w.badAt[p]; w.checked[p] < len(bad) && bad[w.checked[p]] < mark; w.checked[p]++ {
			pos := corastream.Position{Topic: p.Topic, Partition: p.ID, Offset: bad[w.checked[p]]}
			if w.letters[pos] != w.bad[pos] {
				l.fail("the watermark has passed %v, which is bad (%s), and its letter says %q", pos, w.bad[pos], w.letters[pos])
			}
		}
	}
}

// orderly judges how a process ended by itself.
func (l *life) orderly() {
	w := l.w
	why := l.err
	if l.cause != nil {
		why = l.cause
	}
	w.note("ended: %s", kind(why))
	w.count("ended: " + kind(why))
	if l.last && l.err != nil {
		l.fail("the last process ended with %v", l.err)
	}
	if l.err != nil && !errors.Is(l.err, errInjected) && !errors.Is(l.err, corastream.ErrGap) && !errors.Is(l.err, errKilled) {
		l.fail("a process ended with %v", l.err)
	}
}

func kind(err error) string {
	switch {
	case err == nil:
		return "well"
	case errors.Is(err, corastream.ErrGap):
		return "gap"
	case errors.Is(err, errKilled):
		return "stopped"
	case errors.Is(err, errInjected):
		return "injected failure"
	}
	return "error"
}

// copyFolder copies what a dead process leaves: the files as the kernel has them, holes as holes.
func copyFolder(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		dst := filepath.Join(to, path[len(from):])
		if d.IsDir() {
			return os.MkdirAll(dst, 0o700)
		}
		if d.Name() == "LOCK" {
			return nil
		}
		return copyFile(path, dst)
	})
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	block, zero := make([]byte, 64<<10), make([]byte, 64<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(src, block)
		if n > 0 && string(block[:n]) != string(zero[:n]) {
			if _, err := dst.WriteAt(block[:n], at); err != nil {
				return err
			}
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return dst.Truncate(at)
		}
		if err != nil {
			return err
		}
	}
}
