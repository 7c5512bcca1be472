package adapter

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// The files of an export beside PEFT's own.
const (
	GGUFName   = "adapter.gguf"
	NoteName   = "corastream.json"
	exportText = "README.md"
)

// exportNames are all files that an export may hold.
var exportNames = []string{generator.PEFTWeights, GGUFName, exportText, generator.PEFTConfig, NoteName}

// Writable refuses a folder that holds something else.
func Writable(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return corastream.Usagef("--out", "name a folder", "%v", err)
	}
	for _, e := range entries {
		if !slices.Contains(exportNames, e.Name()) {
			return corastream.Usagef("--out", "name a new folder, or one of an earlier export", "%s holds %s, which is no export", dir, e.Name())
		}
	}
	return nil
}

// Write writes the files one by one, each whole or not at all, and corastream.json last. Files of an earlier export that this
// one lacks are removed. It returns the note with the folder's name in it.
func Write(dir string, files map[string][]byte) (map[string]any, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, name := range exportNames {
		path := filepath.Join(dir, name)
		body, ok := files[name]
		if !ok {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
			continue
		}
		if err := generator.WriteFile(path, body); err != nil {
			return nil, err
		}
	}
	var note map[string]any
	if err := json.Unmarshal(files[NoteName], &note); err != nil {
		return nil, fmt.Errorf("%s: %w", NoteName, err)
	}
	note["out"] = dir
	return note, nil
}

// MaxBytes bounds the bytes that are read of a running `up`, and those of each file in its answer.
const MaxBytes = 1 << 30

// Unzip reads an export's files; names that are none of its own are refused, so that nothing lands elsewhere.
func Unzip(body []byte) (map[string][]byte, error) {
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		return nil, fmt.Errorf("the answer is no zip file: %w", err)
	}
	files := map[string][]byte{}
	for _, f := range z.File {
		if !slices.Contains(exportNames, f.Name) || files[f.Name] != nil {
			return nil, fmt.Errorf("the answer holds a file %q, which is no part of an export", f.Name)
		}
		r, err := f.Open()
		if err != nil {
			return nil, fmt.Errorf("the answer's file %q: %w", f.Name, err)
		}
		b, err := io.ReadAll(io.LimitReader(r, MaxBytes))
		if err = errors.Join(err, r.Close()); err != nil {
			return nil, fmt.Errorf("the answer's file %q: %w", f.Name, err)
		}
		files[f.Name] = b
	}
	for _, name := range []string{generator.PEFTConfig, generator.PEFTWeights, NoteName} {
		if files[name] == nil {
			return nil, fmt.Errorf("the answer lacks %s (it has %s)", name, strings.Join(exportNames, ", "))
		}
	}
	return files, nil
}
