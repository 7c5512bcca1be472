package cfstream

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Spec is a CF model's configuration. kind, factors and content are its identity. A checkpoint or a store belongs to them.
//
// A field without a YAML key is a constant of its kind, which the figures of docs/measured/quality.md were measured with. Rates are not
// part of the identity: tests and experiments in Go may set them for a store that exists.
type Spec struct {
	// Kind is the model, one of Kinds. Default hybrid.
	Kind string `yaml:"kind"`
	// Factors is K, the width of p_u and q_i; `bias` has none. Default 0, range -1..1024; 0 is the kind's own width, such as
	// 16 for hybrid and 32 for mf; -1 is none.
	Factors int `yaml:"factors"`
	// Content is m, the width of c_i, w and t_u; only `hybrid` has them. Default 64, range 1..1024.
	Content int `yaml:"content"`

	// Layers is how many hops lightgcn propagates, or a hybrid's factors. Default 0, range 0..4; 0 is the kind's own (kinds.go): 2 for
	// lightgcn, and none for hybrid.
	Layers int `yaml:"-"`
	// Window is how many of a user's last items a kind reads that makes e_u of them, as sasrec does. Default 10, range 1..200.
	Window int `yaml:"-"`

	// MuRate is the step of mu. Default 0.01, range 0..1.
	MuRate float64 `yaml:"-"`
	// BiasRate is the step of b_u once the user is known. Default 0.1, range 0..1.
	BiasRate float64 `yaml:"-"`
	// BiasStart is the step of b_u for a new user: bias_start/(1+n/bias_settle) after n events, until that is less than bias_rate.
	// Default 0.3, range 0..1.
	BiasStart float64 `yaml:"-"`
	// BiasSettle is after how many events the step has halved. Default 10, range 0.1..1e6.
	BiasSettle float64 `yaml:"-"`
	// ItemBiasRate is the constant step of b_i. Default 0.15, range 0..1.
	ItemBiasRate float64 `yaml:"-"`
	// CountRate is the step of gamma, the weight of ln(1+n) for an item with n events. Default 0.001, range 0..1; 0 leaves it out.
	CountRate float64 `yaml:"-"`
	// BiasDecay pulls both biases to zero with each step. Default 0.01, range 0..1.
	BiasDecay float64 `yaml:"-"`
	// ContentRate is the Adagrad step of w. Default 0.1, range 0..1.
	ContentRate float64 `yaml:"-"`
	// ContentDecay pulls w to zero. Default 0.001, range 0..1.
	ContentDecay float64 `yaml:"-"`
	// TasteRate is the Adagrad step of t_u. Default 0.01, range 0..1; 0 leaves every taste at the common one.
	TasteRate float64 `yaml:"-"`
	// TasteDecay pulls t_u to zero. Default 0.5, range 0..1.
	TasteDecay float64 `yaml:"-"`
	// FactorRate is the Adagrad step of p_u and q_i. Default 0, range 0..1; 0 is the kind's own (kinds.go).
	FactorRate float64 `yaml:"-"`
	// FactorDecay pulls p_u and q_i to zero. Default 0, range 0..1; 0 is the kind's own (kinds.go).
	FactorDecay float64 `yaml:"-"`
	// FactorInit is the spread of a new p_u and q_i, drawn from the id's hash. Default 0, range 0..1; 0 is the kind's own (kinds.go).
	FactorInit float64 `yaml:"-"`
	// Seed draws the start of whatever starts at random; the records of a store belong to the seed they were made with.
	// Default 0.
	Seed uint64 `yaml:"-"`
	// FactorDamp is Damp for the factors; they start near zero, and so do their gradients. Default 0.0001, range 1e-8..1e6.
	FactorDamp float64 `yaml:"-"`
	// BlockRate is the Adagrad step of sasrec's block in Fit. Default 0.01, range 0..1.
	BlockRate float64 `yaml:"-"`
	// BlockDecay pulls the block to zero. Default 0.003, range 0..1.
	BlockDecay float64 `yaml:"-"`
	// Damp is added to the Adagrad sums of w and t_u: the larger, the slower the first steps. Default 1, range 1e-8..1e6.
	Damp float64 `yaml:"-"`
	// Clip bounds an event's gradient of z after weighting. Default 4, range 0.01..100.
	Clip float64 `yaml:"-"`

	// DemandHalfLife is after how long a like counts half in an item's demand, by which candidates are found beside their score.
	// Default 336h, range 1h..87600h.
	DemandHalfLife time.Duration `yaml:"-"`

	// Negatives are drawn for each implicit positive. Default 4, range 0..100.
	Negatives int `yaml:"-"`
	// NegativeWeight is the weight of one of them relative to the positive's. Default 1, range 0..100.
	NegativeWeight float64 `yaml:"-"`
}

// Default returns the hybrid with the defaults above.
func Default() Spec {
	return Spec{
		Kind: Hybrid, BiasStart: 0.3, BiasSettle: 10, CountRate: 1e-3, Content: 64, Window: 10,
		MuRate: 0.01, BiasRate: 0.1, ItemBiasRate: 0.15, BiasDecay: 0.01,
		ContentRate: 0.1, ContentDecay: 1e-3, TasteRate: 0.01, TasteDecay: 0.5,
		FactorDamp: 1e-4,
		BlockRate:  0.01, BlockDecay: 0.003,
		Damp: 1, Clip: 4, DemandHalfLife: 14 * 24 * time.Hour, Negatives: 4, NegativeWeight: 1,
	}
}

// DefaultFor returns the defaults of a kind, with what 0 stands for filled in.
func DefaultFor(kind string) Spec {
	s := Default()
	s.Kind = kind
	return s.filled()
}

// filled puts in the kind's own numbers where a 0 asks for them.
func (s Spec) filled() Spec {
	own := s.kind()
	or := func(v *float64, kinds float64) {
		if *v == 0 {
			*v = kinds
		}
	}
	or(&s.FactorRate, own.rate)
	or(&s.FactorDecay, own.decay)
	or(&s.FactorInit, own.init)
	if s.Factors == 0 {
		s.Factors = own.factors
	}
	if s.Layers == 0 {
		s.Layers = own.layers
	}
	return s
}

// Validate reports all problems at once.
func (s Spec) Validate() error {
	var errs []error
	if !slices.Contains(Kinds, s.Kind) {
		errs = append(errs, corastream.Usagef("kind", "choose from "+strings.Join(Kinds, ", "), "%q is not a CF model", s.Kind))
	}
	errs = append(errs,
		inRange("factors", float64(s.Factors), -1, 1024), inRange("content", float64(s.Content), 1, 1024),
		inRange("layers", float64(s.Layers), 0, 4), inRange("window", float64(s.Window), 1, 200),
		inRange("block_rate", s.BlockRate, 0, 1), inRange("block_decay", s.BlockDecay, 0, 1),
		inRange("mu_rate", s.MuRate, 0, 1), inRange("bias_rate", s.BiasRate, 0, 1), inRange("item_bias_rate", s.ItemBiasRate, 0, 1),
		inRange("bias_decay", s.BiasDecay, 0, 1),
		inRange("bias_start", s.BiasStart, 0, 1), inRange("bias_settle", s.BiasSettle, 0.1, 1e6), inRange("count_rate", s.CountRate, 0, 1),
		inRange("content_rate", s.ContentRate, 0, 1), inRange("content_decay", s.ContentDecay, 0, 1),
		inRange("taste_rate", s.TasteRate, 0, 1), inRange("taste_decay", s.TasteDecay, 0, 1),
		inRange("factor_rate", s.FactorRate, 0, 1), inRange("factor_decay", s.FactorDecay, 0, 1),
		inRange("factor_init", s.FactorInit, 0, 1), inRange("factor_damp", s.FactorDamp, 1e-8, 1e6),
		inRange("demand_half_life", s.DemandHalfLife.Hours(), 1, 87600), inRange("damp", s.Damp, 1e-8, 1e6), inRange("clip", s.Clip, 0.01, 100),
		inRange("negatives", float64(s.Negatives), 0, 100), inRange("negative_weight", s.NegativeWeight, 0, 100))
	return errors.Join(errs...)
}

func inRange(key string, v, lo, hi float64) error {
	if math.IsNaN(v) || v < lo || v > hi {
		return corastream.Usagef(key, fmt.Sprintf("choose from %g to %g", lo, hi), "%g is out of range", v)
	}
	return nil
}

// Widths are K and m as the kind has them.
func (s Spec) Widths() (factors, content int) {
	s = s.filled()
	own := s.kind()
	if own.factors >= 0 {
		factors = max(0, s.Factors)
	}
	if own.content {
		content = s.Content
	}
	return factors, content
}

// String is the spec's identity: the kind and its dimensions, not its rates.
func (s Spec) String() string {
	s = s.filled()
	k, m := s.Widths()
	if s.kind().identity == nil {
		return s.Kind
	}
	return s.Kind + "(" + s.kind().identity(s, k, m) + ")"
}

// Digest is a short hash of String, for checkpoints and stores to compare.
func (s Spec) Digest() string {
	h := sha256.Sum256([]byte("corastream cf " + s.String()))
	return hex.EncodeToString(h[:8])
}
