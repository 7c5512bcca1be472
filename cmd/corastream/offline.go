package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/generator/train"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve/llm"
)

// logFiles are the CSV files that replay and train read.
type logFiles struct{ train, valid, test, items string }

func (f *logFiles) read(c Config) (replay.Data, error) {
	var d replay.Data
	var err error
	read := func(path, name string) []corastream.Event {
		if path == "" || err != nil {
			return nil
		}
		var evs []corastream.Event
		evs, err = readEvents(c.Kafka, path, name)
		return evs
	}
	d.Train, d.Valid, d.Test = read(f.train, "train"), read(f.valid, "valid"), read(f.test, "test")
	if err != nil {
		return d, err
	}
	if f.items != "" {
		d.Items, err = readItems(c.Kafka, f.items)
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

func replayCommand() *cobra.Command {
	var f common
	var files logFiles
	var out, mode, models, order string
	var opt replayOptions
	c := &cobra.Command{
		Use:   "replay",
		Short: "Evaluate offline: score each row of a log before it is learnt; writes report.json and report.html",
		Long: `Replay runs the stages over CSV files (user_id,item_id,label,timestamp; items: item_id,title; more columns are
allowed). --mode static learns from train alone. --mode prequential scores each valid and test row with what was known
before it, then learns it once its label delay is over. Two equal runs write equal bytes, but for "timing".
` + replayModels,
		Example: `  corastream replay --train train.csv --valid valid.csv --items items.csv --out report
  corastream replay --mode prequential --label-delay 1h --models bias,cf,cora,cora-shuffled \
      --checkpoint configs/demo.safetensors --train train.csv --test test.csv --items items.csv --out report
  corastream replay --order data --bootstrap-server 127.0.0.1:9092`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := f.load()
			if err != nil {
				return err
			}
			if order != "" {
				cfg.Data = order
				return compareRerun(cmd.Context(), cfg, log, cmd.OutOrStdout())
			}
			if err := required(map[string]string{"train": files.train, "items": files.items, "out": out}); err != nil {
				return err
			}
			rc := cfg.Replay
			if mode != "" {
				rc.Mode = mode
			}
			if models != "" {
				rc.Models = strings.Split(models, ",")
			} else if cfg.Checkpoint != "" {
				rc.Models = []string{replay.Bias, replay.CF, replay.Cora}
			}
			if err := opt.apply(cmd, &rc); err != nil {
				return err
			}
			if err := rc.Validate(); err != nil {
				return err
			}
			if files.valid == "" && files.test == "" && rc.Dev == 0 {
				return corastream.Usagef("", "give --valid FILE, --test FILE or both, or --dev 0.15", "no rows to score")
			}
			data, err := files.read(cfg)
			if err != nil {
				return err
			}
			model, err := openLLM(cfg.LLM, log)
			if err != nil {
				return err
			}
			var ck *generator.Checkpoint
			deps := replay.Deps{
				NewModel: func(kind string, seed uint64) (replay.Model, error) { return newSeededCF(cfg, kind, seed) },
				Manifest: map[string]string{"build": version, "cf": fmt.Sprintf("%+v", cfg.CF)},
			}
			if model != nil {
				defer model.Close()
				deps.Scorer = model
				deps.Manifest["llm"] = model.Digest()
				if ck, err = openCheckpoint(cfg, model); err != nil {
					return err
				}
				var basis *generator.Basis
				if ck != nil {
					basis = ck.Basis
					stage, err := newStage(ck, cfg.Generator, log)
					if err != nil {
						return err
					}
					deps.Generator = stage
					deps.Manifest["checkpoint"] = stage.Version()
				}
				bar := newProgress(log, "read catalogue")
				if cfg.CF.Kind == cfstream.Hybrid {
					if err := readContents(cmd.Context(), model, basis, cfg.CF.Content, data.Items, bar.Set); err != nil {
						return err
					}
				}
			}
			deps.Content = contentMaker(cfg.CF.Content, rc.Seed, data.Items)
			for name, path := range map[string]string{"train": files.train, "valid": files.valid, "test": files.test, "items": files.items} {
				if path != "" {
					if deps.Manifest[name], err = fileDigest(path); err != nil {
						return err
					}
				}
			}
			bars := map[string]*progress{}
			deps.Progress = func(step string, done, total int) {
				if bars[step] == nil {
					bars[step] = newProgress(log, step)
				}
				bars[step].Set(done, total)
			}
			report, err := replay.Run(cmd.Context(), rc, data, deps)
			if err != nil {
				return err
			}
			if err := report.Write(out); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if terminal(w) {
				fmt.Fprint(w, report.Table())
				fmt.Fprintln(w, "report:", filepath.Join(out, "report.html"))
				return nil
			}
			fmt.Fprint(os.Stderr, report.Table())
			return summary(w, report)
		},
	}
	f.add(c, "data", "llm", "checkpoint", "bootstrap")
	fl := c.Flags()
	fl.StringVar(&files.train, "train", "", "rows to learn from (CSV)")
	fl.StringVar(&files.valid, "valid", "", "rows to score, reported as valid")
	fl.StringVar(&files.test, "test", "", "rows to score, reported as test")
	fl.StringVar(&files.items, "items", "", "the catalogue (CSV: item_id,title)")
	fl.StringVar(&out, "out", "", "folder for report.json and report.html")
	fl.StringVar(&order, "order", "", "nothing but this: apply the log again in the journal order of data folder DIR and compare digests")
	fl.StringVar(&mode, "mode", "", "static or prequential")
	fl.StringVar(&models, "models", "", "comma-separated: "+strings.Join(replay.Models, ",")+",cf@CONTENT")
	opt.add(c)
	return c
}

func trainCommand() *cobra.Command {
	var f common
	var files logFiles
	var out string
	c := &cobra.Command{
		Use:   "train",
		Short: "Train a generator checkpoint: CF, then the generator through the frozen LLM",
		Long: `Train learns CF over the first part of the log, keeps what it knew before each later row, starts the generator at a
decoder of the LLM's states, distils CF into it over swapped users, and ends with labels. It stops early on held-out AUC, and
goes on where it stopped after a kill (OUT.state).`,
		Example: "  corastream train --train train.csv --valid valid.csv --items items.csv --out cora.safetensors",
		Args:    cobra.NoArgs,
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
			model, err := openLLM(cfg.LLM, log)
			if err != nil {
				return err
			}
			if model == nil {
				return corastream.Usagef("llm", "name a GGUF with --llm FILE", "training needs the LLM")
			}
			defer model.Close()
			tc := cfg.Train
			tc.Out = out
			bars := map[string]*progress{}
			began := time.Now()
			_, report, err := train.Run(cmd.Context(), tc, train.Data{Train: data.Train, Valid: data.Valid, Items: data.Items}, trainDeps(cfg, model),
				func(p train.Progress) {
					if bars[p.Phase] == nil {
						bars[p.Phase] = newProgress(log, p.Phase)
					}
					bars[p.Phase].note = fmt.Sprintf("loss %.4f auc %.4f eta %s", p.Loss, p.AUC, p.ETA.Round(time.Second))
					bars[p.Phase].Set(p.Done, p.Total)
				})
			if err != nil {
				return err
			}
			log.Info().Str("checkpoint", out).Stringer("took", time.Since(began).Round(time.Second)).Msg("trained")
			return summary(cmd.OutOrStdout(), report)
		},
	}
	f.add(c, "data", "llm")
	fl := c.Flags()
	fl.StringVar(&files.train, "train", "", "rows to learn from (CSV)")
	fl.StringVar(&files.valid, "valid", "", "rows reported at the end (they decide nothing)")
	fl.StringVar(&files.items, "items", "", "the catalogue (CSV: item_id,title)")
	fl.StringVar(&out, "out", "", "where the checkpoint goes")
	return c
}

func trainDeps(cfg Config, model *llm.Model) train.Deps {
	info := model.Info()
	deps := train.Deps{
		LLM: train.LLM{
			Digest: model.Digest(), Template: model.TemplateDigest(), Hidden: info.Hidden, Layers: info.Layers,
			In: map[corastream.Target]int{}, Out: map[corastream.Target]int{},
		},
		Encoder: model, Backprop: model, Scorer: model, CFDigest: cfg.CF.Digest(),
		NewCF: func() (train.CF, error) { return cfstream.New(cfg.CF) },
	}
	for t, w := range model.TargetWidths() {
		deps.LLM.In[t], deps.LLM.Out[t] = w[0], w[1]
	}
	return deps
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
