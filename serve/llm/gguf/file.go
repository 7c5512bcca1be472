package gguf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/corastream/corastream"
)

var errNotRegular = errors.New("not a regular file")

// File is an open GGUF file. It may be used by several goroutines; Close must come last.
type File struct {
	name    string
	data    []byte
	size    int64
	mtime   time.Time
	unmap   func() error
	mapped  bool // data is the file itself, not a copy
	meta    map[string]value
	keys    []string // in file order
	tensors []*Tensor
	byName  map[string]*Tensor
	digest  func() string
}

// Open maps the file at path and checks all of its header. The caller closes it.
func Open(path string) (*File, error) {
	data, info, unmap, err := load(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, corastream.Usagef(path, "give the path of a .gguf file", "no such file")
		}
		if errors.Is(err, errNotRegular) {
			return nil, corastream.Usagef(path, "give the path of a .gguf file", "not a regular file")
		}
		return nil, fmt.Errorf("open model: %w", err)
	}
	f, err := Parse(path, data)
	if err != nil {
		return nil, errors.Join(err, unmap())
	}
	f.mtime, f.unmap, f.mapped = info.ModTime(), unmap, true
	return f, nil
}

// Parse reads a GGUF file that is already in memory; data must not change while the File is in use. The name stands in
// errors.
func Parse(name string, data []byte) (*File, error) {
	f := &File{name: name, data: data, size: int64(len(data)), unmap: func() error { return nil }}
	f.digest = sync.OnceValue(func() string {
		h := sha256.New()
		for part := range slices.Chunk(f.data, digestStep) {
			h.Write(part)
			f.Release(part)
		}
		return hex.EncodeToString(h.Sum(nil))
	})
	if err := f.parse(); err != nil {
		return nil, err
	}
	return f, nil
}

// Close releases the mapping; every Raw slice becomes invalid. A second Close does nothing.
func (f *File) Close() error {
	unmap := f.unmap
	f.unmap, f.data, f.tensors, f.byName, f.meta = func() error { return nil }, nil, nil, nil, nil
	return unmap()
}

// digestStep is how much of the file a digest holds in memory.
const digestStep = 16 << 20

// Release lets go of the memory behind raw, a part of the mapped file such as a tensor's Raw; what is read of it later comes from the file
// again. It does nothing where the file is not mapped.
func (f *File) Release(raw []byte) {
	if f.mapped {
		release(raw)
	}
}

// Name is the path given to Open.
func (f *File) Name() string { return f.name }

// Size is the file's length in bytes.
func (f *File) Size() int64 { return f.size }

// ModTime is when the file was last written; with Size it keys a cache of Digest. Zero after Parse.
func (f *File) ModTime() time.Time { return f.mtime }

// Digest is the SHA-256 of the whole file in hex. The first call reads every byte (about a second for 1 GB) and must
// come before Close; later calls are free.
func (f *File) Digest() string { return f.digest() }

// Tensors lists the tensors in file order.
func (f *File) Tensors() []*Tensor { return slices.Clone(f.tensors) }

// Has says whether there is a tensor of that name, for optional ones such as biases.
func (f *File) Has(tensor string) bool { return f.byName[tensor] != nil }

// Tensor finds a tensor by its name.
func (f *File) Tensor(name string) (*Tensor, error) {
	if t := f.byName[name]; t != nil {
		return t, nil
	}
	return nil, corastream.Usagef(f.name, "use a complete model", "no tensor %q", name)
}

// Tensor is one named array. Raw holds its encoded bytes, a part of the mapped file: read-only.
type Tensor struct {
	Name string
	Type Type
	// Dims are the dimensions, fastest first: Dims[0] is the length of a row (a linear layer's input width).
	Dims []int
	Raw  []byte
}

// Elements is the number of values.
func (t *Tensor) Elements() int { return t.RowLen() * t.Rows() }

// RowLen is the number of values in a row, Dims[0].
func (t *Tensor) RowLen() int { return t.Dims[0] }

// Rows is the product of all dimensions but the first.
func (t *Tensor) Rows() int {
	n := 1
	for _, d := range t.Dims[1:] {
		n *= d
	}
	return n
}

// Float32 decodes every value into dst, row-major; len(dst) must be Elements().
func (t *Tensor) Float32(dst []float32) error {
	if len(dst) != t.Elements() {
		return fmt.Errorf("decode tensor %q: %d values do not fit in %d", t.Name, t.Elements(), len(dst))
	}
	return t.decode(dst, t.Raw)
}

// Row decodes row i into dst; len(dst) must be RowLen().
func (t *Tensor) Row(dst []float32, i int) error {
	if i < 0 || i >= t.Rows() {
		return fmt.Errorf("decode tensor %q: row %d of %d", t.Name, i, t.Rows())
	}
	if len(dst) != t.RowLen() {
		return fmt.Errorf("decode tensor %q: a row of %d values does not fit in %d", t.Name, t.RowLen(), len(dst))
	}
	n := len(t.Raw) / t.Rows()
	return t.decode(dst, t.Raw[i*n:(i+1)*n])
}

func (t *Tensor) decode(dst []float32, raw []byte) error {
	l, ok := layouts[t.Type]
	if !ok {
		return fmt.Errorf("decode tensor %q: %v is not supported (supported: %s)", t.Name, t.Type, Supported())
	}
	if len(dst)%l.block != 0 || len(raw) != len(dst)/l.block*l.bytes {
		return fmt.Errorf("decode tensor %q: %d bytes do not hold %d values of %v", t.Name, len(raw), len(dst), t.Type)
	}
	l.decode(dst, raw)
	return nil
}
