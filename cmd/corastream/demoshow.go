package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
)

// shown prints a recommendation now and then on its way to the broker.
type shown struct {
	corastream.Sink
	d     *demo
	state corastream.Store
	began time.Time
}

// Publish implements corastream.Sink.
func (s shown) Publish(ctx context.Context, recs []corastream.Recommendation) error {
	if err := s.Sink.Publish(ctx, recs); err != nil {
		return err
	}
	d := s.d
	if len(recs) == 0 || time.Since(d.shown) < time.Second {
		return nil
	}
	if d.first == 0 {
		d.first = time.Since(s.began)
		d.log.Info().Stringer("after", d.first.Round(time.Millisecond)).Msg("first recommendation")
	}
	d.shown = time.Now()
	r := recs[0]
	click, err := s.click(ctx, r.User)
	if err != nil {
		return err
	}
	w := io.Writer(os.Stderr)
	if console.IsTerminal(d.out) {
		w = d.out
	}
	fmt.Fprintf(w, "user %-5s %s: %s\n", r.User, click, line(r))
	return nil
}

// click says what the user did last.
func (s shown) click(ctx context.Context, user string) (text string, err error) {
	err = s.state.View(ctx, func(st corastream.State) error {
		u, err := st.User(user)
		if err != nil || len(u.History) == 0 {
			return err
		}
		last := u.History[len(u.History)-1]
		if text = "after disliking "; last.Label >= .5 {
			text = "after liking "
		}
		text += s.d.titles[last.Item]
		return nil
	})
	return text, err
}

// line is a recommendation in a line: its first items, each with the reason and the probability of a like, and how fresh it is.
func line(r corastream.Recommendation) string {
	var titles []string
	for _, it := range r.Items[:min(3, len(r.Items))] {
		why := ""
		if it.Why.Text != "" {
			why = it.Why.Text + ", "
		}
		titles = append(titles, fmt.Sprintf("%s (%sp %.2f)", it.Title, why, it.Score))
	}
	how := "p by cf"
	switch {
	case r.Degraded != "":
		how = "degraded: " + r.Degraded
	case r.Versions.LLM != "":
		how = "p by cora"
	}
	return fmt.Sprintf("%s  [%s, %s after the click]", strings.Join(titles, " | "), how, r.Freshness().Round(time.Millisecond))
}
