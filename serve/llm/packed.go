package llm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/kernels"
)

// Packed weights on disk, so that a start maps them instead of decoding and packing the model file again. It is a cache: a file
// that is torn, foreign or fails a checksum is packed anew. It is written beside its place and moved there whole, and never
// changed after that, so a process that has it mapped may go on while another replaces it.
//
// Format, in this machine's byte order, named packed-<16 hex digits>.w by the model, numerics, layout and byte order:
//
//	   0  "CORAPACK"
//	   8  uint32    version, 1
//	  12  uint32    kernels.ImageVersion
//	  16  [32]byte  SHA-256 of the model file
//	  48  uint32    numerics: 0 f32, 1 bf16, 2 int8
//	  52  uint32    matrices: 4 for each layer: q|k|v, o, gate|up, down
//	  56  uint64    0
//	  64  32 bytes for each matrix:
//	       0  uint32  form: 0 f32, 1 bf16, 2 int8, 3 q4_1, 4 k
//	       4  uint32  CRC-32C of the image
//	       8  uint32  outputs
//	      12  uint32  inputs
//	      16  uint64  where the image begins, a multiple of 64
//	      24  uint64  its bytes
//	then uint32 CRC-32C of all before, then the images.
const (
	packedHeadBytes = 64
	packedRowBytes  = 32
	packedAlign     = 64
)

var (
	numericsNames = []string{"f32", "bf16", "int8"}
	imageForms    = []string{"f32", "bf16", "int8", "q4_1", "k"}
)

// packedPath names the file of packed weights; "" without a folder.
func packedPath(dir, digest, numerics string) string {
	if dir == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(fmt.Sprintf("%s %s %d %x", digest, numerics, kernels.ImageVersion, binary.NativeEndian.AppendUint32(nil, 1))))
	return filepath.Join(dir, "packed-"+hex.EncodeToString(sum[:8])+".w")
}

// packedHead is the first 64 bytes.
func (w *weights) packedHead() ([]byte, error) {
	sum, err := hex.DecodeString(w.digest)
	if err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("llm: model digest %q is not a SHA-256", w.digest)
	}
	ne := binary.NativeEndian
	b := ne.AppendUint32(ne.AppendUint32([]byte("CORAPACK"), 1), kernels.ImageVersion)
	b = append(b, sum...)
	b = ne.AppendUint32(b, uint32(slices.Index(numericsNames, w.numerics)))
	b = ne.AppendUint32(b, uint32(linearsPerLayer*len(w.layers)))
	return ne.AppendUint64(b, 0), nil
}

// mapPacked takes all linears from the file, or none.
func (w *weights) mapPacked(path string) bool {
	if path == "" {
		return false
	}
	data, unmap, err := mapFile(path)
	if err != nil {
		return false // not there, or not to be read: packed from the model file
	}
	if err := w.fromImages(data); err != nil {
		for l := range w.layers {
			for _, m := range w.layers[l].linears() {
				*m = nil
			}
		}
		w.keepErr = errors.Join(unmap(), os.Remove(path))
		return false
	}
	w.unmap = unmap
	now := time.Now()
	_ = os.Chtimes(path, now, now) // when it was last used: trimCache
	return true
}

var errPacked = errors.New("llm: packed weights are torn or foreign")

func (w *weights) fromImages(data []byte) error {
	head, err := w.packedHead()
	if err != nil {
		return err
	}
	ne := binary.NativeEndian
	table := packedHeadBytes + packedRowBytes*linearsPerLayer*len(w.layers)
	if len(data) < table+4 || !bytes.Equal(data[:packedHeadBytes], head) || crc32.Checksum(data[:table], castagnoli) != ne.Uint32(data[table:]) {
		return errPacked
	}
	var bad atomic.Bool
	kernels.Parallel(runtime.GOMAXPROCS(0), len(w.layers), func(lo, hi, _ int) {
		for l := lo; l < hi; l++ {
			into := w.layers[l].linears()
			for i, lin := range w.arch.linears(l) {
				row := data[packedHeadBytes+packedRowBytes*(linearsPerLayer*l+i):][:packedRowBytes]
				form, from, n := ne.Uint32(row), ne.Uint64(row[16:]), ne.Uint64(row[24:])
				if int(form) >= len(imageForms) || ne.Uint32(row[8:]) != uint32(lin.out()) || ne.Uint32(row[12:]) != uint32(lin.in) ||
					from%packedAlign != 0 || from > uint64(len(data)) || n > uint64(len(data))-from {
					bad.Store(true)
					return
				}
				image := data[from : from+n]
				m, err := kernels.FromImage(imageForms[form], lin.out(), lin.in, image)
				if err != nil || crc32.Checksum(image, castagnoli) != ne.Uint32(row[4:]) {
					bad.Store(true)
					return
				}
				*into[i] = m
			}
		}
	})
	if bad.Load() {
		return errPacked
	}
	return nil
}

// keepPacked writes the file; a failure only costs the next start its time, and is told by CacheStats.
func (w *weights) keepPacked(path string) {
	if path == "" {
		return
	}
	if err := w.writePacked(path); err != nil {
		w.keepErr = fmt.Errorf("keep packed weights: %w", err)
	}
}

func (w *weights) writePacked(path string) (err error) {
	b, err := w.packedHead()
	if err != nil {
		return err
	}
	ne := binary.NativeEndian
	var images [][]byte
	at := uint64(packedHeadBytes+packedRowBytes*linearsPerLayer*len(w.layers)+4+packedAlign-1) / packedAlign * packedAlign
	for l := range w.layers {
		for _, m := range w.layers[l].linears() {
			form, image := kernels.Image(*m)
			b = ne.AppendUint32(b, uint32(slices.Index(imageForms, form)))
			b = ne.AppendUint32(b, crc32.Checksum(image, castagnoli))
			b = ne.AppendUint32(b, uint32((*m).Out()))
			b = ne.AppendUint32(b, uint32((*m).In()))
			b = ne.AppendUint64(b, at)
			b = ne.AppendUint64(b, uint64(len(image)))
			images = append(images, image)
			at += (uint64(len(image)) + packedAlign - 1) / packedAlign * packedAlign
		}
	}
	b = ne.AppendUint32(b, crc32.Checksum(b, castagnoli))
	return writeWhole(path, append([][]byte{b}, images...))
}

// writeWhole writes parts, each beginning at a multiple of 64 bytes, to a file that appears under its name all at once.
func writeWhole(path string, parts [][]byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return corastream.Usagef("llm.cache_dir", "name a folder that can be written, or none", "%v", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.part")
	if err != nil {
		return err
	}
	err = errors.Join(writeParts(f, parts), f.Chmod(0o644), f.Close())
	if err == nil {
		err = corastream.Failpoint("llm.packed")
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

func writeParts(f *os.File, parts [][]byte) error {
	fill := make([]byte, packedAlign)
	for i, p := range parts {
		if _, err := f.Write(p); err != nil {
			return err
		}
		if over := len(p) % packedAlign; over > 0 && i < len(parts)-1 {
			if _, err := f.Write(fill[over:]); err != nil {
				return err
			}
		}
	}
	return nil
}
