package cfstream

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"

	"github.com/corastream/corastream"
)

// The kinds of model.
const (
	Bias   = "bias"
	MF     = "mf"
	Hybrid = "hybrid"
)

// Spec is a model's configuration. Kind, Factors and Content are its identity: a checkpoint or a store belongs to them.
// The rates may be changed at any time.
type Spec struct {
	// Kind is bias, mf or hybrid. Default hybrid.
	Kind string `yaml:"kind"`
	// Factors is K, the width of p_u and q_i; `bias` has none. Default 0, range 0..1024, at least 1 for mf.
	Factors int `yaml:"factors"`
	// Content is m, the width of c_i, w and t_u; only `hybrid` has them. Default 64, range 1..1024.
	Content int `yaml:"content"`

	// MuRate is the step of mu. Default 0.01, range 0..1.
	MuRate float64 `yaml:"mu_rate"`
	// BiasRate is the constant step of b_u. Default 0.1, range 0..1.
	BiasRate float64 `yaml:"bias_rate"`
	// ItemBiasRate is the constant step of b_i. Default 0.15, range 0..1.
	ItemBiasRate float64 `yaml:"item_bias_rate"`
	// BiasDecay pulls both biases to zero with each step. Default 0.02, range 0..1.
	BiasDecay float64 `yaml:"bias_decay"`
	// ContentRate is the Adagrad step of w. Default 0.1, range 0..1.
	ContentRate float64 `yaml:"content_rate"`
	// ContentDecay pulls w to zero. Default 0.001, range 0..1.
	ContentDecay float64 `yaml:"content_decay"`
	// TasteRate is the Adagrad step of t_u. Default 0.01, range 0..1; 0 leaves every taste at the common one.
	TasteRate float64 `yaml:"taste_rate"`
	// TasteDecay pulls t_u to zero. Default 0.5, range 0..1.
	TasteDecay float64 `yaml:"taste_decay"`
	// FactorRate is the Adagrad step of p_u and q_i. Default 0.02, range 0..1.
	FactorRate float64 `yaml:"factor_rate"`
	// FactorDecay pulls p_u and q_i to zero. Default 0.02, range 0..1.
	FactorDecay float64 `yaml:"factor_decay"`
	// FactorInit is the spread of a new p_u and q_i, drawn from the id's hash. Default 0.01, range 0..1.
	FactorInit float64 `yaml:"factor_init"`
	// Seed draws the start of whatever starts at random; the records of a store belong to the seed they were made with.
	// Default 0.
	Seed uint64 `yaml:"seed"`
	// FactorDamp is Damp for the factors; they start near zero, and so do their gradients. Default 0.0001, range 1e-8..1e6.
	FactorDamp float64 `yaml:"factor_damp"`
	// Damp is added to the Adagrad sums of w and t_u: the larger, the slower the first steps. Default 1, range 1e-8..1e6.
	Damp float64 `yaml:"damp"`
	// Clip bounds an event's gradient of z after weighting. Default 4, range 0.01..100.
	Clip float64 `yaml:"clip"`

	// Negatives are drawn for each implicit positive. Default 4, range 0..100.
	Negatives int `yaml:"negatives"`
	// NegativeWeight is the weight of one of them relative to the positive's. Default 1, range 0..100.
	NegativeWeight float64 `yaml:"negative_weight"`
}

// Default returns the hybrid with the defaults above.
func Default() Spec {
	return Spec{
		Kind: Hybrid, Factors: 0, Content: 64,
		MuRate: 0.01, BiasRate: 0.1, ItemBiasRate: 0.15, BiasDecay: 0.02,
		ContentRate: 0.1, ContentDecay: 1e-3, TasteRate: 0.01, TasteDecay: 0.5,
		FactorRate: 0.02, FactorDecay: 0.02, FactorInit: 0.01, FactorDamp: 1e-4,
		Damp: 1, Clip: 4, Negatives: 4, NegativeWeight: 1,
	}
}

// DefaultFor returns the defaults of a kind: mf has 32 factors.
func DefaultFor(kind string) Spec {
	s := Default()
	s.Kind = kind
	if kind == MF {
		s.Factors = 32
	}
	return s
}

// Validate reports all problems at once.
func (s Spec) Validate() error {
	var errs []error
	if s.Kind != Bias && s.Kind != MF && s.Kind != Hybrid {
		errs = append(errs, corastream.Usagef("kind", "choose bias, mf or hybrid", "%q is not a CF model", s.Kind))
	}
	low := 0
	if s.Kind == MF {
		low = 1
	}
	errs = append(errs,
		inRange("factors", float64(s.Factors), float64(low), 1024), inRange("content", float64(s.Content), 1, 1024),
		inRange("mu_rate", s.MuRate, 0, 1), inRange("bias_rate", s.BiasRate, 0, 1), inRange("item_bias_rate", s.ItemBiasRate, 0, 1),
		inRange("bias_decay", s.BiasDecay, 0, 1),
		inRange("content_rate", s.ContentRate, 0, 1), inRange("content_decay", s.ContentDecay, 0, 1),
		inRange("taste_rate", s.TasteRate, 0, 1), inRange("taste_decay", s.TasteDecay, 0, 1),
		inRange("factor_rate", s.FactorRate, 0, 1), inRange("factor_decay", s.FactorDecay, 0, 1),
		inRange("factor_init", s.FactorInit, 0, 1), inRange("factor_damp", s.FactorDamp, 1e-8, 1e6),
		inRange("damp", s.Damp, 1e-8, 1e6), inRange("clip", s.Clip, 0.01, 100),
		inRange("negatives", float64(s.Negatives), 0, 100), inRange("negative_weight", s.NegativeWeight, 0, 100))
	return errors.Join(errs...)
}

func inRange(key string, v, lo, hi float64) error {
	if math.IsNaN(v) || v < lo || v > hi {
		return corastream.Usagef(key, fmt.Sprintf("choose from %g to %g", lo, hi), "%g is out of range", v)
	}
	return nil
}

// widths are K and m as the kind has them.
func (s Spec) widths() (factors, content int) {
	switch s.Kind {
	case Bias:
		return 0, 0
	case MF:
		return s.Factors, 0
	}
	return s.Factors, s.Content
}

// String is the spec's identity: the kind and its dimensions, not its rates.
func (s Spec) String() string {
	k, m := s.widths()
	return fmt.Sprintf("%s(factors=%d,content=%d)", s.Kind, k, m)
}

// Digest is a short hash of String, for checkpoints and stores to compare.
func (s Spec) Digest() string {
	h := sha256.Sum256([]byte("corastream cf " + s.String()))
	return hex.EncodeToString(h[:8])
}
