package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/store"
)

// owner runs one shard. It has one goroutine (ShardHost.start), and two more while it learns. mu
// guards what status pages read beside it.
type owner struct {
	l     *ShardHost
	shard int
	ctx   context.Context
	stop  context.CancelFunc
	done  chan struct{}
	again chan struct{} // the group has said once more that the shard is ours
	wake  chan struct{} // parcels wait in the outbox

	mu      sync.Mutex
	state   string // "restoring", "learning", "fenced"
	sources []*ingest.Source
	store   *store.Store
	took    time.Duration // from the assignment until it learnt
}

func (o *owner) stopped() bool { return o.ctx.Err() != nil }

// poke tells a fenced owner to claim the shard again. The channel holds one token, so a poke that
// comes early is kept and a second one is not needed.
func (o *owner) poke() {
	select {
	case o.again <- struct{}{}:
	default:
	}
}

// enter notes the state for status pages. Outside of learning there is no store or source that they
// may read.
func (o *owner) enter(state string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state = state
	if state != "learning" {
		o.sources, o.store = nil, nil
	}
}

// fencedWait is how long the owner of a shard that another process has claimed waits for a new
// assignment before it claims the shard back. A member that the group took for dead hears of it
// within a session timeout, and then stops. If no word comes, the claim was from outside the group,
// as `corastream erase` makes one, and the shard is ours again.
const fencedWait = 8 * time.Second

// run owns the shard until its context ends. ErrFenced is the one error that it survives: another
// process has claimed the shard. Everything is closed, since memory may hold a transaction that did
// not happen, and after a wait the shard is taken over from the changelog like any other.
func (o *owner) run() error {
	for {
		err := o.takeOver()
		if o.ctx.Err() != nil || !errors.Is(err, corastream.ErrFenced) {
			return err
		}
		o.l.log.Warn().Int("shard", o.shard).Msg("another process has taken the shard over; waiting for the group")
		o.enter("fenced")
		select {
		case <-o.ctx.Done():
			return nil
		case <-o.again:
		case <-time.After(fencedWait):
		}
	}
}

// takeOver brings the folder up to the changelog, claims the shard, and learns until the context
// ends or another process claims it.
//
// The store is opened after the claim and ships under its epoch. Between the claim and the opening
// nothing valid can be added to the changelog but a newer claim, and that one fences the first
// transaction.
func (o *owner) takeOver() (err error) {
	began := time.Now()
	o.enter("restoring")
	cfg, log := o.l.d, o.l.log.With().Int("shard", o.shard).Logger()
	changelog, err := ingest.OpenChangelog(cfg.Kafka, o.shard, o.l.d.Member, log)
	if err != nil {
		return err
	}
	defer changelog.Close()
	dir := ShardDir(cfg, o.shard)
	restored, err := restore(o.ctx, cfg, changelog, dir, log)
	if err != nil {
		return err
	}
	epoch, _ := changelog.LastSeen()
	st, err := OpenShard(cfg, o.shard, dir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	st.Ship(changelog, epoch)
	if err := o.bind(st); err != nil {
		return err
	}
	o.mu.Lock()
	o.took = time.Since(began)
	o.mu.Unlock()
	log.Info().Int64("records", restored).Dur("took", time.Since(began)).Uint64("epoch", epoch).Msg("shard taken over")
	return o.learn(st, log)
}

func (o *owner) model() cfstream.Model {
	m, err := cfstream.New(o.l.d.CF)
	if err != nil {
		panic(err) // the configuration was validated
	}
	return m
}

// bind ties the shard to what all processes of the cluster must agree on. Two processes with
// different CF models would merge vectors that have nothing to do with each other.
func (o *owner) bind(st *store.Store) error {
	const fix = "give all processes of the cluster one configuration, or name other topics and learn anew"
	err := st.Bind(o.ctx, "cf", o.l.d.CF.String(), fix)
	if err == nil {
		err = st.Bind(o.ctx, "shards", fmt.Sprint(o.l.d.Kafka.Shards), fix)
	}
	if err == nil && o.l.d.Basis != nil {
		err = st.Bind(o.ctx, "basis", o.l.d.Basis.Digest(), fix)
	}
	if errors.Is(err, corastream.ErrMismatch) {
		return corastream.Usagef(fmt.Sprintf("shard %d", o.shard), "", "%v", err)
	}
	return err
}

// learn runs the pipeline over the shard's part of the log, and sends what the outbox holds.
//
// The sources have no group: which partitions belong to the shard follows from its number, and the
// offsets are in its store. There are two of them, because news of other shards must not fill the
// batches of the shard's own events (exchange). Pick sees every listing of the partitions. Should
// the topic have a number of partitions by which users change their shards, learning ends with an
// error.
//
// Three goroutines end together: the pipeline, the collector of news and the sender of parcels. The
// first that fails cancels the context with the cause. The collector is waited for before its
// source is closed, and the sender before its sink.
func (o *owner) learn(st *store.Store, log zerolog.Logger) error {
	ctx, cancel := context.WithCancelCause(o.ctx)
	defer cancel(nil)
	kc := o.l.d.Kafka
	kc.Group = ""
	born, err := partitions(ctx, st, kc)
	if err != nil {
		return err
	}
	hooks := ingest.Hooks{
		Next: st.Next, Meta: st.Meta, Log: log, Keep: KeepForShards,
		Pick: func(all []corastream.Partition) []corastream.Partition {
			n := 0
			for _, p := range all {
				if p.Topic == kc.Topics.Interactions {
					n++
				}
			}
			if err := fits(kc, born, n); n > 0 && err != nil {
				cancel(err)
				return nil
			}
			return o.pick(all)
		},
		SetMeta: func(k, v string) error { return st.SetMeta(ctx, k, v) },
	}
	var sources []*ingest.Source
	for _, topics := range [][]string{{kc.Topics.Items, kc.Topics.Interactions}, {kc.Topics.Embeddings, kc.Topics.Gradients}} {
		hooks.Topics = topics
		source, err := ingest.NewSource(ctx, kc, hooks)
		if err != nil {
			return err
		}
		defer source.Close()
		sources = append(sources, source)
	}
	o.mu.Lock()
	o.state, o.sources, o.store = "learning", sources, st
	o.mu.Unlock()
	defer o.enter("restoring")
	mover, err := ingest.NewMover(kc, log)
	if err != nil {
		return err
	}
	defer mover.Close()
	mine := &gather{
		Source: dropForeignBad{sources[0], o.notMine}, owned: NewOwned(kc, o.shard, born), move: mover.Move,
		tell: func(n int, first corastream.Event, home int32) { o.l.strays.add(n, first, home, log) },
	}
	both := newExchange(mine, sources[1], o.l.d.Cluster.ExchangeEvery, kc.Topics.Embeddings)
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		both.collect(ctx)
	}()
	defer func() { cancel(nil); <-collected }()

	model := o.model()
	p := &corastream.Pipeline{
		Config: o.l.d.Pipeline, Source: both, Store: &countingStore{st, o}, Learner: model, Predictor: model,
		DeadLetters: o.l.sink, Sink: o.l.sink, Monitor: &lockedMonitor{Monitor: o.l.monitor, mu: &o.l.monitorMu}, Warn: func(what string, err error) { log.Warn().Err(err).Msg(what) },
	}
	if o.l.d.Basis != nil {
		p.Encoder, p.Basis = o.l.d.LLM, o.l.d.Basis
	}
	if o.l.d.Trace != nil {
		o.l.d.Trace.WrapPipeline(p)
	}
	parcels, err := ingest.NewParcelSink(kc, log)
	if err != nil {
		return err
	}
	defer parcels.Close()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		if err := o.send(ctx, st, parcels); err != nil && ctx.Err() == nil {
			cancel(err)
		}
	}()
	err = p.Run(ctx)
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	cancel(nil)
	<-sent
	return err
}

// pick selects the partitions that the shard reads: its share of the events, the catalogue, parcels about its vectors, and the
// changelogs of the other shards.
func (o *owner) pick(all []corastream.Partition) (mine []corastream.Partition) {
	t, n := o.l.d.Kafka.Topics, o.l.d.Kafka.Shards
	for _, p := range all {
		switch {
		case p.Topic == t.Interactions && corastream.PartitionShard(p.ID, n) != o.shard,
			p.Topic == t.Gradients && int(p.ID) != o.shard,
			p.Topic == t.Embeddings && int(p.ID) == o.shard:
			continue
		}
		mine = append(mine, p)
	}
	return mine
}

// notMine says that another shard buries the letter. Every shard reads the catalogue, and shard 0 buries its bad records.
func (o *owner) notMine(l corastream.DeadLetter) bool {
	return l.Pos.Topic == o.l.d.Kafka.Topics.Items && o.shard != 0
}

// KeepForShards selects the records a shard needs from other changelogs: items, the shared vector, and ownership claims. Claims tell it
// which records a former owner wrote after losing the shard, and those are ignored.
func KeepForShards(key []byte) bool {
	k := string(key[:min(2, len(key))])
	return k == corastream.ChangeItem || k == corastream.ChangeShared || k == corastream.ChangeClaim
}

// send writes the outbox to Kafka whenever a transaction has filled it. Parcels go out in the order
// of transactions, because a receiver takes the number of the last one as proof that it has all
// before.
//
// Once a minute it beats, so that an idle shard notices a claim and repairs void keys before
// compaction runs (Store.Beat).
func (o *owner) send(ctx context.Context, st *store.Store, to *ingest.ParcelSink) error {
	beat := time.NewTicker(time.Minute)
	defer beat.Stop()
	for {
		for {
			out := st.Outbox(256)
			if len(out) == 0 {
				break
			}
			if err := to.Send(ctx, out); err != nil {
				return fmt.Errorf("send parcels: %w", err)
			}
			st.Sent(len(out))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		case <-beat.C:
			if err := st.Beat(ctx); err != nil {
				return err
			}
		}
	}
}
