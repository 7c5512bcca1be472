package llm

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/corastream/corastream/serve/llm/gguf"
	"github.com/corastream/corastream/serve/llm/token"
)

// TestThePageOfModelsNamesWhatIsRead holds docs/reference/models.md to the lists in the code, in both directions where the page has a
// table of its own.
func TestThePageOfModelsNamesWhatIsRead(t *testing.T) {
	b, err := os.ReadFile("../../docs/reference/models.md")
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]string{}
	for _, s := range strings.Split(string(b), "\n## ")[1:] {
		head, text, _ := strings.Cut(s, "\n")
		sections[head] = text
	}
	var types []string
	for _, line := range strings.Split(sections["Types of tensors"], "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 5 && !strings.Contains(line, "---") && !strings.Contains(line, "bits for") {
			types = append(types, strings.TrimSpace(cells[1]))
		}
	}
	want := strings.Split(gguf.Supported(), ", ")
	slices.Sort(types)
	slices.Sort(want)
	if !slices.Equal(types, want) {
		t.Errorf("the page lists the types %q, read are %q", types, want)
	}
	for section, names := range map[string][]string{
		"Architectures":  strings.Split(familyNames(), ", "),
		"Tokenizers":     strings.Split(token.PreTokenizers(), ", "),
		"Chat templates": chatNames()[1:],
	} {
		for _, name := range names {
			if !strings.Contains(sections[section], "`"+name+"`") {
				t.Errorf("%s: %q is not on the page", section, name)
			}
		}
	}
}
