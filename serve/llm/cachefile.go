package llm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"unsafe"

	"github.com/corastream/corastream"
)

// cacheFile keeps entries on disk, so that a second start encodes nothing. It is a cache: whatever is torn, foreign or fails
// its checksum is dropped and computed again.
//
// Format, little-endian, named items-<first 16 hex digits of the header's SHA-256>.kv:
//
//	header, 80 bytes
//	   0  "CORAITEM"
//	   8  uint32    version, 1
//	  12  uint32    numerics: 0 f32, 1 bf16, 2 int8; keys and values are float32 with 0, else bfloat16
//	  16  [32]byte  SHA-256 of the model file
//	  48  uint32    layers, top layers kept, ReadLayer, hidden, width of a layer's answer reading (hidden), width of the keys
//	  72  uint32    0
//	  76  uint32    CRC-32C of bytes 0..75
//	then records, one behind the other, 48 bytes and values each
//	   0  uint32    CRC-32C of the record's bytes 4..47
//	   4  uint32    CRC-32C of the values
//	   8  uint32    n, tokens before the answer token
//	  12  uint32    0
//	  16  [32]byte  key: SHA-256 of uint32 title, uint32 titleEnd, then each token id as uint32
//	  48  values    as entry.data, then kv or kv16
//
// Records are only added. The first record whose header fails its checksum, or that reaches past the end of the file, is where
// a write was cut short: the file is cut there.
type cacheFile struct {
	mu    sync.Mutex
	f     *os.File
	dims  *entryDims
	index map[entryKey]recordAt
	end   int64
	limit int64
	write bool  // this process holds the lock
	err   error // the first failure to write; the cache goes on in memory
}

// recordAt is where a record lies in the file.
type recordAt struct {
	at  int64
	n   int
	crc uint32
}

const (
	cacheHeaderBytes = 80
	cacheRecordBytes = 48
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func cacheHeader(digest string, readLayer int, d *entryDims) ([]byte, error) {
	sum, err := hex.DecodeString(digest)
	if err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("llm: model digest %q is not a SHA-256", digest)
	}
	le := binary.LittleEndian
	kind := uint32(slices.Index(numericsNames, d.numerics))
	b := le.AppendUint32(le.AppendUint32([]byte("CORAITEM"), 1), kind)
	b = append(b, sum...)
	for _, v := range []int{d.layers, d.top, readLayer, d.hidden, d.hidden, d.kvWidth, 0} {
		b = le.AppendUint32(b, uint32(v))
	}
	return le.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

// openCacheFile opens or makes the file for this model and these dimensions.
func openCacheFile(dir, digest string, readLayer int, d *entryDims, limit int64) (*cacheFile, error) {
	header, err := cacheHeader(digest, readLayer, d)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, corastream.Usagef("llm.cache_dir", "name a folder that can be written, or none", "%v", err)
	}
	sum := sha256.Sum256(header)
	path := filepath.Join(dir, "items-"+hex.EncodeToString(sum[:8])+".kv")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, corastream.Usagef("llm.cache_dir", "name a folder that can be written, or none", "%v", err)
	}
	c := &cacheFile{f: f, dims: d, index: map[entryKey]recordAt{}, limit: limit, write: lockFile(f) == nil}
	if err := c.scan(header); err != nil {
		return nil, errors.Join(fmt.Errorf("open item cache: %w", err), f.Close())
	}
	return c, nil
}

// scan fills the index from the records' headers.
func (c *cacheFile) scan(header []byte) error {
	got := make([]byte, cacheHeaderBytes)
	n, err := c.f.ReadAt(got, 0)
	if err != nil && err != io.EOF {
		return err
	}
	if n < cacheHeaderBytes || !bytes.Equal(got, header) {
		if !c.write { // another process is at it; this one works without
			return nil
		}
		if err := c.f.Truncate(0); err != nil {
			return err
		}
		_, err := c.f.WriteAt(header, 0)
		c.end = cacheHeaderBytes
		return err
	}
	info, err := c.f.Stat()
	if err != nil {
		return err
	}
	c.end = cacheHeaderBytes
	head := make([]byte, cacheRecordBytes)
	for {
		if _, err := c.f.ReadAt(head, c.end); err != nil {
			break
		}
		le := binary.LittleEndian
		tokens := le.Uint32(head[8:])
		if crc32.Checksum(head[4:], castagnoli) != le.Uint32(head) || tokens > 1<<20 {
			break
		}
		next := c.end + cacheRecordBytes + int64(c.dims.bytes(int(tokens)))
		if next > info.Size() {
			break
		}
		c.index[entryKey(head[16:48])] = recordAt{c.end + cacheRecordBytes, int(tokens), le.Uint32(head[4:])}
		c.end = next
	}
	if c.write && c.end < info.Size() {
		return c.f.Truncate(c.end)
	}
	return nil
}

// get reads an entry; nil when the file has none that can be trusted.
func (c *cacheFile) get(k entryKey) *entry {
	c.mu.Lock()
	p, ok := c.index[k]
	c.mu.Unlock()
	if !ok {
		return nil
	}
	e := c.dims.make(p.n)
	crc, at := uint32(0), p.at
	for _, part := range e.memory() {
		if _, err := c.f.ReadAt(part, at); err != nil {
			crc = ^p.crc
			break
		}
		crc, at = crc32.Update(crc, castagnoli, part), at+int64(len(part))
	}
	if crc != p.crc {
		c.mu.Lock()
		delete(c.index, k)
		c.mu.Unlock()
		return nil
	}
	e.swap()
	return e
}

// put adds an entry, unless the file is full or not ours to write.
func (c *cacheFile) put(k entryKey, e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := c.end + cacheRecordBytes + int64(c.dims.bytes(e.n))
	if _, ok := c.index[k]; ok || !c.write || c.err != nil || next > c.limit {
		return
	}
	values := e.littleEndian()
	crc := uint32(0)
	for _, part := range values {
		crc = crc32.Update(crc, castagnoli, part)
	}
	head := make([]byte, cacheRecordBytes)
	le := binary.LittleEndian
	le.PutUint32(head[4:], crc)
	le.PutUint32(head[8:], uint32(e.n))
	copy(head[16:], k[:])
	le.PutUint32(head, crc32.Checksum(head[4:], castagnoli))
	at := c.end
	for _, part := range append([][]byte{head}, values...) {
		_, err := c.f.WriteAt(part, at)
		if err == nil {
			err = corastream.Failpoint("llm.cached")
		}
		if err != nil {
			c.err = fmt.Errorf("write item cache: %w", err)
			return
		}
		at += int64(len(part))
	}
	c.index[k] = recordAt{c.end + cacheRecordBytes, e.n, crc}
	c.end = at
}

// memory is the entry's values as bytes, in place.
func (e *entry) memory() [][]byte {
	parts := [][]byte{raw(e.data)}
	if len(e.kv) > 0 {
		parts = append(parts, raw(e.kv))
	}
	if len(e.kv16) > 0 {
		parts = append(parts, unsafe.Slice((*byte)(unsafe.Pointer(&e.kv16[0])), 2*len(e.kv16)))
	}
	return parts
}

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// swap turns values in place between this machine's byte order and little-endian.
func (e *entry) swap() {
	if !bigEndian {
		return
	}
	for _, part := range [][]float32{e.data, e.kv} {
		for i, v := range part {
			part[i] = math.Float32frombits(bits.ReverseBytes32(math.Float32bits(v)))
		}
	}
	for i, v := range e.kv16 {
		e.kv16[i] = bits.ReverseBytes16(v)
	}
}

// littleEndian is the entry's values as the file has them; on most machines in place.
func (e *entry) littleEndian() [][]byte {
	if !bigEndian {
		return e.memory()
	}
	turned := entry{data: slices.Clone(e.data), kv: slices.Clone(e.kv), kv16: slices.Clone(e.kv16)}
	turned.swap()
	return turned.memory()
}

func (c *cacheFile) close() error { return c.f.Close() }
