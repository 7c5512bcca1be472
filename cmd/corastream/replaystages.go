package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/console"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/cmd/internal/training"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve/llm"
)

// stages opens what the models need: the LLM, the checkpoint, the items' contents. done closes them.
func (r *replaying) stages(ctx context.Context, cfg node.Config, rc replay.Config, data replay.Data, from origin, log zerolog.Logger) (deps replay.Deps, done func(), err error) {
	done = func() {}
	deps = replay.Deps{
		NewModel: func(kind string, seed uint64) (replay.Model, error) {
			m, err := node.NewSeededCF(cfg, kind, seed)
			if err == nil && rc.Sharding.Shards > 1 {
				err = cfstream.Shardable(m.Spec())
			}
			return m, err
		},
		NewRanker: func(model string, all bool) (corastream.Ranker, error) { return node.NewRanker(cfg, model, all) },
		Manifest:  map[string]string{"build": version, "cf": fmt.Sprintf("%+v", cfg.CF), "demand": fmt.Sprint(rc.Demand), "mix": cfg.Mix.String()},
	}
	for k, v := range from.manifest {
		deps.Manifest[k] = v
	}
	bars := map[string]*console.Progress{}
	deps.Progress = func(step string, done, total int) {
		if bars[step] == nil {
			bars[step] = console.NewProgress(log, step)
		}
		bars[step].Set(done, total)
	}
	model, err := node.OpenLLM(cfg.LLM, log)
	if err != nil {
		return deps, done, err
	}
	if model != nil {
		done = func() { model.Close() }
		if err := r.readCatalogue(ctx, cfg, rc.Models, model, &deps, data, log); err != nil {
			done()
			return deps, func() {}, err
		}
	}
	deps.Content = contentMaker(cfg.CF.Content, rc.Seed, data.Items)
	return deps, done, nil
}

// readCatalogue has the LLM read the catalogue, by the checkpoint's basis where there is one.
func (r *replaying) readCatalogue(ctx context.Context, cfg node.Config, models []string, model *llm.Model, deps *replay.Deps, data replay.Data, log zerolog.Logger) error {
	items := data.Items
	deps.Scorer = model
	deps.Manifest["llm"] = model.Digest()
	if cfg.Mix.Codes > 0 && replay.ReadsCodes(models) {
		deps.Codes = node.CodesOnce(cfg, items, log)
	}
	ck, err := node.OpenCheckpoint(cfg, model)
	if err != nil {
		return err
	}
	var basis *generator.Basis
	if ck != nil {
		basis = ck.Basis
		stage, err := generator.NewStage(ck, cfg.Generator)
		if err != nil {
			return err
		}
		deps.Generator = stage
		deps.Manifest["checkpoint"] = stage.Version()
		deps.Blank = training.Blank{
			Train: cfg.Train, Stage: cfg.Generator, CF: cfg.CF, Checkpoint: ck, LLM: model, Log: data.Train, Items: items, Progress: deps.Progress,
		}.Refit
		if known, of := training.RowsKnown(ck, data.Valid, data.Test); known > 0 {
			log.Warn().Str("checkpoint", cfg.Checkpoint).Int("rows", known).Int("of", of).
				Msg("the checkpoint may know scored rows: they are not newer than the log it was trained on; what cora reaches on them is not what it reaches on unseen ones")
		}
	}
	if cfg.CF.Kind != cfstream.Hybrid || !replay.ReadsContent(models, ck != nil) {
		return nil
	}
	titled := 0
	for _, it := range items {
		if it.Title != "" && !it.Removed {
			titled++
		}
	}
	if basis == nil && titled <= cfg.CF.Content {
		log.Warn().Int("items", titled).Int("cf.content", cfg.CF.Content).Msg("too few items to learn what their titles have in common: cf goes without content")
		return nil
	}
	return node.ReadContents(ctx, model, basis, cfg.CF.Content, items, console.NewProgress(log, "read catalogue").Set)
}

// side reads the rows and makes what one configuration replays them with; done ends it. A dry run tells the plan and makes nothing.
func (r *replaying) side(cmd *cobra.Command, cfg node.Config, log zerolog.Logger) (side replay.Side, done func(), err error) {
	var from origin
	if side.Config, err = r.settings(cmd, cfg); err != nil {
		return side, nil, err
	}
	if side.Data, from, err = r.read(cmd.Context(), cfg, log); err != nil {
		return side, nil, err
	}
	if r.dryRun {
		return side, nil, r.plan(cmd, side.Config, side.Data, from)
	}
	side.Data.Items = slices.Clone(side.Data.Items) // each side's contents are its own
	side.Deps, done, err = r.stages(cmd.Context(), cfg, side.Config, side.Data, from, log)
	side.Deps.Resume = filepath.Join(r.out, resumeFolder)
	return side, done, err
}

// plan is the answer of --dry-run.
func (r *replaying) plan(cmd *cobra.Command, rc replay.Config, d replay.Data, o origin) error {
	o.survey.Conclude()
	catalogue := replay.NewSurvey("catalogue", "")
	for _, it := range d.Items {
		catalogue.Item(it)
	}
	catalogue.Conclude()
	o.survey.Against(catalogue)
	out := map[string]any{
		"mode": rc.Mode, "models": rc.Models, "label_delay": rc.LabelDelay.String(), "learnt": len(d.Train), "scored": len(d.Valid) + len(d.Test),
		"items": len(d.Items), "lists": len(d.Lists), "log": o.survey, "catalogue": catalogue,
	}
	if o.extents != nil {
		out["range"] = o.extents
	}
	w := cmd.OutOrStdout()
	console.Say(w, o.survey.String()+catalogue.String()+fmt.Sprintf("%s: %d rows would be learnt, then %d scored by %s\n", rc.Mode, len(d.Train), len(d.Valid)+len(d.Test), strings.Join(rc.Models, ", ")))
	if console.IsTerminal(w) {
		return nil
	}
	return console.Summary(w, out)
}
