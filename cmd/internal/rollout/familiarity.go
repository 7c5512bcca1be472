package rollout

import (
	"context"
	"fmt"
	"sync"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// Familiarity stands before the generator and lets pairs through while the catalogue looks like the
// one that the checkpoint was trained on. A generator of film weights that is asked about books
// would rank with confidence and be wrong, so CF ranks instead.
//
// Contents arrive one by one as the LLM reads the catalogue. A sample of them is compared with the
// checkpoint's own after every 64th. mu is held during that comparison, and Weights takes it for a
// moment per call.
type Familiarity struct {
	stage *generator.Stage

	mu       sync.Mutex
	sample   [][]float32 // contents seen: a bounded sample
	seen     int
	closed   bool
	distance float64
}

const (
	sampleSize    = 2048 // contents kept
	leastContents = 30   // contents before it judges
	judgeEvery    = 64   // contents between two judgements
)

// NewFamiliarity begins with an empty sample.
func NewFamiliarity(stage *generator.Stage) *Familiarity { return &Familiarity{stage: stage} }

// Content implements corastream.Basis. It projects the states and notes the content.
func (g *Familiarity) Content(s corastream.States) ([]float32, error) {
	c, err := g.stage.Checkpoint().Basis.Content(s)
	if err == nil {
		g.Note(c)
	}
	return c, err
}

// Note adds a content to the sample, and compares the sample with the checkpoint's catalogue after
// every 64th. A full sample is overwritten in turn, so it follows a catalogue that changes.
func (g *Familiarity) Note(c []float32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sample) < sampleSize {
		g.sample = append(g.sample, c)
	} else {
		g.sample[g.seen%sampleSize] = c
	}
	if g.seen++; g.seen == leastContents || g.seen%judgeEvery == 0 {
		g.compare()
	}
}

// compare judges the sample. Called under the lock.
func (g *Familiarity) compare() {
	ok, distance := g.stage.Checkpoint().Familiar(g.sample)
	g.closed, g.distance = !ok, distance
}

// Fill notes the contents that a store already holds.
func (g *Familiarity) Fill(s corastream.State) error {
	for i := range s.Items() {
		it, err := s.ItemAt(uint32(i))
		if err != nil {
			return err
		}
		if it.Content != nil {
			g.Note(it.Content)
		}
	}
	return nil
}

// Closed says whether the catalogue is too unlike the checkpoint's, and why.
func (g *Familiarity) Closed() (closed bool, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		return false, ""
	}
	return true, fmt.Sprintf("the catalogue is unlike the one the checkpoint was trained on (distance %.2f): train one with `corastream train`", g.distance)
}

// Weights implements corastream.Generator.
func (g *Familiarity) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	if closed, why := g.Closed(); closed {
		return nil, nil, fmt.Errorf("%w: %s", corastream.ErrDegraded, why)
	}
	return g.stage.Weights(ctx, pairs)
}
