package devbroker

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestADamagedLogIsRefusedAndATornOneIsNot: any bit of a segment that flips is found before the server cuts the file there,
// but for the leader epoch, which nobody reads; a write that was cut short anywhere leaves the records before it.
func TestADamagedLogIsRefusedAndATornOneIsNot(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Topics: []Topic{{Name: "in", Partitions: 1}}}
	b, err := Start(o)
	must(t, err)
	put(t, b.Addr(), "a", "b", "c")
	must(t, b.Close())
	list, err := filepath.Glob(filepath.Join(dir, "log", "partitions", "*", "0.dat"))
	if err != nil || len(list) != 1 {
		t.Fatalf("segments %v, %v", list, err)
	}
	whole, err := os.ReadFile(list[0])
	must(t, err)
	third := len(whole) / 3 // three batches of the same size
	for i := range 8 * len(whole) {
		raw := bytes.Clone(whole)
		raw[i/8] ^= 1 << (i % 8)
		end, err := checkSegment("0.dat", raw, 0)
		if at := i / 8 % third; at >= 12 && at < 16 {
			continue
		}
		if err == nil && end <= 3 { // a base offset that grew is a gap to whoever reads
			t.Errorf("bit %d of byte %d: the log ends at %d and no error", i%8, i/8, end)
		}
		if err == nil && i/8%third >= 8 {
			t.Errorf("bit %d of byte %d is not noticed", i%8, i/8)
		}
		if err != nil && (!errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "0.dat")) {
			t.Errorf("bit %d of byte %d: %v", i%8, i/8, err)
		}
	}
	for n := range len(whole) {
		if end, err := checkSegment("0.dat", whole[:n], 0); err != nil || end != int64(n/third) {
			t.Fatalf("cut to %d bytes: end %d, %v", n, end, err)
		}
		if end, err := checkSegment("0.dat", append(bytes.Clone(whole[:n-n%third]), make([]byte, 100)...), 0); err != nil || end != int64(n/third) {
			t.Fatalf("zeros after %d bytes: end %d, %v", n-n%third, end, err)
		}
	}

	whole[third+30] ^= 1
	must(t, os.WriteFile(list[0], whole, 0o600))
	if _, err := Start(o); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), list[0]) || !strings.Contains(err.Error(), "fix:") {
		t.Errorf("a damaged log: %v", err)
	}
	if now, err := os.ReadFile(list[0]); err != nil || !bytes.Equal(now, whole) {
		t.Error("the damaged file was changed")
	}
	whole[third+30] ^= 1
	must(t, os.WriteFile(list[0], whole, 0o600))
	snapshot := filepath.Join(filepath.Dir(list[0]), "snapshot.json")
	text, err := os.ReadFile(snapshot)
	must(t, err)
	must(t, os.WriteFile(snapshot, bytes.Replace(text, []byte(`"high_watermark":3`), []byte(`"high_watermark":2`), 1), 0o600))
	if _, err := Start(o); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), snapshot) {
		t.Errorf("a damaged snapshot: %v", err)
	}
	must(t, os.WriteFile(snapshot, text, 0o600))
	b, err = Start(o)
	must(t, err)
	defer b.Close()
	if got := get(t, b.Addr(), 3); len(got) != 3 {
		t.Errorf("%v", got)
	}
}
