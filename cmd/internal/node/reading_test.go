package node

import (
	"testing"
	"time"
)

// TestReadingSaysHowFarItIs: the time left follows the pace since the first word, and nothing is said before and after.
func TestReadingSaysHowFarItIs(t *testing.T) {
	var r reading
	at := time.Unix(1_700_000_000, 0)
	if r.now() != nil {
		t.Fatal("something is read before the first word")
	}
	r.set(100, 300, at)
	if got := r.now(); got == nil || got.Done != 100 || got.Total != 300 || got.ETAS >= 0 {
		t.Errorf("at the start: %+v", got)
	}
	r.set(150, 300, at.Add(10*time.Second))
	if got := r.now(); got == nil || got.ETAS != 30 {
		t.Errorf("50 items in 10 s, 150 to go: %+v", got)
	}
	r.set(300, 300, at.Add(40*time.Second))
	if got := r.now(); got != nil {
		t.Errorf("at the end: %+v", got)
	}
	r.set(1, 2, at)
	r.end()
	if r.now() != nil {
		t.Error("it goes on after the end")
	}
}
