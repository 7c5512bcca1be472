package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/bounded"
)

// TestSnapshotRoundTrip: taken while learning goes on, it restores one state between two commits, debts and journal with it.
func TestSnapshotRoundTrip(t *testing.T) {
	c := testConfig()
	s := mustOpen(t, t.TempDir(), c)
	ctx := context.Background()
	mustCommit(t, s, twoPartitions(0, 500))
	if err := s.SetMeta(ctx, "cluster", "c1"); err != nil {
		t.Fatal(err)
	}
	before := raw(t, s)
	path := filepath.Join(t.TempDir(), "snap")
	var info SnapshotInfo
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if info, err = s.Snapshot(ctx, path); err != nil {
			t.Error(err)
		}
	})
	wg.Wait()
	mustCommit(t, s, twoPartitions(500, 500))
	dir := filepath.Join(t.TempDir(), "restored")
	got, err := Restore(ctx, path, dir, c)
	if err != nil || got != info {
		t.Fatalf("%v; restored %+v, written %+v", err, got, info)
	}
	r := mustOpen(t, dir, c)
	if after := raw(t, r); !reflect.DeepEqual(before, after) {
		t.Errorf("restored: %s", diff(before, after))
	}
	noProblems(t, r)
	mustCommit(t, r, twoPartitions(500, 500)) // the log goes on from the snapshot's offsets
	if digest(t, r) != digest(t, s) {
		t.Error("the restored store went another way")
	}
	if _, err := Restore(ctx, path, dir, c); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("restored over a store: %v", err)
	}
	if st, err := os.Stat(path); err != nil || st.Size() != info.Bytes {
		t.Errorf("%v; %+v says %d bytes", err, st, info.Bytes)
	}
}

// TestDamagedSnapshotIsRefused: any flipped bit and any cut are, and no folder appears.
func TestDamagedSnapshotIsRefused(t *testing.T) {
	c := testConfig()
	s := mustOpen(t, t.TempDir(), c)
	mustCommit(t, s, twoPartitions(0, 100))
	path := filepath.Join(t.TempDir(), "snap")
	if _, err := s.Snapshot(context.Background(), path); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	ignore := func(_, _ []byte) error { return nil }
	if _, err := readSnapshot(context.Background(), bytes.NewReader(whole), ignore); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, data []byte) {
		t.Helper()
		_, err := readSnapshot(context.Background(), bytes.NewReader(data), ignore)
		if !errors.Is(err, corastream.ErrCorrupt) && !errors.Is(err, corastream.ErrMismatch) {
			t.Errorf("%s: %v", what, err)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		at, bit := r.IntN(len(whole)), r.IntN(8)
		data := bytes.Clone(whole)
		data[at] ^= 1 << bit
		refused("a flipped bit", data)
		refused("a cut", whole[:r.IntN(len(whole))])
	}
	refused("a byte too many", append(bytes.Clone(whole), 0))

	whole[len(whole)/2] ^= 1
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new")
	if _, err := Restore(context.Background(), path, dir, c); !errors.Is(err, corastream.ErrCorrupt) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v", err)
	}
	if list, _ := os.ReadDir(filepath.Dir(dir)); len(list) != 0 {
		t.Errorf("left behind: %v", list)
	}
}

// FuzzSnapshot: no bytes make the reader panic or take more memory than a block.
func FuzzSnapshot(f *testing.F) {
	s := mustOpen(f, f.TempDir(), testConfig())
	mustCommit(f, s, run(0, 0, 3, 2, 2))
	path := filepath.Join(f.TempDir(), "snap")
	if _, err := s.Snapshot(context.Background(), path); err != nil {
		f.Fatal(err)
	}
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte(snapMagic + "\x01\x00\x00\x00\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := int64(0)
		var info SnapshotInfo
		var err error
		bounded.Parse(t, len(data), func() {
			info, err = readSnapshot(context.Background(), bytes.NewReader(data), func(_, _ []byte) error { n++; return nil })
		})
		if err == nil && (info.Records != n || info.Bytes != int64(len(data))) {
			t.Errorf("%+v after %d records in %d bytes", info, n, len(data))
		}
	})
}
