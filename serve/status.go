package serve

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// StatusResponse is the answer of GET /v1/status: the figures of the dashboard.
type StatusResponse struct {
	Version         string           `json:"version"`
	UptimeS         float64          `json:"uptime_s"`
	Ready           bool             `json:"ready"`
	Checks          []Check          `json:"checks"`
	Events          int64            `json:"events"`       // learnt since the start
	EventsPerS      float64          `json:"events_per_s"` // over the last ten seconds
	Duplicates      int64            `json:"duplicates"`
	ItemsRead       int64            `json:"items_read"`
	Recommendations int64            `json:"recommendations"`
	Degraded        int64            `json:"degraded"`
	DeadLetters     map[string]int64 `json:"dead_letters"` // by reason
	Freshness       FreshnessStatus  `json:"freshness"`
	// Hits10 is the running HR@10 of mix (the lists as served), of popularity, and of late (the
	// same list model an hour late).
	Hits10        map[string]float64 `json:"hits10"`
	AUC           map[string]float64 `json:"auc"` // running prequential, by model
	LLM           *LLMStatus         `json:"llm,omitempty"`
	Curve         []CurvePoint       `json:"curve"`
	Gauges        []GaugeStatus      `json:"gauges"`
	Facts         []Fact             `json:"facts"`
	Recent        []Made             `json:"recent"`
	RecentLetters []Letter           `json:"recent_dead_letters"`
}

// FreshnessStatus is the histogram of freshness since the start.
type FreshnessStatus struct {
	Count   int64             `json:"count"`
	P50MS   float64           `json:"p50_ms"`
	P90MS   float64           `json:"p90_ms"`
	P99MS   float64           `json:"p99_ms"`
	Buckets []FreshnessBucket `json:"buckets"`
}

// FreshnessBucket counts the values above the bucket before and up to le_ms. The last bucket has
// no bound: its le_ms is null.
type FreshnessBucket struct {
	LeMS  *float64 `json:"le_ms"` // upper bound; null: none
	Count int64    `json:"count"`
}

// GaugeStatus is the value of a Gauge.
type GaugeStatus struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Value  float64           `json:"value"`
}

// CurvePoint is the running figures after a number of events.
type CurvePoint struct {
	Events int64              `json:"events"`
	AtS    float64            `json:"at_s"` // since the start
	AUC    map[string]float64 `json:"auc"`
	// running HR@10: mix (the lists as served), popularity, late (the same list model an hour late)
	Hits10 map[string]float64 `json:"hits10"`
}

// shownRecent is how many recommendations and dead letters a status shows.
const shownRecent = 20

func (s *Server) status(w http.ResponseWriter, _ *http.Request) error {
	st := s.deps.Stats
	out := StatusResponse{
		Version: s.deps.Version, UptimeS: s.deps.Now().Sub(s.started).Seconds(), Events: st.Events.Load(), Duplicates: st.Duplicates.Load(),
		ItemsRead: st.ItemsRead.Load(), Recommendations: st.Recommendations.Load(), Degraded: st.Degraded.Load(),
		DeadLetters: s.deadLetters(), Freshness: s.freshness(), AUC: figures(s.deps.AUC), Hits10: figures(s.deps.Hits), Gauges: []GaugeStatus{}, Facts: []Fact{},
	}
	out.Ready, out.Checks = s.readiness()
	out.Curve, out.EventsPerS = s.curve.snapshot()
	out.Recent, out.RecentLetters = s.recent.shown(shownRecent)
	if s.deps.Gauges != nil {
		for _, g := range s.deps.Gauges() {
			out.Gauges = append(out.Gauges, GaugeStatus{g.Name, g.Labels, finite(g.Value)})
		}
		slices.SortFunc(out.Gauges, func(a, b GaugeStatus) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(fmt.Sprint(a.Labels), fmt.Sprint(b.Labels)))
		})
	}
	if s.deps.LLM != nil {
		out.LLM = s.deps.LLM()
	}
	if s.deps.Facts != nil {
		out.Facts = append(out.Facts, s.deps.Facts()...)
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) freshness() FreshnessStatus {
	h := &s.deps.Stats.Freshness
	msOf := func(q float64) float64 { return float64(h.Quantile(q).Microseconds()) / 1000 }
	out := FreshnessStatus{Count: h.Count(), P50MS: msOf(.5), P90MS: msOf(.9), P99MS: msOf(.99)}
	below := h.Cumulative(freshnessBounds)
	var seen int64
	for _, b := range freshnessBounds {
		le, n := float64(b.Milliseconds()), int64(below[b.Seconds()])
		out.Buckets = append(out.Buckets, FreshnessBucket{&le, max(0, n-seen)})
		seen = max(seen, n)
	}
	out.Buckets = append(out.Buckets, FreshnessBucket{nil, max(0, out.Count-seen)})
	return out
}

// figures leaves out values that JSON can not carry. An AUC is not a number until both labels were
// seen.
func figures(of func() map[string]float64) map[string]float64 {
	out := map[string]float64{}
	if of != nil {
		for k, v := range of() {
			if v == finite(v) {
				out[k] = v
			}
		}
	}
	return out
}

func finite(x float64) float64 {
	if x-x != 0 {
		return 0
	}
	return x
}

// curve samples the stream. A window gives the events per second. HR@10 and AUC over the whole run
// are kept in at most maxPoints points: when they are full, every other point is dropped and the
// step doubles.
type curve struct {
	mu     sync.Mutex
	points []CurvePoint
	step   int // samples from one point to the next
	since  int // samples since the last point
	window ring[tick]
}

type tick struct {
	at     time.Time
	events int64
}

const (
	maxPoints = 512
	rateTicks = 11 // samples one second apart: ten seconds
)

func (c *curve) sample(now time.Time, atS float64, events int64, auc, hits map[string]float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.window.cap = rateTicks
	c.window.add(tick{now, events})
	c.step = max(c.step, 1)
	if c.since++; len(c.points) > 0 && c.since < c.step || len(auc)+len(hits) == 0 {
		return
	}
	if n := len(c.points); n > 0 && c.points[n-1].Events == events {
		return // nothing happened: an idle night must not push the day out
	}
	c.since = 0
	c.points = append(c.points, CurvePoint{events, atS, maps.Clone(auc), maps.Clone(hits)})
	if len(c.points) >= maxPoints {
		kept := c.points[:0]
		for i := 0; i < len(c.points); i += 2 {
			kept = append(kept, c.points[i])
		}
		clear(c.points[len(kept):])
		c.points, c.step = kept, 2*c.step
	}
}

func (c *curve) snapshot() (points []CurvePoint, perS float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	points = append([]CurvePoint{}, c.points...)
	var newest, oldest tick
	c.window.newest(func(t tick) bool {
		if newest.at.IsZero() {
			newest = t
		}
		oldest = t
		return true
	})
	if d := newest.at.Sub(oldest.at).Seconds(); d > 0 {
		perS = float64(newest.events-oldest.events) / d
	}
	return points, perS
}

func (s *Server) sampleEverySecond(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		now := s.deps.Now()
		s.curve.sample(now, now.Sub(s.started).Seconds(), s.deps.Stats.Events.Load(), figures(s.deps.AUC), figures(s.deps.Hits))
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func containsID(text, id string) bool { return id != "" && strings.Contains(text, id) }
