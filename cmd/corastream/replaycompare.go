package main

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

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
	return r.finish(cmd.OutOrStdout(), c, "compare.html")
}
