package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/generator"
)

// gate stands before the generator and lets pairs through while the catalogue looks like the one that the checkpoint was
// trained on. A generator of film weights asked about books would rank with confidence and be wrong; CF is better then.
type gate struct {
	stage *generator.Stage

	mu       sync.Mutex
	sample   [][]float32 // contents seen: a bounded sample
	seen     int
	closed   bool
	distance float64
}

const (
	gateSample = 2048 // contents kept
	gateLeast  = 30   // contents before it judges
	gateEvery  = 64   // contents between two judgements
)

// Content implements corastream.Basis: it projects and takes note.
func (g *gate) Content(s corastream.States) ([]float32, error) {
	c, err := g.stage.Checkpoint().Basis.Content(s)
	if err == nil {
		g.note(c)
	}
	return c, err
}

func (g *gate) note(c []float32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.sample) < gateSample {
		g.sample = append(g.sample, c)
	} else {
		g.sample[g.seen%gateSample] = c
	}
	if g.seen++; g.seen == gateLeast || g.seen%gateEvery == 0 {
		g.judge()
	}
}

func (g *gate) judge() {
	ok, distance := g.stage.Checkpoint().Familiar(g.sample)
	g.closed, g.distance = !ok, distance
}

// fill notes the contents that a store already holds.
func (g *gate) fill(s corastream.State) error {
	for i := range s.Items() {
		it, err := s.ItemAt(uint32(i))
		if err != nil {
			return err
		}
		if it.Content != nil {
			g.note(it.Content)
		}
	}
	return nil
}

// state says whether the gate is closed, and why.
func (g *gate) state() (closed bool, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		return false, ""
	}
	return true, fmt.Sprintf("the catalogue is unlike the one the checkpoint was trained on (distance %.2f): train one with `corastream train`", g.distance)
}

// Weights implements corastream.Generator.
func (g *gate) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	if closed, why := g.state(); closed {
		return nil, nil, fmt.Errorf("%w: %s", corastream.ErrDegraded, why)
	}
	return g.stage.Weights(ctx, pairs)
}
