package corastream

import (
	"math"
	"sync/atomic"
	"time"
)

// Stats counts what the pipeline did. All fields may be read while it runs.
type Stats struct {
	Events, Duplicates, DeadLetters, ItemsRead atomic.Int64
	Recommendations, Degraded                  atomic.Int64
	Freshness                                  Histogram
}

func (s *Stats) published(recs []Recommendation, now time.Time) {
	s.Recommendations.Add(int64(len(recs)))
	for _, r := range recs {
		if !r.Oldest.IsZero() {
			s.Freshness.Observe(now.Sub(r.Oldest))
		}
	}
}

// Histogram counts durations in buckets that grow by 2^(1/8) (9 %) from 0.1 ms to about 4 days. Safe for concurrent use.
type Histogram struct {
	buckets [256]atomic.Int64
	sumUS   atomic.Int64
}

const histogramMin = 100 * time.Microsecond

// Observe adds one duration; a negative one (clock skew) counts as zero.
func (h *Histogram) Observe(d time.Duration) {
	h.sumUS.Add(max(0, d.Microseconds()))
	i := 0
	if d > histogramMin {
		i = min(len(h.buckets)-1, int(math.Ceil(8*math.Log2(float64(d)/float64(histogramMin)))))
	}
	h.buckets[i].Add(1)
}

// Count is the number of observations, Sum their total.
func (h *Histogram) Count() (n int64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// Reset forgets all observations: a demo measures its live part alone.
func (h *Histogram) Reset() {
	for i := range h.buckets {
		h.buckets[i].Store(0)
	}
	h.sumUS.Store(0)
}

// Sum of all observations.
func (h *Histogram) Sum() time.Duration { return time.Duration(h.sumUS.Load()) * time.Microsecond }

// upper is the upper bound of bucket i.
func (h *Histogram) upper(i int) time.Duration {
	return time.Duration(float64(histogramMin) * math.Exp2(float64(i)/8))
}

// Quantile returns the upper bound of the bucket in which the q-quantile lies, 0 when empty.
func (h *Histogram) Quantile(q float64) time.Duration {
	want := int64(math.Ceil(q * float64(h.Count())))
	var seen int64
	for i := range h.buckets {
		if seen += h.buckets[i].Load(); seen >= want && seen > 0 {
			return h.upper(i)
		}
	}
	return 0
}

// Cumulative calls f with each of the given bounds and how many observations are at most that long.
func (h *Histogram) Cumulative(bounds []time.Duration) map[float64]uint64 {
	out := make(map[float64]uint64, len(bounds))
	for _, b := range bounds {
		var n int64
		for i := range h.buckets {
			if h.upper(i) <= b {
				n += h.buckets[i].Load()
			}
		}
		out[b.Seconds()] = uint64(n)
	}
	return out
}
