//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package llm

import (
	"io/fs"
	"os"
)

// mapFile reads the whole file: the fallback where syscall has no Mmap.
func mapFile(path string) ([]byte, func() error, error) {
	data, err := os.ReadFile(path)
	return data, func() error { return nil }, err
}

// inode is the file's own number, 0 when there is none.
func inode(fs.FileInfo) uint64 { return 0 }
