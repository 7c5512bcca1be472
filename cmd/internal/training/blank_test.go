package training

import (
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// TestRowsThatACheckpointMayKnowAreCounted: those not newer than its training log; none where either does not say when.
func TestRowsThatACheckpointMayKnowAreCounted(t *testing.T) {
	at := func(seconds ...int64) (out []corastream.Event) {
		for _, s := range seconds {
			ev := corastream.Event{User: "u", Item: "i"}
			if s > 0 {
				ev.Time = time.Unix(s, 0)
			}
			out = append(out, ev)
		}
		return out
	}
	ck := &generator.Checkpoint{Figures: map[string]float64{generator.TrainedUntil: 100}}
	if known, of := RowsKnown(ck, at(99, 100, 0), at(100, 101)); known != 3 || of != 5 {
		t.Errorf("%d of %d, want 3 of 5", known, of)
	}
	if known, _ := RowsKnown(&generator.Checkpoint{}, at(99)); known != 0 {
		t.Errorf("an older checkpoint, which does not say: %d", known)
	}
}
