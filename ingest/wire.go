package ingest

import (
	"encoding/binary"
	"errors"
)

// errWire: a broker's answer does not follow the protocol.
var errWire = errors.New("malformed answer from the broker")

// wire reads Kafka's big-endian protocol from a buffer. The first violation sticks in err, and every read after it gives
// zero, so that a parser reads straight down and checks once. Nothing is allocated on the word of a length field.
type wire struct {
	b   []byte
	err error
}

func (w *wire) take(n int) []byte {
	if w.err != nil || n < 0 || n > len(w.b) {
		w.err, w.b = errWire, nil
		return nil
	}
	out := w.b[:n:n]
	w.b = w.b[n:]
	return out
}

func (w *wire) int8() int8 {
	if b := w.take(1); b != nil {
		return int8(b[0])
	}
	return 0
}

func (w *wire) int16() int16 {
	if b := w.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (w *wire) int32() int32 {
	if b := w.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (w *wire) int64() int64 {
	if b := w.take(8); b != nil {
		return int64(binary.BigEndian.Uint64(b))
	}
	return 0
}

func (w *wire) uvarint() int {
	v, n := binary.Uvarint(w.b)
	if n <= 0 || v > 1<<31 {
		w.err, w.b = errWire, nil
		return 0
	}
	w.b = w.b[n:]
	return int(v)
}

// varint is zigzag-coded, as in record batches.
func (w *wire) varint() int64 {
	v, n := binary.Varint(w.b)
	if n <= 0 {
		w.err, w.b = errWire, nil
		return 0
	}
	w.b = w.b[n:]
	return v
}

// str is a string with a 16-bit length, "" for null.
func (w *wire) str() string {
	n := w.int16()
	if n < 0 {
		return ""
	}
	return string(w.take(int(n)))
}

// compactStr is a string of the flexible versions, "" for null.
func (w *wire) compactStr() string {
	n := w.uvarint()
	if n == 0 {
		return ""
	}
	return string(w.take(n - 1))
}

// list calls f for each element of an array with a 32-bit count; every element takes at least one byte.
func (w *wire) list(f func()) {
	for n := w.int32(); n > 0 && w.err == nil; n-- {
		f()
	}
}

func (w *wire) compactList(f func()) {
	for n := w.uvarint(); n > 1 && w.err == nil; n-- {
		f()
	}
}

// tags skips the tagged fields of a flexible version.
func (w *wire) tags() {
	for n := w.uvarint(); n > 0 && w.err == nil; n-- {
		w.uvarint()
		w.take(w.uvarint())
	}
}

// varBytes is a record's key, value or header, nil for null.
func (w *wire) varBytes() []byte {
	n := w.varint()
	if n < 0 {
		return nil
	}
	if n > int64(len(w.b)) {
		w.err, w.b = errWire, nil
		return nil
	}
	return w.take(int(n))
}
