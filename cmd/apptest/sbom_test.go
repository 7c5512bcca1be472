//go:build app

package apptest

import (
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestSBOMNamesEveryModuleOfTheBinary, each with the sum that go.sum pins, and is the same for the same binary.
func TestSBOMNamesEveryModuleOfTheBinary(t *testing.T) {
	t.Parallel()
	write := func() string {
		out, err := exec.Command("go", "run", "../../.ci/sbom", program).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	text := write()
	if write() != text {
		t.Error("two runs over one binary differ")
	}
	var doc struct {
		SPDXVersion   string
		Packages      []struct{ Name, VersionInfo, Comment, SPDXID string }
		Relationships []struct{ RelatedSpdxElement string }
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	listed, ids := map[string]string{}, map[string]bool{}
	for _, p := range doc.Packages {
		listed[p.Name] = p.VersionInfo + " " + p.Comment
		if ids[p.SPDXID] {
			t.Errorf("the id %s stands for two packages", p.SPDXID)
		}
		ids[p.SPDXID] = true
	}
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	pinned, err := os.ReadFile("../../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if listed[m.Path] != m.Version+" go.sum "+m.Sum {
			t.Errorf("%s %s is listed as %q", m.Path, m.Version, listed[m.Path])
		}
		if !strings.Contains(string(pinned), m.Path+" "+m.Version+" "+m.Sum+"\n") {
			t.Errorf("go.sum does not pin %s %s", m.Path, m.Version)
		}
	}
	if doc.SPDXVersion != "SPDX-2.3" || len(doc.Packages) != len(info.Deps)+2 || len(doc.Relationships) != len(doc.Packages) || listed["std"] == "" {
		t.Errorf("%s with %d packages and %d relationships for %d modules", doc.SPDXVersion, len(doc.Packages), len(doc.Relationships), len(info.Deps))
	}
}
