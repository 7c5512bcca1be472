//go:build gpu

package main

import (
	"context"
	"io"
	"os"
	"slices"
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
	c := &cobra.Command{
		Use:   "gpu-check [roofline] [tiny]",
		Short: "On a machine with a GPU: parity with the CPU, then measurements; JSON lines, the summary last",
		Long: `parity: every kernel's result beside package kernels' own, then whole scores of a model of SmolLM2-135M's shape with random
weights beside the CPU's. measurements: copying and products as ceilings, then weights made, prompts scored with and without a W_A of
their own, gradients, training steps, clicks through the kernels and through the whole pipeline, items read. Then each goal of the project
and what was reached. A part that fails is told and the others go on, where the device is lost in the program started anew. Needs no file
and no network. Exit code 1 when a parity line is not ok or a part failed.

roofline, without a GPU: the same cases are counted, with what their operations and bytes take at an H200's peaks (Markdown). tiny: small
sizes, for the emulated driver, so its times mean nothing.`,
		Example: "  corastream-gpu gpu-check\n  corastream-gpu gpu-check --seconds 10\n  corastream-gpu gpu-check roofline",
		Args:    cobra.OnlyValidArgs, ValidArgs: []string{"roofline", gpucheck.Tiny},
		RunE: func(cmd *cobra.Command, args []string) error {
			s := gpucheck.FullSizes()
			o.Carried = os.Getenv(gpucheck.CarriedVariable)
			if o.Tiny = slices.Contains(args, gpucheck.Tiny); o.Tiny {
				s = gpucheck.TinySizes()
			}
			if slices.Contains(args, "roofline") {
				return gpucheck.Roofline(cmd.Context(), s, cmd.OutOrStdout())
			}
			return gpucheck.Run(cmd.Context(), newGPUDeps(), s, o, cmd.OutOrStdout())
		},
	}
	c.Flags().Float64Var(&o.Seconds, "seconds", 3, "how long each measurement runs")
	c.Flags().DurationVar(&o.Limit, "limit", 6*time.Minute, "no part begins later than this")
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
