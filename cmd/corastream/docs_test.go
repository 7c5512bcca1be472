package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/cmd/internal/testkit"
)

// TestTroubleshootingQuotesMessagesThereAre: each heading of docs/guide/troubleshooting.md that is a message is in the code, letter by letter.
func TestTroubleshootingQuotesMessagesThereAre(t *testing.T) {
	var code strings.Builder
	if err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			code.Write(b)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/guide/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	quoted := regexp.MustCompile("`([^`]+)`|\"(.+)\"")
	for _, line := range strings.Split(string(page), "\n") {
		heading, ok := strings.CutPrefix(line, "### ")
		if !ok {
			continue
		}
		messages := quoted.FindAllStringSubmatch(heading, -1)
		if strings.HasPrefix(heading, "\"") { // a message that has backquotes itself
			messages = [][]string{{"", "", strings.Trim(heading, "\"")}}
		}
		for _, m := range messages {
			found++
			if message := m[1] + m[2]; !strings.Contains(code.String(), message) {
				t.Errorf("nothing says %q", message)
			}
		}
	}
	if found < 20 {
		t.Errorf("only %d messages found", found)
	}
}

// TestDocumentsLinkToWhatThereIs: relative links and pictures of README and docs lead to files.
func TestDocumentsLinkToWhatThereIs(t *testing.T) {
	files, err := filepath.Glob("../../docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob("../../docs/*/*/*.md")
	if err != nil || len(deeper) == 0 {
		t.Fatal(deeper, err)
	}
	link := regexp.MustCompile(`\]\(([^)#]+)[)#]|(?:src|href)="([^"#]+)"`)
	for _, file := range append(append(files, deeper...), "../../README.md") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(b), -1) {
			to := m[1] + m[2]
			if strings.Contains(to, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), to)); err != nil {
				t.Errorf("%s links to %s: %v", file, to, err)
			}
		}
	}
}

// TestYAMLOfTheDocumentsLoads: whoever copies a configuration from a page gets one that is understood. A block that says so goes on where
// the one before it ended.
func TestYAMLOfTheDocumentsLoads(t *testing.T) {
	files, err := filepath.Glob("../../docs/*/*.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(node.EnvPassword, "0123456789abcdef")
	found := 0
	for _, file := range append(files, "../../README.md") {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text := ""
		for _, block := range strings.Split(string(page), "```yaml\n")[1:] {
			block, _, _ = strings.Cut(block, "```")
			if first, _, _ := strings.Cut(block, "\n"); !strings.Contains(first, "continued") {
				text = ""
			}
			text += block
			found++
			if _, err := node.Load(testkit.Write(t, filepath.Base(file)+".yaml", text)); err != nil {
				t.Errorf("%s: %v\n%s", file, err, text)
			}
		}
	}
	if found < 3 {
		t.Errorf("only %d blocks found", found)
	}
}

// TestTheMapNamesFilesThereAre: each Go file that docs/develop/architecture.md names is somewhere under the folder it is named with.
func TestTheMapNamesFilesThereAre(t *testing.T) {
	var have []string
	if err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			have = append(have, filepath.ToSlash(path))
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/develop/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("[`(]([a-z0-9_/]+\\.go)\\b").FindAllStringSubmatch(string(page), -1)
	for _, m := range named {
		if !slices.ContainsFunc(have, func(path string) bool { return strings.HasSuffix(path, "/"+m[1]) }) {
			t.Errorf("there is no file %s", m[1])
		}
	}
	if len(named) < 100 {
		t.Errorf("only %d files are named", len(named))
	}
}
