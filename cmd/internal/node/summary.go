package node

import (
	"maps"
	"time"

	"github.com/corastream/corastream/cmd/internal/console"
)

// Summary is the last line of `up` and `make run`.
type Summary struct {
	Events          int64              `json:"events"`
	EventsPerS      float64            `json:"events_per_s"`
	Recommendations int64              `json:"recommendations"`
	DeadLetters     int64              `json:"dead_letters"`
	Duplicates      int64              `json:"duplicates"`
	FreshnessMS     map[string]float64 `json:"freshness_ms"`
	Hits10          map[string]any     `json:"hits10"` // HR@10 of the lists, of what is popular, of the same lists an hour late
	HitsRows        int64              `json:"hits10_rows"`
	AUC             map[string]any     `json:"auc"`
	AUCRows         int64              `json:"auc_rows"`
	Degraded        string             `json:"degraded,omitempty"`
	Seconds         float64            `json:"seconds"`
}

func (e *Node) Summary(took time.Duration) Summary {
	st, figures := &e.Pipeline.Stats, e.Monitor.Figures()
	s := Summary{
		Events: st.Events.Load(), Recommendations: st.Recommendations.Load(), DeadLetters: st.DeadLetters.Load(),
		Duplicates: st.Duplicates.Load(), AUCRows: figures.Rows, Seconds: took.Seconds(),
		FreshnessMS: map[string]float64{
			"p50": console.Millis(st.Freshness.Quantile(.5)), "p99": console.Millis(st.Freshness.Quantile(.99)),
		},
		Hits10: NoHits(), HitsRows: figures.Hits.Rows,
		AUC: map[string]any{"bias": nil, "cf": nil, "cora": nil},
	}
	maps.Copy(s.Hits10, anyValues(e.hits()))
	s.EventsPerS = float64(s.Events) / took.Seconds()
	maps.Copy(s.AUC, anyValues(e.auc()))
	if e.Familiarity == nil {
		if e.Ranker == nil {
			s.Degraded = "cf"
		}
	} else if closed, _ := e.active().Familiarity().Closed(); closed {
		s.Degraded = "cf"
	}
	return s
}

func NoHits() map[string]any { return map[string]any{"mix": nil, "popularity": nil, "late": nil} }

func anyValues(m map[string]float64) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = console.Round4(v)
	}
	return out
}
