package store

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// filled makes a store of a few tables and returns its folder and digest.
func filled(t testing.TB) (dir, sum string) {
	t.Helper()
	dir = t.TempDir()
	s := mustOpen(t, dir, crashConfig())
	for o := int64(0); o < 6000; o += 1000 {
		mustCommit(t, s, run(0, o, o+1000, 3000, 1000))
	}
	sum = digest(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, sum
}

func files(t testing.TB, dir, pattern string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestFlippedBitsAreRefusedOrWithoutEffect: after any one bit flips in a table, the manifest, the key registry or the
// value log, the store is refused with the file's name or has the same digest; it never shows a wrong or missing record.
func TestFlippedBitsAreRefusedOrWithoutEffect(t *testing.T) {
	if raceDetector {
		t.Skip("Badger races with itself when it refuses a table")
	}
	flips := 12
	if testing.Short() {
		flips = 4
	}
	dir, want := filled(t)
	if n := len(files(t, dir, "*.sst")); n == 0 {
		t.Fatal("no table was written")
	}
	r := rand.New(rand.NewPCG(9, 9))
	for _, pattern := range []string{"*.sst", "MANIFEST", "KEYREGISTRY", "*.vlog"} {
		refused, same := 0, 0
		for range flips {
			list := files(t, dir, pattern)
			path := list[r.IntN(len(list))]
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) == 0 {
				continue
			}
			copied := t.TempDir()
			if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			at, bit := r.IntN(len(data)), r.IntN(8)
			data[at] ^= 1 << bit
			if err := os.WriteFile(filepath.Join(copied, filepath.Base(path)), data, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := opens(copied)
			switch {
			case err == nil && got == want:
				same++
			case err == nil:
				t.Errorf("%s, bit %d of byte %d: another digest and no error", filepath.Base(path), bit, at)
			case !strings.Contains(err.Error(), copied):
				t.Errorf("%s, bit %d of byte %d: the error does not name the place: %v", filepath.Base(path), bit, at, err)
			default:
				refused++
			}
			if pattern == "*.sst" && err != nil && !strings.Contains(err.Error(), filepath.Base(path)) {
				t.Errorf("the error does not name %s: %v", filepath.Base(path), err)
			}
			if err != nil && !errors.Is(err, corastream.ErrCorrupt) && !errors.Is(err, corastream.ErrMismatch) {
				t.Errorf("%s, bit %d of byte %d: neither corrupt nor mismatch: %v", filepath.Base(path), bit, at, err)
			}
		}
		t.Logf("%s: %d refused, %d without effect", pattern, refused, same)
		if pattern == "*.sst" && refused == 0 {
			t.Error("no damaged table was refused")
		}
	}
}

// TestFlippedManifestIsNoticedAtEveryByte: Badger alone takes some for the end of the file and deletes tables.
func TestFlippedManifestIsNoticedAtEveryByte(t *testing.T) {
	if testing.Short() {
		t.Skip("opens hundreds of stores")
	}
	dir, want := filled(t)
	path := filepath.Join(dir, badger.ManifestFilename)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	silent := 0
	for i := range 2 * len(whole) {
		at, bit := i/2, i%2*5
		data := bytes.Clone(whole)
		data[at] ^= 1 << bit
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, badger.ManifestFilename), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := opens(copied); err == nil && got != want {
			t.Errorf("bit %d of byte %d: another digest and no error", bit, at)
		} else if err == nil {
			silent++
		}
	}
	t.Logf("%d bytes, %d flips without effect", len(whole), silent)
}

// TestEveryBitOfASmallStoreIsNoticed: a store that was closed once has a table of one block and a MANIFEST whose first
// record is empty. Badger alone panics on some of the table's bits, in a goroutine of its own, and on one bit of the
// MANIFEST it deletes the table.
func TestEveryBitOfASmallStoreIsNoticed(t *testing.T) {
	if raceDetector {
		t.Skip("Badger races with itself when it refuses a table")
	}
	dir := t.TempDir()
	s := mustOpen(t, dir, crashConfig())
	mustCommit(t, s, run(0, 0, 3, 2, 2))
	want := digest(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tables := files(t, dir, "*.sst")
	if len(tables) != 1 {
		t.Fatalf("tables: %v", tables)
	}
	table, err := os.ReadFile(tables[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := checkTable(table); err != nil {
		t.Fatalf("the table as it was written: %v", err)
	}
	for i := range 8 * len(table) {
		table[i/8] ^= 1 << (i % 8)
		if checkTable(table) == nil {
			t.Errorf("bit %d of byte %d of %d of the table is not noticed", i%8, i/8, len(table))
		}
		table[i/8] ^= 1 << (i % 8)
	}
	for n := range len(table) {
		if checkTable(table[:n]) == nil {
			t.Errorf("a table cut to %d of %d bytes is not noticed", n, len(table))
		}
	}
	// A table that was being written at the kill is in no MANIFEST, and no reason to refuse.
	if err := os.WriteFile(filepath.Join(dir, "000077.sst"), table[:len(table)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := opens(dir); err != nil || got != want {
		t.Errorf("with a table cut short by a kill: %v", err)
	}
	manifest := filepath.Join(dir, badger.ManifestFilename)
	whole, err := os.ReadFile(manifest)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * 16 { // the header and the first record
		data := bytes.Clone(whole)
		data[i/8] ^= 1 << (i % 8)
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(copied, badger.ManifestFilename), data, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := opens(copied); err == nil && got != want {
			t.Errorf("bit %d of byte %d of the MANIFEST: another digest and no error", i%8, i/8)
		}
	}
}

// TestDamagedWriteAheadFileLeavesAMomentOfTheLog: the process is killed with several memtables not yet flushed, and a bit
// flips in one of their files. The store is refused, or its state is one that it had: that of its own journal.
func TestDamagedWriteAheadFileLeavesAMomentOfTheLog(t *testing.T) {
	flips := 16
	if testing.Short() {
		flips = 4
	}
	c := crashConfig()
	var killed string
	var mems []string
	for try := range 12 { // until it was caught with two of them
		dir := t.TempDir()
		if runChild(t, dir, time.Duration(20+try%4*30)*time.Millisecond) {
			continue
		}
		if list := files(t, dir, "*.mem"); len(list) > len(mems) {
			killed, mems = dir, list
		}
		if len(mems) > 1 {
			break
		}
	}
	if len(mems) == 0 {
		t.Fatal("no write-ahead file was left")
	}
	whole := t.TempDir()
	if err := os.CopyFS(whole, os.DirFS(killed)); err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, whole, c)
	most := applied(s)
	s.Close()
	r := rand.New(rand.NewPCG(5, 5))
	refused, back, same := 0, 0, 0
	for range flips {
		path := mems[r.IntN(len(mems))]
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(data, "\x00"))
		if used == 0 {
			continue
		}
		copied := t.TempDir()
		if err := os.CopyFS(copied, os.DirFS(killed)); err != nil {
			t.Fatal(err)
		}
		data[r.IntN(used)] ^= 1 << r.IntN(8)
		if err := os.WriteFile(filepath.Join(copied, filepath.Base(path)), data, 0o600); err != nil {
			t.Fatal(err)
		}
		damaged, err := Open(copied, c)
		if err != nil {
			if !errors.Is(err, corastream.ErrCorrupt) || !strings.Contains(err.Error(), copied) {
				t.Errorf("refused with %v", err)
			}
			refused++
			continue
		}
		noProblems(t, damaged)
		journalCovers(t, damaged)
		if applied(damaged) < most {
			back++
		} else {
			same++
		}
		if digest(t, damaged) != digest(t, rerun(t, damaged)) {
			t.Error("a state that never was")
		}
		damaged.Close()
	}
	t.Logf("%d write-ahead files: %d refused, %d went back, %d without effect", len(mems), refused, back, same)
}

// applied is how many records of the log a store has gone through.
func applied(s *Store) (n int64) {
	for _, next := range s.snap.offsets {
		n += next
	}
	return n
}

// opens opens, checks and digests a store.
func opens(dir string) (sum string, err error) {
	s, err := Open(dir, crashConfig())
	if err != nil {
		return "", err
	}
	defer s.Close()
	return s.Digest()
}

// TestDamagedRecordIsNamed by reads, Digest, Check and Snapshot alike, and by nothing else: its neighbours stay readable.
func TestDamagedRecordIsNamed(t *testing.T) {
	for name, key := range map[string][]byte{
		`user "u0-0"`: userKey("u0-0"), `item "i0"`: itemKey("i0"), `history block 0 of user "u0-0"`: historyKey("u0-0", 0),
	} {
		dir := t.TempDir()
		s := mustOpen(t, dir, testConfig())
		mustCommit(t, s, run(0, 0, 300, 5, 5))
		s.Close()
		db, err := badger.Open(testConfig().badger(dir, badgerLog{s.log, nil}))
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(txn *badger.Txn) error {
			value, err := get(txn, key)
			if err != nil {
				return err
			}
			value[len(value)/2] ^= 4
			return txn.Set(key, value)
		})
		if err != nil {
			t.Fatal(err)
		}
		db.Close()
		s = mustOpen(t, dir, testConfig())
		named := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, corastream.ErrCorrupt) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s of %s: %v", what, name, err)
			}
		}
		err = s.View(context.Background(), func(st corastream.State) error {
			if _, err := st.User("u0-1"); err != nil {
				t.Errorf("a neighbour: %v", err)
			}
			if _, err := st.User("u0-0"); err != nil {
				return err
			}
			_, err := st.Item("i0")
			return err
		})
		named("view", err)
		_, err = s.Commit(context.Background(), run(0, 300, 400, 5, 5), biasLearner)
		named("commit", err)
		_, err = s.Digest()
		named("digest", err)
		if name[0] != 'h' { // Snapshot reads each record by itself
			_, err = s.Snapshot(context.Background(), filepath.Join(t.TempDir(), "s"))
			named("snapshot", err)
		}
		r, err := s.Check(context.Background())
		if err != nil || r.Found == 0 {
			t.Fatalf("check: %v, %+v", err, r)
		}
		if !strings.Contains(r.Problems[0].String(), name) && !strings.Contains(r.Problems[len(r.Problems)-1].String(), name) {
			t.Errorf("check of %s found %v", name, r.Problems)
		}
		s.Close()
	}
}

// TestForeignFoldersAreRefused: another product's Badger, and another format of ours.
func TestForeignFoldersAreRefused(t *testing.T) {
	dir := t.TempDir()
	db, err := badger.Open(badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := Open(dir, testConfig()); !errors.Is(err, corastream.ErrMismatch) || !strings.Contains(err.Error(), dir) {
		t.Errorf("another product's: %v", err)
	}
	dir = t.TempDir()
	s := mustOpen(t, dir, testConfig())
	err = s.db.Update(func(txn *badger.Txn) error {
		k := metaKey("format")
		return txn.Set(k, encodeMeta(k, "99"))
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	if _, err := Open(dir, testConfig()); !errors.Is(err, corastream.ErrMismatch) || !strings.Contains(err.Error(), `"99"`) {
		t.Errorf("another format: %v", err)
	}
}

// TestBindRefusesAnotherSpec naming both.
func TestBindRefusesAnotherSpec(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, testConfig())
	ctx := context.Background()
	if err := s.Bind(ctx, "cf spec", "hybrid m=64", "start with --cf hybrid, or a new folder"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = mustOpen(t, dir, testConfig())
	if err := s.Bind(ctx, "cf spec", "hybrid m=64", ""); err != nil {
		t.Errorf("the same spec: %v", err)
	}
	err := s.Bind(ctx, "cf spec", "mf k=32", "start with --cf hybrid, or a new folder")
	if !errors.Is(err, corastream.ErrMismatch) {
		t.Fatalf("another spec: %v", err)
	}
	for _, part := range []string{"hybrid m=64", "mf k=32", dir, "new folder"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
	if err := s.SetMeta(ctx, "format", "2"); err == nil {
		t.Error("the format could be set")
	}
	if v, err := s.Meta("nothing"); v != "" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
}
