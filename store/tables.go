package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
)

// checkTables verifies every table that the MANIFEST names before Badger opens any: on some damage Badger panics in a
// goroutine of its own, which nobody can catch, before it has looked at a checksum, and names no file. A table that is not
// named was being written when the process was killed; Badger removes it.
//
// A table (*.sst), from its end: length of the checksum (u32), the checksum of the index (a protobuf: field 2 is its
// CRC32C), length of the index (u32), the index (a flatbuffer). Each block it names ends with the length of a checksum
// (u32) and before that the checksum of all before. Lengths are big-endian.
func checkTables(dir string) error {
	files, err := namedTables(dir)
	if err != nil {
		return err
	}
	errs := make([]error, len(files))
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	var wg sync.WaitGroup
	for i, path := range files {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			table, err := os.ReadFile(path)
			if err == nil {
				err = checkTable(table)
			}
			if err != nil {
				errs[i] = fmt.Errorf("%w: %s: %w", corastream.ErrCorrupt, path, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// namedTables lists the tables of the MANIFEST; none when it does not read, as Badger then says why.
func namedTables(dir string) (files []string, err error) {
	f, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a new store
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, badgerMagic, badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return nil, nil
	}
	for id := range m.Tables {
		path := filepath.Join(dir, fmt.Sprintf("%06d.sst", id))
		if _, err := os.Stat(path); err == nil { // Badger names a missing one
			files = append(files, path)
		}
	}
	return files, nil
}

var errTable = errors.New("the table is cut short, or its footer is damaged")

func checkTable(table []byte) (err error) {
	rest, sum, err := cutSum(table)
	if err != nil || len(rest) < 4 {
		return errTable
	}
	n := binary.BigEndian.Uint32(rest[len(rest)-4:])
	if rest = rest[:len(rest)-4]; uint64(n) > uint64(len(rest)) || n < 8 {
		return errTable
	}
	index := rest[len(rest)-int(n):]
	if crc32.Checksum(index, castagnoli) != sum {
		return errors.New("the index fails its checksum")
	}
	defer func() { // an index that passes is what Badger wrote; a CRC can be forged
		if p := recover(); p != nil {
			err = fmt.Errorf("the index does not decode: %v", p)
		}
	}()
	root := fb.GetRootAsTableIndex(index, 0)
	var block fb.BlockOffset
	for i := range root.OffsetsLength() {
		if !root.Offsets(&block, i) {
			return fmt.Errorf("block %d is missing from the index", i)
		}
		from, n := uint64(block.Offset()), uint64(block.Len())
		if from+n > uint64(len(rest)) {
			return fmt.Errorf("block %d lies outside the file", i)
		}
		data, sum, err := cutSum(rest[from : from+n])
		if err != nil || crc32.Checksum(data, castagnoli) != sum {
			return fmt.Errorf("block %d at byte %d fails its checksum", i, from)
		}
	}
	return nil
}

// cutSum takes a checksum and its length off the end of b.
func cutSum(b []byte) (rest []byte, sum uint32, err error) {
	if len(b) < 4 {
		return nil, 0, errTable
	}
	n := binary.BigEndian.Uint32(b[len(b)-4:])
	if b = b[:len(b)-4]; uint64(n) > uint64(len(b)) || n > 32 {
		return nil, 0, errTable
	}
	rest, proto := b[:len(b)-int(n)], b[len(b)-int(n):]
	for len(proto) > 0 { // field 1: the algorithm, 0 (CRC32C) and so left out; field 2: the sum
		v, k := binary.Uvarint(proto[1:])
		if k <= 0 || proto[0] != 2<<3 || v > math.MaxUint32 {
			return nil, 0, errTable
		}
		sum, proto = uint32(v), proto[1+k:]
	}
	return rest, sum, nil
}
