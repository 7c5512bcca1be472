package rollout

import (
	"os"
	"path/filepath"
	"testing"
)

// TestARolloutNamesNoPath: the one request that says which file to read names it within the operator's folder.
func TestARolloutNamesNoPath(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"inside/new.safetensors", "outside.safetensors"} {
		path := filepath.Join(dir, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &Rollout{d: Deps{Config: Config{Dir: filepath.Join(dir, "inside")}}}
	if path, err := r.find("new.safetensors"); err != nil || path != filepath.Join(dir, "inside", "new.safetensors") {
		t.Errorf("a file of the folder: %q, %v", path, err)
	}
	for _, name := range []string{"../outside.safetensors", filepath.Join(dir, "outside.safetensors"), "", ".", "..", "/", "inside/../../outside.safetensors", "a/b", "none", "new.safetensors\x00"} {
		if path, err := r.find(name); err == nil {
			t.Errorf("%q is %s", name, path)
		}
	}
}
