package generator

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"sort"
)

// Limits of the safetensors reader: what a hostile file can make us allocate.
const (
	maxHeader  = 1 << 20 // bytes of JSON
	maxTensors = 1 << 14
	maxFile    = 1 << 30 // bytes
)

// Tensor is one entry of a safetensors file.
type Tensor struct {
	Shape []int
	Data  []float32
	BF16  bool // stored as BF16; Data holds values that it represents exactly
}

// Format of a file (https://github.com/huggingface/safetensors): 8 bytes little-endian header length N, N bytes of JSON
// {"name": {"dtype","shape","data_offsets":[from,to]}, "__metadata__": {string: string}}, then the tensors' bytes,
// little-endian, without gaps. We write F32 and BF16, names in order, the header padded with spaces to 8 bytes.

type entry struct {
	Dtype   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// WriteTensors writes a safetensors file; equal input gives equal bytes.
func WriteTensors(w io.Writer, tensors map[string]Tensor, metadata map[string]string) error {
	names := make([]string, 0, len(tensors))
	for name := range tensors {
		names = append(names, name)
	}
	sort.Strings(names)
	header := make(map[string]any, len(names)+1)
	header["__metadata__"] = metadata
	var at int64
	for _, name := range names {
		t := tensors[name]
		e := entry{Dtype: "F32", Shape: t.Shape, Offsets: [2]int64{at, at + 4*int64(len(t.Data))}}
		if t.BF16 {
			e.Dtype, e.Offsets[1] = "BF16", at+2*int64(len(t.Data))
		}
		header[name], at = e, e.Offsets[1]
	}
	head, err := json.Marshal(header) // maps are written in the order of their keys
	if err != nil {
		return err
	}
	head = append(head, bytes.Repeat([]byte(" "), (8-len(head)%8)%8)...)
	if len(head) > maxHeader {
		return fmt.Errorf("a header of %d bytes, at most %d fit", len(head), maxHeader)
	}
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(head)))); err != nil {
		return err
	}
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, name := range names {
		t := tensors[name]
		raw := bytesOf(t.Data)
		if t.BF16 {
			raw = make([]byte, 0, 2*len(t.Data))
			for _, v := range t.Data {
				raw = binary.LittleEndian.AppendUint16(raw, uint16(math.Float32bits(v)>>16))
			}
		}
		if _, err := w.Write(raw); err != nil {
			return err
		}
	}
	return nil
}

// ReadTensors parses a whole file. All values it returns are finite; it never allocates more than a small multiple of
// len(file).
func ReadTensors(file []byte) (map[string]Tensor, map[string]string, error) {
	if len(file) < 8 {
		return nil, nil, fmt.Errorf("%d bytes are too few for a safetensors file", len(file))
	}
	n := binary.LittleEndian.Uint64(file)
	if n > maxHeader || n > uint64(len(file)-8) {
		return nil, nil, fmt.Errorf("header of %d bytes in a file of %d (at most %d): not a safetensors file, or cut short", n, len(file), maxHeader)
	}
	entries, metadata, err := readHeader(file[8 : 8+n])
	if err != nil {
		return nil, nil, err
	}
	body := file[8+n:]
	if err := checkOffsets(entries, int64(len(body))); err != nil {
		return nil, nil, err
	}
	tensors := make(map[string]Tensor, len(entries))
	for name, e := range entries {
		t := Tensor{Shape: e.Shape, BF16: e.Dtype == "BF16"}
		raw := body[e.Offsets[0]:e.Offsets[1]]
		if t.BF16 {
			t.Data = make([]float32, len(raw)/2)
			for i := range t.Data {
				t.Data[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
			}
		} else {
			t.Data = floatsOf(raw)
		}
		for i, v := range t.Data {
			if v != v || math.IsInf(float64(v), 0) {
				return nil, nil, fmt.Errorf("tensor %q: value %d is not finite", name, i)
			}
		}
		tensors[name] = t
	}
	return tensors, metadata, nil
}

func readHeader(head []byte) (map[string]entry, map[string]string, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(head, &raw); err != nil {
		return nil, nil, fmt.Errorf("header: %w", err)
	}
	if len(raw) > maxTensors {
		return nil, nil, fmt.Errorf("header names %d tensors, at most %d are read", len(raw), maxTensors)
	}
	entries := make(map[string]entry, len(raw))
	var metadata map[string]string
	for name, msg := range raw {
		if name == "__metadata__" {
			if err := json.Unmarshal(msg, &metadata); err != nil {
				return nil, nil, fmt.Errorf("header, __metadata__: %w", err)
			}
			continue
		}
		var e entry
		dec := json.NewDecoder(bytes.NewReader(msg))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&e); err != nil {
			return nil, nil, fmt.Errorf("header, tensor %q: %w", name, err)
		}
		if err := e.check(); err != nil {
			return nil, nil, fmt.Errorf("header, tensor %q: %w", name, err)
		}
		entries[name] = e
	}
	return entries, metadata, nil
}

// check holds a tensor's type and shape against the bytes it claims.
func (e entry) check() error {
	size := int64(4)
	switch e.Dtype {
	case "F32":
	case "BF16":
		size = 2
	default:
		return fmt.Errorf("dtype %q is not read here (F32 and BF16 are)", e.Dtype)
	}
	if len(e.Shape) > 8 {
		return fmt.Errorf("%d dimensions, at most 8 are read", len(e.Shape))
	}
	count := int64(1)
	for _, d := range e.Shape {
		if d < 0 || int64(d) > maxFile {
			return fmt.Errorf("shape %v", e.Shape)
		}
		if count *= int64(d); count > maxFile {
			return fmt.Errorf("shape %v holds more than %d values", e.Shape, maxFile)
		}
	}
	if from, to := e.Offsets[0], e.Offsets[1]; from < 0 || to < from || to-from != count*size {
		return fmt.Errorf("bytes %d to %d do not hold %v values of %s", from, to, e.Shape, e.Dtype)
	}
	return nil
}

// checkOffsets holds the tensors to lie in the body one after another, without overlap or gap, up to its end.
func checkOffsets(entries map[string]entry, body int64) error {
	type span struct {
		name     string
		from, to int64
	}
	spans := make([]span, 0, len(entries))
	for name, e := range entries {
		spans = append(spans, span{name, e.Offsets[0], e.Offsets[1]})
	}
	sort.Slice(spans, func(i, j int) bool {
		a, b := spans[i], spans[j]
		if a.from != b.from {
			return a.from < b.from
		}
		if a.to != b.to {
			return a.to < b.to
		}
		return a.name < b.name
	})
	var at int64
	for _, s := range spans {
		if s.from != at {
			return fmt.Errorf("tensor %q starts at byte %d where %d was due: tensors overlap or leave a gap", s.name, s.from, at)
		}
		at = s.to
	}
	if at != body {
		return fmt.Errorf("the tensors end at byte %d of %d: the file is cut short or has a tail", at, body)
	}
	return nil
}

// roundBF16 rounds v in place to the nearest bfloat16, ties to even. A value too large for it is an error.
func roundBF16(v []float32) error {
	for i, x := range v {
		b := math.Float32bits(x)
		b += 0x7fff + b>>16&1
		v[i] = math.Float32frombits(b &^ 0xffff)
		if v[i] != v[i] || math.IsInf(float64(v[i]), 0) {
			return errors.New("a value does not fit bfloat16")
		}
	}
	return nil
}

// bytesOf is v in little-endian bytes.
func bytesOf(v []float32) []byte {
	b := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(x))
	}
	return b
}

func floatsOf(b []byte) []float32 {
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

func notBF16(v float32) bool { return math.Float32bits(v)&0xffff != 0 }
