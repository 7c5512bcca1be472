package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/cmd/internal/training"
	"github.com/corastream/corastream/generator/train"
	"github.com/corastream/corastream/replay"
)

// logFiles are the CSV files that replay and train read.
type logFiles struct{ train, valid, test, items string }

func (f *logFiles) read(c node.Config) (replay.Data, error) {
	var d replay.Data
	var err error
	read := func(path, name string) []corastream.Event {
		if path == "" || err != nil {
			return nil
		}
		var evs []corastream.Event
		evs, err = datafile.Events(c.Kafka, path, name)
		return evs
	}
	d.Train, d.Valid, d.Test = read(f.train, "train"), read(f.valid, "valid"), read(f.test, "test")
	if err != nil {
		return d, err
	}
	if f.items != "" {
		d.Items, err = datafile.Items(c.Kafka, f.items)
	}
	return d, err
}

func required(flags map[string]string) error {
	var missing []string
	for name, v := range flags {
		if v == "" {
			missing = append(missing, "--"+name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return corastream.Usagef("", "see --help", "%s must be given", strings.Join(missing, ", "))
}

func trainCommand() *cobra.Command {
	var f common
	var files logFiles
	var out, basis string
	c := &cobra.Command{
		Use:   "train",
		Short: "Train a generator checkpoint: CF, then the generator through the frozen LLM",
		Long: `Train learns CF over the first part of the log, keeps what it knew before each later row, starts the generator at a
decoder of the LLM's states, distils CF into it over swapped users, and ends with labels. It stops early on held-out AUC, and
goes on where it stopped after a kill (OUT.state).

What items mean is projected by a basis that is fitted to the catalogue. A running data folder holds contents by one basis: to train the next
checkpoint for it, with a catalogue that has grown, keep the basis of the checkpoint in use (--basis).`,
		Example: `  corastream train --train train.csv --valid valid.csv --items items.csv --out cora.safetensors
  corastream train --train newer.csv --items items.csv --basis cora.safetensors --out new.safetensors`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if err := required(map[string]string{"train": files.train, "items": files.items, "out": out}); err != nil {
				return err
			}
			data, err := files.read(cfg)
			if err != nil {
				return err
			}
			model, err := node.OpenLLM(cfg.LLM, log)
			if err != nil {
				return err
			}
			if model == nil {
				return corastream.Usagef("llm", "name a GGUF with --llm FILE", "training needs the LLM")
			}
			defer model.Close()
			tc := cfg.Train
			tc.Spec.Factors, tc.Spec.Taste = cfg.CF.Widths()
			tc.Out = out
			deps := training.Deps(cfg.CF, model)
			if basis != "" {
				cfg.Checkpoint = basis
				ck, err := node.OpenCheckpoint(cfg, model)
				if err != nil {
					return fmt.Errorf("--basis: %w", err)
				}
				deps.Basis = ck.Basis
			}
			bars := map[string]*console.Progress{}
			began := time.Now()
			_, report, err := train.Run(cmd.Context(), tc, train.Data{Train: data.Train, Valid: data.Valid, Items: data.Items}, deps,
				func(p train.Progress) {
					if bars[p.Phase] == nil {
						bars[p.Phase] = console.NewProgress(log, p.Phase)
					}
					bars[p.Phase].Note = trainNote(p)
					bars[p.Phase].Set(p.Done, p.Total)
				})
			if err != nil {
				return node.InSection("train", "generator.", err)
			}
			log.Info().Str("checkpoint", out).Stringer("took", time.Since(began).Round(time.Second)).Msg("trained")
			return console.Summary(cmd.OutOrStdout(), report)
		},
	}
	f.add(c, "data", "llm")
	fl := c.Flags()
	fl.StringVar(&files.train, "train", "", "rows to learn from (CSV)")
	fl.StringVar(&files.valid, "valid", "", "rows reported at the end (they decide nothing)")
	fl.StringVar(&files.items, "items", "", "the catalogue (CSV: item_id,title)")
	fl.StringVar(&out, "out", "", "where the checkpoint goes")
	fl.StringVar(&basis, "basis", "", "keep this checkpoint's content basis, so that the new one fits the same data folder and can be rolled out")
	return c
}

// trainNote says what is known so far: no loss before the first step, no AUC before the first epoch was judged.
func trainNote(p train.Progress) string {
	var known []string
	if p.Loss > 0 {
		known = append(known, fmt.Sprintf("loss %.4f", p.Loss))
	}
	if p.AUC > 0 {
		known = append(known, fmt.Sprintf("auc %.4f", p.AUC))
	}
	if p.ETA > 0 {
		known = append(known, "all in "+p.ETA.Round(time.Second).String())
	}
	return strings.Join(known, " ")
}

func fileDigest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
