package cfstream

import (
	"fmt"
	"math"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// local is a model whose step reads and writes nothing but the records of the event's own user and item and the shared one. What
// a shard learnt of an item on its own copy is then a delta that the item's owner can add to its copy: local implements corastream.Merger.
type local struct{ model }

// Shardable says whether a cluster can divide the model's state: nil, or an error that names why not, and the fix.
func Shardable(spec Spec) error {
	const fix = "choose cf.kind hybrid (with cf.layers 0), mf or bias, or run one shard"
	if why := spec.kind().undivided; why != "" {
		return corastream.Usagef("cf.kind", fix, "%v can not be divided into shards: %s", spec, why)
	}
	return nil
}

// What a delta may hold: twice a parameter's bound, since it may have gone from one end to the other, and a little for rounding.
const (
	maxDeltaBias = 2*maxBias + 1
	maxDeltaNorm = 2*maxNorm + 1
	// maxHour bounds the hour of a like: the year 2292 is as far as ask's clock goes.
	maxHour = 3e6
	// maxSteps is more than a transaction has; with it no version begins anew within a cluster's life.
	maxSteps = 1 << 40
)

// ItemDelta implements corastream.Merger. before may be nil or fresh: the vector then started where its id's hash puts it.
//
// The delta's Vec is [difference | before | bias before]; its Acc is [sums | likes | hour] once the item has demand: likes that came, as
// they count at that hour.
func (m *local) ItemDelta(id string, before, after *corastream.Embedding) corastream.Embedding {
	before = orNone(before)
	if after.Version == before.Version {
		return corastream.Embedding{}
	}
	k := m.factors
	start := before.Vec
	if len(start) == 0 && k > 0 {
		start = make([]float32, k)
		m.scatter(start, "i:", id)
	}
	d := difference(before, after, start, k)
	if likes, hour := demandOf(after, k); hour > 0 || likes > 0 {
		had, at := demandOf(before, k)
		if hour >= at {
			had = float32(had * m.faded(hour-at))
		}
		d.Acc = append(d.Acc, likes-had, hour)
	}
	return d
}

// SharedDelta implements corastream.Merger: mu in Bias, [w | gamma] in Vec, laid out as ItemDelta does. before may be nil or fresh.
func (m *local) SharedDelta(before, after *corastream.Embedding) corastream.Embedding {
	before = orNone(before)
	if after.Version == before.Version {
		return corastream.Embedding{}
	}
	start := before.Vec
	if len(start) == 0 {
		start = make([]float32, m.content+1)
	}
	return difference(before, after, start, m.content)
}

// difference is after - before, whose vector is start; sums is how many of Acc are Adagrad's.
func difference(before, after *corastream.Embedding, start []float32, sums int) corastream.Embedding {
	d := corastream.Embedding{Bias: after.Bias - before.Bias, Count: after.Count - before.Count, Version: after.Version - before.Version}
	d.Vec = append(minus(after.Vec, start), start...)
	d.Vec = append(d.Vec, before.Bias)
	d.Acc = minus(after.Acc[:min(sums, len(after.Acc))], before.Acc)
	return d
}

// MergeItem implements corastream.Merger. A fresh item is made first. A delta that no steps could have made is refused, and
// nothing of it applied.
func (m *local) MergeItem(it *corastream.ItemState, d *corastream.Embedding) error {
	k, what := m.factors, "the delta of item "+it.ID
	if nothing(d) {
		return nil
	}
	if err := m.checkDelta(what, d, k, k); err != nil {
		return err
	}
	if n := len(d.Acc); n != k && n != k+2 {
		return m.mismatch(what+" (sums)", n, k)
	}
	if err := m.prepareItem(it); err != nil {
		return err
	}
	if len(it.Acc) < k {
		return m.mismatch("item "+it.ID+" (sums)", len(it.Acc), k)
	}
	delta, base, bias, steps := d.Vec[:k], d.Vec[k:2*k], d.Vec[2*k], float32(d.Version)
	merged(&it.Bias, d.Bias, bias, forgotten(steps*m.itemBiasRate*(curve+m.biasDecay)))
	m.mergeVec(it.Vec, it.Acc, delta, base, d, m.factorRate, m.factorDecay, m.factorDamp)
	m.count(&it.Embedding, d)
	if len(d.Acc) == k+2 && d.Acc[k] != 0 {
		m.mergeDemand(it, d.Acc[k], d.Acc[k+1])
	}
	return nil
}

// MergeShared implements corastream.Merger.
func (m *local) MergeShared(shared, d *corastream.Embedding) error {
	const what = "the delta of the shared vector"
	if nothing(d) {
		return nil
	}
	n := m.content
	if err := m.checkDelta(what, d, n+1, n); err != nil {
		return err
	}
	if len(d.Acc) != n {
		return m.mismatch(what+" (sums)", len(d.Acc), n)
	}
	if err := m.prepareShared(shared); err != nil {
		return err
	}
	if len(shared.Acc) != n {
		return m.mismatch("the shared vector (sums)", len(shared.Acc), n)
	}
	delta, base, mu, steps := d.Vec[:n+1], d.Vec[n+1:2*n+2], d.Vec[2*n+2], float32(d.Version)
	grown := growth(shared.Count) // no item has more events than all of them together
	merged(&shared.Bias, d.Bias, mu, forgotten(steps*m.muRate*curve))
	merged(&shared.Vec[n], delta[n], base[n], forgotten(steps*m.countRate*curve*grown*grown))
	m.mergeVec(shared.Vec[:n], shared.Acc, delta, base, d, m.contentRate, m.contentDecay, m.damp)
	m.count(shared, d)
	return nil
}

// What an owner does with a delta whose sender started from another base than what the owner holds by now, because other shards' deltas
// came in between: each of them has taken the same way towards what the events ask for, and their sum would go that way many times and
// then swing back, ever wider. A run of steps on a number is v -> v + (1-keep)*(target-v); from `base` it made d = (1-keep)*(target-base),
// so from v it makes d - (1-keep)*(v-base). keep is exp(-rate * the loss's curvature over the run): for a bias the log loss's most, 1/4 a step,
// for Adagrad's numbers their own squared gradients, whose mean is the curvature (so too DC-ASGD: Zheng et al., 2017, for one step).
// More curvature than there is costs a part of what others learnt meanwhile, and never stability.

// curve is the second derivative of the log loss at z = 0, where it is largest.
const curve = 0.25

// merged moves a number by d from `base`, of whose difference from here the run forgets a share.
func merged(v *float32, d, base, forgets float32) {
	*v = cap1(*v+d-float32(forgets*(*v-base)), maxBias)
}

// forgotten is 1 - exp(-x), and 1 from about x = 30 on.
func forgotten(x float32) float32 {
	if !(x < 30) {
		return 1
	}
	return float32(1 - num.Exp(-float64(x)))
}

// mergeVec does so for a vector of Adagrad's numbers and adds their sums, which stay finite.
func (m *local) mergeVec(v, acc, delta, base []float32, d *corastream.Embedding, rate, decay, damp float32) {
	drawn := float32(decay * float32(d.Version))
	for i := range v {
		acc[i] = min(acc[i]+d.Acc[i], math.MaxFloat32)
		step := rate / float32(math.Sqrt(float64(damp+acc[i])))
		forgets := forgotten(float32(step * (d.Acc[i] + drawn)))
		v[i] += delta[i] - float32(forgets*(v[i]-base[i]))
	}
	capNorm(v, maxNorm)
}

// checkDelta refuses numbers that no steps make; sums is how many of Acc are Adagrad's, the rest is demand.
func (m *local) checkDelta(what string, d *corastream.Embedding, width, sums int) error {
	if len(d.Vec) != 2*width+1 {
		return m.mismatch(what, len(d.Vec), 2*width+1)
	}
	corrupt := func(name string, x float32, bound string) error {
		return fmt.Errorf("%w: %s: %s is %v, and steps make %s (fix: find out which shard sent it; it runs another version, or its parcel was damaged)",
			corastream.ErrCorrupt, what, name, x, bound)
	}
	if n := events(d); d.Version > maxSteps || uint64(max(n, -n)) > d.Version {
		return fmt.Errorf("%w: %s: %d events in %d steps (fix: find out which shard sent it; it runs another version, or its parcel was damaged)",
			corastream.ErrCorrupt, what, n, d.Version)
	}
	if !(abs(d.Bias) <= maxDeltaBias) {
		return corrupt("bias", d.Bias, fmt.Sprint("no more than ", maxDeltaBias))
	}
	for i, x := range d.Vec {
		if !(abs(x) <= maxDeltaNorm) {
			return corrupt(fmt.Sprint("number ", i), x, fmt.Sprint("no more than ", maxDeltaNorm))
		}
	}
	for i, x := range d.Acc {
		switch {
		case i == sums: // likes: fewer where some were taken back
			if !(abs(x) <= math.MaxFloat32) {
				return corrupt("likes", x, "a number")
			}
		case !(x >= 0 && x <= math.MaxFloat32):
			return corrupt(fmt.Sprint("sum ", i), x, "sums grow")
		case i == sums+1 && x > maxHour:
			return corrupt("hour of the last like", x, fmt.Sprint("no more than ", maxHour))
		}
	}
	return nil
}

// count adds the counters; a count stays at its end rather than begin anew.
func (m *local) count(e, d *corastream.Embedding) {
	e.Count = uint32(max(0, min(int64(e.Count)+events(d), math.MaxUint32)))
	e.Version += d.Version
}

// events is a delta's Count, which is below zero, modulo 2^32, where more was taken back than learnt.
func events(d *corastream.Embedding) int64 { return int64(int32(d.Count)) }

// mergeDemand adds likes, as they count at an hour, to an item's own: both fade to the later of the two hours.
func (m *local) mergeDemand(it *corastream.ItemState, likes, hour float32) {
	k := m.factors
	for len(it.Acc) < k+2 {
		it.Acc = append(it.Acc, 0)
	}
	have, at := &it.Acc[k], &it.Acc[k+1]
	if *have == 0 {
		*at = hour
	}
	now := max(*at, hour)
	*have = max(0, min(float32(*have*m.faded(now-*at))+float32(likes*m.faded(now-hour)), math.MaxFloat32))
	*at = now
}

// demandOf is what an item's sums hold behind the factors, 0 where nothing is.
func demandOf(e *corastream.Embedding, k int) (likes, hour float32) {
	if len(e.Acc) < k+2 {
		return 0, 0
	}
	return e.Acc[k], e.Acc[k+1]
}

func orNone(e *corastream.Embedding) *corastream.Embedding {
	if e == nil {
		return &corastream.Embedding{}
	}
	return e
}

// nothing says that no step was taken.
func nothing(d *corastream.Embedding) bool {
	return len(d.Vec) == 0 && len(d.Acc) == 0 && d.Bias == 0 && d.Count == 0 && d.Version == 0
}

// minus is a - b, where b may be shorter: the rest of it is 0.
func minus(a, b []float32) []float32 {
	out := append(make([]float32, 0, len(a)+2), a...)
	for i := range min(len(a), len(b)) {
		out[i] -= b[i]
	}
	return out
}

func abs(x float32) float32 { return float32(math.Abs(float64(x))) }
