package node

import (
	"path/filepath"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/adapter"
	"github.com/corastream/corastream/cmd/internal/rollout"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/replay"
)

// active is the checkpoint in use, also in a program that runs no rollout.
func (e *Node) active() *rollout.Trial {
	if e.Rollout != nil {
		return e.Rollout.Active()
	}
	return rollout.NewTrial(e.Config.Checkpoint, e.Stage, e.Familiarity)
}

// newRollout hands the engine's stages to a rollout, which starts with the configured checkpoint.
func (e *Node) newRollout() *rollout.Rollout {
	return rollout.New(rollout.Deps{
		Config: e.Config.Rollout, Checkpoint: e.Config.Checkpoint, Data: e.Config.Data, Scorer: e.LLM, LLM: e.LLM.Digest(), Store: e.Store, Log: e.Log,
		Open: func(path, basis string) (*generator.Stage, error) {
			w := Requirements(e.LLM, e.Config.CF)
			w.Basis = basis
			ck, err := generator.Open(path, w)
			if err != nil {
				return nil, corastream.Usagef("checkpoint", "train one for this LLM, these prompts and this CF, with `--basis` of the active checkpoint", "%v", err)
			}
			return NewStage(ck, e.Config.Generator, e.LLM, e.Log)
		},
		Watch: func(candidate corastream.Generator) (*replay.Monitor, error) {
			bias, err := NewCF(e.Config, replay.Bias)
			if err != nil {
				return nil, err
			}
			return replay.NewMonitor(replay.DefaultMonitor(), replay.MonitorDeps{
				Bias: bias, Generator: candidate, Scorer: e.LLM, Prompt: e.Catalogue.prompt, Warn: e.Pipeline.Warn,
			})
		},
		Monitor: func() *replay.Monitor { return e.Monitor },
	}, e.Stage, e.Familiarity)
}

// Adapters hands out the weights of an engine.
func (e *Node) Adapters() adapter.Deps {
	a := adapter.Deps{Store: e.Store, Predictor: e.CF, LLM: e.LLM, History: e.Config.Pipeline.History, Base: filepath.Base(e.Config.LLM.File)}
	if e.Familiarity != nil {
		a.Active = func() adapter.Checkpoint { return e.active() }
	}
	return a
}
