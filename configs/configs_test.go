package configs

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestExtractWritesWhatIsEmbedded: the binary carries the demo's files, and unpacks them whole, over older ones too. That
// each configuration loads is tested with the program that reads it, in cmd/corastream.
func TestExtractWritesWhatIsEmbedded(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	for range 2 {
		if err := Extract(dir); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{Demo, Checkpoint} {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			here, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, here) {
				t.Errorf("%s: %d bytes were unpacked, the file has %d", name, len(got), len(here))
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := Extract(filepath.Join(dir, Demo, "below")); err == nil {
		t.Error("unpacked into a file")
	}
}

// TestEveryFileIsEmbedded: a configuration that is only in the folder is missing from the binary.
func TestEveryFileIsEmbedded(t *testing.T) {
	for _, pattern := range []string{"*.yaml", "*.safetensors"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v, %v", pattern, names, err)
		}
		for _, name := range names {
			b, err := Files.ReadFile(name)
			if err != nil || len(b) == 0 {
				t.Errorf("%s: %d bytes, %v", name, len(b), err)
			}
		}
	}
	if _, err := Files.ReadFile(Default); err != nil {
		t.Error(err)
	}
}
