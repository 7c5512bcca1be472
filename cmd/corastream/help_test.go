package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/corastream/corastream/cmd/internal/testkit"
)

func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		walk(sub, visit)
	}
}

// TestEveryCommandHasHelpAndAnExampleThatParses: an example that is refused by its own command helps nobody.
func TestEveryCommandHasHelpAndAnExampleThatParses(t *testing.T) {
	seen := 0
	walk(newRoot(), func(c *cobra.Command) {
		seen++
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s: Short %q, Example %q", c.CommandPath(), c.Short, c.Example)
		}
		mine := 0
		for _, line := range testkit.CommandLines(c.Example) {
			parses(t, c.CommandPath(), line)
			if strings.HasPrefix(line+" ", c.CommandPath()+" ") {
				mine++
			}
		}
		if mine == 0 {
			t.Errorf("%s: no example begins with the command: %q", c.CommandPath(), c.Example)
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s has no help", c.CommandPath(), f.Name)
			}
		})
	})
	if seen < 20 {
		t.Errorf("only %d commands", seen)
	}
}

// TestCommandLinesOfTheDocumentsParse holds README and documents to the flags there are.
func TestCommandLinesOfTheDocumentsParse(t *testing.T) {
	files, err := filepath.Glob("../../docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range append(files, "../../README.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, block := range strings.Split(string(b), "```") {
			if i%2 == 0 {
				continue // outside of code
			}
			for _, line := range testkit.CommandLines(block) {
				found++
				parses(t, file, line)
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d command lines found", found)
	}
}

// parses checks one command line without running it.
func parses(t *testing.T, where, line string) {
	t.Helper()
	args := strings.Fields(line)[1:]
	c, rest, err := newRoot().Find(args)
	if err == nil {
		err = c.ParseFlags(rest)
	}
	if err == nil {
		err = c.ValidateArgs(c.Flags().Args())
	}
	if err == nil && !c.Runnable() {
		t.Errorf("%s: %q does nothing", where, line)
	}
	if err != nil {
		t.Errorf("%s: %q: %v", where, line, err)
	}
}
