package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/tracing"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/store"
)

// learner plays a cluster's learning role: it runs the shards that the group gives this process.
type learner struct {
	cfg    Config
	log    zerolog.Logger
	member string
	began  time.Time

	llm     *llm.Model // reads the titles of the items that our shards own; nil: off
	basis   *generator.Basis
	sink    *ingest.Sink
	http    *serve.Server   // nil: a replica in the same process answers
	trace   *tracing.Tracer // nil: no traces
	stats   corastream.Stats
	judge   *replay.Monitor // of all shards here: what bias and cf knew of an event before it was learnt
	judging sync.Mutex
	close   func() error

	mu       sync.Mutex
	running  map[int32]*owner
	standbys map[int32]*standby
	moves    int // shards taken over since the start
}

// learnerGroup is the consumer group whose members divide the shards.
func learnerGroup(cfg Config) string { return cfg.Kafka.Group + "-learners" }

// openLearner opens what all shards share.
func openLearner(cfg Config, log zerolog.Logger, member string, listen bool) (l *learner, err error) {
	l = &learner{cfg: cfg, log: log, member: member, began: time.Now(), running: map[int32]*owner{}, standbys: map[int32]*standby{}}
	var closers []func() error
	l.close = sync.OnceValue(func() error {
		var errs []error
		for _, f := range slices.Backward(closers) {
			errs = append(errs, f())
		}
		return errors.Join(errs...)
	})
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	telemetry, err := tracing.Open(context.Background(), cfg.Telemetry, version, log)
	if err != nil {
		return nil, err
	}
	if telemetry != nil {
		l.trace = telemetry.Tracer()
		closers = append(closers, telemetry.Close)
	}
	if l.llm, err = openLLM(cfg.LLM, log); err != nil {
		return nil, err
	}
	if l.llm != nil {
		closers = append(closers, l.llm.Close)
		ck, err := openCheckpoint(cfg, l.llm)
		if err != nil {
			return nil, err
		}
		if ck != nil {
			l.basis = ck.Basis
		}
	}
	if l.sink, err = ingest.NewSink(cfg.Kafka, log); err != nil {
		return nil, err
	}
	closers = append(closers, l.sink.Close)
	bias, err := newCF(cfg, replay.Bias)
	if err != nil {
		return nil, err
	}
	mc := replay.DefaultMonitor()
	mc.Queue = 1 << 16
	if l.judge, err = replay.NewMonitor(mc, replay.MonitorDeps{Bias: bias}); err != nil {
		return nil, err
	}
	closers = append(closers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return l.judge.Close(ctx)
	})
	if !listen {
		return l, nil
	}
	producer, err := ingest.NewProducer(cfg.Kafka, log)
	if err != nil {
		return nil, err
	}
	closers = append(closers, producer.Close)
	deps := serve.Deps{
		Events: eventSink{producer, ingest.NewDecoder(cfg.Kafka).Strict(), cfg.Kafka.Topics.Interactions},
		Stats:  &l.stats, Status: l.checks, Gauges: l.gauges, Facts: l.facts, AUC: func() map[string]float64 { return aucOf(l.judge) }, Version: version, Log: log,
	}
	if l.trace != nil {
		l.trace.WrapHTTP(&deps)
	}
	l.http, err = serve.New(cfg.HTTP, deps)
	return l, err
}

// run holds the membership, and the shards that come with it, until ctx ends or a shard fails.
func (l *learner) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.judge.Start()
	var wg sync.WaitGroup
	if l.http != nil {
		wg.Go(func() {
			if err := l.http.Run(ctx); err != nil {
				cancel(fmt.Errorf("http: %w", err))
			}
		})
		l.http.SetReady(true)
	}
	err := ingest.JoinMembers(ctx, l.cfg.Kafka, learnerGroup(l.cfg), l.cfg.Kafka.Topics.Gradients, l.owned, func(shards []int32) {
		l.assign(ctx, shards, cancel)
	}, l.log)
	if ctx.Err() != nil {
		err = nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	cancel(nil)
	for _, done := range l.assign(ctx, nil, nil) {
		<-done
	}
	wg.Wait()
	return err
}

// owned are the shards that run here now: what the group should leave here.
func (l *learner) owned() []int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.running))
}

// assign starts and stops shards so that those of the list run. It returns the ones that it told to stop, and does not wait for
// them: a shard's changelog sees to it that it has one owner.
func (l *learner) assign(ctx context.Context, shards []int32, fail context.CancelCauseFunc) (stopping []<-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wanted := map[int32]bool{}
	for _, k := range shards {
		wanted[k] = true
	}
	for k, o := range l.running {
		if !wanted[k] {
			o.stop()
			stopping = append(stopping, o.done)
		}
	}
	for k, b := range l.standbys {
		if wanted[k] || ctx.Err() != nil {
			b.stop()
			stopping = append(stopping, b.done)
		}
	}
	for _, k := range shards {
		if o := l.running[k]; o != nil && !o.stopped() {
			o.poke() // should it have been fenced: it is ours again
			continue
		}
		l.start(ctx, k, l.leaving(k), fail)
	}
	if l.cfg.Cluster.Standby && ctx.Err() == nil {
		for k := range int32(l.cfg.Kafka.Shards) {
			if !wanted[k] && l.standbys[k] == nil {
				l.startStandby(ctx, k, l.leaving(k), fail)
			}
		}
	}
	return stopping
}

// leaving is closed once whoever has the shard's folder now, and was told to stop, has left it. Called under the lock.
func (l *learner) leaving(k int32) <-chan struct{} {
	if o := l.running[k]; o != nil {
		return o.done
	}
	if b := l.standbys[k]; b != nil {
		return b.done
	}
	none := make(chan struct{})
	close(none)
	return none
}

// start runs a shard once its folder is free. Called under the lock.
func (l *learner) start(ctx context.Context, k int32, free <-chan struct{}, fail context.CancelCauseFunc) {
	own, cancel := context.WithCancel(ctx)
	o := &owner{l: l, shard: int(k), ctx: own, stop: cancel, done: make(chan struct{}), again: make(chan struct{}, 1), wake: make(chan struct{}, 1)}
	l.running[k] = o
	l.moves++
	go func() {
		defer func() {
			l.mu.Lock()
			if l.running[k] == o {
				delete(l.running, k)
			}
			l.mu.Unlock()
			close(o.done)
		}()
		<-free
		if err := o.run(); err != nil && own.Err() == nil {
			fail(fmt.Errorf("shard %d: %w", k, err))
		}
	}()
}

// owner runs one shard.
type owner struct {
	l     *learner
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

func (o *owner) poke() {
	select {
	case o.again <- struct{}{}:
	default:
	}
}

func (o *owner) enter(state string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.state = state
	if state != "learning" {
		o.sources, o.store = nil, nil
	}
}

// fencedWait is how long a shard that somebody else has claimed waits for the group's word before it is claimed back: a member
// that was taken for dead hears of it within a session timeout.
const fencedWait = 8 * time.Second

// run owns the shard until its context ends; when another process claims it, it stands back.
func (o *owner) run() error {
	for {
		err := o.own()
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

// own brings the folder up to the changelog, claims the shard, and learns.
func (o *owner) own() (err error) {
	began := time.Now()
	o.enter("restoring")
	cfg, log := o.l.cfg, o.l.log.With().Int("shard", o.shard).Logger()
	changelog, err := ingest.OpenChangelog(cfg.Kafka, o.shard, o.l.member, log)
	if err != nil {
		return err
	}
	defer changelog.Close()
	dir := shardDir(cfg, o.shard)
	restored, err := restore(o.ctx, cfg, changelog, dir, log)
	if err != nil {
		return err
	}
	epoch, _ := changelog.LastSeen()
	st, err := openShard(cfg, o.shard, dir, log)
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
	m, err := cfstream.New(o.l.cfg.CF)
	if err != nil {
		panic(err) // the configuration was validated
	}
	return m
}

func shardDir(cfg Config, shard int) string {
	return filepath.Join(cfg.Data, fmt.Sprintf("shard-%d", shard))
}

// shardStore is a shard's share of the memory: a process may come to own all of them.
func shardStore(cfg Config) store.Config {
	c := cfg.Store
	c.MemoryLimit = max(64<<20, c.MemoryLimit/int64(cfg.Kafka.Shards))
	c.ReserveBytes = max(c.ReserveBytes, c.MemoryLimit)
	c.SyncWrites = false // a transaction is in the changelog first; what a power loss takes from the folder is read again
	return c
}

// restore reads the changelog to its end into the folder and claims the shard there. It returns how many changes it read.
func restore(ctx context.Context, cfg Config, changelog *ingest.Changelog, dir string, log zerolog.Logger) (n int64, err error) {
	cp, err := openCopy(cfg, changelog, dir, log)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, cp.Close()) }()
	for {
		read, err := catchUp(ctx, changelog, cp)
		n += read
		if err != nil {
			return n, err
		}
		next, _, _ := cp.Reach()
		if err := changelog.Claim(ctx, next); !errors.Is(err, corastream.ErrFenced) {
			return n, err
		}
	}
}

// openCopy opens a shard's folder and places the changelog's reader where the folder ends.
func openCopy(cfg Config, changelog *ingest.Changelog, dir string, log zerolog.Logger) (*store.Copy, error) {
	cp, err := store.OpenCopy(dir, shardStore(cfg), log)
	if err != nil {
		return nil, err
	}
	_, epoch, seq := cp.Reach()
	changelog.Seen(epoch, seq)
	return cp, nil
}

// catchUp reads the changelog to its present end.
func catchUp(ctx context.Context, changelog *ingest.Changelog, cp *store.Copy) (n int64, err error) {
	next, _, _ := cp.Reach()
	from := next
	next, err = changelog.Read(ctx, next, func(changes []corastream.Change) error {
		n += int64(len(changes))
		return cp.Apply(ctx, changes, changes[len(changes)-1].Pos.Offset+1)
	})
	if err != nil || next == from {
		return n, err
	}
	cp.Void(changelog.Void())
	return n, cp.Apply(ctx, nil, next)
}

// bind ties the shard to what all processes of the cluster must agree on.
func (o *owner) bind(st *store.Store) error {
	const fix = "give all processes of the cluster one configuration, or name other topics and learn anew"
	err := st.Bind(o.ctx, "cf", o.l.cfg.CF.String(), fix)
	if err == nil {
		err = st.Bind(o.ctx, "shards", fmt.Sprint(o.l.cfg.Kafka.Shards), fix)
	}
	if err == nil && o.l.basis != nil {
		err = st.Bind(o.ctx, "basis", o.l.basis.Digest(), fix)
	}
	if errors.Is(err, corastream.ErrMismatch) {
		return corastream.Usagef(fmt.Sprintf("shard %d", o.shard), "", "%v", err)
	}
	return err
}

// learn runs the pipeline over the shard's part of the log, and sends what the outbox holds.
func (o *owner) learn(st *store.Store, log zerolog.Logger) error {
	ctx, cancel := context.WithCancelCause(o.ctx)
	defer cancel(nil)
	kc := o.l.cfg.Kafka
	kc.Group = ""
	hooks := ingest.Hooks{
		Next: st.Next, Meta: st.Meta, Log: log, Pick: o.pick, Keep: keepForShards,
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
	both := newExchange(firstBuries{sources[0], o.notMine}, sources[1], o.l.cfg.Cluster.ExchangeEvery, kc.Topics.Embeddings)
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		both.collect(ctx)
	}()
	defer func() { cancel(nil); <-collected }()

	model := o.model()
	p := &corastream.Pipeline{
		Config: o.l.cfg.pipeline(), Source: both, Store: &sharded{st, o}, Learner: model, Predictor: model,
		DeadLetters: o.l.sink, Sink: o.l.sink, Monitor: &oneByOne{Monitor: o.l.judge, mu: &o.l.judging}, Warn: func(what string, err error) { log.Warn().Err(err).Msg(what) },
	}
	if o.l.basis != nil {
		p.Encoder, p.Basis = o.l.llm, o.l.basis
	}
	if o.l.trace != nil {
		o.l.trace.WrapPipeline(p)
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

// pick are the partitions that the shard reads: its share of the events, the catalogue, what others learnt of its vectors, and what
// the others made of theirs.
func (o *owner) pick(all []corastream.Partition) (mine []corastream.Partition) {
	t, n := o.l.cfg.Kafka.Topics, o.l.cfg.Kafka.Shards
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

// notMine: every shard reads the catalogue, and the first one buries what is bad in it.
func (o *owner) notMine(l corastream.DeadLetter) bool {
	return l.Pos.Topic == o.l.cfg.Kafka.Topics.Items && o.shard != 0
}

// firstBuries leaves out dead letters that another shard buries.
type firstBuries struct {
	corastream.Source
	notMine func(corastream.DeadLetter) bool
}

// Next implements corastream.Source.
func (f firstBuries) Next(ctx context.Context) (corastream.Batch, error) {
	b, err := f.Source.Next(ctx)
	b.Bad = slices.DeleteFunc(b.Bad, f.notMine)
	return b, err
}

// keepForShards: of the other shards' changelogs a shard wants the items and the shared vector, and the claims, by which it knows what
// of those is void.
func keepForShards(key []byte) bool {
	k := string(key[:min(2, len(key))])
	return k == corastream.ChangeItem || k == corastream.ChangeShared || k == corastream.ChangeClaim
}

// send empties the outbox as it fills.
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

// oneByOne lets several shards share a monitor.
type oneByOne struct {
	corastream.Monitor
	mu *sync.Mutex
}

// Observe implements corastream.Monitor.
func (m *oneByOne) Observe(ev corastream.Event, before corastream.Pair, user *corastream.UserState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Monitor.Observe(ev, before, user)
}

// sharded is the shard's store as the pipeline sees it: it counts what was learnt and wakes the sender.
type sharded struct {
	*store.Store
	o *owner
}

// Commit implements corastream.Store.
func (s *sharded) Commit(ctx context.Context, b corastream.Batch, learn func(corastream.State, corastream.Event) error) (corastream.Commit, error) {
	done, err := s.Store.Commit(ctx, b, learn)
	if err != nil {
		return done, err
	}
	st := &s.o.l.stats
	st.Events.Add(int64(done.Learnt))
	st.Duplicates.Add(int64(done.Duplicates))
	st.DeadLetters.Add(int64(len(b.Bad)))
	select {
	case s.o.wake <- struct{}{}:
	default:
	}
	return done, nil
}

// Join implements corastream.Store.
func (s *sharded) Join(ctx context.Context, items []corastream.Item) error {
	if err := s.Store.Join(ctx, items); err != nil {
		return err
	}
	s.o.l.stats.ItemsRead.Add(int64(len(items)))
	return nil
}

// checks are the conditions of readiness.
func (l *learner) checks() []serve.Check {
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

func (l *learner) gauges() []serve.Gauge {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := []serve.Gauge{
		{Name: "shards_owned", Help: "Shards that this process runs.", Value: float64(len(l.running))},
		{Name: "shards_taken_over", Help: "Shards taken over since the start.", Value: float64(l.moves)},
	}
	for k, b := range l.standbys {
		g = append(g, serve.Gauge{Name: "standby_records", Help: "Records that a standby found new when it last looked; below 0: it has not looked yet.",
			Labels: map[string]string{"shard": fmt.Sprint(k)}, Value: float64(b.read.Load())})
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

func (l *learner) facts() []serve.Fact {
	return []serve.Fact{{Name: "role", Value: fmt.Sprintf("learner %s, %d of %d shards", l.member, len(l.owned()), l.cfg.Kafka.Shards)}, {Name: "cf", Value: l.cfg.CF.String()}}
}

// learnerSummary is the learning role's part of the last line.
type learnerSummary struct {
	Member      string  `json:"member"`
	Events      int64   `json:"events"`
	Duplicates  int64   `json:"duplicates"`
	DeadLetters int64   `json:"dead_letters"`
	TakenOver   int     `json:"shards_taken_over"`
	Seconds     float64 `json:"seconds"`
}

func (l *learner) summary() learnerSummary {
	l.mu.Lock()
	defer l.mu.Unlock()
	return learnerSummary{Member: l.member, Events: l.stats.Events.Load(), Duplicates: l.stats.Duplicates.Load(),
		DeadLetters: l.stats.DeadLetters.Load(), TakenOver: l.moves, Seconds: time.Since(l.began).Seconds()}
}
