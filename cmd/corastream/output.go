package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/corastream/corastream/kernels"
)

func buildInfo() string {
	revision := ""
	if bi, ok := debug.ReadBuildInfo(); ok {
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" {
				revision = " " + s.Value
			}
		}
	}
	return fmt.Sprintf("corastream %s%s (%s, %s/%s, kernels %s)", version, revision, runtime.Version(), runtime.GOOS,
		runtime.GOARCH, kernels.Level())
}

// terminal says whether w is one that a person looks at.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// summary writes v as the last line: one JSON object where a program reads, indented where a person does.
func summary(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	if terminal(w) {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// progress shows how far a long piece of work is, with ETA: a bar on a terminal, a log line every ten seconds elsewhere.
type progress struct {
	log  zerolog.Logger
	what string
	mu   sync.Mutex
	bar  *progressbar.ProgressBar
	from time.Time
	last time.Time
	base int
	note string // shown beside the count
}

func newProgress(log zerolog.Logger, what string) *progress { return &progress{log: log, what: what} }

// Set says that done of total are done.
func (p *progress) Set(done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.from.IsZero() {
		p.from, p.last, p.base = now, now, done
	}
	if terminal(os.Stderr) {
		if p.bar == nil || p.bar.GetMax() != total {
			p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(p.what),
				progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
				progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
		}
		p.bar.Describe(strings.TrimSpace(p.what + " " + p.note))
		_ = p.bar.Set(done)
		return
	}
	if now.Sub(p.last) < 10*time.Second && done != total {
		return
	}
	p.last = now
	e := p.log.Info().Int("done", done).Int("total", total)
	if done > p.base && done < total {
		e = e.Stringer("eta", time.Duration(float64(now.Sub(p.from))*float64(total-done)/float64(done-p.base)).Round(time.Second))
	}
	if p.note != "" {
		e = e.Str("state", p.note)
	}
	e.Msg(p.what)
}

// say prints what a person reads: to standard output on a terminal, else to standard error, where it is out of a program's way.
func say(out io.Writer, text string) {
	if !terminal(out) {
		out = os.Stderr
	}
	fmt.Fprint(out, text)
}
