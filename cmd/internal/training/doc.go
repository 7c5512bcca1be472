// Package training hands a frozen LLM and a CF model to generator/train, on the LLM's device where it has one.
//
// It promises that a run, a refit for `replay --models cora-blank` and gpu-check train alike. It decides nothing by itself.
//
//	_, report, err := train.Run(ctx, config, data, training.Deps(cfg.CF, model), told)
package training
