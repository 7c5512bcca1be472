package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/corastream/corastream/cmd/internal/scalesim"
)

// TestTheSizingPageShowsWhatTheSimulationSays runs the examples of docs/guide/sizing.md and their variants, and looks for each figure in
// the row of its table. The simulation has a seed, so a figure changes only when the simulation does: then run the command and mend the page.
func TestTheSizingPageShowsWhatTheSimulationSays(t *testing.T) {
	b, err := os.ReadFile("../../docs/guide/sizing.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	times := filepath.Join(t.TempDir(), "times.json")
	_, after, ok := strings.Cut(page, "echo '")
	given, _, closed := strings.Cut(after, "' > times.json")
	if !ok || !closed {
		t.Fatal("the page makes no times.json")
	}
	if err := os.WriteFile(times, []byte(given), 0o600); err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(page, "\ngo run ./cmd/scalesim ")[1:]
	if len(sections) != 2 {
		t.Fatalf("%d commands, not 2", len(sections))
	}
	for i, variants := range [][]string{
		{""},
		{"", "--events 5000", "--events 6000", "--shards 16 --shards-per-machine 4"},
	} {
		command, rest, _ := strings.Cut(sections[i], "\n```")
		rows := map[string][]string{}
		table, _, _ := strings.Cut(rest[strings.Index(rest, "\n|"):], "\n\nT") // the text after the table
		for _, line := range strings.Split(table, "\n") {
			if cells := strings.Split(strings.Trim(line, "|"), "|"); len(cells) == len(variants)+1 {
				rows[strings.TrimSpace(cells[0])] = cells[1:]
			}
		}
		for v, variant := range variants {
			args := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(command, "\\\n", " "), "times.json", times) + " " + variant)
			r := simulated(t, args)
			shown := func(row, want string) {
				t.Helper()
				for name, cells := range rows {
					if strings.HasPrefix(name, row) {
						if !strings.Contains(strings.ReplaceAll(cells[v], "*", ""), " "+want+" ") && !strings.Contains(strings.ReplaceAll(cells[v], "*", ""), want+",") {
							t.Errorf("example %d %s: %s is %q, the simulation says %s", i+2, variant, row, cells[v], want)
						}
						return
					}
				}
				t.Errorf("example %d: no row %q", i+2, row)
			}
			load := func(row, resource string) {
				t.Helper()
				for _, x := range r.Resources {
					if x.Name == resource {
						shown(row, fmt.Sprintf("%.0f %%", 100*x.Load))
						return
					}
				}
				t.Errorf("the simulation has no %q", resource)
			}
			if r.Saturated {
				t.Errorf("example %d %s falls behind", i+2, variant)
			}
			shown("click to recommendation", fmt.Sprintf("%.0f / %.0f ms", r.FreshP50, r.FreshP99))
			load("the busiest shard's core", "learner: the busiest shard's writer")
			load("a replica's core that reads changelogs", "replica: applying the changelogs")
			load("cores that answer", "replicas: cores that answer")
			load("brokers' network, out", "brokers: network, out, with copies")
			shown("a lost shard", fmt.Sprintf("%.0f s", r.RestoreS))
		}
	}
}

func simulated(t *testing.T, args []string) (r scalesim.Report) {
	t.Helper()
	c := scaleCommand()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetArgs(args)
	if err := c.ExecuteContext(t.Context()); err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &r); err != nil {
		t.Fatal(err)
	}
	return r
}
