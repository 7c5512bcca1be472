package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/replay"
)

// comparison replays two configurations over the same rows.
func (r *replaying) comparison(cmd *cobra.Command, log zerolog.Logger) error {
	var sides [2]replay.Side
	for i, path := range r.compare {
		f := r.common
		f.config = path
		cfg, _, err := f.load()
		if err != nil {
			return err
		}
		side, done, err := r.side(cmd, cfg, log)
		if err != nil {
			return err
		}
		if r.dryRun {
			continue
		}
		defer done()
		side.Deps.Manifest["config"] = path
		side.Name = strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
		sides[i] = side
	}
	if r.dryRun {
		return nil
	}
	if sides[0].Name == sides[1].Name {
		sides[0].Name, sides[1].Name = r.compare[0], r.compare[1]
	}
	c, err := replay.Compare(cmd.Context(), sides)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if err := c.Write(r.out); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(r.out, ".resume")); err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	console.Say(w, c.Table())
	if console.IsTerminal(w) {
		fmt.Fprintln(w, "report:", filepath.Join(r.out, "compare.html"))
		return nil
	}
	return console.Summary(w, c)
}
