//go:build app

package apptest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDemoEndsByItselfWithItsSummary runs the demo's own example, shorter: real ratings through the frozen LLM and the demo's checkpoint, on the
// embedded broker, from an empty folder.
func TestDemoEndsByItselfWithItsSummary(t *testing.T) {
	file, checkpoint := realLLM(t), demoCheckpoint(t)
	cache, err := filepath.Abs(filepath.Join("..", "..", ".cache"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(cache, "ml-100k", "train.csv")); err != nil {
		t.Skipf("no ratings (%v): run `make fetch`", err)
	}
	t.Parallel()
	b, err := os.ReadFile(filepath.Join("..", "..", "configs", "demo.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config := write(t, "demo.yaml", strings.Replace(string(b), "127.0.0.1:8642", "127.0.0.1:0", 1))
	got := ok(t, "demo", "--events", "200", "-c", config, "--cache", cache, "--llm", file, "--checkpoint", checkpoint, "--data", filepath.Join(t.TempDir(), "data")).last(t)
	if n := number(t, got, "recommendations"); n < 50 {
		t.Errorf("%d recommendations for 200 live ratings: %v", n, got)
	}
	if rows := number(t, got, "auc_rows"); rows < 150 || got["degraded"] != nil {
		t.Errorf("judged %d rows, degraded %v", rows, got["degraded"])
	}
	fresh, _ := got["freshness_ms"].(map[string]any)
	if p50, _ := fresh["p50"].(float64); p50 <= 0 {
		t.Errorf("freshness: %v", got["freshness_ms"])
	}
}
