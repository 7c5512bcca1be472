package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cfstream/mix"
	"github.com/corastream/corastream/cmd/internal/closers"
	"github.com/corastream/corastream/cmd/internal/tracing"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/store"
)

// Deps are the sections of the configuration that the shards of a process share, and the functions that open what they share.
type Deps struct {
	Data     string // the folder in which every shard has one
	Cluster  Config
	Kafka    ingest.Config
	Store    store.Config
	CF       cfstream.Spec
	Mix      mix.Spec
	Pipeline corastream.PipelineConfig
	Member   string // this process's name in logs and changelogs
	Log      zerolog.Logger

	// LLM reads the titles of the items that the shards here own, and Basis makes contents of them. nil: off.
	LLM   *llm.Model
	Basis *generator.Basis
	// Bias is the model that the monitor holds CF against.
	Bias replay.Model
	// Trace puts spans around the stages; nil: no traces.
	Trace *tracing.Tracer
	// Listen makes the HTTP server from the figures of the host; nil: a replica in the same process answers.
	Listen func(serve.Deps) (*serve.Server, error)
}

// ShardHost runs the shards that the consumer group gives this process. Run starts and ends their
// owners, Close ends what they share.
//
// mu guards the maps of owners and standbys. It may be held while an owner's mu is taken, never the
// other way. It must not be held while waiting for a done channel, because an owner takes it in its
// last steps. monitorMu lets the owners share one monitor.
type ShardHost struct {
	d     Deps
	log   zerolog.Logger
	began time.Time

	sink      *ingest.Sink
	http      *serve.Server // nil: a replica in the same process answers
	stats     corastream.Stats
	monitor   *replay.Monitor // of all shards here: what bias and cf knew of an event before it was learnt
	monitorMu sync.Mutex
	strays    strays
	opened    closers.List

	mu       sync.Mutex
	running  map[int32]*owner
	standbys map[int32]*standby
	moves    int // shards taken over since the start
}

// groupOf is the consumer group whose members divide the shards.
func groupOf(kafka ingest.Config) string { return kafka.Group + "-learners" }

// OpenShardHost opens what all shards of a process share. Close ends it again.
func OpenShardHost(d Deps) (l *ShardHost, err error) {
	l = &ShardHost{d: d, log: d.Log, began: time.Now(), running: map[int32]*owner{}, standbys: map[int32]*standby{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
			l = nil
		}
	}()
	if l.sink, err = ingest.NewSink(d.Kafka, d.Log); err != nil {
		return l, err
	}
	l.opened.Add(l.sink.Close)
	mc := replay.DefaultMonitor()
	mc.Queue = 1 << 16
	if l.monitor, err = replay.NewMonitor(mc, replay.MonitorDeps{Bias: d.Bias}); err != nil {
		return l, err
	}
	l.opened.Add(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return l.monitor.Close(ctx)
	})
	if d.Listen != nil {
		l.http, err = d.Listen(serve.Deps{Stats: &l.stats, Status: l.Checks, Gauges: l.Gauges, Facts: l.facts})
	}
	return l, err
}

// Close ends what the shards share, after Run has returned.
func (l *ShardHost) Close() error { return l.opened.Close() }

// Monitor judges bias and CF on every event before a shard here learns it.
func (l *ShardHost) Monitor() *replay.Monitor { return l.monitor }

// Run holds the membership, and the shards that come with it, until ctx ends or a shard fails.
//
// The order at the end matters. JoinMembers leaves the group first, so other processes begin to
// take the shards over while this one still closes. Then all owners are told to stop and waited
// for. A shard that commits once more in between is harmless, since its changelog decides
// (ErrFenced).
func (l *ShardHost) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.monitor.Start()
	var wg sync.WaitGroup
	if l.http != nil {
		wg.Go(func() {
			if err := l.http.Run(ctx); err != nil {
				cancel(fmt.Errorf("http: %w", err))
			}
		})
		l.http.SetReady(true)
	}
	err := ingest.JoinMembers(ctx, l.d.Kafka, groupOf(l.d.Kafka), l.d.Kafka.Topics.Gradients, l.owned, func(shards []int32) {
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

// owned lists the shards that run here now. The group is asked to leave them here.
func (l *ShardHost) owned() []int32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(maps.Keys(l.running))
}

// assign starts and stops shards so that those of the list run. It returns the done channels of the
// shards that it told to stop, and does not wait for them, because the claim in a shard's changelog
// keeps it to one owner.
//
// A shard that stays is only poked: it may have been fenced, and the group's word is the sign to
// claim it back. One that was told to stop and is assigned again gets a new owner, which waits
// until the old one has left the folder. Standbys give way to owners, and take the folders of
// shards that moved elsewhere.
func (l *ShardHost) assign(ctx context.Context, shards []int32, fail context.CancelCauseFunc) (stopping []<-chan struct{}) {
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
			o.poke() // if it was fenced, it is ours again
			continue
		}
		l.start(ctx, k, l.leaving(k), fail)
	}
	if l.d.Cluster.Standby && ctx.Err() == nil {
		for k := range int32(l.d.Kafka.Shards) {
			if !wanted[k] && l.standbys[k] == nil {
				l.startStandby(ctx, k, l.leaving(k), fail)
			}
		}
	}
	return stopping
}

// leaving returns a channel that is closed once the owner or standby that has the shard's folder
// has left it. Badger locks a folder to one opener, and the successor in the same process must wait
// for it rather than fail. Called under the lock.
func (l *ShardHost) leaving(k int32) <-chan struct{} {
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
//
// The goroutine takes its owner out of the map only if it is still the one there, as a successor
// may have taken its place while it was stopping. done is closed after that, so whoever waits for
// done finds the map in order.
func (l *ShardHost) start(ctx context.Context, k int32, free <-chan struct{}, fail context.CancelCauseFunc) {
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
