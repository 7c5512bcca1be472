// Package gpucheck holds a GPU to the CPU and measures it: `corastream-gpu gpu-check` and its count of operations without a device.
//
// It promises a JSON line for each case, that a part that fails costs its part alone, and that a lost device sends the rest to the
// program started anew. Sizes are either a model of SmolLM2-135M's shape or tiny ones for the emulated driver. It refuses nothing but
// needs the tag gpu: without it the package is empty. The whole pipeline runs through Deps.Freshness, which the program hands in.
//
//	err := gpucheck.Run(ctx, deps, gpucheck.FullSizes(), gpucheck.Options{Seconds: 3, Limit: 6 * time.Minute}, os.Stdout)
package gpucheck
