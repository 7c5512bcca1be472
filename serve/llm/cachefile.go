package llm

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"path/filepath"
	"slices"
	"unsafe"
)

// cacheFile keeps entries on disk, so that a second start encodes nothing, nor another process with the same model and items.
//
// It is a file of records (records.go), named items-<first 16 hex digits of the header's SHA-256>.kv. Its header is
//
//	 0  "CORAITEM"
//	 8  uint32    version, 1
//	12  uint32    numerics: 0 f32, 1 bf16, 2 int8; keys and values are float32 with 0, else bfloat16
//	16  [32]byte  SHA-256 of the model file
//	48  uint32    layers, top layers kept, ReadLayer, hidden, width of a layer's answer reading (hidden), width of the keys
//	72  uint32    0
//	76  uint32    CRC-32C of bytes 0..75
//
// A record's n is the number of tokens before the answer token, its key the SHA-256 of uint32 title, uint32 titleEnd, then each token
// id as uint32, and its values are entry.data, then kv or kv16.
type cacheFile struct {
	*records
	dims *entryDims
}

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
	sum := sha256.Sum256(header)
	path := filepath.Join(dir, "items-"+hex.EncodeToString(sum[:8])+".kv")
	r, err := openRecords(path, header, limit, func(n int) int64 { return int64(d.bytes(n)) })
	if err != nil {
		return nil, err
	}
	return &cacheFile{r, d}, nil
}

// get reads an entry; nil when the file has none that can be trusted.
func (c *cacheFile) get(k entryKey) (e *entry) {
	if !c.records.get(k, func(n int) [][]byte {
		e = c.dims.make(n)
		return e.memory()
	}) {
		return nil
	}
	e.swap()
	return e
}

// put adds an entry, where there is room.
func (c *cacheFile) put(k entryKey, e *entry) { c.records.put(k, e.n, e.littleEndian()) }

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
