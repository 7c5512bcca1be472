package corastream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
)

// ExploreConfig makes the ranking stochastic, so that the log tells what another policy would have earned: each place of a list is
// drawn from the candidates that are left, and the probability of what was drawn goes out with it.
type ExploreConfig struct {
	// Policy is "off", "epsilon" or "softmax". With epsilon, each place goes to the best candidate left, or with probability
	// `explore.epsilon` to any of those left. With softmax, each place is drawn by the softmax of the list's scores (without a list
	// model: of the scores' logits) over `explore.temperature`, mixed with a share `explore.epsilon` of even draws (Plackett-Luce).
	// Default off.
	Policy string `yaml:"policy"`
	// Epsilon is the share of even draws; above 0 every candidate has a chance. Default 0.1, range 0..1.
	Epsilon float64 `yaml:"epsilon"`
	// Temperature is the temperature of softmax, in logits. Default 0.5, range 0.01..100.
	Temperature float64 `yaml:"temperature"`
	// Seed goes into every draw beside the recommendation's id, so that an answer made twice is the same. Default 1.
	Seed uint64 `yaml:"-"`
}

// DefaultExplore is off.
func DefaultExplore() ExploreConfig {
	return ExploreConfig{Policy: "off", Epsilon: .1, Temperature: .5, Seed: 1}
}

// Validate reports all problems at once.
func (c ExploreConfig) Validate() error {
	var errs []error
	switch c.Policy {
	case "off", "", "epsilon", "softmax":
	default:
		errs = append(errs, Usagef("policy", "choose off, epsilon or softmax", "%q is not known", c.Policy))
	}
	if !(c.Epsilon >= 0 && c.Epsilon <= 1) {
		errs = append(errs, Usagef("epsilon", "choose from 0 to 1", "%v is out of range", c.Epsilon))
	}
	if !(c.Temperature >= .01 && c.Temperature <= 100) {
		errs = append(errs, Usagef("temperature", "choose from 0.01 to 100", "%v is out of range", c.Temperature))
	}
	return errors.Join(errs...)
}

// Name is what a recommendation says of the policy it was made with; "" when that was deterministic.
func (c ExploreConfig) Name() string {
	switch c.Policy {
	case "epsilon":
		return fmt.Sprintf("epsilon %g", c.Epsilon)
	case "softmax":
		return fmt.Sprintf("softmax %g epsilon %g", c.Temperature, c.Epsilon)
	}
	return ""
}

// draw reorders items, which come best first and have the utilities z, for n places, and sets each one's propensity: the
// probability that the policy puts this item in this place, given those above it. What lies beyond n keeps its order.
func (c ExploreConfig) draw(items []Scored, z []float64, n int, id string) {
	if c.Name() == "" {
		return
	}
	h := fnv.New128a()
	h.Write(binary.LittleEndian.AppendUint64([]byte(id), c.Seed)) //nolint:errcheck // never fails
	var seed [32]byte
	h.Sum(seed[:0])
	rng := rand.New(rand.NewChaCha8(seed))
	p := make([]float64, len(items))
	for place := range min(n, len(items)) {
		left := items[place:]
		c.chances(z[place:], p[:len(left)])
		k, x := 0, rng.Float64()
		for k < len(left)-1 && x >= p[k] {
			x -= p[k]
			k++
		}
		chosen := left[k]
		chosen.Propensity = float32(p[k])
		copy(left[1:k+1], left[:k])
		left[0] = chosen
		utility := z[place+k]
		copy(z[place+1:], z[place:place+k])
		z[place] = utility
	}
}

// chances sets p to the probability of each of the items left, best first, by their utilities.
func (c ExploreConfig) chances(z, p []float64) {
	clear(p)
	if c.Policy == "epsilon" {
		p[0] = 1
	} else {
		var sum float64
		top := math.Inf(-1)
		for i := range z {
			p[i] = z[i] / c.Temperature
			top = max(top, p[i])
		}
		for i := range z {
			p[i] = math.Exp(p[i] - top)
			sum += p[i]
		}
		for i := range z {
			p[i] /= sum
		}
	}
	for i := range p {
		p[i] = (1-c.Epsilon)*p[i] + c.Epsilon/float64(len(z))
	}
}
