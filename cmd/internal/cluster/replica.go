package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/serve"
	"github.com/corastream/corastream/store"
)

// Replica is the state of a cluster's answering process. Its store follows all shards' changelogs,
// whoever else follows them. Its duties are the requests and the moved users of the partitions that
// the group gives it, so that each is answered by one process.
//
// The two come from two sources and know nothing of each other's progress. Owed joins them: a duty
// is handed out once the store has read the record that it is about.
type Replica struct {
	*store.Store
	topic  string // of the changelogs
	calls  *ingest.Source
	duties duties
	lag    func() (records int64, known bool)

	mu     sync.Mutex
	caught time.Time // when last nothing was left to read
}

// Open opens the store that follows.
func (r *Replica) Open(cfg Deps, log zerolog.Logger, more ...store.Option) (*store.Store, *mix.Model, error) {
	m, err := mix.New(cfg.Mix)
	if err != nil {
		return nil, nil, err
	}
	sc := cfg.Store
	sc.UserTTL, sc.SyncWrites = 0, false // the shards forget users, and say so; and what is lost here is read again
	r.topic = cfg.Kafka.Topics.Embeddings
	r.Store, err = store.Open(filepath.Join(cfg.Data, "replica"), sc, append(more, store.WithLogger(log), store.WithDerived(m),
		store.WithShard(store.Shard{Index: store.Replica, Of: cfg.Kafka.Shards}))...)
	return r.Store, m, err
}

// Connect opens the two sources of a replica. The first, which it returns, follows all changelogs
// from where the store ends. The second follows the partitions that the group gives this process,
// from the group's offsets: the duties are in memory, so the group's offset is the only record of
// what has been answered. Both are closed by the functions given to onClose.
func (r *Replica) Connect(ctx context.Context, cfg Deps, log zerolog.Logger, onClose func(func() error)) (source *ingest.Source, err error) {
	kc := cfg.Kafka
	if err = r.Bind(ctx, "shards", fmt.Sprint(kc.Shards), "give all processes of the cluster one configuration, or use another --data folder"); err != nil {
		return nil, corastream.Usagef(cfg.Data, "", "%v", err)
	}
	all := kc
	all.Group = ""
	source, err = ingest.NewSource(ctx, all, ingest.Hooks{
		Next: r.Next, Meta: r.Meta, Log: log,
		SetMeta: func(k, v string) error { return r.SetMeta(ctx, k, v) },
		Topics:  []string{kc.Topics.Embeddings},
	})
	if err != nil {
		return nil, err
	}
	onClose(source.Close)
	r.calls, err = ingest.NewSource(ctx, kc, ingest.Hooks{
		Log: log, Topics: []string{kc.Topics.Requests, kc.Topics.Embeddings}, GroupOffsets: true,
		Keep: func(key []byte) bool { return len(key) > 1 && string(key[:2]) == corastream.ChangeUser },
	})
	if err != nil {
		return nil, err
	}
	onClose(r.calls.Close)
	r.lag = func() (n int64, known bool) {
		lags := source.Lag()
		for _, records := range lags {
			n += records
		}
		return n, len(lags) == kc.Shards
	}
	r.duties.init()
	return source, nil
}

// Work reads duties until ctx ends. It buries bad requests, adds the others to the duties, and calls wake. It stops reading while the
// duties are full, so that the rest waits in Kafka.
func (r *Replica) Work(ctx context.Context, bury func(context.Context, []corastream.DeadLetter) error, wake func()) error {
	for {
		b, err := r.calls.Next(ctx)
		if err != nil {
			return err
		}
		if len(b.Bad) > 0 {
			if err := bury(ctx, b.Bad); err != nil {
				return err
			}
		}
		if err := r.duties.take(b); err != nil {
			return err
		}
		r.report()
		wake()
		for r.duties.full() { // the rest waits in Kafka
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
}

// report commits the offsets of each partition up to the first record that is not answered. What
// lies behind it may be answered already and is answered again after a restart. Recommendations
// have deterministic ids, so a consumer can tell.
func (r *Replica) report() {
	if spans := r.duties.paid(); len(spans) > 0 {
		r.calls.Committed(spans)
	}
}

// Owed implements corastream.Store by the process's own list. A moved user is owed once the store has read the record that moved him,
// because a recommendation from older vectors would pay the duty for nothing.
func (r *Replica) Owed(n int) ([]corastream.Owed, error) {
	return r.duties.owed(n, func(pos corastream.Position) (bool, error) {
		next, _, err := r.Next(corastream.Partition{Topic: pos.Topic, ID: pos.Partition})
		return next > pos.Offset, err
	}, r.assigned())
}

// assigned are the partitions that are this process's duty now; what was taken away is somebody else's.
func (r *Replica) assigned() map[corastream.Partition]bool {
	out := map[corastream.Partition]bool{}
	for _, p := range r.calls.Assigned() {
		out[p] = true
	}
	return out
}

// Settle implements corastream.Store.
func (r *Replica) Settle(_ context.Context, paid []corastream.Owed) error {
	if err := corastream.Failpoint("replica.settle"); err != nil {
		return err
	}
	r.duties.settle(paid)
	r.report()
	return nil
}

// Unread implements corastream.Store: titles are read by the shards that own them.
func (r *Replica) Unread(int) ([]corastream.Item, error) { return nil, nil }

// Behind says how many records and milliseconds the state lies behind the shards. The time counts
// from the last moment at which nothing was left to read; records alone would say little, as their
// rate differs by orders of magnitude. MS is -1 before the first such moment.
func (r *Replica) Behind() *corastream.Behind {
	n, known := r.lag()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if known && n == 0 {
		r.caught = now
		return &corastream.Behind{}
	}
	if r.caught.IsZero() {
		return &corastream.Behind{Records: n, MS: -1}
	}
	return &corastream.Behind{Records: n, MS: now.Sub(r.caught).Milliseconds()}
}

// Check is the replica's condition of readiness. It must have read all changelogs to their ends once. From then on it serves stale
// state rather than none.
func (r *Replica) Check() serve.Check {
	if r.lag == nil {
		return serve.Check{Name: "replica", Why: "opening"}
	}
	b := r.Behind()
	c := serve.Check{Name: "replica", OK: b.MS >= 0, Why: fmt.Sprintf("%d records, %d ms behind the shards", b.Records, b.MS)}
	if !c.OK {
		c.Why = fmt.Sprintf("reading the shards' changelogs for the first time: %d records to go", b.Records)
	}
	return c
}

// Gauges are the figures of a replica on /metrics.
func (r *Replica) Gauges() []serve.Gauge {
	if r.calls == nil || r.lag == nil {
		return nil
	}
	b := r.Behind()
	var ahead int64
	for _, n := range r.calls.Lag() {
		ahead += n
	}
	return []serve.Gauge{
		{Name: "behind_records", Help: "Records of the shards' changelogs not read yet.", Value: float64(b.Records)},
		{Name: "behind_seconds", Help: "Since all changelogs were read to their ends; below 0: never yet.", Value: float64(b.MS) / 1000},
		{Name: "duties_lag", Help: "Requests and moves of this replica's partitions not read yet.", Value: float64(ahead)},
		{Name: "duties_open", Help: "Recommendations that this replica owes.", Value: float64(r.duties.open())},
		{Name: "duties_partitions", Help: "Partitions whose requests or moves are this replica's.", Value: float64(len(r.calls.Assigned()))},
	}
}
