package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// The modes: learn from train alone, or go on learning each row after it was scored.
const (
	Static      = "static"
	Prequential = "prequential"
)

// The models. What each of them is stands in the package's doc.
const (
	Bias         = "bias"
	CF           = "cf"
	Reader       = "reader"
	LLM          = "llm"
	Cora         = "cora"
	CoraShuffled = "cora-shuffled"
	CoraBlank    = "cora-blank"
)

// Models lists all models in the order of the report.
var Models = []string{Bias, CF, Reader, LLM, Cora, CoraShuffled, CoraBlank}

// Config says what is evaluated, and how.
type Config struct {
	// Mode is static or prequential. Default static.
	Mode string `yaml:"mode"`
	// Models to evaluate. Default bias, cf.
	Models []string `yaml:"models"`
	// LabelDelay is how long after its row a label is learnt, in prequential mode. Default 0, range 0..8760h.
	LabelDelay time.Duration `yaml:"label_delay"`
	// Epochs over train before the evaluation starts. Default 6, range 1..1000.
	Epochs int `yaml:"epochs"`
	// Bootstraps is how many times users are drawn for the intervals. Default 1000, range 0..100000; 0 gives none.
	Bootstraps int `yaml:"bootstraps"`
	// Seed of bootstrap and shuffling. Default 1.
	Seed uint64 `yaml:"seed"`
	// BatchRows is how many rows one call of generator and LLM scores. Default 256, range 1..65536.
	BatchRows int `yaml:"batch_rows"`
	// History is how many liked titles go into a `history` prompt; 0 makes `item` prompts. Default 0, range 0..50.
	History int `yaml:"history"`
	// ReaderShare is the last part of train on which the reader is fitted. Default 0.3, range 0.01..0.9.
	ReaderShare float64 `yaml:"reader_share"`
}

// Default returns the defaults above.
func Default() Config {
	return Config{
		Mode: Static, Models: []string{Bias, CF}, Epochs: 6, Bootstraps: 1000, Seed: 1, BatchRows: 256, ReaderShare: 0.3,
	}
}

// Validate reports all problems at once.
func (c Config) Validate() error {
	var errs []error
	if c.Mode != Static && c.Mode != Prequential {
		errs = append(errs, corastream.Usagef("mode", "choose static or prequential", "%q is not a mode", c.Mode))
	}
	if len(c.Models) == 0 {
		errs = append(errs, corastream.Usagef("models", "choose from "+strings.Join(Models, ","), "no model to evaluate"))
	}
	for i, m := range c.Models {
		if !slices.Contains(Models, m) {
			errs = append(errs, corastream.Usagef("models", "choose from "+strings.Join(Models, ","), "%q is not a model", m))
		} else if slices.Contains(c.Models[:i], m) {
			errs = append(errs, corastream.Usagef("models", "name each once", "%q is named twice", m))
		}
	}
	if c.LabelDelay != 0 && c.Mode == Static {
		errs = append(errs, corastream.Usagef("label_delay", "drop it, or choose mode prequential", "static mode learns no labels"))
	}
	errs = append(errs,
		inRange("label_delay (hours)", c.LabelDelay.Hours(), 0, 8760), inRange("epochs", float64(c.Epochs), 1, 1000),
		inRange("bootstraps", float64(c.Bootstraps), 0, 100000), inRange("batch_rows", float64(c.BatchRows), 1, 65536),
		inRange("history", float64(c.History), 0, 50), inRange("reader_share", c.ReaderShare, 0.01, 0.9))
	return errors.Join(errs...)
}

func inRange(key string, v, lo, hi float64) error {
	if math.IsNaN(v) || v < lo || v > hi {
		return corastream.Usagef(key, fmt.Sprintf("choose from %g to %g", lo, hi), "%g is out of range", v)
	}
	return nil
}

// Data is what is replayed. Items carry their Content when the CF model is to use it. Valid or Test may be empty.
type Data struct {
	Items              []corastream.Item
	Train, Valid, Test []corastream.Event
}

// Model is what a CF model must do to be replayed.
type Model interface {
	corastream.Learner
	corastream.Predictor
}

// Deps are the other stages, handed in through the root's interfaces.
type Deps struct {
	// NewModel makes a CF model: kind is Bias or CF.
	NewModel func(kind string) (Model, error)
	// Generator and Scorer belong to a checkpoint and its LLM; nil where there is none. `llm` needs the Scorer alone.
	Generator corastream.Generator
	Scorer    corastream.Scorer
	// Blank refits the generator with one constant prompt; nil where that is not offered.
	Blank func(ctx context.Context) (corastream.Generator, corastream.Prompt, error)
	// Progress is told how far a step has come; may be nil.
	Progress func(step string, done, total int)
	// Manifest are digests and settings of the caller's (files, checkpoint, LLM, build), copied into the report.
	Manifest map[string]string
}

// check refuses models that the deps can not make.
func (d Deps) check(models []string) error {
	for _, m := range models {
		switch {
		case m == LLM && d.Scorer == nil:
			return corastream.Usagef("models", "give --llm FILE, or leave llm out", "llm needs the LLM")
		case strings.HasPrefix(m, Cora) && (d.Scorer == nil || d.Generator == nil):
			return corastream.Usagef("models", "give --checkpoint CKPT and its LLM, or leave "+m+" out", "%s needs a checkpoint and its LLM", m)
		case m == CoraBlank && d.Blank == nil:
			return corastream.Usagef("models", "leave cora-blank out", "cora-blank needs a refit with one constant prompt, which is not on offer here")
		}
	}
	return nil
}

func (d Deps) progress(step string, done, total int) {
	if d.Progress != nil {
		d.Progress(step, done, total)
	}
}
