package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
)

// checkManifest refuses a MANIFEST with a damaged length. Badger takes such a record and all after it for a write that
// was cut off by a crash, forgets the tables they name, and deletes those files: users would be gone without an error.
// A record that was really cut off has no intact end; a damaged length leaves the checksum of what it once framed.
//
// The file: "Bdgr", two version numbers (8 bytes in all), then records of length u32, CRC32C u32, and a protobuf, big-endian.
func checkManifest(dir string) error {
	path := filepath.Join(dir, badger.ManifestFilename)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a new store
	}
	if err != nil {
		return err
	}
	for at := 8; at+8 < len(data); {
		rest := data[at+8:]
		n, want := binary.BigEndian.Uint32(data[at:]), binary.BigEndian.Uint32(data[at+4:])
		if uint64(n) <= uint64(len(rest)) {
			at += 8 + int(n) // Badger verifies its checksum
			continue
		}
		sum := uint32(0)
		if want == 0 { // a new store's first record is empty
			return fmt.Errorf("%w: %s: the length %d of the record at byte %d should be 0", corastream.ErrCorrupt, path, n, at)
		}
		for i := range rest {
			if sum = crc32.Update(sum, castagnoli, rest[i:i+1]); sum == want {
				return fmt.Errorf("%w: %s: the length %d of the record at byte %d should be %d", corastream.ErrCorrupt, path, n, at, i+1)
			}
		}
		return nil // cut off
	}
	return nil
}

// checkJournal refuses a journal with a line missing in the middle: a damaged write-ahead file (.mem) makes Badger drop
// the transactions from the damage to that file's end, while newer ones in the next file stay. A state with such a hole
// belongs to no moment of the log. Only lines that may have been in write-ahead files are looked at.
func (s *Store) checkJournal(sn *snap) error {
	oldest := sn.shared.first
	if lines := uint64(s.cfg.memTable()*(memTables+2)) / minLine; sn.seq > lines {
		oldest = max(oldest, sn.seq-lines)
	}
	o := badger.DefaultIteratorOptions
	o.Reverse, o.PrefetchValues, o.Prefix = true, false, []byte{pJournal}
	it := sn.txn.NewIterator(o)
	defer it.Close()
	it.Seek(append(journalKey(sn.seq), 0xff))
	for want := sn.seq; want >= oldest; want-- {
		if !it.Valid() || !bytes.Equal(it.Item().Key(), journalKey(want)) {
			return fmt.Errorf("%w: %s: journal line %d is missing: a write-ahead file (*.mem) was damaged (fix: restore a snapshot, or remove the folder and learn again from the log)",
				corastream.ErrCorrupt, s.dir, want)
		}
		it.Next()
	}
	return nil
}

// minLine is less than what a transaction with a journal line takes in a write-ahead file.
const minLine = 96
