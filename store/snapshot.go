package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/corastream/corastream"
	"github.com/dgraph-io/badger/v4"
	"github.com/rs/zerolog"
)

// A snapshot file: magic and version; blocks of records, each with its length and CRC32C; an empty block; the number of
// records and the SHA-256 of all bytes before it. See docs/reference/format.md.
const (
	snapMagic = "CORASNAP"
	snapBlock = 1 << 20 // a block is closed once it is that long
	snapMax   = snapBlock + 2*MaxRecord
)

const snapVersion = 1

// SnapshotInfo says what a snapshot file holds.
type SnapshotInfo struct {
	Records int64
	Bytes   int64
	SHA256  [32]byte
}

// Snapshot writes the whole store as it stands, one state between two commits, to a file that appears under path only
// when it is complete. Learning goes on meanwhile. The list model's
// table goes with it.
func (s *Store) Snapshot(ctx context.Context, path string) (SnapshotInfo, error) {
	sn, table, err := s.withTable()
	if err != nil {
		return SnapshotInfo{}, err
	}
	defer sn.release()
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return SnapshotInfo{}, fmt.Errorf("store: snapshot: %w", err)
	}
	info, err := writeSnapshot(ctx, sn.txn, f, s.guard, table)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = corastream.Failpoint("snapshot.written")
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return info, fmt.Errorf("store: snapshot to %s: %w", path, err)
	}
	return info, syncDir(filepath.Dir(path))
}

func writeSnapshot(ctx context.Context, txn *badger.Txn, f io.Writer, g *guard, table *tableFile) (info SnapshotInfo, err error) {
	sum := sha256.New()
	count := &counter{w: io.MultiWriter(f, sum)}
	out := bufio.NewWriterSize(count, snapBlock)
	out.WriteString(snapMagic)
	binary.Write(out, binary.LittleEndian, uint32(snapVersion))
	var block []byte
	flush := func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := g.room(g.reserve / 2); err != nil { // a snapshot must not be what fills the disk
			return err
		}
		if err := corastream.Failpoint("snapshot.block"); err != nil {
			return err
		}
		return writeBlock(out, &block)
	}
	add := func(key, v []byte) error {
		info.Records++
		block = append(appendUvarint(block, uint64(len(key))), key...)
		block = append(appendUvarint(block, uint64(len(v))), v...)
		if len(block) >= snapBlock {
			return flush()
		}
		return nil
	}
	err = scan(txn, nil, nil, func(key []byte, it *badger.Item) (bool, error) {
		if table != nil && key[0] == pSteps {
			return true, nil // the table has them
		}
		err := it.Value(func(v []byte) error {
			if _, err := open(key, v); err != nil {
				return err
			}
			return add(key, v)
		})
		return err == nil, err
	})
	if err == nil && table != nil {
		err = table.records(add)
	}
	if err == nil && len(block) > 0 {
		err = flush()
	}
	if err != nil {
		return info, err
	}
	writeBlock(out, &block)
	binary.Write(out, binary.LittleEndian, uint64(info.Records))
	if err := out.Flush(); err != nil {
		return info, err
	}
	copy(info.SHA256[:], sum.Sum(nil))
	info.Bytes = count.n + int64(len(info.SHA256))
	_, err = f.Write(info.SHA256[:])
	return info, err
}

// writeBlock writes a block and empties it. bufio keeps the first error for Flush.
func writeBlock(out *bufio.Writer, block *[]byte) error {
	var head [8]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(*block)))
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(*block, castagnoli))
	out.Write(head[:])
	_, err := out.Write(*block)
	*block = (*block)[:0]
	return err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// Restore makes a store in dir, which must be absent or empty, from a snapshot file. The folder appears only when all of
// the file has been read and found intact. Only what is alive is in a snapshot: Restore into a new folder is also the way
// to make erased bytes leave the disk.
func Restore(ctx context.Context, path, dir string, c Config, opts ...Option) (SnapshotInfo, error) {
	var info SnapshotInfo
	if err := c.Validate(); err != nil {
		return info, err
	}
	if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
		return info, corastream.Usagef(dir, "restore into a new folder, then put it in the old one's place", "the folder is not empty")
	}
	f, err := os.Open(path)
	if err != nil {
		return info, fmt.Errorf("store: restore: %w", err)
	}
	defer f.Close()
	tmp := filepath.Clean(dir) + ".restoring"
	if err := os.RemoveAll(tmp); err != nil {
		return info, fmt.Errorf("store: restore: %w", err)
	}
	s := &Store{log: zerolog.Nop()}
	for _, o := range opts {
		o(s)
	}
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return info, fmt.Errorf("store: restore: %w", err)
	}
	db, err := openBadger(c.badger(tmp, badgerLog{s.log, nil}).WithSyncWrites(false))
	if err != nil {
		return info, fmt.Errorf("store: restore: %w", err)
	}
	batch := db.NewWriteBatch()
	list := restoredTable{dir: filepath.Join(tmp, tableFolder)}
	info, err = readSnapshot(ctx, f, func(key, value []byte) error {
		if key[0] == pTable {
			return list.add(key, value)
		}
		return batch.Set(bytes.Clone(key), bytes.Clone(value))
	})
	if err == nil {
		err = batch.Flush()
	} else {
		batch.Cancel()
	}
	if err == nil {
		err = db.Sync()
	}
	if err = errors.Join(err, list.close(err == nil), db.Close()); err == nil {
		err = corastream.Failpoint("restore.written")
	}
	if err == nil {
		os.Remove(dir) // an empty one
		err = os.Rename(tmp, dir)
	}
	if err != nil {
		os.RemoveAll(tmp)
		return info, fmt.Errorf("store: restore %s: %w", path, err)
	}
	if err := corastream.Failpoint("restore.renamed"); err != nil {
		return info, err
	}
	return info, syncDir(filepath.Dir(filepath.Clean(dir)))
}

// readSnapshot yields the records and checks everything; an error at the end means that none of them may be trusted.
func readSnapshot(ctx context.Context, f io.Reader, put func(key, value []byte) error) (info SnapshotInfo, err error) {
	in := &hashed{r: bufio.NewReaderSize(f, 64<<10), sum: sha256.New()}
	var head [8 + 4]byte
	if err := in.full(head[:]); err != nil {
		return info, err
	}
	if string(head[:8]) != snapMagic {
		return info, fmt.Errorf("%w: not a snapshot file", corastream.ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != snapVersion {
		return info, fmt.Errorf("%w: snapshot version %d, this program reads %d", corastream.ErrMismatch, v, snapVersion)
	}
	for buf := []byte(nil); ; {
		if err := ctx.Err(); err != nil {
			return info, err
		}
		at := in.n
		if err := in.full(head[:8]); err != nil {
			return info, err
		}
		n, want := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
		if n == 0 {
			break
		}
		if n > snapMax {
			return info, fmt.Errorf("%w: block of %d bytes at byte %d", corastream.ErrCorrupt, n, at)
		}
		if buf, err = in.grow(buf, int(n)); err != nil {
			return info, err
		}
		if got := crc32.Checksum(buf[:n], castagnoli); got != want {
			return info, fmt.Errorf("%w: block at byte %d: checksum %08x, stored %08x", corastream.ErrCorrupt, at, got, want)
		}
		for r := (reader{b: buf[:n]}); len(r.b) > 0; info.Records++ {
			key := r.take(r.uvarint())
			value := r.take(r.uvarint())
			if r.bad || len(key) == 0 {
				return info, fmt.Errorf("%w: block at byte %d does not decode", corastream.ErrCorrupt, at)
			}
			if _, err := open(key, value); err != nil {
				return info, err
			}
			if err := put(key, value); err != nil {
				return info, err
			}
		}
	}
	if err := in.full(head[:8]); err != nil {
		return info, err
	}
	if n := binary.LittleEndian.Uint64(head[:8]); n != uint64(info.Records) {
		return info, fmt.Errorf("%w: %d records, %d announced", corastream.ErrCorrupt, info.Records, n)
	}
	copy(info.SHA256[:], in.sum.Sum(nil))
	var want [33]byte
	if n, _ := io.ReadFull(in.r, want[:]); n != 32 || [32]byte(want[:32]) != info.SHA256 {
		return info, fmt.Errorf("%w: SHA-256 at the end of the file does not agree", corastream.ErrCorrupt)
	}
	info.Bytes = in.n + 32
	return info, nil
}

// hashed reads through a hash.
type hashed struct {
	r   *bufio.Reader
	sum hash.Hash
	n   int64
}

func (h *hashed) full(b []byte) error {
	n, err := io.ReadFull(h.r, b)
	h.n += int64(n)
	h.sum.Write(b[:n])
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the file is cut off at byte %d", corastream.ErrCorrupt, h.n)
	}
	return err
}

// grow reads n bytes into buf, which grows with what is really there: a length is not believed before its bytes came.
func (h *hashed) grow(buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		at := len(buf)
		buf = slices.Grow(buf, min(n-at, 64<<10))[:min(n, at+64<<10)]
		if err := h.full(buf[at:]); err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// syncDir makes a rename survive a power loss.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("store: %w", err)
	}
	return nil
}
