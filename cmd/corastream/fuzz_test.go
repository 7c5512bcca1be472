package main

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/bounded"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/configs"
)

// canaryKey matches where the word is a key: an unknown key is named.
var canaryKey = regexp.MustCompile(`canary-0123456789abcdef.*:|\?`)

// FuzzConfig: whatever a configuration file holds, it is refused with a place and a fix or gives a configuration that is
// valid; a line that may hold a secret is never repeated.
func FuzzConfig(f *testing.F) {
	for _, name := range []string{"default.yaml", "demo.yaml"} {
		if b, err := configs.Files.ReadFile(name); err == nil {
			f.Add(string(b))
		}
	}
	for _, s := range []string{
		"", "data: x\ndata: y\n", "http: {token: canary-0123456789abcdef}\n", "kafka: {sasl: {password: canary-0123456789abcdef, nonsense: 1}}\n",
		"a: &a [*a]\n", "http: {token: *canary-0123456789abcdef}\n", "ka:\n  sasl:\n  ||||  password: *canary-0123456789abcdef\n", "k:\n  |||| \xff\x9d: \xdd*canary-0123456789abcdef\n", "kafka:\n  sasl:\n    password: *canary-0123456789abcdef\n", "a: &a {b: 1}\nc: {<<: *a}\n", "&x data: *x\n", strings.Repeat("[", 1000), strings.Repeat("a: {", 300), strings.Repeat("a: {", 150) + strings.Repeat("\n", 6000) + "|" + strings.Repeat("\n", 6000), "data: !!binary canary\n", "data: |\n  x\n--- \ndata: y\n",
		"store: {dedupe_horizon: 99999999999999999999h}\n", "pipeline: {candidates: 1e99}\n", "kafka: {max_array: 0x7fffffffffffffff}\n", "cf: {seed: -1}\n", "\x00", "\xff\xfe", "\ufeffdata: x\n", "? - : \n",
		"x0: &x0 [a,a,a,a,a,a,a,a,a]\nx1: &x1 [*x0,*x0,*x0,*x0,*x0,*x0,*x0,*x0,*x0]\nx2: &x2 [*x1,*x1,*x1,*x1,*x1,*x1,*x1,*x1,*x1]\nx3: &x3 [*x2,*x2,*x2,*x2,*x2,*x2,*x2,*x2,*x2]\nx4: &x4 [*x3,*x3,*x3,*x3,*x3,*x3,*x3,*x3,*x3]\nx5: [*x4,*x4,*x4,*x4,*x4,*x4,*x4,*x4,*x4]\n",
	} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := dir + "/corastream.yaml"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var c node.Config
		var err error
		bounded.Parse(t, len(text), func() { c, err = node.Load(path) })
		if err == nil {
			if err := c.Validate(); err != nil {
				t.Errorf("loaded, but not valid: %v", err)
			}
			return
		}
		var usage *corastream.UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), path) {
			t.Errorf("not a usage error that names the file: %v", err)
		}
		if strings.Contains(err.Error(), "canary-0123456789abcdef") && !canaryKey.MatchString(text) {
			t.Errorf("the error shows a secret: %v", err)
		}
	})
}
