package cfstream

import (
	"fmt"
	"maps"
	"slices"
)

// The kinds of model.
const (
	Bias   = "bias"
	MF     = "mf"
	Hybrid = "hybrid"

	LightGCN = "lightgcn"
	SASRec   = "sasrec"
)

// kind holds everything that sets one model apart from another. A new model is a file with its Learn, a line of the table below, and
// its formula in doc.go. Configuration, replay, checkpoints and the cluster read the table.
type kind struct {
	factors, layers   int     // what 0 in a Spec stands for; factors -1: it has none
	rate, decay, init float64 // of the factors: Adagrad step, pull to zero, spread of a new vector
	content           bool    // it has c_i, w and t_u
	make              func(base model) Model
	identity          func(s Spec, factors, content int) string // the dimensions, as String writes them
	undivided         string                                    // why a cluster can not divide its state; "" where it can
}

// kinds is the table.
var kinds = map[string]kind{
	Bias:   {factors: -1, rate: 0.02, decay: 0.02, init: 0.01, make: newLocal, identity: factorsAndContent},
	MF:     {factors: 32, rate: 0.02, decay: 0.02, init: 0.01, make: newLocal, identity: factorsAndContent},
	Hybrid: {factors: 16, rate: 0.02, decay: 0.01, init: 0.01, content: true, make: newLocal, identity: factorsAndContent},
	LightGCN: {factors: 32, layers: 2, rate: 0.05, decay: 0.003, init: 0.1, make: newLightGCN, undivided: ofAGraph, identity: func(s Spec, k, _ int) string {
		return fmt.Sprintf("factors=%d,layers=%d", k, s.Layers)
	}},
	SASRec: {factors: 32, rate: 0.01, decay: 0.02, init: 0.1, make: newSASRec, undivided: ofABlock, identity: func(s Spec, k, _ int) string {
		return fmt.Sprintf("factors=%d,window=%d", k, s.Window)
	}},
}

// graphHybrid is a hybrid whose factors are propagated (layers above 0).
var graphHybrid = kind{factors: 16, rate: 0.04, decay: 0.002, init: 0.1, content: true, make: newLightGCN, undivided: ofAGraph, identity: func(s Spec, k, m int) string {
	return fmt.Sprintf("factors=%d,layers=%d,content=%d", k, s.Layers, m)
}}

const (
	ofAGraph = "a like moves the vectors of both ends by each other's, and a shard holds its own users alone"
	ofABlock = "all users' vectors are read by one block, which is learnt as a whole and has no delta"
)

// Kinds lists the table's names, in the order of the alphabet.
var Kinds = slices.Sorted(maps.Keys(kinds))

// kind returns the spec's line of the table, or the zero kind for a name that Validate refuses.
func (s Spec) kind() kind {
	if s.Kind == Hybrid && s.Layers > 0 && s.Factors >= 0 {
		return graphHybrid
	}
	return kinds[s.Kind]
}

func factorsAndContent(_ Spec, factors, content int) string {
	return fmt.Sprintf("factors=%d,content=%d", factors, content)
}

func newLocal(base model) Model    { return &local{base} }
func newLightGCN(base model) Model { return &lightGCN{model: base, layers: base.spec.Layers} }
func newSASRec(base model) Model   { return &sasRec{model: base, window: base.spec.Window} }
