//go:build linux || darwin || freebsd

package store

import "syscall"

// freeBytes is what an ordinary user may still write on dir's file system.
func freeBytes(dir string) (int64, bool, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, false, err
	}
	return int64(st.Bavail) * int64(st.Bsize), true, nil
}
