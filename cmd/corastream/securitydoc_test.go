package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumentsNameTestsThatExist: what they say is tested, is.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	out, err := exec.Command("grep", "-rhoE", "--include=*_test.go", `^func (Test|Fuzz)[A-Za-z0-9_]+`, "../..").Output()
	if err != nil {
		t.Fatal(err)
	}
	have := strings.Fields(strings.ReplaceAll(string(out), "func ", ""))
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z][A-Za-z0-9_]*)`")
	for _, doc := range []string{"reference/security.md", "develop/reliability.md"} {
		b, err := os.ReadFile("../../docs/" + doc)
		if err != nil {
			t.Fatal(err)
		}
		all := named.FindAllStringSubmatch(string(b), -1)
		for _, m := range all {
			if !slices.Contains(have, m[1]) {
				t.Errorf("docs/%s names %s, which is no test", doc, m[1])
			}
		}
		if len(all) == 0 {
			t.Errorf("docs/%s names no test", doc)
		}
	}
}
