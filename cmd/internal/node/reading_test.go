package node

import (
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream/cmd/internal/itemcodes"
)

// TestReadingSaysHowFarItIs: the time left follows the pace since the first word, and nothing is said before and after. What would
// have a long reading done sooner is logged once, and said as long as it holds.
func TestReadingSaysHowFarItIs(t *testing.T) {
	var r reading
	at := time.Unix(1_700_000_000, 0)
	if r.now() != nil {
		t.Fatal("something is read before the first word")
	}
	slow := itemcodes.Pace{Layers: []time.Duration{time.Second, time.Second}, Numerics: "int8"}
	r.set(100, 300, slow, at)
	if got := r.now(); got == nil || got.Done != 100 || got.Total != 300 || got.ETAS >= 0 {
		t.Errorf("at the start: %+v", got)
	}
	r.set(150, 300, slow, at.Add(10*time.Second))
	if got := r.now(); got == nil || got.ETAS != 30 || got.ItemsPerS != 5 || got.Advice != nil {
		t.Errorf("50 items in 10 s, 150 to go: %+v", got)
	}
	r.set(300, 300, slow, at.Add(40*time.Second))
	if got := r.now(); got != nil {
		t.Errorf("at the end: %+v", got)
	}
	r.set(0, 300, slow, at)
	for turn := range 2 {
		says := r.set(3, 300, slow, at.Add(30*time.Second))
		if got := r.now(); got == nil || len(got.Advice) < 3 || !strings.Contains(got.Advice[0], "50 minutes more: 0.1 items/s") {
			t.Errorf("a tenth of an item a second: %+v", got)
		}
		if logged := says != nil; logged != (turn == 0) {
			t.Errorf("word %d: logged: %q", turn, says)
		}
	}
	r.end()
	if r.now() != nil {
		t.Error("it goes on after the end")
	}
}
