package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestItsExamplesRun runs what --help shows; the last line is the report.
func TestItsExamplesRun(t *testing.T) {
	for _, line := range strings.Split(scaleCommand().Example, "\n") {
		args := strings.Fields(line)[3:]
		c := scaleCommand()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetArgs(append(args, "--seconds", "1", "--events", "5000"))
		if err := c.ExecuteContext(t.Context()); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		var report map[string]any
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &report); err != nil || len(report) < 5 {
			t.Errorf("%s: %v: %v", line, report, err)
		}
	}
}
