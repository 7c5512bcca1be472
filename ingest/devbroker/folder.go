package devbroker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const (
	lockName    = "broker.lock"
	addressName = "broker.addr"
)

// folder is a data folder that this process holds; nil is a broker in memory.
type folder struct {
	path string
	lock *os.File
}

func openFolder(path string) (*folder, error) {
	if path == "" {
		return nil, nil
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("open the broker's folder: %w", err)
	}
	name := filepath.Join(path, lockName)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the broker's folder: %w", err)
	}
	f.Close()
	lock, err := tryLock(name)
	if errors.Is(err, ErrHeld) {
		return nil, fmt.Errorf("%s: %w (fix: stop that process, or use it: its address is in %s)", path, ErrHeld, addressName)
	}
	if err != nil {
		return nil, err
	}
	d := &folder{path: path, lock: lock}
	// A killed process leaves its address behind.
	if err := d.withdraw(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// named is " on FOLDER" for messages.
func (d *folder) named() string {
	if d == nil {
		return ""
	}
	return " on " + d.path
}

// publish writes the address where Find looks. Rename makes it whole or absent.
func (d *folder) publish(addr string) error {
	if d == nil {
		return nil
	}
	tmp := filepath.Join(d.path, addressName+".tmp")
	if err := os.WriteFile(tmp, []byte(addr), 0o644); err != nil {
		return fmt.Errorf("write the broker's address: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(d.path, addressName)); err != nil {
		return fmt.Errorf("write the broker's address: %w", err)
	}
	return nil
}

func (d *folder) withdraw() error {
	if d == nil {
		return nil
	}
	if err := os.Remove(filepath.Join(d.path, addressName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the broker's address: %w", err)
	}
	return nil
}

// close frees the lock. The lock file stays: removing it would let a third process lock a file that nobody sees.
func (d *folder) close() error {
	if d == nil {
		return nil
	}
	return d.lock.Close()
}
