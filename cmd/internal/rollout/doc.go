// Package rollout tries a new checkpoint beside the one in use: as a shadow that nobody sees, as a canary that answers a share of the
// users, then for everybody, and back.
//
// It promises that a canary's users are always the same ones, that a change is on the disk before it holds, and that a restart goes on
// where the last change left off until the configuration changes. It refuses paths (a caller names files of one folder), checkpoints
// made for another LLM, template, CF model or content basis, and actions that make no sense in the present standing.
//
//	r := rollout.New(rollout.Deps{Config: cfg, Checkpoint: file, Scorer: m, Open: open, Watch: watch}, stage, familiarity)
//	defer r.Close()
//	p.Generator, p.Basis, p.Arms = r, r, r
//	err := r.Begin(ctx)
package rollout
