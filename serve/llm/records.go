package llm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/corastream/corastream"
)

// records is a file of values by key that several processes share. It is a cache: whatever is torn, foreign or fails its checksum is
// dropped and made again by the caller.
//
// Format, little-endian: a header of 80 bytes, which the owner of the format gives, then records, one behind the other, 48 bytes and
// values each
//
//	 0  uint32    CRC-32C of the record's bytes 4..47
//	 4  uint32    CRC-32C of the values
//	 8  uint32    n, by which the owner knows how long the values are
//	12  uint32    0
//	16  [32]byte  key
//	48  values
//
// Records are only added, under a lock of the file that is held for one record. The first record whose header fails its checksum, or
// that reaches past the end of the file, is where a write was cut short: the next one who writes cuts the file there. A process finds
// the records of another when it misses one of its own.
//
// A file that has reached its limit is begun anew in a file of its own that takes its place, unless this process uses most of what is
// in it. A process that still has the old one open goes on with that.
type records struct {
	mu     sync.Mutex
	f      *os.File
	path   string
	header []byte
	size   func(n int) int64 // of the values
	index  map[entryKey]recordAt
	end    int64
	limit  int64
	used   int64 // bytes of records that this process has read or written
	err    error // the first failure to write; the caller goes on in memory
}

// recordAt is where a record lies in the file.
type recordAt struct {
	at  int64 // of its header
	n   int
	crc uint32 // of the values
}

const (
	cacheHeaderBytes = 80
	cacheRecordBytes = 48
	mostOfOneRecord  = 1 << 20 // n
)

// How long a record waits for the file's lock. Another process holds it for the time of one write.
const (
	lockTries = 20
	lockPause = time.Millisecond
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openRecords opens or makes the file.
func openRecords(path string, header []byte, limit int64, size func(n int) int64) (*records, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, corastream.Usagef("llm.cache_dir", "name a folder that can be written, or none", "%v", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, corastream.Usagef("llm.cache_dir", "name a folder that can be written, or none", "%v", err)
	}
	r := &records{f: f, path: path, header: header, size: size, index: map[entryKey]recordAt{}, limit: limit}
	now := time.Now()
	_ = os.Chtimes(path, now, now) // when it was last used: trimCache
	if err := r.catchUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("open cache: %w", err), f.Close())
	}
	return r, nil
}

// catchUp adds the records behind end to the index. It changes nothing in the file.
func (r *records) catchUp() error {
	info, err := r.f.Stat()
	if err != nil {
		return err
	}
	if r.end > info.Size() { // cut by somebody who found damage before end
		r.end = 0
		clear(r.index)
	}
	if r.end == 0 {
		got := make([]byte, cacheHeaderBytes)
		if n, err := r.f.ReadAt(got, 0); err != nil && err != io.EOF || n < len(got) || !bytes.Equal(got, r.header) {
			if err == io.EOF {
				err = nil
			}
			return err
		}
		r.end = cacheHeaderBytes
	}
	head := make([]byte, cacheRecordBytes)
	le := binary.LittleEndian
	for r.end+cacheRecordBytes <= info.Size() {
		if _, err := r.f.ReadAt(head, r.end); err != nil {
			break
		}
		n := le.Uint32(head[8:])
		if crc32.Checksum(head[4:], castagnoli) != le.Uint32(head) || n > mostOfOneRecord {
			break
		}
		next := r.end + cacheRecordBytes + r.size(int(n))
		if next > info.Size() {
			break
		}
		r.index[entryKey(head[16:48])] = recordAt{r.end, int(n), le.Uint32(head[4:])}
		r.end = next
	}
	return nil
}

// find looks a key up, among the records that others have added too.
func (r *records) find(k entryKey) (p recordAt, f *os.File, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok = r.index[k]; !ok {
		if info, err := r.f.Stat(); err == nil && info.Size() > r.end && r.catchUp() == nil {
			p, ok = r.index[k]
		}
	}
	return p, r.f, ok
}

// get reads a key's values into the memory that into gives for n; false when the file has none that can be trusted. The file's lock is
// not held meanwhile.
func (r *records) get(k entryKey, into func(n int) [][]byte) bool {
	p, f, ok := r.find(k)
	if !ok {
		return false
	}
	head := make([]byte, cacheRecordBytes)
	at := p.at + cacheRecordBytes
	crc := uint32(0)
	_, err := f.ReadAt(head, p.at)
	for _, part := range into(p.n) {
		if err == nil {
			_, err = f.ReadAt(part, at)
		}
		crc, at = crc32.Update(crc, castagnoli, part), at+int64(len(part))
	}
	sound := err == nil && crc == p.crc && entryKey(head[16:48]) == k
	r.mu.Lock()
	defer r.mu.Unlock()
	if !sound {
		if r.index[k] == p {
			delete(r.index, k)
		}
		return false
	}
	r.used += at - p.at
	return true
}

// put adds values, whose length is that of n, unless the file is full, or somebody else has it locked for too long.
func (r *records) put(k entryKey, n int, values [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.index[k]; ok || r.err != nil {
		return
	}
	if err := r.locked(func() error { return r.add(k, n, values) }); err != nil {
		r.err = fmt.Errorf("write %s: %w", filepath.Base(r.path), err)
	}
}

// locked calls write with the file locked, or not at all.
func (r *records) locked(write func() error) error {
	for try := 0; lockFile(r.f) != nil; try++ {
		if try == lockTries {
			return nil
		}
		time.Sleep(lockPause)
	}
	defer func() { unlockFile(r.f) }() // write may have put another in its place, locked too
	return write()
}

func (r *records) add(k entryKey, n int, values [][]byte) error {
	if err := r.catchUp(); err != nil {
		return err
	}
	if _, ok := r.index[k]; ok { // another process has written it
		return nil
	}
	if r.end == 0 {
		if err := r.begin(r.f); err != nil {
			return err
		}
	}
	size := cacheRecordBytes + r.size(n)
	if cacheHeaderBytes+size > r.limit {
		return nil
	}
	if r.end+size > r.limit {
		if 2*r.used > r.limit {
			return nil
		}
		if err := r.anew(); err != nil {
			return err
		}
	}
	if err := r.f.Truncate(r.end); err != nil { // what was cut short
		return err
	}
	crc := uint32(0)
	for _, part := range values {
		crc = crc32.Update(crc, castagnoli, part)
	}
	head := make([]byte, cacheRecordBytes)
	le := binary.LittleEndian
	le.PutUint32(head[4:], crc)
	le.PutUint32(head[8:], uint32(n))
	copy(head[16:], k[:])
	le.PutUint32(head, crc32.Checksum(head[4:], castagnoli))
	at := r.end
	for _, part := range append([][]byte{head}, values...) {
		_, err := r.f.WriteAt(part, at)
		if err == nil {
			err = corastream.Failpoint("llm.cached")
		}
		if err != nil {
			return err
		}
		at += int64(len(part))
	}
	r.index[k] = recordAt{r.end, n, crc}
	r.end = at
	r.used += size
	return nil
}

// begin writes the header into a file without a sound one.
func (r *records) begin(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(r.header, 0)
	r.end = cacheHeaderBytes
	return err
}

// anew puts an empty file in the place of a full one.
func (r *records) anew() error {
	f, err := os.CreateTemp(filepath.Dir(r.path), filepath.Base(r.path)+".*.part")
	if err != nil {
		return err
	}
	if err := errors.Join(lockFile(f), r.begin(f), f.Chmod(0o644), os.Rename(f.Name(), r.path)); err != nil {
		return errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	err = r.f.Close()
	r.f, r.used = f, 0
	clear(r.index)
	return err
}

func (r *records) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *records) close() error { return r.f.Close() }
