package devbroker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrDamaged: the log on the disk is not what was written.
var ErrDamaged = errors.New("the embedded broker's log is damaged")

// The server takes the first batch that fails its checksum for a write that a crash cut short, and cuts the file there:
// acknowledged records behind it would be gone without a word. A write that was really cut short leaves the beginning of
// a batch at the file's end, or zeros; a batch that is all there and fails its checksum, or a length that leaves the
// checksum of what it once framed, is damage. So the folder is looked through before it is served.
//
// A partition's folder: BASE.dat, record batches as on the wire (base offset i64, length i32 of what follows it, leader
// epoch i32, magic 2, CRC32C u32 of all that follows it, ...); snapshot.json, written at a clean end.
const (
	batchFrame = 12 // base offset and length
	batchCRC   = 17
	batchBody  = 21
	batchLeast = 61
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkLog looks through every segment and the snapshots beside them.
func checkLog(dir string) error {
	segments := map[string][]int64{} // folder -> bases
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name, ok := strings.CutSuffix(d.Name(), ".dat"); ok && d.Type().IsRegular() {
			if base, err := strconv.ParseInt(name, 10, 64); err == nil {
				segments[filepath.Dir(path)] = append(segments[filepath.Dir(path)], base)
			}
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a new folder
	}
	if err != nil {
		return fmt.Errorf("look through the embedded broker's log: %w", err)
	}
	for part, bases := range segments {
		slices.Sort(bases)
		end, sizes := int64(0), map[int64]int64{}
		for _, base := range bases {
			path := filepath.Join(part, fmt.Sprintf("%d.dat", base))
			raw, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("look through the embedded broker's log: %w", err)
			}
			if end, err = checkSegment(path, raw, max(end, base)); err != nil {
				return err
			}
			sizes[base] = int64(len(raw))
		}
		if err := checkSnapshot(filepath.Join(part, "snapshot.json"), end, sizes); err != nil {
			return err
		}
	}
	return nil
}

// checkSegment walks the batches of a file whose offsets are at least from, and returns the offset after the last.
func checkSegment(path string, raw []byte, from int64) (int64, error) {
	bad := func(at int, what string) error {
		return fmt.Errorf("%w: %s: %s at byte %d (fix: restore the file, or remove the folder and produce the records again)", ErrDamaged, path, what, at)
	}
	at := 0
	for ; at+batchFrame <= len(raw); at += batchFrame + int(binary.BigEndian.Uint32(raw[at+8:])) {
		rest := raw[at:]
		n := int64(binary.BigEndian.Uint32(rest[8:])) + batchFrame
		if n > int64(len(rest)) || n < batchLeast {
			if framed(rest) {
				return 0, bad(at, "the length of the batch is wrong")
			}
			break
		}
		if crc32.Checksum(rest[batchBody:n], castagnoli) != binary.BigEndian.Uint32(rest[batchCRC:]) || rest[16] != 2 {
			return 0, bad(at, "the batch fails its checksum")
		}
		base := int64(binary.BigEndian.Uint64(rest))
		if base < from {
			return 0, bad(at, fmt.Sprintf("a batch begins at offset %d, the one before ended at %d", base, from))
		}
		from = base + int64(binary.BigEndian.Uint32(rest[23:])) + 1
	}
	return from, nil
}

// framed says whether some part of rest is what a batch with its checksum once framed.
func framed(rest []byte) bool {
	if len(rest) < batchLeast {
		return false
	}
	want, sum := binary.BigEndian.Uint32(rest[batchCRC:]), uint32(0)
	for i := batchBody; i < len(rest); i++ {
		if sum = crc32.Update(sum, castagnoli, rest[i:i+1]); sum == want && i >= batchLeast-1 {
			return true
		}
	}
	return false
}

// checkSnapshot holds what a clean end wrote down against the segments. One that belongs to other segments is of before a
// crash, and the server passes it by. (A producer that left a transaction open at a clean end is refused, too.)
func checkSnapshot(path string, end int64, sizes map[int64]int64) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look through the embedded broker's log: %w", err)
	}
	var s struct {
		High     int64 `json:"high_watermark"`
		Stable   int64 `json:"last_stable_offset"`
		Start    int64 `json:"log_start_offset"`
		Segments []struct {
			Base int64 `json:"base_offset"`
			Size int64 `json:"size"`
		} `json:"segments"`
	}
	if json.Unmarshal(b, &s) != nil || len(s.Segments) != len(sizes) {
		return nil
	}
	for _, seg := range s.Segments {
		if size, ok := sizes[seg.Base]; !ok || size != seg.Size {
			return nil
		}
	}
	if s.High != end || s.Stable != end || s.Start > end {
		return fmt.Errorf("%w: %s: it says that the log ends at %d, the segments end at %d (fix: remove this file)", ErrDamaged, path, s.High, end)
	}
	return nil
}
