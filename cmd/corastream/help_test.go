package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/corastream/corastream/cmd/internal/node"
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
		for _, line := range commandLines(c.Example) {
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
			for _, line := range commandLines(block) {
				found++
				parses(t, file, line)
			}
		}
	}
	if found < 5 {
		t.Errorf("only %d command lines found", found)
	}
}

// commandLines finds what begins with corastream: continued lines joined, comments and the rest of a pipe left out.
func commandLines(text string) (out []string) {
	for _, line := range strings.Split(strings.ReplaceAll(text, "\\\n", " "), "\n") {
		line, _, _ = strings.Cut(line, "#")
		for _, part := range strings.Split(line, "|") {
			part, _, _ = strings.Cut(part, " > ") // what the shell does with it is not ours
			part = strings.TrimSuffix(strings.TrimPrefix(strings.Join(strings.Fields(part), " "), "bin/"), " &")
			if strings.HasPrefix(part, "corastream ") {
				out = append(out, part)
			}
		}
	}
	return out
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

// TestHelpIsPrintedByTheBinary: --help of every command goes to standard output, with usage and example, and exits 0.
func TestHelpIsPrintedByTheBinary(t *testing.T) {
	walk(newRoot(), func(c *cobra.Command) {
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		r := ok(t, args...)
		if missing := lacks(r.stdout, "Usage:", "Examples:"); missing != nil || r.stderr != "" {
			t.Errorf("%v lacks %q; standard error: %q", args, missing, r.stderr)
		}
	})
	if v := ok(t, "version").stdout; !strings.HasPrefix(v, "corastream ") || !strings.Contains(v, "kernels ") {
		t.Errorf("version: %q", v)
	}
}

// TestEveryConfigFileLoads: the files of configs/ and what `config print` makes of them.
func TestEveryConfigFileLoads(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range append(files, "") {
		args := []string{"config", "print"}
		if file != "" {
			abs, err := filepath.Abs(file)
			if err != nil {
				t.Fatal(err)
			}
			if out := ok(t, "config", "check", abs).stdout; out != abs+": ok\n" {
				t.Errorf("config check: %q", out)
			}
			args = append(args, "-c", abs)
		}
		printed := ok(t, args...).stdout
		again := write(t, "again.yaml", printed)
		ok(t, "config", "check", again)
		if second := ok(t, "config", "print", "-c", again).stdout; second != printed {
			t.Errorf("%s: what config print prints does not load as itself", file)
		}
	}
}

// TestConfigPrintShowsNoSecret: secrets are read, and never shown again.
func TestConfigPrintShowsNoSecret(t *testing.T) {
	const secret = "correct-horse-battery-staple"
	b, err := yaml.Marshal(node.Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"password:", "token:"} {
		if !strings.Contains(string(b), key) {
			t.Errorf("config print has no %s: this test looks at nothing", key)
		}
	}
	file := write(t, "secret.yaml", `
http: {token: `+secret+`}
kafka:
  sasl: {mechanism: SCRAM-SHA-512, user: reader, password: `+secret+`}
`)
	out := ok(t, "config", "print", "-c", file).stdout
	if strings.Contains(out, secret) || strings.Count(out, "***") < 2 {
		t.Errorf("config print:\n%s", out)
	}
	bad := write(t, "bad.yaml", `
http: {token: `+secret+`}
kafka:
  sasl: {mechanism: ROT13, user: reader, password: `+secret+`}
`)
	if r := call(t, "config", "check", bad); r.code != 2 || strings.Contains(r.stderr, secret) {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	unknown := write(t, "unknown.yaml", "http: {token: "+secret+"}\nkafka:\n  sasl: {password: "+secret+", pasword: x}\n")
	if r := call(t, "config", "check", unknown); r.code != 2 || strings.Contains(r.stderr, secret) {
		t.Errorf("a complaint about another key shows the secret: exit %d: %s", r.code, r.stderr)
	}
}
