//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package gguf

import (
	"fmt"
	"io/fs"
	"os"
)

// load reads the whole file: the fallback where syscall has no Mmap.
func load(path string) ([]byte, fs.FileInfo, func() error, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, nil, fmt.Errorf("%s: %w", path, errNotRegular)
	}
	data, err := os.ReadFile(path)
	return data, info, func() error { return nil }, err
}

// release does nothing: the file is not mapped.
func release([]byte) {}
