package gguf

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Writer collects metadata and tensors and writes them as a GGUF version 3 file. Its zero value is ready for use. Not
// safe for concurrent use.
type Writer struct {
	keys    []entry
	tensors []Tensor
	seen    map[string]bool
	align   uint64
}

type entry struct {
	key   string
	bytes []byte // type and value, encoded
}

// Set adds a metadata value: string, bool, float32, float64, an integer of 8 to 64 bits, or a slice of these. A plain int is
// refused, because the format has no such type and readers check the width.
func (w *Writer) Set(key string, v any) error {
	if key == "" || len(key) > MaxKeyBytes || !w.claim("key "+key) {
		return fmt.Errorf("write gguf: metadata key %q is empty, too long or a duplicate", clip(key))
	}
	b, ok := encode(nil, v)
	if !ok {
		return fmt.Errorf("write gguf: metadata key %q has a value of type %T; give a string, bool, sized number or a slice of these", key, v)
	}
	if key == "general.alignment" {
		a, ok := v.(uint32)
		if !ok || a < 8 || a > MaxAlignment || a&(a-1) != 0 {
			return fmt.Errorf("write gguf: general.alignment is %v; give a uint32 power of two from 8 to %d", v, MaxAlignment)
		}
		w.align = uint64(a)
	}
	w.keys = append(w.keys, entry{key, b})
	return nil
}

// Add encodes values [product of dims], row-major with dims[0] the length of a row, as F32, F16, BF16, Q4_0, Q4_1, Q5_0,
// Q5_1 or Q8_0.
func (w *Writer) Add(name string, typ Type, dims []int, values []float32) error {
	enc, ok := encoders[typ]
	if !ok {
		return fmt.Errorf("write gguf: tensor %q: no encoder for %v; add its bytes with AddRaw", name, typ)
	}
	n, err := elements(name, typ, dims)
	if err != nil {
		return err
	}
	if n != len(values) {
		return fmt.Errorf("write gguf: tensor %q: dims %v need %d values, got %d", name, dims, n, len(values))
	}
	l := layouts[typ]
	if i := slices.IndexFunc(values, func(x float32) bool { return x-x != 0 }); i >= 0 && l.block > 1 {
		return fmt.Errorf("write gguf: tensor %q: value %d is %v, which %v can not hold", name, i, values[i], typ)
	}
	raw := make([]byte, n/l.block*l.bytes)
	enc(raw, values)
	return w.AddRaw(name, typ, dims, raw)
}

// AddRaw adds a tensor from bytes that are already encoded; they are kept, not copied.
func (w *Writer) AddRaw(name string, typ Type, dims []int, raw []byte) error {
	n, err := elements(name, typ, dims)
	if err != nil {
		return err
	}
	l := layouts[typ]
	if len(raw) != n/l.block*l.bytes {
		return fmt.Errorf("write gguf: tensor %q: %v as %v takes %d bytes, got %d", name, dims, typ, n/l.block*l.bytes, len(raw))
	}
	if name == "" || len(name) > MaxNameBytes || !w.claim("tensor "+name) {
		return fmt.Errorf("write gguf: tensor name %q is empty, too long or a duplicate", clip(name))
	}
	w.tensors = append(w.tensors, Tensor{name, typ, slices.Clone(dims), raw})
	return nil
}

func (w *Writer) claim(name string) bool {
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
	if w.seen[name] {
		return false
	}
	w.seen[name] = true
	return true
}

// elements checks dims and multiplies them.
func elements(name string, typ Type, dims []int) (int, error) {
	l, ok := layouts[typ]
	if !ok {
		return 0, fmt.Errorf("write gguf: tensor %q: %v is not supported (supported: %s)", name, typ, Supported())
	}
	if len(dims) < 1 || len(dims) > MaxDims {
		return 0, fmt.Errorf("write gguf: tensor %q: %d dimensions; 1 to %d are allowed", name, len(dims), MaxDims)
	}
	n := 1
	for _, d := range dims {
		if d <= 0 || n > math.MaxInt/8/d {
			return 0, fmt.Errorf("write gguf: tensor %q: dimensions %v", name, dims)
		}
		n *= d
	}
	if dims[0]%l.block != 0 {
		return 0, fmt.Errorf("write gguf: tensor %q: rows of %d values are not a multiple of %v's block of %d", name, dims[0], typ, l.block)
	}
	return n, nil
}

// WriteTo writes the file.
func (w *Writer) WriteTo(out io.Writer) (int64, error) {
	align := max(w.align, defaultAlignment)
	if w.align != 0 {
		align = w.align
	}
	pad := func(n uint64) uint64 { return (n + align - 1) / align * align }
	le := binary.LittleEndian
	head := le.AppendUint32([]byte("GGUF"), 3)
	head = le.AppendUint64(le.AppendUint64(head, uint64(len(w.tensors))), uint64(len(w.keys)))
	for _, e := range w.keys {
		head = append(appendString(head, e.key), e.bytes...)
	}
	offset := uint64(0)
	for _, t := range w.tensors {
		head = le.AppendUint32(appendString(head, t.Name), uint32(len(t.Dims)))
		for _, d := range t.Dims {
			head = le.AppendUint64(head, uint64(d))
		}
		head = le.AppendUint64(le.AppendUint32(head, uint32(t.Type)), offset)
		offset = pad(offset + uint64(len(t.Raw)))
	}
	head = append(head, make([]byte, pad(uint64(len(head)))-uint64(len(head)))...)
	total := int64(0)
	put := func(b []byte) error {
		n, err := out.Write(b)
		total += int64(n)
		return err
	}
	if err := put(head); err != nil {
		return total, err
	}
	for _, t := range w.tensors {
		if err := put(t.Raw); err != nil {
			return total, err
		}
		if err := put(make([]byte, pad(uint64(len(t.Raw)))-uint64(len(t.Raw)))); err != nil {
			return total, err
		}
	}
	return total, nil
}

// Bytes is the file in memory, for Parse.
func (w *Writer) Bytes() []byte {
	var b bytes.Buffer
	w.WriteTo(&b) // a bytes.Buffer does not fail
	return b.Bytes()
}

// WriteFile writes the file beside path and renames it over it, so that nobody maps half a file.
func (w *Writer) WriteFile(path string) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".gguf-*")
	if err != nil {
		return fmt.Errorf("write gguf: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write gguf: %w", errors.Join(err, os.Remove(f.Name())))
		}
	}()
	b := bufio.NewWriterSize(f, 1<<20)
	_, err = w.WriteTo(b)
	if err = errors.Join(err, b.Flush(), f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

// encode appends the type and the value.
func encode(b []byte, v any) ([]byte, bool) {
	switch v := v.(type) {
	case string:
		return appendString(appendKind(b, kindString), v), true
	case bool:
		return appendBool(appendKind(b, kindBool), v), true
	case []string:
		b = appendArray(b, kindString, len(v))
		for _, s := range v {
			b = appendString(b, s)
		}
		return b, true
	case []bool:
		b = appendArray(b, kindBool, len(v))
		for _, x := range v {
			b = appendBool(b, x)
		}
		return b, true
	}
	k, n, ok := numeric(v)
	if !ok {
		return nil, false
	}
	if n < 0 {
		b = appendKind(b, k)
	} else {
		b = appendArray(b, k, n)
	}
	b, err := binary.Append(b, binary.LittleEndian, v)
	return b, err == nil
}

// numeric tells the kind of a number or of a slice of numbers, and the slice's length (-1: a scalar).
func numeric(v any) (kind, int, bool) {
	switch v := v.(type) {
	case uint8:
		return kindU8, -1, true
	case int8:
		return kindI8, -1, true
	case uint16:
		return kindU16, -1, true
	case int16:
		return kindI16, -1, true
	case uint32:
		return kindU32, -1, true
	case int32:
		return kindI32, -1, true
	case uint64:
		return kindU64, -1, true
	case int64:
		return kindI64, -1, true
	case float32:
		return kindF32, -1, true
	case float64:
		return kindF64, -1, true
	case []uint8:
		return kindU8, len(v), true
	case []int8:
		return kindI8, len(v), true
	case []uint16:
		return kindU16, len(v), true
	case []int16:
		return kindI16, len(v), true
	case []uint32:
		return kindU32, len(v), true
	case []int32:
		return kindI32, len(v), true
	case []uint64:
		return kindU64, len(v), true
	case []int64:
		return kindI64, len(v), true
	case []float32:
		return kindF32, len(v), true
	case []float64:
		return kindF64, len(v), true
	}
	return 0, 0, false
}

func appendKind(b []byte, k kind) []byte { return binary.LittleEndian.AppendUint32(b, uint32(k)) }

func appendArray(b []byte, k kind, n int) []byte {
	return binary.LittleEndian.AppendUint64(appendKind(appendKind(b, kindArray), k), uint64(n))
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
