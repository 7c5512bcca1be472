package generator

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/corastream/corastream"
)

// The kinds, inputs and scores a Spec may name.
const (
	KindMLP     = "mlp"
	KindQFormer = "qformer"
	InputsUser  = "user"
	InputsPaper = "paper"
	ScoreYesNo  = "yes-no"
)

// Spec is the shape of a generator: everything that decides which numbers a checkpoint holds.
type Spec struct {
	// Kind is mlp or qformer. Default mlp.
	Kind string `yaml:"kind" json:"kind"`
	// Inputs is user ([w+t_u, b_u] and the biases: no item content) or paper (concat(e_u, e_i)). Default user.
	Inputs string `yaml:"inputs" json:"inputs"`
	// Hidden is the LLM's state width; 0 takes the LLM's. Range 2..16384.
	Hidden int `yaml:"-" json:"hidden"`
	// Rank r of the delta. Range 1..256; with the linear path at least Layers. `train` takes 16, or Layers where that is more.
	Rank int `yaml:"-" json:"rank"`
	// Alpha scales the delta by Alpha/Rank. Default 32, above 0.
	Alpha float32 `yaml:"-" json:"alpha"`
	// Layers is how many of the LLM's top layers are adapted. Default 4, range 1..256.
	Layers int `yaml:"layers" json:"layers"`
	// Targets are the adapted linear layers. Default q, k, v, o.
	Targets []corastream.Target `yaml:"targets" json:"targets"`
	// Adapt says on which tokens the delta acts. Default last.
	Adapt corastream.Adapt `yaml:"adapt" json:"adapt"`
	// Taste is m, the width of c_i and of w+t_u; 0 for a CF model that has neither, such as mf, with `inputs: paper`. `train` takes
	// it from the CF model. Default 64, range 0..1024.
	Taste int `yaml:"-" json:"taste"`
	// Factors is K, the width of p_u and q_i. They enter by their product, as b_i does, and for `inputs: paper` as they are. `train` takes
	// it from the CF model. Default 0, range 0..1024.
	Factors int `yaml:"-" json:"factors"`
	// Width is the MLP's hidden width. Default 64, range 1..4096.
	Width int `yaml:"-" json:"width"`
	// QFormer sizes the kind of that name.
	QFormer QFormerSpec `yaml:"-" json:"qformer"`
	// Linear adds a path from [w+t_u, mu+b_u+b_i, 1] to W_A that nothing normalises. `inputs: user` has it. `inputs: paper` reads none of
	// these numbers and has it not.
	Linear bool `yaml:"-" json:"linear"`
	// Score is what is trained and ranked by: yes-no, the difference of the two logits. Default yes-no.
	Score string `yaml:"-" json:"score"`
}

// QFormerSpec sizes the Q-Former.
type QFormerSpec struct {
	// Queries n_q. Default 4, range 1..64.
	Queries int `yaml:"queries" json:"queries"`
	// Layers. Default 8, range 1..32.
	Layers int `yaml:"layers" json:"layers"`
	// Heads. Default 8, range 1..64.
	Heads int `yaml:"heads" json:"heads"`
	// Width of the queries; 0 takes the memory's width rounded up to a multiple of Heads (the paper: 2d). Range 0..4096.
	Width int `yaml:"width" json:"width"`
}

// DefaultSpec is the measured recipe: an MLP with the linear path, fed the user's side, top 4 layers, the last token.
func DefaultSpec() Spec {
	return Spec{
		Kind: KindMLP, Inputs: InputsUser, Rank: 16, Alpha: 32, Layers: 4,
		Targets: []corastream.Target{corastream.TargetQ, corastream.TargetK, corastream.TargetV, corastream.TargetO},
		Adapt:   corastream.AdaptLast, Taste: 64, Width: 64,
		QFormer: QFormerSpec{Queries: 4, Layers: 8, Heads: 8}, Linear: true, Score: ScoreYesNo,
	}
}

// PaperSpec is CoRA's own form: a Q-Former on concat(e_u, e_i), every token of every layer adapted.
func PaperSpec(layers int) Spec {
	s := DefaultSpec()
	s.Kind, s.Inputs, s.Linear = KindQFormer, InputsPaper, false
	s.Layers, s.Adapt = layers, corastream.AdaptAll
	return s
}

var targets = []corastream.Target{
	corastream.TargetQ, corastream.TargetK, corastream.TargetV, corastream.TargetO,
	corastream.TargetGate, corastream.TargetUp,
}

// Validate reports all problems at once, each with its key and what to do about it.
func (s Spec) Validate() error {
	errs := []error{
		oneOf("generator.kind", s.Kind, KindMLP, KindQFormer),
		oneOf("generator.inputs", s.Inputs, InputsUser, InputsPaper),
		oneOf("generator.score", s.Score, ScoreYesNo),
		oneOf("generator.adapt", s.Adapt, corastream.AdaptAll, corastream.AdaptSuffix, corastream.AdaptLast),
		within("generator.hidden", s.Hidden, 2, 16384), within("generator.rank", s.Rank, 1, 256),
		within("generator.layers", s.Layers, 1, 256), within("generator.taste", s.Taste, 0, 1024),
		within("generator.factors", s.Factors, 0, 1024), within("generator.width", s.Width, 1, 4096),
	}
	if !(s.Alpha > 0 && s.Alpha <= 4096) {
		errs = append(errs, corastream.Usagef("generator.alpha", "choose above 0 and at most 4096", "%v is out of range", s.Alpha))
	}
	if len(s.Targets) == 0 {
		errs = append(errs, corastream.Usagef("generator.targets", "name some of q, k, v, o, gate, up", "no target is named"))
	}
	for i, t := range s.Targets {
		if !slices.Contains(targets, t) {
			errs = append(errs, corastream.Usagef("generator.targets", "choose from q, k, v, o, gate, up", "%q can not take W_A", t))
		} else if slices.Contains(s.Targets[:i], t) {
			errs = append(errs, corastream.Usagef("generator.targets", "name it once", "%q is named twice", t))
		}
	}
	if s.Taste == 0 && (s.Inputs != InputsPaper || s.Factors == 0) {
		errs = append(errs, corastream.Usagef("generator.taste", "set train: {generator: {inputs: paper}}, or cf: {kind: hybrid}",
			"a CF model without contents has factors alone to give, which inputs: %s does not read", s.Inputs))
	}
	if s.Linear && s.Inputs == InputsPaper {
		errs = append(errs, corastream.Usagef("generator.linear", "set train: {generator: {inputs: user}}",
			"the linear path reads [w+t_u, mu+b_u+b_i, 1], which inputs: paper does not give it"))
	}
	if s.Linear && s.Rank < s.Layers {
		errs = append(errs, corastream.Usagef("generator.rank", fmt.Sprintf("choose at least %d", s.Layers),
			"rank %d can not hold the decoder of %d layers, one column for each", s.Rank, s.Layers))
	}
	if s.Kind == KindQFormer {
		errs = append(errs, within("generator.qformer.queries", s.QFormer.Queries, 1, 64),
			within("generator.qformer.layers", s.QFormer.Layers, 1, 32), within("generator.qformer.heads", s.QFormer.Heads, 1, 64),
			within("generator.qformer.width", s.QFormer.Width, 0, 4096))
		if s.QFormer.Heads > 0 && s.QFormer.Width%s.QFormer.Heads != 0 {
			errs = append(errs, corastream.Usagef("generator.qformer.width", "choose a multiple of heads, or 0",
				"%d does not divide by %d heads", s.QFormer.Width, s.QFormer.Heads))
		}
	}
	return errors.Join(errs...)
}

func oneOf[T ~string](key string, v T, choices ...T) error {
	if slices.Contains(choices, v) {
		return nil
	}
	return corastream.Usagef(key, fmt.Sprintf("choose from %q", choices), "%q is not known", v)
}

func within(key string, v, lo, hi int) error {
	if v < lo || v > hi {
		return corastream.Usagef(key, fmt.Sprintf("choose from %d to %d", lo, hi), "%d is out of range", v)
	}
	return nil
}

// Size is the number of entries of W_A: hidden*rank.
func (s Spec) Size() int { return s.Hidden * s.Rank }

// inputs is the width of the non-linear part's input: [t, b_u], or [e_u, e_i] with e = [factors, taste, bias].
func (s Spec) inputs() int {
	if s.Inputs == InputsPaper {
		return 2 * (s.Factors + s.Taste + 1)
	}
	return s.Taste + 1
}

// Contents is how many components the checkpoint's basis has: m, or 64 where CF has no use for contents, since a catalogue is
// still compared by them.
func (s Spec) Contents() int {
	if s.Taste == 0 {
		return 64
	}
	return s.Taste
}

// linearInputs is the width of the linear path's input [t, mu+b_u+b_i, 1].
func (s Spec) linearInputs() int { return s.Taste + 2 }

// queryWidth is the Q-Former's width.
func (s Spec) queryWidth() int {
	if s.QFormer.Width > 0 {
		return s.QFormer.Width
	}
	h := s.QFormer.Heads
	return (s.inputs() + h - 1) / h * h
}

// PerPair says that W_A depends on the item in more than its bias, so that no matrix is shared by a user's candidates.
func (s Spec) PerPair() bool { return s.Inputs == InputsPaper }

// Digest names the spec by content.
func (s Spec) Digest() string {
	b, err := json.Marshal(s)
	if err != nil {
		panic("generator: a spec that does not marshal: " + err.Error())
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
