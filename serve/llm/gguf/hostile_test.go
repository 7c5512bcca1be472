package gguf

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/bounded"
)

// forge builds a file byte by byte, so that it may lie.
type forge []byte

func header(version uint32, tensors, keys uint64) forge {
	f := forge("GGUF").u32(version)
	return f.u64(tensors).u64(keys)
}

func (f forge) u32(v uint32) forge   { return binary.LittleEndian.AppendUint32(f, v) }
func (f forge) u64(v uint64) forge   { return binary.LittleEndian.AppendUint64(f, v) }
func (f forge) str(s string) forge   { return append(f.u64(uint64(len(s))), s...) }
func (f forge) zeros(n int) forge    { return append(f, make([]byte, n)...) }
func (f forge) pad() forge           { return f.zeros((32 - len(f)%32) % 32) }
func (f forge) key(s string) forge   { return f.str(s).u32(uint32(kindU32)).u32(1) }
func (f forge) align(a uint32) forge { return f.str("general.alignment").u32(uint32(kindU32)).u32(a) }

func (f forge) tensor(name string, typ Type, offset uint64, dims ...uint64) forge {
	f = f.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		f = f.u64(d)
	}
	return f.u32(uint32(typ)).u64(offset)
}

// hostile holds one file for each way to lie, with what the error must name. Published holes of other loaders are among
// them: sizes that overflow (CVE-2025-53630, CVE-2026-27940, CVE-2026-33298) and tensors beyond the file (CVE-2026-7482).
var hostile = []struct {
	name  string
	file  forge
	names string
}{
	{"empty", forge(""), "byte 0"},
	{"wrong magic", forge("GGML").u32(3).u64(0).u64(0), "byte 0"},
	{"lower-case magic", forge("gguf").u32(3).u64(0).u64(0), "not a GGUF"},
	{"version 1", header(1, 0, 0), "version 1"},
	{"version 4", header(4, 0, 0), "version 4"},
	{"big-endian", forge("GGUF\x00\x00\x00\x03").u64(0).u64(0), "big-endian"},
	{"cut in the counts", header(3, 0, 0)[:20], "metadata keys"},
	{"more tensors than bytes", header(3, 1<<15, 0).zeros(100), "number of tensors"},
	{"too many tensors", header(3, 1<<63, 0), "number of tensors"},
	{"more keys than bytes", header(3, 0, 1<<15).zeros(100), "metadata keys"},
	{"too many keys", header(3, 0, 1<<64-1), "metadata keys"},
	{"key length beyond the file", header(3, 0, 1).u64(60000).zeros(20), "byte 24"},
	{"key length overflows", header(3, 0, 1).u64(1<<64 - 1).zeros(20), "byte 24"},
	{"empty key", header(3, 0, 1).key("").zeros(20), "duplicate"},
	{"duplicate key", header(3, 0, 2).key("twice").key("twice"), "twice"},
	{"unknown value type", header(3, 0, 1).str("k").u32(13).zeros(20), `"k"`},
	{"string beyond the file", header(3, 0, 1).str("k").u32(8).u64(1 << 40).zeros(20), `"k"`},
	{"array beyond the file", header(3, 0, 1).str("k").u32(9).u32(4).u64(1 << 40).zeros(20), `"k"`},
	{"array size overflows", header(3, 0, 1).str("k").u32(9).u32(10).u64(1 << 61).zeros(20), `"k"`},
	{"strings beyond the file", header(3, 0, 1).str("k").u32(9).u32(8).u64(2).str("ab").u64(99), `"k"`},
	{"array of arrays", header(3, 0, 1).str("k").u32(9).u32(9).u64(1).zeros(20), "array of array"},
	{"array of unknown", header(3, 0, 1).str("k").u32(9).u32(77).u64(1).zeros(20), "type 77"},
	{"bool of 2", append(header(3, 0, 1).str("k").u32(7), 2, 0, 0, 0, 0, 0), "bool"},
	{"alignment 0", header(3, 0, 1).align(0), "general.alignment"},
	{"alignment 12", header(3, 0, 1).align(12), "general.alignment"},
	{"alignment 2^31", header(3, 0, 1).align(1 << 31), "general.alignment"},
	{"alignment is a string", header(3, 0, 1).str("general.alignment").u32(8).str("x"), "general.alignment"},
	{"split model", header(3, 0, 1).str("split.count").u32(2).u32(3).zeros(8), "split in 3"},
	{"no dimensions", header(3, 1, 0).tensor("t", F32, 0).zeros(64), "0 dimensions"},
	{"five dimensions", header(3, 1, 0).tensor("t", F32, 0, 1, 1, 1, 1, 1).zeros(64), "5 dimensions"},
	{"2^32-1 dimensions", header(3, 1, 0).str("t").u32(1<<32 - 1).zeros(64), "dimensions"},
	{"dimension 0", header(3, 1, 0).tensor("t", F32, 0, 4, 0).zeros(64), "dimension 1"},
	{"negative dimension", header(3, 1, 0).tensor("t", F32, 0, 1<<64-4).zeros(64), "dimension 0"},
	{"product overflows to 0", header(3, 1, 0).tensor("t", F32, 0, 1<<32, 1<<32).zeros(64), "dimension"},
	{"product overflows to small", header(3, 1, 0).tensor("t", F32, 0, 1<<33+1, 1<<31).zeros(64), "dimension"},
	{"size overflows", header(3, 1, 0).tensor("t", F32, 0, 1<<62).zeros(64), "dimension"},
	{"half a block", header(3, 1, 0).tensor("t", Q4_0, 0, 16, 2).zeros(64), "multiple"},
	{"unsupported type", header(3, 1, 0).tensor("blk.0.w", 16, 0, 256).zeros(200), "IQ2_XXS"},
	{"type far away", header(3, 1, 0).tensor("blk.0.w", 1<<31, 0, 256).zeros(200), "blk.0.w"},
	{"empty tensor name", header(3, 1, 0).tensor("", F32, 0, 1).pad().zeros(32), "empty"},
	{"long tensor name", header(3, 1, 0).tensor(strings.Repeat("n", 65), F32, 0, 1).pad().zeros(32), "limit of 64"},
	{"duplicate tensor", header(3, 2, 0).tensor("t", F32, 0, 1).tensor("t", F32, 32, 1).pad().zeros(64), "duplicate"},
	{"offset not aligned", header(3, 1, 0).tensor("t", F32, 4, 1).pad().zeros(64), "alignment"},
	{"offset beyond the file", header(3, 1, 0).tensor("t", F32, 1<<40, 1).pad().zeros(64), "beyond"},
	{"offset overflows", header(3, 1, 0).tensor("t", F32, 1<<64-32, 16).pad().zeros(64), "beyond"},
	{"end beyond the file", header(3, 1, 0).tensor("t", F32, 32, 9).pad().zeros(64), "beyond"},
	{"truncated block", header(3, 1, 0).tensor("t", Q4_K, 0, 256).pad().zeros(143), "beyond"},
	{"overlap", header(3, 2, 0).tensor("s", F32, 0, 9).tensor("t", F32, 32, 1).pad().zeros(64), "overlaps"},
	{"same bytes twice", header(3, 2, 0).tensor("s", F32, 0, 1).tensor("t", F32, 0, 1).pad().zeros(64), "overlaps"},
	{"no data at all", header(3, 1, 0).tensor("t", F32, 0, 1), "beyond"},
}

func TestHostileFilesAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hostile.gguf")
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, c.file, 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := Open(path)
			if err == nil {
				f.Close()
				t.Fatal("opened")
			}
			var usage *corastream.UsageError
			if !errors.As(err, &usage) || usage.Fix == "" || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.names) {
				t.Errorf("the error does not name the file, %q and a fix: %v", c.names, err)
			}
		})
	}
}

// Every prefix of a good file is refused: nothing is read beyond what is there.
func TestEveryTruncationIsRefused(t *testing.T) {
	good := sample(t).Bytes()
	if _, err := Parse("good", good); err != nil {
		t.Fatal(err)
	}
	last := len(good) - 32 + 2 // tensor e is 2 bytes, the rest is padding
	for n := range last {
		if _, err := Parse("cut", good[:n:n]); err == nil {
			t.Fatalf("the first %d of %d bytes were accepted", n, len(good))
		}
	}
}

// A header may not make Parse allocate out of proportion: the largest tables that fit into the file cost a small multiple of it.
func TestAllocationIsBoundedByTheFile(t *testing.T) {
	many := header(3, 0, MaxKeys)
	for i := range MaxKeys {
		many = many.key(string([]byte{'k', byte(i), byte(i >> 8)}))
	}
	for name, file := range map[string][]byte{
		"keys":  many,
		"array": header(3, 0, 1).str("k").u32(9).u32(8).u64(1 << 20).zeros(8 << 20),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f, err := Parse(name, file)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(4*len(file)+16<<20); got > limit {
			t.Errorf("%s: %d bytes of file made Parse allocate %d, above %d", name, len(file), got, limit)
		}
		runtime.KeepAlive(f)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample(f).Bytes())
	for _, c := range hostile {
		f.Add([]byte(c.file))
	}
	f.Add([]byte(header(2, 1, 0).tensor("t", Q6_K, 0, 256).pad().zeros(210)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var file *File
		var err error
		bounded.Parse(t, len(data), func() { file, err = Parse("fuzz", data) })
		if err != nil {
			var usage *corastream.UsageError
			if !errors.As(err, &usage) {
				t.Fatalf("not a usage error: %v", err)
			}
			return
		}
		for _, key := range file.Keys() {
			file.Uint(key)
			file.Float(key)
			file.Bool(key)
			file.String(key)
			file.Strings(key)
			file.Floats(key)
			file.Ints(key)
		}
		total := 0
		for _, x := range file.Tensors() {
			if total += x.Elements(); total > 2*len(data) {
				t.Fatalf("%d bytes hold %d values", len(data), total)
			}
			if err := x.Float32(make([]float32, x.Elements())); err != nil {
				t.Fatal(err)
			}
			if err := x.Row(make([]float32, x.RowLen()), x.Rows()-1); err != nil {
				t.Fatal(err)
			}
		}
	})
}
