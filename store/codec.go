package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"
	"unsafe"

	"github.com/corastream/corastream"
)

// Every value is: a version byte, the body, CRC32C (Castagnoli, 4 bytes LE) over the key and all that stands before it.
// Over the key too, so that a value found under another key does not pass. See docs/reference/format.md.
const recordVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal appends the checksum to value, which begins at its version byte.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value)
	return binary.LittleEndian.AppendUint32(value, sum)
}

// open checks version and checksum and returns a reader of the body.
func open(key, value []byte) (reader, error) {
	if len(value) < 5 {
		return reader{}, fmt.Errorf("%w: %s: %d bytes are too few", corastream.ErrCorrupt, keyName(key), len(value))
	}
	body, want := value[:len(value)-4], binary.LittleEndian.Uint32(value[len(value)-4:])
	if sum := crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, body); sum != want {
		return reader{}, fmt.Errorf("%w: %s: checksum %08x, stored %08x", corastream.ErrCorrupt, keyName(key), sum, want)
	}
	if body[0] != recordVersion {
		return reader{}, fmt.Errorf("%w: %s: record version %d, this program reads %d",
			corastream.ErrMismatch, keyName(key), body[0], recordVersion)
	}
	return reader{b: body[1:]}, nil
}

// reader takes fields off a body. After the first field that does not fit every read gives zero, and done tells.
type reader struct {
	b   []byte
	str string // when set, a copy of b's bytes up to its end, from which strings are cut without an allocation each
	bad bool
}

var errBody = errors.New("the body does not decode")

// done wants the whole body used up.
func (r *reader) done(key []byte) error {
	if r.bad || len(r.b) != 0 {
		return fmt.Errorf("%w: %s: %w", corastream.ErrCorrupt, keyName(key), errBody)
	}
	return nil
}

// intern makes all strings read from here on share one copy of the rest of the body.
func (r *reader) intern() { r.str = string(r.b) }

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 {
		x := r.b[0]
		r.b = r.b[1:]
		return uint64(x)
	}
	x, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *reader) varint() int64 {
	u := r.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) f32() float32 { return math.Float32frombits(r.u32()) }

// count reads a length and holds it against what is left: each element takes at least size bytes.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) string() string {
	b := r.take(r.uvarint())
	if r.bad || len(b) == 0 {
		return ""
	}
	if r.str != "" {
		end := len(r.str) - len(r.b)
		return r.str[end-len(b) : end]
	}
	return string(b)
}

// floats reads a vector; an empty one is nil.
func (r *reader) floats() []float32 {
	n := r.count(4)
	if n == 0 {
		return nil
	}
	out := make([]float32, n)
	readFloats(out, r.take(uint64(4*n)))
	return out
}

// littleEndian says whether memory holds numbers as the disk does, so that vectors are copied whole.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// readFloats is the loop below; on little-endian machines one copy.
func readFloats(dst []float32, src []byte) {
	if littleEndian {
		copy(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(dst))), 4*len(dst)), src)
		return
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}

func appendFloats(b []byte, v []float32) []byte {
	b = appendUvarint(b, uint64(len(v)))
	if littleEndian {
		return append(b, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))...)
	}
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(appendUvarint(b, uint64(len(s))), s...)
}

func appendF32(b []byte, x float32) []byte {
	return binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
}

// finite is false when any value is NaN or infinite.
func finite(v []float32) bool {
	for _, x := range v {
		if x-x != 0 {
			return false
		}
	}
	return true
}

// nanos are nanoseconds since 1970, clamped to what int64 holds (1678 to 2262); noTime stands for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return noTime
	}
	if s := t.Unix(); s < firstSecond {
		return noTime + 1
	} else if s >= endSecond {
		return math.MaxInt64
	}
	return t.UnixNano()
}

const noTime = math.MinInt64

// Nanoseconds reach from September 1677 to April 2262; these are the first seconds of 1678 and of 2262.
const firstSecond, endSecond = -9214560000, 9214646400

// timeOf is the inverse of nanos, in UTC. nanos(timeOf(x)) == x.
func timeOf(ns int64) time.Time {
	if ns == noTime {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
