//go:build app

package apptest

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// subcommand is a line of the list of commands in a help text.
var subcommand = regexp.MustCompile(`(?m)^  ([a-z-]+) +\S`)

// helpTexts gives what --help prints for the program and for each command under it, by the command's path.
func helpTexts(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	var ask func(path ...string)
	ask = func(path ...string) {
		r := ok(t, append(path[1:], "--help")...)
		if r.stderr != "" {
			t.Errorf("%v --help writes to standard error: %q", path, r.stderr)
		}
		out[strings.Join(path, " ")] = r.stdout
		_, list, _ := strings.Cut(r.stdout, "Available Commands:\n")
		list, _, _ = strings.Cut(list, "\n\n")
		for _, m := range subcommand.FindAllStringSubmatch(list, -1) {
			if m[1] == "help" { // cobra's own
				continue
			}
			ask(append(path[:len(path):len(path)], m[1])...)
		}
	}
	ask("corastream")
	return out
}

// TestHelpIsPrintedByTheBinary: --help of every command goes to standard output, with usage and example, and exits 0.
func TestHelpIsPrintedByTheBinary(t *testing.T) {
	seen := 0
	for path, help := range helpTexts(t) {
		seen++
		if missing := lacks(help, "Usage:", "Examples:"); missing != nil {
			t.Errorf("%s --help lacks %q", path, missing)
		}
	}
	if seen < 20 {
		t.Errorf("only %d commands", seen)
	}
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
	if missing := lacks(ok(t, "config", "print").stdout, "password:", "token:"); missing != nil {
		t.Errorf("config print has no %s: this test looks at nothing", missing)
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
