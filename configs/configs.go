// Package configs carries the example configurations, so that the binary runs the demo from any folder.
package configs

import (
	"embed"
	"os"
	"path/filepath"
)

// Names of the embedded files.
const (
	Default    = "default.yaml"
	Demo       = "demo.yaml"
	Checkpoint = "demo.safetensors"
)

// Files are the configurations and the demo's checkpoint.
//
//go:embed *.yaml *.safetensors
var Files embed.FS

// Extract writes the demo's files into dir.
func Extract(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{Demo, Checkpoint} {
		b, err := Files.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
