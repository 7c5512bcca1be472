package itemcodes

import (
	"strings"
	"testing"
	"time"
)

// TestAdviceHasTheFiguresOfThisReading: half of the layers took 40 % of the time, so all items would take 40 % of their time.
func TestAdviceHasTheFiguresOfThisReading(t *testing.T) {
	p := Pace{
		Done: 200, Total: 3200, ItemsPerS: .5, Left: 100 * time.Minute, Numerics: "f32",
		Layers: []time.Duration{20 * time.Second, 20 * time.Second, 40 * time.Second, 20 * time.Second},
	}
	says := strings.Join(Advice(p), "\n")
	for _, want := range []string{"100 minutes more: 0.5 items/s", "3000 of 3200", "llm.list_layers: 2", "40 %", "all 3200 items would take about 43 minutes", "llm.numerics: int8", "--llm off"} {
		if !strings.Contains(says, want) {
			t.Errorf("%q is missing:\n%s", want, says)
		}
	}
	if strings.Contains(says, "checkpoint") {
		t.Errorf("there is no checkpoint:\n%s", says)
	}
	p.Scores, p.Numerics, p.ListLayers = true, "int8", 2
	says = strings.Join(Advice(p), "\n")
	if !strings.Contains(says, "checkpoint: \"\"") || strings.Contains(says, "list_layers") || strings.Contains(says, "numerics") {
		t.Errorf("what is in use already is advised, or the checkpoint is forgotten:\n%s", says)
	}
	p.Left = 9 * time.Minute
	if says := Advice(p); says != nil {
		t.Errorf("nine minutes: %q", says)
	}
	p.Left, p.ItemsPerS = time.Hour, 0
	if says := Advice(p); says != nil {
		t.Errorf("nothing has been read: %q", says)
	}
}
