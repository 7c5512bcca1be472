//go:build gpu

package main

import (
	"context"
	"io"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/corastream/corastream/cmd/internal/gpucheck"
	"github.com/corastream/corastream/cmd/internal/node"
)

// gpuCommands are those of bin/corastream-gpu alone.
func gpuCommands() []*cobra.Command { return []*cobra.Command{gpuCheckCommand()} }

func gpuCheckCommand() *cobra.Command {
	var o gpucheck.Options
	var count bool
	c := &cobra.Command{
		Use:   "gpu-check",
		Short: "On a machine with a GPU: parity with the CPU, then measurements; JSON lines, the summary last",
		Long: `parity: every kernel's result beside package kernels' own, then whole scores of a model of SmolLM2-135M's shape with random
weights beside the CPU's. measurements: copying and products as ceilings, then weights made, prompts scored with and without a W_A of
their own, gradients, training steps, clicks through the kernels and through the whole pipeline, items read. Then each goal of the project
and what was reached. A part that fails is told and the others go on, where the device is lost in the program started anew. Needs no file
and no network. Exit code 1 when a parity line is not ok or a part failed.`,
		Example: "  corastream-gpu gpu-check\n  corastream-gpu gpu-check --seconds 10", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := gpucheck.FullSizes()
			if o.Tiny {
				s = gpucheck.TinySizes()
			}
			if count {
				return gpucheck.Roofline(cmd.Context(), s, cmd.OutOrStdout())
			}
			return gpucheck.Run(cmd.Context(), newGPUDeps(), s, o, cmd.OutOrStdout())
		},
	}
	c.Flags().Float64Var(&o.Seconds, "seconds", 3, "how long each measurement runs")
	c.Flags().DurationVar(&o.Limit, "limit", 6*time.Minute, "no part begins later than this")
	c.Flags().StringVar(&o.Carried, "carried", "", "what an earlier process of the same run leaves to this one")
	_ = c.Flags().MarkHidden("carried") // it is there
	c.Flags().BoolVar(&count, "roofline", false, "without a GPU: count each kernel's operations and bytes in the same cases, and what they take at an H200's peaks (Markdown)")
	c.Flags().BoolVar(&o.Tiny, "tiny", false, "small sizes, for the emulated driver: its times mean nothing")
	return c
}

// newGPUDeps hands the whole program to gpu-check.
func newGPUDeps() gpucheck.Deps {
	return gpucheck.Deps{Version: version, Freshness: func(ctx context.Context, r gpucheck.FreshnessRun, w io.Writer) (int64, error) {
		cfg := node.Default()
		cfg.LLM.File, cfg.LLM.Options, cfg.Checkpoint, cfg.CF = r.File, r.LLM, r.Checkpoint, r.CF
		cfg.LLM.Device, cfg.Generator.Device = "gpu", "gpu"
		cfg.Pipeline.Candidates = r.Candidates
		defer node.UseGPU(r.Device)()
		err := freshness(ctx, cfg, zerolog.Nop(), w, r.Length, r.Items)
		return node.GPUFallbacks(), err
	}}
}
