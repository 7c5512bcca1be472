package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/corastream/corastream/serve"
)

// Checks are the conditions of readiness.
func (l *ShardHost) Checks() []serve.Check {
	l.mu.Lock()
	defer l.mu.Unlock()
	shards := serve.Check{Name: "shards", OK: true}
	var states []string
	for _, k := range slices.Sorted(maps.Keys(l.running)) {
		o := l.running[k]
		o.mu.Lock()
		states = append(states, fmt.Sprintf("%d %s", k, o.state))
		shards.OK = shards.OK && o.state == "learning"
		o.mu.Unlock()
	}
	for _, k := range slices.Sorted(maps.Keys(l.standbys)) {
		states = append(states, fmt.Sprintf("%d standby", k))
	}
	shards.Why = strings.Join(states, ", ")
	if len(states) == 0 {
		shards.Why = "none is assigned here: others have them, or the group is being balanced"
	}
	sink := serve.Check{Name: "sink", OK: l.sink.Writing()}
	if !sink.OK {
		sink.Why = "parcels or dead letters can not be written; trying again"
	}
	return []serve.Check{shards, sink}
}

// Gauges are the figures of the shards that run here, on /metrics.
func (l *ShardHost) Gauges() []serve.Gauge {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := []serve.Gauge{
		{Name: "shards_owned", Help: "Shards that this process runs.", Value: float64(len(l.running))},
		{Name: "shards_taken_over", Help: "Shards taken over since the start.", Value: float64(l.moves)},
		{Name: "strays_moved", Help: "Events written again because they lay on a partition of another shard than their user's.", Value: float64(l.strays.count())},
	}
	for k, b := range l.standbys {
		g = append(g, serve.Gauge{
			Name: "standby_records", Help: "Records that a standby found new when it last looked; below 0: it has not looked yet.",
			Labels: map[string]string{"shard": fmt.Sprint(k)}, Value: float64(b.read.Load()),
		})
	}
	for k, o := range l.running {
		o.mu.Lock()
		sources, st, took := o.sources, o.store, o.took
		o.mu.Unlock()
		if st == nil {
			continue
		}
		labels := map[string]string{"shard": fmt.Sprint(k)}
		g = append(g,
			serve.Gauge{Name: "outbox_parcels", Help: "What a shard learnt of others' vectors and has not sent yet.", Labels: labels, Value: float64(len(st.Outbox(1 << 30)))},
			serve.Gauge{Name: "takeover_seconds", Help: "From a shard's assignment until it learnt.", Labels: labels, Value: took.Seconds()})
		for _, source := range sources {
			for part, n := range source.Lag() {
				g = append(g, serve.Gauge{
					Name: "shard_lag_events", Help: "Offsets that a shard has not read yet, by partition.", Value: float64(n),
					Labels: map[string]string{"topic": part.Topic, "partition": fmt.Sprint(part.ID), "shard": fmt.Sprint(k)},
				})
			}
		}
	}
	return g
}

func (l *ShardHost) facts() []serve.Fact {
	return []serve.Fact{{Name: "role", Value: fmt.Sprintf("learner %s, %d of %d shards", l.d.Member, len(l.owned()), l.d.Kafka.Shards)}, {Name: "cf", Value: l.d.CF.String()}}
}

// Summary is the learning role's part of the last line.
type Summary struct {
	Member      string  `json:"member"`
	Events      int64   `json:"events"`
	Duplicates  int64   `json:"duplicates"`
	DeadLetters int64   `json:"dead_letters"`
	TakenOver   int     `json:"shards_taken_over"`
	Strays      int64   `json:"strays_moved"` // events that lay on a partition of another shard than their user's
	Seconds     float64 `json:"seconds"`
}

// Summary counts the role's work since the start.
func (l *ShardHost) Summary() Summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Summary{
		Member: l.d.Member, Events: l.stats.Events.Load(), Duplicates: l.stats.Duplicates.Load(),
		DeadLetters: l.stats.DeadLetters.Load(), TakenOver: l.moves, Strays: l.strays.count(), Seconds: time.Since(l.began).Seconds(),
	}
}
