//go:build linux || darwin || freebsd || netbsd || openbsd

package gguf

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// load maps a regular file read-only. An empty file maps to no bytes.
func load(path string) ([]byte, fs.FileInfo, func() error, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, nil, fmt.Errorf("%s: %w", path, errNotRegular)
	}
	if info.Size() == 0 {
		return nil, info, func() error { return nil }, nil
	}
	if info.Size() > math.MaxInt {
		return nil, nil, nil, errors.New(path + ": too large for this system's address space")
	}
	data, err := syscall.Mmap(int(f.Fd()), 0, int(info.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("map %s: %w", path, err)
	}
	return data, info, func() error { return syscall.Munmap(data) }, nil
}

// release lets go of the whole pages in a part of a mapped file. The kernel may refuse; then they stay, as without it.
func release(raw []byte) {
	page := uintptr(os.Getpagesize())
	first := uintptr(unsafe.Pointer(unsafe.SliceData(raw)))
	from, to := (page-first%page)%page, (first+uintptr(len(raw)))/page*page-first
	if uintptr(len(raw)) >= page && from < to {
		_ = unix.Madvise(raw[from:to], unix.MADV_DONTNEED)
	}
}
