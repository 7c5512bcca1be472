package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/corastream/corastream"
)

// kind is a metadata value's type, with the numbers of the format.
type kind uint32

const (
	kindU8     kind = 0
	kindI8     kind = 1
	kindU16    kind = 2
	kindI16    kind = 3
	kindU32    kind = 4
	kindI32    kind = 5
	kindF32    kind = 6
	kindBool   kind = 7
	kindString kind = 8
	kindArray  kind = 9
	kindU64    kind = 10
	kindI64    kind = 11
	kindF64    kind = 12
)

var kindNames = [...]string{
	"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool", "string", "array",
	"uint64", "int64", "float64",
}

// kindSizes holds the encoded size of the kinds that have a fixed one.
var kindSizes = [...]int{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}

func (k kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("type %d", uint32(k))
}

func (k kind) float() bool { return k == kindF32 || k == kindF64 }

func (k kind) integer() bool {
	return k < kindF32 || k == kindU64 || k == kindI64
}

// value is where a metadata value lies; it is decoded when asked for. parse has checked its bounds.
type value struct {
	kind  kind
	elem  kind // of an array
	count int  // of an array; 1 for a scalar
	raw   []byte
}

func (v value) String() string {
	if v.kind == kindArray {
		return fmt.Sprintf("array of %d %v", v.count, v.elem)
	}
	return v.kind.String()
}

// Keys lists the metadata keys in file order.
func (f *File) Keys() []string { return slices.Clone(f.keys) }

// HasKey says whether the metadata holds the key.
func (f *File) HasKey(key string) bool { _, ok := f.meta[key]; return ok }

// Uint reads a whole number >= 0 of any width. A missing key gives the default, or an error when there is none.
func (f *File) Uint(key string, def ...uint64) (uint64, error) {
	return scalar(f, key, "a whole number of 0 or more", def, func(v value) (uint64, bool) {
		if !v.kind.integer() {
			return 0, false
		}
		i, ok := integer(v.kind, v.raw)
		if v.kind == kindU64 {
			return binary.LittleEndian.Uint64(v.raw), true
		}
		return uint64(i), ok && i >= 0
	})
}

// Float reads a finite float32 or float64. A missing key gives the default, or an error when there is none.
func (f *File) Float(key string, def ...float64) (float64, error) {
	return scalar(f, key, "a finite float", def, func(v value) (float64, bool) {
		if !v.kind.float() {
			return 0, false
		}
		x := float(v.kind, v.raw)
		return x, !math.IsNaN(x) && !math.IsInf(x, 0)
	})
}

// String reads a string. A missing key gives the default, or an error when there is none.
func (f *File) String(key string, def ...string) (string, error) {
	return scalar(f, key, "a string", def, func(v value) (string, bool) {
		if v.kind != kindString {
			return "", false
		}
		return string(v.raw[8:]), true
	})
}

// Bool reads a bool. A missing key gives the default, or an error when there is none.
func (f *File) Bool(key string, def ...bool) (bool, error) {
	return scalar(f, key, "a bool", def, func(v value) (bool, bool) {
		return v.kind == kindBool && v.raw[0] == 1, v.kind == kindBool
	})
}

// Strings reads an array of strings. A missing key gives the default, or an error when there is none.
func (f *File) Strings(key string, def ...[]string) ([]string, error) {
	return scalar(f, key, "an array of strings", def, func(v value) ([]string, bool) {
		if v.kind != kindArray || v.elem != kindString {
			return nil, false
		}
		list := make([]string, v.count)
		for i, raw := 0, v.raw; i < v.count; i++ {
			n := 8 + binary.LittleEndian.Uint64(raw)
			list[i], raw = string(raw[8:n]), raw[n:]
		}
		return list, true
	})
}

// Floats reads an array of float32 or float64. A missing key gives the default, or an error when there is none.
func (f *File) Floats(key string, def ...[]float32) ([]float32, error) {
	return scalar(f, key, "an array of floats", def, func(v value) ([]float32, bool) {
		if v.kind != kindArray || !v.elem.float() {
			return nil, false
		}
		list, size := make([]float32, v.count), kindSizes[v.elem]
		for i := range list {
			list[i] = float32(float(v.elem, v.raw[i*size:]))
		}
		return list, true
	})
}

// Ints reads an array of whole numbers of any width. A missing key gives the default, or an error when there is none.
func (f *File) Ints(key string, def ...[]int64) ([]int64, error) {
	return scalar(f, key, "an array of whole numbers", def, func(v value) ([]int64, bool) {
		if v.kind != kindArray || !v.elem.integer() {
			return nil, false
		}
		list, size := make([]int64, v.count), kindSizes[v.elem]
		for i := range list {
			var ok bool
			if list[i], ok = integer(v.elem, v.raw[i*size:]); !ok {
				return nil, false
			}
		}
		return list, true
	})
}

// scalar is what all getters share: the default for a missing key, and errors that name file and key.
func scalar[T any](f *File, key, want string, def []T, read func(value) (T, bool)) (T, error) {
	var zero T
	v, ok := f.meta[key]
	if !ok && len(def) > 0 {
		return def[0], nil
	}
	if !ok {
		return zero, corastream.Usagef(f.name, "convert the model again with a current converter", "the metadata lacks the key %q", key)
	}
	x, ok := read(v)
	if !ok {
		return zero, corastream.Usagef(f.name, "convert the model again with a current converter",
			"the metadata key %q is not %s (it is %v)", key, want, v)
	}
	return x, nil
}

// integer decodes one whole number; false when it does not fit in int64.
func integer(k kind, raw []byte) (int64, bool) {
	switch k {
	case kindU8:
		return int64(raw[0]), true
	case kindI8:
		return int64(int8(raw[0])), true
	case kindU16:
		return int64(binary.LittleEndian.Uint16(raw)), true
	case kindI16:
		return int64(int16(binary.LittleEndian.Uint16(raw))), true
	case kindU32:
		return int64(binary.LittleEndian.Uint32(raw)), true
	case kindI32:
		return int64(int32(binary.LittleEndian.Uint32(raw))), true
	default:
		i := int64(binary.LittleEndian.Uint64(raw))
		return i, k == kindI64 || i >= 0
	}
}

func float(k kind, raw []byte) float64 {
	if k == kindF32 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(raw)))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(raw))
}
