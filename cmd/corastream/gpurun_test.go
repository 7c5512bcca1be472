//go:build gpu

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream/cmd/internal/gpucheck"
	"github.com/corastream/corastream/cmd/internal/node"
)

// The command that a device machine runs goes through on the emulated driver, and every parity line is ok.
func TestGPUCheckGoesThrough(t *testing.T) {
	if os.Getenv("CORASTREAM_LIBCUDA") == "" {
		t.Skip("on a device, run `corastream-gpu gpu-check`; `make test-cuda` has an emulated one")
	}
	var out bytes.Buffer
	if err := gpucheck.Run(t.Context(), newGPUDeps(), gpucheck.TinySizes(), gpucheck.Options{Seconds: .05, Limit: time.Hour, Tiny: true}, &out); err != nil {
		t.Error(err)
	}
	kinds := map[string]int{}
	for line := range strings.Lines(out.String()) {
		var v struct {
			GPU  string `json:"gpu"`
			Case string `json:"case"`
			OK   *bool  `json:"ok"`
			CPU  int    `json:"answers_of_the_cpu"`
			Data *bool  `json:"on_the_device"`
			By   string `json:"ranked_by"`
		}
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if kinds[v.GPU]++; v.GPU == "goal" { // times mean nothing here
			continue
		}
		if v.OK != nil && !*v.OK || v.CPU != 0 || v.Data != nil && !*v.Data || v.By != "" && v.By != "cora" {
			t.Error(line)
		}
	}
	if kinds["goal"] != 8 {
		t.Errorf("%d lines of goals, want 8: one for each row of the table, W_A in both formats and training in both forms", kinds["goal"])
	}
	for _, k := range []string{"device", "parity", "ceiling", "product", "generator", "scores", "gradients", "click", "catalogue", "training", "freshness", "goal", "summary"} {
		if kinds[k] == 0 {
			t.Errorf("no line of %q", k)
		}
	}
}

// Without a device the configuration's gpu serves on the CPU, told once; auto says nothing.
func TestGPUChoiceWithoutOne(t *testing.T) {
	c := node.Default()
	if c.LLM.Device != "auto" || c.Generator.Device != "auto" {
		t.Errorf("defaults are %q and %q", c.LLM.Device, c.Generator.Device)
	}
	c.LLM.Device, c.LLM.Numerics = "gpu", "int8"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "bf16") {
		t.Errorf("int8 on a GPU: %v", err)
	}
	c.LLM.Device, c.Generator.Device = "tpu", "gpu"
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "llm.device") || strings.Contains(err.Error(), "generator.device") {
		t.Errorf("%v", err)
	}
}
