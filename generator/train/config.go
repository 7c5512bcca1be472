package train

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// Config of a training run. A field without a YAML key is a constant of the recipe that docs/measured/quality.md measured; tests and
// experiments in Go may set it.
type Config struct {
	Spec generator.Spec `yaml:"generator" json:"generator"`
	// Seed of every draw. Default 1.
	Seed uint64 `yaml:"-" json:"seed"`
	// Warm is the share of the training log that CF learns in Passes passes before rows for the generator are taken from
	// the rest. Default 0.6, range 0..0.9.
	Warm float64 `yaml:"-" json:"warm"`
	// Holdout is the newest share of the training log, which decides the epoch. Default 0.15, range 0.01..0.5.
	Holdout float64 `yaml:"-" json:"holdout"`
	// Passes of CF over the warm part. Default 6, range 1..100.
	Passes int `yaml:"passes" json:"passes"`
	// Rows bounds the generator's rows (the newest are kept). Default 12000, range 64..10^7.
	Rows int `yaml:"rows" json:"rows"`
	// Judges bounds the held-out rows that are scored after each epoch (the newest are kept). Default 6000, range 64..10^7.
	Judges int `yaml:"-" json:"judges"`
	// Report bounds the validation rows in the report (the newest are kept). Default 20000, range 64..10^7.
	Report int `yaml:"-" json:"report"`
	// Align is the number of distillation epochs: the generator learns to give the CF model's score. Default 4, range 0..100.
	Align int `yaml:"-" json:"align"`
	// Labels is the number of epochs on the log's own labels, after distillation. Default 1, range 0..100.
	Labels int `yaml:"-" json:"labels"`
	// Swapped is the share of swapped rows in label epochs. Default 0.5, range 0..1.
	Swapped float64 `yaml:"-" json:"swapped"`
	// Patience ends training after that many epochs without a better AUC. Default 3, range 1..100.
	Patience int `yaml:"-" json:"patience"`
	// Batch is the rows of one step. Default 32, range 2..1024.
	Batch int `yaml:"-" json:"batch"`
	// Rate is the step of the generator and P. Lower it where training with another LLM diverges. Default 0.0015, above 0 and
	// at most 1.
	Rate float64 `yaml:"rate" json:"rate"`
	// LinearRate is the step of the linear path: 0.0001.
	LinearRate float64 `yaml:"-" json:"linear_rate"`
	// Decay is AdamW's weight decay. Default 0.001, range 0..1.
	Decay float64 `yaml:"-" json:"decay"`
	// WarmUp steps before the cosine. Default 50, range 0..10^6.
	WarmUp int `yaml:"-" json:"warm_up"`
	// Clip bounds the gradient's length. Default 1, above 0.
	Clip float64 `yaml:"-" json:"clip"`
	// Ridge is the decoder's penalty for 6,000 rows of states in units of their spread. Default 1000, above 0.
	Ridge float64 `yaml:"-" json:"ridge"`
	// History is how many liked titles go into each prompt. Default 0 (`item` prompts), range 0..50.
	History int `yaml:"-" json:"history"`

	// Blank, when set, is the title of the one prompt that every row gets in place of its own: the control that shows what the items'
	// texts are worth (replay's cora-blank).
	Blank string `yaml:"-" json:"blank,omitempty"`
	// Out is where the checkpoint goes; beside it, Out + ".state" keeps what a killed run needs to go on. "" writes neither.
	Out string `yaml:"-" json:"-"`
	// StateEvery is the time between two state files. Default 30s, range 1s..1h.
	StateEvery time.Duration `yaml:"-" json:"-"`
}

// Default returns the defaults above with generator.DefaultSpec.
func Default() Config {
	return Config{
		Spec: generator.DefaultSpec(), Seed: 1, Warm: 0.6, Holdout: 0.15, Passes: 6, Rows: 12000, Judges: 6000, Report: 20000, Align: 4, Labels: 1,
		Swapped: 0.5, Patience: 3, Batch: 32, Rate: 1.5e-3, LinearRate: 1e-4, Decay: 1e-3, WarmUp: 50, Clip: 1, Ridge: 1000,
		StateEvery: 30 * time.Second,
	}
}

// Validate reports all problems at once. A Hidden of 0 is filled in from the LLM by Run.
func (c Config) Validate() error {
	spec := c.Spec
	if spec.Hidden == 0 {
		spec.Hidden = 2
	}
	errs := []error{
		spec.Validate(), within("train.warm", c.Warm, 0, 0.9), within("train.holdout", c.Holdout, 0.01, 0.5),
		within("train.passes", c.Passes, 1, 100), within("train.rows", c.Rows, 64, 10_000_000), within("train.judges", c.Judges, 64, 10_000_000),
		within("train.report", c.Report, 64, 10_000_000),
		within("train.align", c.Align, 0, 100), within("train.labels", c.Labels, 0, 100),
		within("train.swapped", c.Swapped, 0, 1), within("train.patience", c.Patience, 1, 100),
		within("train.batch", c.Batch, 2, 1024), within("train.rate", c.Rate, 1e-9, 1), within("train.linear_rate", c.LinearRate, 1e-9, 1),
		within("train.decay", c.Decay, 0, 1), within("train.warm_up", c.WarmUp, 0, 1_000_000), within("train.clip", c.Clip, 1e-9, 1e9),
		within("train.ridge", c.Ridge, 1e-9, 1e12), within("train.history", c.History, 0, 50),
		within("train.state_every", c.StateEvery, time.Second, time.Hour),
	}
	if c.Align+c.Labels == 0 {
		errs = append(errs, corastream.Usagef("train.align", "set align or labels above 0", "no epoch to train"))
	}
	return errors.Join(errs...)
}

func within[T int | float64 | time.Duration](key string, v, lo, hi T) error {
	if !(v >= lo && v <= hi) {
		return corastream.Usagef(key, fmt.Sprintf("choose from %v to %v", lo, hi), "%v is out of range", v)
	}
	return nil
}

// Data is the input, each log in the order of time.
type Data struct {
	Train, Valid []corastream.Event
	Items        []corastream.Item
}

// CF is a collaborative-filtering model: cfstream's implement it.
type CF interface {
	corastream.Learner
	corastream.Predictor
}

// Backprop runs the frozen LLM forward and backward over prompts, each with its own weights: the mean binary
// cross-entropy of the scored logit against labels in [0,1], dLoss/dW_A of each row and dLoss/dP. Implemented by serve/llm.
type Backprop interface {
	Backward(ctx context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection, labels []float32) (*corastream.Gradients, error)
}

// LLM describes the frozen LLM.
type LLM struct {
	Digest, Template string // what the checkpoint is made for
	Hidden, Layers   int
	In, Out          map[corastream.Target]int // widths of the linear layers that take a delta
}

// Deps are the stages that training goes through.
type Deps struct {
	LLM      LLM
	Encoder  corastream.Encoder
	Backprop Backprop
	Scorer   corastream.Scorer
	NewCF    func() (CF, error)
	CFDigest string // of the CF spec
	// Basis, when set, is used in place of a new one, so that contents already stored stay valid.
	Basis *generator.Basis
	// OnDevice, when set, is where steps are made as long as it can.
	OnDevice *OnDevice
}

// Progress of a run. Phase is "read catalogue", "basis", "cf", "decoder", "align 1/4", "labels 1/1", "evaluate" or "report".
type Progress struct {
	Phase       string
	Done, Total int
	Loss        float64 // mean over the last steps; 0 before the first
	AUC         float64 // of the last evaluation on the held-out rows; 0 before the first
	ETA         time.Duration
}
