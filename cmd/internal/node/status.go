package node

import (
	"fmt"
	"math"
	"path/filepath"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/gorse"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
)

// httpDeps hands the stages to the HTTP server.
func (e *Node) httpDeps() serve.Deps {
	p := e.Pipeline
	d := serve.Deps{
		Recommender: p, Browser: p, Crowd: e.crowd, View: e.Store, Predictor: e.CF, Neighbours: e.Catalogue, History: e.Config.Pipeline.History,
		Past:      ingest.NewDecoder(e.Config.Kafka).Past,
		Events:    NewEventSink(e.Producer, e.Config.Kafka),
		Catalogue: newItemSink(e.Producer, e.Config.Kafka),
		Users:     e.Store.UsersFrom,
		Letters:   &letters{Letters: ingest.NewLetters(e.Config.Kafka, e.Producer, e.Log), meta: e.Store},
		Validate:  validator(e.Config.Kafka),
		Foreign:   gorse.Handler,
		Versions:  e.versions,
		Stats:     &p.Stats, Status: e.checks, AUC: e.auc, Hits: e.hits, LLM: e.llmStatus, Gauges: e.gauges, Facts: e.facts, Models: e.models,
		Version: e.Version, Log: e.Log,
	}
	d.Old = p.Old
	d.Learnt = p.Learnt // on a replica: until the shard has learnt them and the replica has read that
	if e.replica == nil {
		d.Erase = e.Store.Erase
		if d.Data, _ = filepath.Abs(e.Config.Data); d.Data == "" {
			d.Data = e.Config.Data
		}
	}
	if e.Familiarity != nil {
		d.Generator, d.Arms, d.Rollout, d.Adapters = e.Rollout, e.Rollout, e.Rollout, e.Adapters()
	}
	if e.LLM != nil {
		d.Scorer, d.Text, d.Speaker = e.LLM, e.LLM, e.LLM
	}
	if e.tracer != nil {
		e.tracer.WrapHTTP(&d)
	}
	return d
}

// forget drops what the stages keep in memory of a user whom the store has forgotten. It is quick, since a commit waits for it, and many
// users may go at once; what the HTTP server keeps goes by serve.Server.Forget.
func (e *Node) forget(user string) {
	e.audience.Forget(user)
	if e.Rollout != nil {
		e.Rollout.Forget(user)
	}
}

// versions of the generator and the LLM that answer whoever no trial is made with.
func (e *Node) versions() corastream.Versions {
	v := e.Pipeline.Versions
	if e.Rollout != nil {
		v.Generator = e.active().Stage().Version()
	}
	return v
}

// checks are the conditions of readiness.
func (e *Node) checks() []serve.Check {
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
	if e.Ranker != nil {
		without = "lists are whole, the probability of a like is that of cf"
	}
	switch {
	case e.LLM == nil:
		ranking.Why = without + " (llm.file is off)"
	case e.Familiarity == nil:
		ranking.Why = without + " (no checkpoint; `corastream train` makes one)"
	default:
		if closed, why := e.active().Familiarity().Closed(); closed {
			ranking.Why = without + " (" + why + ")"
		}
	}
	state := serve.Check{Name: "state", OK: !e.Store.DiskFull()}
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
	if e.shardHost != nil {
		checks = append(checks, e.shardHost.Checks()[:1]...)
	}
	return checks
}

func (e *Node) auc() map[string]float64 {
	if e.shardHost != nil {
		return aucOf(e.shardHost.Monitor())
	}
	return aucOf(e.Monitor)
}

// hits are HR@10 of the lists as served, of what is popular, and of the same lists an hour late.
func (e *Node) hits() map[string]float64 {
	h, out := e.Monitor.Figures().Hits, map[string]float64{}
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

func (e *Node) gauges() []serve.Gauge {
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
	if e.shardHost != nil {
		g = append(g, e.shardHost.Gauges()...)
	}
	if e.Stage != nil {
		st := e.active().Stage().Stats()
		g = append(g, e.Rollout.Gauges()...)
		g = append(g,
			serve.Gauge{Name: "weights_cache_hits", Help: "Users whose weights were fresh.", Value: float64(st.Hits)},
			serve.Gauge{Name: "weights_cache_misses", Help: "Users whose weights were made.", Value: float64(st.Misses)},
			serve.Gauge{Name: "weights_cache_entries", Help: "Users whose weights are kept.", Value: float64(st.Entries)})
	}
	g = append(g, gpuGauges()...)
	return g
}

func (e *Node) facts() []serve.Fact {
	out := []serve.Fact{{Name: "cf", Value: e.Config.CF.String()}}
	if e.LLM != nil {
		i := e.LLM.Info()
		out = append(out, serve.Fact{Name: "llm", Value: fmt.Sprintf("%s, %d layers, width %d, %s", i.Arch, i.Layers, i.Hidden, e.LLM.Digest()[:12])})
	}
	if e.Stage != nil {
		live := e.active().Stage()
		st := live.Stats()
		out = append(out, serve.Fact{Name: "generator", Value: fmt.Sprintf("%s, %d weights made, %d reused", live.Version()[:12], st.Misses, st.Hits)}, e.Rollout.Fact())
	}
	return out
}

func (e *Node) models() []serve.Model {
	if e.LLM == nil {
		return nil
	}
	base := serve.Model{ID: "base", Digest: e.LLM.Digest(), Created: e.began}
	if e.Stage == nil {
		return []serve.Model{base}
	}
	return []serve.Model{base, {ID: "corastream", Parent: "base", Digest: e.active().Stage().Version(), Created: e.began}}
}
