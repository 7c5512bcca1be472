package gguf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"github.com/corastream/corastream"
)

// Limits of a header. Real files hold some dozens of keys and at most a few thousand tensors.
const (
	MaxKeys    = 1 << 16
	MaxTensors = 1 << 16
	// MaxKeyBytes and MaxNameBytes are the specification's limits of a key and of a tensor's name.
	MaxKeyBytes  = 1<<16 - 1
	MaxNameBytes = 64
	// MaxDims is how many dimensions a tensor may have.
	MaxDims = 4
	// MaxAlignment bounds general.alignment.
	MaxAlignment = 1 << 20

	defaultAlignment = 32
)

const (
	truncated = "the file is cut short or corrupt; get it again and compare its SHA-256"
	corrupt   = "the file is corrupt or hostile; get it again and compare its SHA-256"
)

// cursor walks the header. Every read checks what is left first, so no length from the file is ever trusted.
type cursor struct {
	f   *File
	pos int
	// what and name say what is being read ("metadata key", "k"), for errors; joined only when one is made.
	what, name string
}

// fail names the file, the byte and the key or tensor.
func (c *cursor) fail(fix, format string, args ...any) error {
	where := fmt.Sprintf("%s: byte %d", c.f.name, c.pos)
	if c.what != "" {
		where += fmt.Sprintf(": %s %q", c.what, clip(c.name))
	}
	return corastream.Usagef(where, fix, format, args...)
}

func (c *cursor) left() int { return len(c.f.data) - c.pos }

func (c *cursor) take(n int, what string) ([]byte, error) {
	if n < 0 || n > c.left() {
		return nil, c.fail(truncated, "%s takes %d bytes, but %d are left", what, n, c.left())
	}
	b := c.f.data[c.pos : c.pos+n : c.pos+n]
	c.pos += n
	return b, nil
}

func (c *cursor) u32(what string) (uint32, error) {
	b, err := c.take(4, what)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

// count reads a 64-bit count of things that take at least size bytes each.
func (c *cursor) count(what string, size, limit int) (int, error) {
	b, err := c.take(8, what)
	if err != nil {
		return 0, err
	}
	n := binary.LittleEndian.Uint64(b)
	if n <= uint64(limit) && n <= uint64(c.left()/size) {
		return int(n), nil
	}
	left := c.left()
	c.pos -= 8
	if n > uint64(limit) {
		return 0, c.fail(corrupt, "%s is %d, above the limit of %d", what, n, limit)
	}
	return 0, c.fail(truncated, "%s is %d, but only %d bytes are left", what, n, left)
}

func (c *cursor) str(what string, limit int) (string, error) {
	n, err := c.count(what, 1, limit)
	if err != nil {
		return "", err
	}
	b, err := c.take(n, what)
	return string(b), err
}

// parse reads the header: magic, version, counts, metadata, tensor table; then places the tensors.
func (f *File) parse() error {
	c := &cursor{f: f}
	magic, err := c.take(4, "the magic")
	if err != nil {
		return err
	}
	if !bytes.Equal(magic, []byte("GGUF")) {
		c.pos = 0
		return c.fail("give a .gguf file", "not a GGUF file: it starts with %q", magic)
	}
	version, err := c.u32("the version")
	if err != nil {
		return err
	}
	if version != 2 && version != 3 {
		c.pos = 4
		if swapped := bits.ReverseBytes32(version); swapped >= 1 && swapped <= 3 {
			return c.fail("convert the model for little-endian machines", "a big-endian GGUF file")
		}
		return c.fail("convert the model again with a current converter", "GGUF version %d; versions 2 and 3 can be read", version)
	}
	// The smallest tensor entry: name length 8, one byte of name, dims 4 + 8, type 4, offset 8. The smallest key: 8+1+4+1.
	tensors, err := c.count("the number of tensors", 33, MaxTensors)
	if err != nil {
		return err
	}
	keys, err := c.count("the number of metadata keys", 14, MaxKeys)
	if err != nil {
		return err
	}
	f.meta, f.byName = make(map[string]value, keys), make(map[string]*Tensor, tensors)
	f.keys = make([]string, 0, keys)
	for range keys {
		if err := c.metadata(); err != nil {
			return err
		}
	}
	if n, err := f.Uint("split.count", 0); err != nil {
		return err
	} else if n > 1 {
		return corastream.Usagef(f.name, "merge the parts into one file with llama.cpp's gguf-split", "one part of a model split in %d", n)
	}
	return c.tensorTable(tensors)
}

// metadata reads one key and finds the bounds of its value.
func (c *cursor) metadata() error {
	c.what = ""
	key, err := c.str("the length of a metadata key", MaxKeyBytes)
	if err != nil {
		return err
	}
	c.what, c.name = "metadata key", key
	if _, dup := c.f.meta[key]; dup || key == "" {
		return c.fail(corrupt, "it is empty or a duplicate")
	}
	k, err := c.u32("the type")
	if err != nil {
		return err
	}
	v := value{kind: kind(k), count: 1}
	if v.raw, err = c.value(&v); err != nil {
		return err
	}
	c.f.meta[key] = v
	c.f.keys = append(c.f.keys, key)
	return nil
}

func (c *cursor) value(v *value) ([]byte, error) {
	elem := v.kind
	if v.kind == kindArray {
		e, err := c.u32("the element type")
		if err != nil {
			return nil, err
		}
		elem, v.elem = kind(e), kind(e)
		if elem > kindF64 || elem == kindArray {
			return nil, c.fail(corrupt, "an array of %v can not be read", elem)
		}
		size := kindSizes[elem]
		if elem == kindString {
			size = 8
		}
		if v.count, err = c.count("the array's length", size, len(c.f.data)); err != nil {
			return nil, err
		}
	}
	start := c.pos
	switch {
	case elem > kindF64:
		return nil, c.fail(corrupt, "values of %v can not be read", elem)
	case elem == kindString:
		for range v.count {
			n, err := c.count("a string's length", 1, len(c.f.data))
			if err != nil {
				return nil, err
			}
			c.pos += n
		}
	default:
		raw, err := c.take(v.count*kindSizes[elem], "the value")
		if err != nil {
			return nil, err
		}
		if elem == kindBool && slices.ContainsFunc(raw, func(b byte) bool { return b > 1 }) {
			return nil, c.fail(corrupt, "it holds a bool that is neither 0 nor 1")
		}
	}
	return c.f.data[start:c.pos:c.pos], nil
}

// tensorTable reads the n tensor entries, then checks where each lies.
func (c *cursor) tensorTable(n int) error {
	align, err := c.f.Uint("general.alignment", defaultAlignment)
	if err != nil {
		return err
	}
	if align < 8 || align > MaxAlignment || align&(align-1) != 0 {
		return corastream.Usagef(c.f.name, corrupt, "general.alignment is %d; it must be a power of two from 8 to %d", align, MaxAlignment)
	}
	places := make([]location, 0, n)
	for range n {
		p, err := c.tensor()
		if err != nil {
			return err
		}
		places = append(places, p)
		c.f.tensors = append(c.f.tensors, p.t)
		c.f.byName[p.t.Name] = p.t
	}
	if n == 0 {
		return nil
	}
	base := (uint64(c.pos) + align - 1) / align * align
	return c.f.layOut(places, base, align)
}

// location is a tensor and where its bytes should lie, relative to the data section.
type location struct {
	t            *Tensor
	offset, size uint64
}

func (c *cursor) tensor() (location, error) {
	c.what = ""
	name, err := c.str("the length of a tensor's name", MaxNameBytes)
	if err != nil {
		return location{}, err
	}
	c.what, c.name = "tensor", name
	if c.f.byName[name] != nil || name == "" {
		return location{}, c.fail(corrupt, "its name is empty or a duplicate")
	}
	dims, err := c.u32("the number of dimensions")
	if err != nil {
		return location{}, err
	}
	if dims < 1 || dims > MaxDims {
		return location{}, c.fail(corrupt, "it has %d dimensions; 1 to %d are allowed", dims, MaxDims)
	}
	raw, err := c.take(int(dims)*8+12, "its entry")
	if err != nil {
		return location{}, err
	}
	t := &Tensor{Name: name, Type: Type(binary.LittleEndian.Uint32(raw[dims*8:])), Dims: make([]int, dims)}
	l, ok := layouts[t.Type]
	if !ok {
		return location{}, c.fail("requantise the model to one of these types", "it is stored as %v; supported are %s", t.Type, Supported())
	}
	elements := uint64(1)
	for i := range t.Dims {
		d := binary.LittleEndian.Uint64(raw[i*8:])
		// Bounded by the file's bytes: a block of 256 values takes at least 84 of them, so this also rules out overflow.
		hi, product := bits.Mul64(elements, d)
		if d == 0 || hi != 0 || product > min(uint64(len(c.f.data))*4, math.MaxInt) {
			return location{}, c.fail(corrupt, "dimension %d is %d: more values than the file can hold, or none", i, d)
		}
		t.Dims[i], elements = int(d), product
	}
	if t.Dims[0]%l.block != 0 {
		return location{}, c.fail(corrupt, "its rows of %d values are not a multiple of %v's block of %d", t.Dims[0], t.Type, l.block)
	}
	offset := binary.LittleEndian.Uint64(raw[dims*8+4:])
	return location{t, offset, elements / uint64(l.block) * uint64(l.bytes)}, nil
}

// layOut gives each tensor its bytes. Overlaps are refused: they would let a small file stand for any amount of memory.
func (f *File) layOut(places []location, base, align uint64) error {
	fail := func(p location, fix, format string, args ...any) error {
		return corastream.Usagef(fmt.Sprintf("%s: tensor %q", f.name, p.t.Name), fix, format, args...)
	}
	for _, p := range places {
		if p.offset%align != 0 {
			return fail(p, corrupt, "its offset %d is not a multiple of the alignment %d", p.offset, align)
		}
		end, carry := bits.Add64(base, p.offset, 0)
		end, carry2 := bits.Add64(end, p.size, 0)
		if carry+carry2 != 0 || end > uint64(len(f.data)) {
			return fail(p, truncated, "its %d bytes at offset %d end beyond the file's %d", p.size, p.offset, len(f.data))
		}
		p.t.Raw = f.data[base+p.offset : end : end]
	}
	byOffset := slices.Clone(places)
	slices.SortFunc(byOffset, func(a, b location) int {
		switch {
		case a.offset < b.offset:
			return -1
		case a.offset > b.offset:
			return 1
		}
		return 0
	})
	for i := 1; i < len(byOffset); i++ {
		if a, b := byOffset[i-1], byOffset[i]; a.offset+a.size > b.offset {
			return fail(b, corrupt, "it overlaps tensor %q", a.t.Name)
		}
	}
	return nil
}

// clip shortens a hostile key for an error message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
