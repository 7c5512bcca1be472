package itemcodes

import (
	"fmt"
	"time"
)

// LongReading is how much reading must be left for Advice to say something.
const LongReading = 10 * time.Minute

// Pace is what has been measured while a catalogue is read for lists.
type Pace struct {
	Done, Total int             // items
	ItemsPerS   float64         // read by this process
	Left        time.Duration   // until all are read
	Layers      []time.Duration // that readings took in each layer of the LLM
	ListLayers  int             // llm.list_layers; 0: all
	Numerics    string          // of the LLM
	Scores      bool            // a checkpoint has the LLM read every item a second time, for scores
}

// Advice says what would have the catalogue read sooner, with the figures of this reading; empty where it will not take long or too
// little has been measured.
func Advice(p Pace) []string {
	if p.Left <= LongReading || p.ItemsPerS <= 0 {
		return nil
	}
	out := []string{fmt.Sprintf("reading the catalogue for lists will take %s more: %.2g items/s here, %d of %d are to be read. Lists come meanwhile, without the "+
		"language model's part. What is read is kept over restarts", about(p.Left), p.ItemsPerS, p.Total-p.Done, p.Total)}
	if half := len(p.Layers) / 2; p.ListLayers == 0 && half > 0 {
		var lower, all time.Duration
		for l, d := range p.Layers {
			if all += d; l < half {
				lower += d
			}
		}
		if lower > 0 && lower < all {
			share := float64(lower) / float64(all)
			whole := float64(p.Total) / p.ItemsPerS
			out = append(out, fmt.Sprintf("llm.list_layers: %d reads through half of the layers, which took %.0f %% of this reading so far: all %d items would take about %s. "+
				"Such codes gained as much as whole ones on two of our logs, whose items have long fields, and a fifth and two fifths less on two others (docs/measured/quality.md)",
				half, 100*share, p.Total, about(time.Duration(share*whole*float64(time.Second)))))
		}
	}
	if p.Numerics != "int8" {
		out = append(out, fmt.Sprintf("llm.numerics: int8 reads faster than %s on most processors; it was not measured on this machine (`corastream bench llm --cases encode_64` does)", p.Numerics))
	}
	if p.Scores {
		out = append(out, "the checkpoint has every item read once more, for scores through the language model's layers. Without it (checkpoint: \"\") the probabilities "+
			"are those of the CF model, and lists still have the language model's part, to first order, for this reading alone")
	}
	out = append(out, "a smaller language model reads faster, in the measure of its weights (counted, not measured); no size was clearly better for lists (docs/measured/quality.md)",
		"--llm off has lists without the language model's part, and reads nothing")
	return out
}

// about is a duration as people say it.
func about(d time.Duration) string {
	if d < 2*time.Minute {
		return d.Round(time.Second).String()
	}
	m := int(d.Round(time.Minute).Minutes())
	if m < 120 {
		return fmt.Sprintf("%d minutes", m)
	}
	return fmt.Sprintf("%.1f hours", d.Hours())
}
