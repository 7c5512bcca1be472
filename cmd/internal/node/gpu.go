package node

import (
	"errors"
	"sync"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/kernels/cuda"
	"github.com/corastream/corastream/serve"
	"github.com/corastream/corastream/serve/llm"
)

// gpu is the process's device, opened when a stage first asks for it and held until the process ends. Stages count by
// themselves how often the CPU answered in its place.
var gpu struct {
	once   sync.Once
	device *cuda.Device
	err    error

	generator, llm cuda.Fallback
}

// openGPU gives the device for a stage whose configuration says auto, cpu or gpu; nil means the CPU. That there is none is worth a
// warning, and a count, only where one was asked for.
func openGPU(choice string, count *cuda.Fallback, what string, log zerolog.Logger) *cuda.Device {
	if choice == "cpu" || choice != "gpu" && !cuda.Built {
		return nil
	}
	gpu.once.Do(func() {
		if gpu.device, gpu.err = cuda.Open(); gpu.err == nil {
			info := gpu.device.Info()
			log.Info().Str("name", info.Name).Int("multiprocessors", info.Multiprocessors).Int64("memory_mib", info.MemoryBytes>>20).Msg("gpu")
		} else if errors.Is(gpu.err, cuda.ErrNoDevice) {
			log.Info().Msg("no GPU: the CPU does all")
		}
	})
	count.Warn = func(err error) { log.Warn().Err(err).Str("stage", what).Msg("the CPU takes over from the GPU") }
	if gpu.err != nil && (choice == "gpu" || !errors.Is(gpu.err, cuda.ErrNoDevice)) {
		count.Note(gpu.err)
	}
	return gpu.device
}

// gpuGauges count what the CPU did in the GPU's place; none where no GPU path is built in.
func gpuGauges() []serve.Gauge {
	if !cuda.Built {
		return nil
	}
	const help = "Answers that the CPU gave because the GPU could not, by stage."
	g := []serve.Gauge{
		{Name: "gpu_fallbacks", Help: help, Labels: map[string]string{"stage": "generator"}, Value: float64(gpu.generator.Count())},
		{Name: "gpu_fallbacks", Help: help, Labels: map[string]string{"stage": "llm"}, Value: float64(gpu.llm.Count())},
	}
	if gpu.device != nil {
		g = append(g, serve.Gauge{Name: "gpu_memory_bytes", Help: "Device memory in use by this process.", Value: float64(gpu.device.Used())})
	}
	return g
}

// NewStage serves a checkpoint to an LLM, on the device that the configuration chooses. There W_A is in bfloat16 when the LLM is.
func NewStage(ck *generator.Checkpoint, c generator.StageConfig, m *llm.Model, log zerolog.Logger) (*generator.Stage, error) {
	s, err := generator.NewStage(ck, c)
	if err != nil {
		return nil, err
	}
	if d := openGPU(string(c.Device), &gpu.generator, "generator", log); d != nil {
		err = s.UseGPU(&generator.GPU{Device: d, Fallback: &gpu.generator, BF16: m.Info().Numerics == "bf16"})
	}
	return s, err
}

// UseGPU makes stages that open a device take this one, until the returned function is called.
func UseGPU(d *cuda.Device) (back func()) {
	gpu.once.Do(func() {})
	before, err := gpu.device, gpu.err
	gpu.device, gpu.err = d, nil
	return func() { gpu.device, gpu.err = before, err }
}

// GPUFallbacks counts how often the CPU answered in the GPU's place, in all stages.
func GPUFallbacks() int64 { return gpu.generator.Count() + gpu.llm.Count() }
