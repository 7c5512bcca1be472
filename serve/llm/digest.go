package llm

import (
	"crypto/sha256"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"github.com/corastream/corastream/serve/llm/gguf"
)

// fileDigest is the SHA-256 of the model file in hex. With a folder it is remembered there under the file's path, size, time of
// change and inode, so that a start does not read the whole file; a file that changed within the last seconds is not, because
// one more change could keep its time.
//
// Format of digest-<16 hex digits of the path's SHA-256>.txt: one line "CORADIGEST 1 <size> <mtime, ns> <inode> <sha-256>
// <CRC-32C of all before, hex>".
func fileDigest(f *gguf.File, dir string) string {
	if dir == "" || f.ModTime().IsZero() {
		return f.Digest()
	}
	path, err := filepath.Abs(f.Name())
	if err != nil {
		return f.Digest()
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != f.Size() || !info.ModTime().Equal(f.ModTime()) { // another file has taken its place
		return f.Digest()
	}
	sum := sha256.Sum256([]byte(path))
	note := filepath.Join(dir, fmt.Sprintf("digest-%x.txt", sum[:8]))
	known := fmt.Sprintf("CORADIGEST 1 %d %d %d ", info.Size(), info.ModTime().UnixNano(), inode(info))
	if b, err := os.ReadFile(note); err == nil && len(b) == len(known)+2*sha256.Size+10 {
		digest := string(b[len(known) : len(known)+2*sha256.Size])
		if string(b) == digestLine(known, digest) {
			return digest
		}
	}
	digest := f.Digest()
	if time.Since(info.ModTime()) > 2*time.Second {
		// A failure costs the next start its time alone; the item cache in the same folder reports that it can not be written.
		_ = writeWhole(note, [][]byte{[]byte(digestLine(known, digest))})
	}
	return digest
}

func digestLine(known, digest string) string {
	line := known + digest
	return fmt.Sprintf("%s %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
}
