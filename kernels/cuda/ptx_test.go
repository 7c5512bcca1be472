package cuda

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestPTXBelongsToItsSource needs no compiler: each .ptx names the digest of the source it was made from.
func TestPTXBelongsToItsSource(t *testing.T) {
	common, err := os.ReadFile("src/common.cuh")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("src/*.cu")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources: %v", err)
	}
	made, err := filepath.Glob("ptx/*.ptx")
	if err != nil || len(made) != len(sources) {
		t.Errorf("%d sources, %d PTX files: %v", len(sources), len(made), err)
	}
	kernel := regexp.MustCompile(`REGISTER\((\w+)(##\w+)?\)`)
	for _, path := range sources {
		name := strings.TrimSuffix(filepath.Base(path), ".cu")
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(append(append([]byte(nil), common...), source...))
		text, err := os.ReadFile("ptx/" + name + ".ptx")
		if err != nil {
			t.Errorf("%v (run `make cuda-ptx`)", err)
			continue
		}
		ptx := string(text)
		if !strings.HasPrefix(ptx, "// source-sha256: "+hex.EncodeToString(sum[:])+"\n") {
			t.Errorf("%s.ptx was made from another %s.cu or common.cuh (run `make cuda-ptx`)", name, name)
		}
		if strings.Count(ptx, "\n.version 7.0\n") != 1 || strings.Count(ptx, "\n.target sm_80\n") != 1 {
			t.Errorf("%s.ptx is not version 7.0 for sm_80", name)
		}
		found := map[string]bool{}
		for _, e := range entries(ptx) {
			found[e] = true
		}
		for _, m := range kernel.FindAllStringSubmatch(string(source), -1) {
			if m[2] == "" && !found[m[1]] {
				t.Errorf("%s.ptx lacks kernel %s", name, m[1])
			}
		}
		if len(found) == 0 {
			t.Errorf("%s.ptx has no kernel", name)
		}
	}
}
