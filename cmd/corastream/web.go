package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"strings"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/tracing"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/ingest/decode"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
)

// httpDeps hands the stages to the HTTP server.
func (e *engine) httpDeps() serve.Deps {
	p := e.pipeline
	d := serve.Deps{
		Recommender: p, Browser: p, Crowd: e.crowd, View: e.store, Predictor: e.cf, Neighbours: e.catalogue, History: e.cfg.Pipeline.History,
		Past:     ingest.NewDecoder(e.cfg.Kafka).Past,
		Events:   eventSink{e.producer, ingest.NewDecoder(e.cfg.Kafka).Strict(), e.cfg.Kafka.Topics.Interactions},
		Versions: e.versions,
		Stats:    &p.Stats, Status: e.checks, AUC: e.auc, Hits: e.hits, LLM: e.llmStatus, Gauges: e.gauges, Facts: e.facts, Models: e.models,
		Version: version, Log: e.log,
	}
	if e.replica == nil {
		d.Learnt = p.Learnt
	}
	if e.gate != nil {
		d.Generator, d.Arms, d.Rollout, d.Adapters = e.rollout, e.rollout, e.rollout, e.adapters()
	}
	if e.llm != nil {
		d.Scorer, d.Text, d.Speaker = e.llm, e.llm, e.llm
	}
	if e.tracer != nil {
		e.tracer.WrapHTTP(&d)
	}
	return d
}

// versions of the generator and the LLM that answer whoever no trial is made with.
func (e *engine) versions() corastream.Versions {
	v := e.pipeline.Versions
	if e.rollout != nil {
		v.Generator = e.active().Stage().Version()
	}
	return v
}

// eventSink puts events of POST /v1/events on the interactions topic, after the checks that ingest would make.
type eventSink struct {
	producer *ingest.Producer
	decoder  *decode.Decoder // strict: a sender who waits is told what is not read
	topic    string
}

// Produce implements serve.EventSink.
func (s eventSink) Produce(ctx context.Context, events [][]byte, headers map[string]string) ([]corastream.Position, error) {
	records, err := s.records(events, headers, tracing.Traceparent(ctx), time.Now())
	if err != nil {
		return nil, err
	}
	return s.producer.Place(ctx, s.topic, records)
}

// records are what goes onto the topic: the bodies as they are, after the checks that the stream would make.
func (s eventSink) records(events [][]byte, headers map[string]string, trace string, now time.Time) ([]ingest.Record, error) {
	records := make([]ingest.Record, len(events))
	for i, body := range events {
		r := ingest.Record{Pos: corastream.Position{Topic: s.topic}, Value: body, Time: now}
		for k, v := range headers {
			if attribute, ok := strings.CutPrefix(k, "ce-"); ok { // HTTP's binding of CloudEvents writes it so, Kafka's otherwise
				k = "ce_" + attribute
			}
			r.Headers = append(r.Headers, ingest.Header{Key: k, Value: []byte(v)})
		}
		if trace != "" {
			r.Headers = append(r.Headers, ingest.Header{Key: "traceparent", Value: []byte(trace)})
		}
		var b corastream.Batch
		s.decoder.Decode(&b, r, now)
		if len(b.Bad) > 0 {
			_, fix := datafile.Remedy(b.Bad[0])
			if fix == "" {
				fix = "send user_id, item_id and what happened"
			}
			return nil, corastream.Usagef(fmt.Sprintf("[%d]", i), fix, "%s: %s", b.Bad[0].Reason, b.Bad[0].Detail)
		}
		if len(b.Events) > 0 {
			r.Key = []byte(b.Events[0].User)
		}
		records[i] = r
	}
	return records, nil
}

// checks are the conditions of readiness.
func (e *engine) checks() []serve.Check {
	var lag int64
	connected := e.source != nil && e.source.Connected()
	if e.source != nil {
		for _, n := range e.source.Lag() {
			lag += n
		}
	}
	broker := serve.Check{Name: "broker", OK: connected, Why: fmt.Sprintf("lag %d", lag)}
	if !connected {
		broker.Why = "a partition can not be read, or none is assigned yet"
	}
	if e.replica != nil && !connected { // it serves what it has
		broker.OK, broker.Why = true, "the changelogs can not be read at the moment: serving what is here"
	}
	ranking := serve.Check{Name: "ranking", OK: true}
	without := "degraded: cf"
	if e.ranker != nil {
		without = "lists are whole, the probability of a like is that of cf"
	}
	switch {
	case e.llm == nil:
		ranking.Why = without + " (llm.file is off)"
	case e.gate == nil:
		ranking.Why = without + " (no checkpoint; `corastream train` makes one)"
	default:
		if closed, why := e.active().Familiarity().Closed(); closed {
			ranking.Why = without + " (" + why + ")"
		}
	}
	state := serve.Check{Name: "state", OK: !e.store.DiskFull()}
	if !state.OK {
		state.Why = "the disk is almost full: learning waits (fix: free some space, or lower store.reserve_bytes)"
	}
	sink := serve.Check{Name: "sink", OK: e.sink == nil || e.sink.Writing()}
	if !sink.OK {
		sink.Why = "recommendations or dead letters can not be written; trying again"
	}
	checks := []serve.Check{state, broker, sink, ranking}
	if e.replica != nil {
		checks = append(checks, e.replica.Check())
	}
	if e.learner != nil {
		checks = append(checks, e.learner.Checks()[:1]...)
	}
	return checks
}

func (e *engine) auc() map[string]float64 {
	if e.learner != nil {
		return aucOf(e.learner.Monitor())
	}
	return aucOf(e.monitor)
}

// hits are HR@10 of the lists as served, of what is popular, and of the same lists an hour late.
func (e *engine) hits() map[string]float64 {
	h, out := e.monitor.Figures().Hits, map[string]float64{}
	for name, v := range map[string]float64{"mix": float64(h.Mix), "popularity": float64(h.Popularity), "late": float64(h.Late)} {
		if !math.IsNaN(v) {
			out[name] = v
		}
	}
	return out
}

func aucOf(m *replay.Monitor) map[string]float64 {
	f, out := m.Figures(), map[string]float64{}
	for name, v := range map[string]float64{"bias": float64(f.Bias), "cf": float64(f.CF), "cora": float64(f.Cora)} {
		if !math.IsNaN(v) {
			out[name] = v
		}
	}
	return out
}

func (e *engine) gauges() []serve.Gauge {
	var g []serve.Gauge
	if e.source != nil {
		for part, n := range e.source.Lag() {
			g = append(g, serve.Gauge{
				Name: "lag_events", Help: "Offsets not yet handed out, by partition.", Value: float64(n),
				Labels: map[string]string{"topic": part.Topic, "partition": fmt.Sprint(part.ID)},
			})
		}
		g = append(g, serve.Gauge{Name: "reconnects", Help: "How often a partition was lost and found again.", Value: float64(e.source.Reconnects())})
	}
	if e.replica != nil {
		g = append(g, e.replica.Gauges()...)
	}
	if e.learner != nil {
		g = append(g, e.learner.Gauges()...)
	}
	if e.stage != nil {
		st := e.active().Stage().Stats()
		g = append(g, e.rollout.Gauges()...)
		g = append(g,
			serve.Gauge{Name: "weights_cache_hits", Help: "Users whose weights were fresh.", Value: float64(st.Hits)},
			serve.Gauge{Name: "weights_cache_misses", Help: "Users whose weights were made.", Value: float64(st.Misses)})
	}
	g = append(g, gpuGauges()...)
	return g
}

func (e *engine) facts() []serve.Fact {
	out := []serve.Fact{{Name: "cf", Value: e.cfg.CF.String()}}
	if e.llm != nil {
		i := e.llm.Info()
		out = append(out, serve.Fact{Name: "llm", Value: fmt.Sprintf("%s, %d layers, width %d, %s", i.Arch, i.Layers, i.Hidden, e.llm.Digest()[:12])})
	}
	if e.stage != nil {
		live := e.active().Stage()
		st := live.Stats()
		out = append(out, serve.Fact{Name: "generator", Value: fmt.Sprintf("%s, %d weights made, %d reused", live.Version()[:12], st.Misses, st.Hits)}, e.rollout.Fact())
	}
	return out
}

func (e *engine) models() []serve.Model {
	if e.llm == nil {
		return nil
	}
	base := serve.Model{ID: "base", Digest: e.llm.Digest(), Created: e.began}
	if e.stage == nil {
		return []serve.Model{base}
	}
	return []serve.Model{base, {ID: "corastream", Parent: "base", Digest: e.active().Stage().Version(), Created: e.began}}
}

// runSummary is the last line of `up` and `make run`.
type runSummary struct {
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

func (e *engine) summary(took time.Duration) runSummary {
	st, figures := &e.pipeline.Stats, e.monitor.Figures()
	s := runSummary{
		Events: st.Events.Load(), Recommendations: st.Recommendations.Load(), DeadLetters: st.DeadLetters.Load(),
		Duplicates: st.Duplicates.Load(), AUCRows: figures.Rows, Seconds: took.Seconds(),
		FreshnessMS: map[string]float64{
			"p50": ms(st.Freshness.Quantile(.5)), "p99": ms(st.Freshness.Quantile(.99)),
		},
		Hits10: noHits(), HitsRows: figures.Hits.Rows,
		AUC: map[string]any{"bias": nil, "cf": nil, "cora": nil},
	}
	maps.Copy(s.Hits10, anyValues(e.hits()))
	s.EventsPerS = float64(s.Events) / took.Seconds()
	maps.Copy(s.AUC, anyValues(e.auc()))
	if e.gate == nil {
		if e.ranker == nil {
			s.Degraded = "cf"
		}
	} else if closed, _ := e.active().Familiarity().Closed(); closed {
		s.Degraded = "cf"
	}
	return s
}

func noHits() map[string]any { return map[string]any{"mix": nil, "popularity": nil, "late": nil} }

func anyValues(m map[string]float64) map[string]any {
	out := map[string]any{}
	for k, v := range m {
		out[k] = round4(replay.Number(v))
	}
	return out
}

func ms(d time.Duration) float64 { return math.Round(float64(d)/1e4) / 100 }
