package mix

import (
	"errors"
	"fmt"
	"slices"

	"github.com/corastream/corastream"
)

// How repeats are treated.
const (
	RepeatsAuto = "auto"
	RepeatsYes  = "yes"
	RepeatsNo   = "no"
)

// The texts that words are taken from.
const (
	TextTitle  = "title"
	TextFields = "fields"
)

// Spec is the shape of the list model. Two states can only be compared when their specs are equal.
type Spec struct {
	// Neighbours is how many others are kept of each item. Default 256, range 8..4096.
	Neighbours int `yaml:"-"`
	// History is how many of a user's last events are read for a list, and paired with a new one. Default 50, range 5..500.
	History int `yaml:"-"`
	// Repeats says whether items that the user has had may be listed again: yes, no, or auto, which looks whether a tenth of the
	// likes are repeats. Default auto.
	Repeats string `yaml:"repeats"`
	// Factors is the width of the sequence factors; 0 leaves them out. Default 32, range 0..256, in steps of 16.
	Factors int `yaml:"-"`
	// EASEItems is how many items, in order of their first like, the linear autoencoder knows. It takes 8 bytes for each pair of
	// them, and its fit grows with the cube; a larger catalogue has none. 0 leaves it out. Default 3000, range 0..10000.
	EASEItems int `yaml:"-"`
	// Text is what the words of an item are taken from: its title, or its title and plain fields such as genre and tags. Default fields.
	Text string `yaml:"-"`
	// Codes is the width of the item codes that the LLM's part reads; 0 leaves it out. Without an LLM no codes come, and the part is 0.
	// Default 96, range 0..512.
	Codes int `yaml:"codes"`
	// TrainAfter is how many likes the first training of the LLM's part waits for. Default 1000, range 100..1000000.
	TrainAfter int `yaml:"-"`
	// TrainRows is how many of the last likes a training reads; each takes 900 bytes. Default 20000, range 1000..1000000.
	TrainRows int `yaml:"-"`
	// Judge is after how many likes at the latest a new version of the LLM's part is promoted or refused. Default 2000, range
	// 200..1000000.
	Judge int `yaml:"-"`
	// MemoryLimit bounds the neighbour table in bytes: as the catalogue grows, fewer neighbours are kept of each item.
	// Default 1 GiB, range 16 MiB..1 TiB.
	MemoryLimit int64 `yaml:"memory_limit_bytes"`
}

// Default returns the defaults above.
func Default() Spec {
	return Spec{Neighbours: 256, History: 50, Repeats: RepeatsAuto, Factors: 32, EASEItems: 3000, Text: TextFields, Codes: 96, TrainAfter: 1000, TrainRows: 20_000, Judge: 2000, MemoryLimit: 1 << 30}
}

// Validate reports all problems at once.
func (s Spec) Validate() error {
	var errs []error
	check := func(key string, v, lo, hi int) {
		if v < lo || v > hi {
			errs = append(errs, corastream.Usagef(key, fmt.Sprintf("choose from %d to %d", lo, hi), "%d is out of range", v))
		}
	}
	check("neighbours", s.Neighbours, 8, 4096)
	check("history", s.History, 5, 500)
	check("factors", s.Factors, 0, 256)
	check("ease_items", s.EASEItems, 0, 10000)
	check("codes", s.Codes, 0, 512)
	check("train_after", s.TrainAfter, 100, 1_000_000)
	check("train_rows", s.TrainRows, 1000, 1_000_000)
	check("judge", s.Judge, 200, 1_000_000)
	check("memory_limit_bytes", int(s.MemoryLimit), 16<<20, 1<<40)
	if s.Factors%16 != 0 {
		errs = append(errs, corastream.Usagef("factors", "choose a multiple of 16", "%d is none", s.Factors))
	}
	if !slices.Contains([]string{RepeatsAuto, RepeatsYes, RepeatsNo}, s.Repeats) {
		errs = append(errs, corastream.Usagef("repeats", "choose auto, yes or no", "%q is unknown", s.Repeats))
	}
	if !slices.Contains([]string{TextTitle, TextFields}, s.Text) {
		errs = append(errs, corastream.Usagef("text", "choose title or fields", "%q is unknown", s.Text))
	}
	return errors.Join(errs...)
}

// String is the spec in one line; states with equal ones are compatible.
func (s Spec) String() string {
	out := fmt.Sprintf("mix neighbours=%d history=%d repeats=%s factors=%d ease_items=%d text=%s codes=%d memory=%d",
		s.Neighbours, s.History, s.Repeats, s.Factors, s.EASEItems, s.Text, s.Codes, s.MemoryLimit)
	if d := Default(); s.TrainAfter != d.TrainAfter || s.TrainRows != d.TrainRows || s.Judge != d.Judge { // folders of earlier builds know of none
		out += fmt.Sprintf(" train_after=%d train_rows=%d judge=%d", s.TrainAfter, s.TrainRows, s.Judge)
	}
	return out
}
