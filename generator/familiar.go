package generator

import (
	"fmt"
	"math"
)

// Catalogue is the statistics of the content that a checkpoint was trained on.
type Catalogue struct {
	Items        int
	Mean, Spread []float32 // [m]
}

// CatalogueOf measures contents [n][m].
func CatalogueOf(contents [][]float32) (Catalogue, error) {
	if len(contents) == 0 {
		return Catalogue{}, fmt.Errorf("a catalogue without contents has no statistics")
	}
	m, n := len(contents[0]), float64(len(contents))
	mean, square := make([]float64, m), make([]float64, m)
	for i, c := range contents {
		if len(c) != m {
			return Catalogue{}, fmt.Errorf("content %d has %d numbers, the first has %d", i, len(c), m)
		}
		for j, v := range c {
			mean[j] += float64(v) / n
			square[j] += float64(v) * float64(v) / n
		}
	}
	c := Catalogue{Items: len(contents), Mean: make([]float32, m), Spread: make([]float32, m)}
	for j := range m {
		c.Mean[j] = float32(mean[j])
		c.Spread[j] = float32(math.Sqrt(max(0, square[j]-mean[j]*mean[j])))
	}
	return c, nil
}

// familiarLimit is the distance above which a catalogue is something else than the one trained on.
const familiarLimit = 0.75

// Familiar says whether contents look like those trained on, and how far off they are: the root mean square, over the
// components, of the shift of the mean and of the logarithm of the spread's ratio, in units of the trained spread. A
// sample of n contents is allowed 3/sqrt(n) more. No contents are unfamiliar. A catalogue that is not familiar is better
// ranked by CF alone (`degraded: cf`).
func (c *Checkpoint) Familiar(contents [][]float32) (ok bool, distance float64) {
	here, err := CatalogueOf(contents)
	if err != nil || len(here.Mean) != len(c.Catalogue.Mean) {
		return false, math.Inf(1)
	}
	var sum float64
	for j, mean := range c.Catalogue.Mean {
		spread := math.Max(float64(c.Catalogue.Spread[j]), 1e-3)
		shift := (float64(here.Mean[j]) - float64(mean)) / spread
		sum += shift * shift
		if here.Items >= 30 { // a spread of fewer says little
			ratio := math.Log(math.Max(float64(here.Spread[j]), 1e-3) / spread)
			sum += ratio * ratio
		}
	}
	distance = math.Sqrt(sum / float64(len(here.Mean)))
	return distance <= familiarLimit+3/math.Sqrt(float64(here.Items)), distance
}
