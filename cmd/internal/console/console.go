package console

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// IsTerminal says whether w is one that a person looks at.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Summary writes v as the last line: one JSON object where a program reads, indented where a person does.
func Summary(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	if IsTerminal(w) {
		enc.SetIndent("", "  ")
	}
	return enc.Encode(v)
}

// Progress shows how far a long piece of work is, with ETA: a bar on a terminal, a log line every ten seconds elsewhere.
type Progress struct {
	log  zerolog.Logger
	what string
	mu   sync.Mutex
	bar  *progressbar.ProgressBar
	pace Pace
	last time.Time
	Note string // shown beside the count
}

func NewProgress(log zerolog.Logger, what string) *Progress { return &Progress{log: log, what: what} }

// Pace is how fast a piece of work goes: what has been done since it began.
type Pace struct {
	from time.Time
	base int
}

// NewPace begins at a moment, with so much done already.
func NewPace(done int, now time.Time) Pace { return Pace{now, done} }

// Left is the time until all is done if it goes on as so far; not known before anything has been done.
func (p Pace) Left(done, total int, now time.Time) (left time.Duration, known bool) {
	if done <= p.base {
		return 0, false
	}
	return time.Duration(float64(now.Sub(p.from)) * float64(total-done) / float64(done-p.base)), true
}

// PerS is how much has been done a second; 0 before anything has been done.
func (p Pace) PerS(done int, now time.Time) float64 {
	if d := now.Sub(p.from).Seconds(); d > 0 && done > p.base {
		return float64(done-p.base) / d
	}
	return 0
}

// Set says that done of total are done.
func (p *Progress) Set(done, total int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.pace.from.IsZero() {
		p.pace, p.last = NewPace(done, now), now
	}
	if IsTerminal(os.Stderr) {
		if p.bar == nil || p.bar.GetMax() != total {
			p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(p.what),
				progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true), progressbar.OptionThrottle(100*time.Millisecond),
				progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
		}
		p.bar.Describe(strings.TrimSpace(p.what + " " + p.Note))
		_ = p.bar.Set(done)
		return
	}
	if now.Sub(p.last) < 10*time.Second && done != total {
		return
	}
	p.last = now
	e := p.log.Info().Int("done", done).Int("total", total)
	if left, known := p.pace.Left(done, total, now); known && done < total {
		e = e.Stringer("eta", left.Round(time.Second))
	}
	if p.Note != "" {
		e = e.Str("state", p.Note)
	}
	e.Msg(p.what)
}

// Say prints what a person reads: to standard output on a terminal, else to standard error, where it is out of a program's way.
func Say(out io.Writer, text string) {
	if !IsTerminal(out) {
		out = os.Stderr
	}
	fmt.Fprint(out, text)
}

func Millis(d time.Duration) float64 { return math.Round(float64(d)/1e4) / 100 }

func Round4(n float64) float64 { return math.Round(n*1e4) / 1e4 }

func JSONLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}
