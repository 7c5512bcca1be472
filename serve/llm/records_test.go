package llm

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

func stateKey(i int) (k [32]byte) {
	copy(k[:], fmt.Sprint("key ", i))
	return k
}

func state(i, width int) []float32 {
	s := make([]float32, width)
	for j := range s {
		s[j] = float32(i*width + j)
	}
	return s
}

func openStates(t *testing.T, path string, limit int64) *StateFile {
	t.Helper()
	s, err := OpenStates(path, "a test", 8, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestProcessesAtOnceKeepEachStateOnce: four writers of the same states, each in an order of its own. All find all of them, and the
// file has each once.
func TestProcessesAtOnceKeepEachStateOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "states")
	const n = 200
	var all sync.WaitGroup
	for w := range 4 {
		s := openStates(t, path, 1<<20)
		all.Go(func() {
			for i := range n {
				j := (i*7 + w*50) % n
				if got := s.Get(stateKey(j)); got == nil {
					s.Put(stateKey(j), state(j, 8))
				} else if got[3] != state(j, 8)[3] {
					t.Errorf("state %d is %v", j, got)
				}
			}
			if err := s.Failure(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s := openStates(t, path, 1<<20)
	for i := range n {
		if s.Get(stateKey(i)) == nil {
			s.Put(stateKey(i), state(i, 8)) // a writer waits for the lock a moment and no longer
			t.Logf("state %d was not kept", i)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 80+n*(48+32) {
		t.Errorf("%d bytes, want %d (%v)", info.Size(), 80+n*(48+32), err)
	}
}

// TestAFullFileIsBegunAnewUnlessItIsInUse: room for 100 states. Whoever uses none of those that are there begins anew; a process with the
// old file open goes on with it. Whoever uses most of them leaves the file as it is.
func TestAFullFileIsBegunAnewUnlessItIsInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "states")
	const limit = 80 + 100*(48+32)
	first := openStates(t, path, limit)
	for i := range 150 {
		first.Put(stateKey(i), state(i, 8))
	}
	if first.Get(stateKey(99)) == nil || first.Get(stateKey(100)) != nil {
		t.Error("the file does not have the first 100 of 150 states")
	}
	second := openStates(t, path, limit)
	second.Put(stateKey(1000), state(1000, 8))
	third := openStates(t, path, limit)
	if third.Get(stateKey(1000)) == nil || third.Get(stateKey(99)) != nil || second.Get(stateKey(99)) != nil {
		t.Error("another catalogue's state is not in the place of those that nobody uses")
	}
	if got := first.Get(stateKey(99)); got == nil || got[0] != state(99, 8)[0] {
		t.Errorf("who has the old file open has %v", got)
	}
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
}

// TestTheCacheFolderIsTrimmed: what was used longest ago goes, until the rest fits; what was used within the hour and what is not the
// cache's stays.
func TestTheCacheFolderIsTrimmed(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	put := func(name string, age time.Duration) {
		path := filepath.Join(dir, name)
		must(os.WriteFile(path, make([]byte, 1000), 0o644))
		must(os.Chtimes(path, now.Add(-age), now.Add(-age)))
	}
	const day = 24 * time.Hour
	for name, age := range map[string]time.Duration{
		"packed-1.w": 9 * day, "items-1.kv": 8 * day, "states-1.f32": 3 * day, "answers-1.f32": 2 * day, "packed-2.w": time.Minute, "items-2.kv": time.Second,
		"notes.txt": 90 * day, "packed-3.w.17.part": 2 * day, "packed-4.w.18.part": time.Minute,
	} {
		put(name, age)
	}
	holds := func(want ...string) {
		t.Helper()
		files, err := os.ReadDir(dir)
		must(err)
		var got []string
		for _, f := range files {
			got = append(got, f.Name())
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v, want %v", got, want)
		}
	}
	trimCache(dir, 4500, now)
	holds("answers-1.f32", "items-2.kv", "notes.txt", "packed-2.w", "packed-4.w.18.part", "states-1.f32")
	trimCache(dir, 500, now)
	holds("items-2.kv", "notes.txt", "packed-2.w", "packed-4.w.18.part")
}

// TestTextOnlyReadsTheSameTextAndNothingAbove: the mean of the text is that of a whole reading to the bit, answers are zeros, and the
// layers above take no time.
func TestTextOnlyReadsTheSameTextAndNothingAbove(t *testing.T) {
	whole := tinyLlama.open(t, func(o *Options) { o.ReadLayer = 2 })
	part := tinyLlama.open(t, func(o *Options) { o.ReadLayer, o.TextOnly = 2, true })
	want, got := encode(t, whole, catalogue()), encode(t, part, catalogue())
	for i := range want {
		if fmt.Sprint(got[i].Title) != fmt.Sprint(want[i].Title) {
			t.Errorf("item %d: %v, want %v", i, got[i].Title, want[i].Title)
		}
		for _, a := range got[i].Answer {
			for _, v := range a {
				if v != 0 {
					t.Fatalf("item %d: an answer was read", i)
				}
			}
		}
	}
	for l, d := range whole.ReadTimes() {
		if d <= 0 {
			t.Errorf("layer %d took %v", l, d)
		}
		if took := part.ReadTimes()[l]; took > 0 != (l < 2) {
			t.Errorf("layer %d took %v where reading ends after 2", l, took)
		}
	}
}
