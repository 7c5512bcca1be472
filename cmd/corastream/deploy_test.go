package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

const deploy = "../../docs/deploy/"

// TestDeployFilesAreWellFormed: YAML and JSON parse, and the unit and the Dockerfile call commands and flags
// there are.
func TestDeployFilesAreWellFormed(t *testing.T) {
	for _, file := range []string{"compose.yaml", "prometheus.yaml", "alerts.yaml", "grafana-provisioning.yaml", "grafana-datasource.yaml"} {
		b, err := os.ReadFile(deploy + file)
		if err != nil {
			t.Fatal(err)
		}
		var v map[string]any
		if err := yaml.Unmarshal(b, &v); err != nil || len(v) == 0 {
			t.Errorf("%s: %v", file, err)
		}
	}
	b, err := os.ReadFile(deploy + "grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct{ Panels []struct{ ID int } }
	if err := json.Unmarshal(b, &board); err != nil || len(board.Panels) < 10 {
		t.Errorf("grafana.json: %d panels, %v", len(board.Panels), err)
	}
	found := 0
	for _, file := range []string{deploy + "corastream.service", deploy + "Dockerfile", deploy + "compose.yaml"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(b), "\n") {
			for _, before := range []string{"ExecStart=/usr/local/bin/", "ExecStartPre=/usr/local/bin/"} {
				if call, ok := strings.CutPrefix(line, before); ok {
					found++
					parses(t, file, call)
				}
			}
			if _, list, ok := strings.Cut(line, "CMD ["); ok && !strings.Contains(line, "CMD-SHELL") {
				found++
				parses(t, file, called(list))
			} else if _, list, ok := strings.Cut(line, "command: ["); ok {
				found++
				parses(t, file, called(list))
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d calls found", found)
	}
}

// called is a command line from an exec-form list.
func called(list string) string {
	list, _, _ = strings.Cut(list, "]")
	words := strings.Fields(strings.NewReplacer(`"`, "", ",", " ").Replace(list))
	if len(words) > 0 && words[0] == "/corastream" {
		words = words[1:]
	}
	return "corastream " + strings.Join(words, " ")
}
