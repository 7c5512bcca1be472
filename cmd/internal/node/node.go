package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
	"github.com/corastream/corastream/cmd/internal/closers"
	"github.com/corastream/corastream/cmd/internal/cluster"
	"github.com/corastream/corastream/cmd/internal/rollout"
	"github.com/corastream/corastream/cmd/internal/tracing"
	"github.com/corastream/corastream/generator"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/ingest/devbroker"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
	"github.com/corastream/corastream/serve/llm"
	"github.com/corastream/corastream/store"
)

// Node is all stages of one process, wired. Open makes it, Run drives it, Close ends it. Its fields are for the commands that
// watch or steer a running process, such as the demo; nothing outside this package sets them.
type Node struct {
	Config  Config
	Version string // of this program
	Log     zerolog.Logger

	Broker      *devbroker.Broker // nil with a real Kafka
	Store       *store.Store
	CF          cfstream.Model
	Ranker      corastream.Ranker // the list model; nil: the retriever's candidates are ranked by P(like)
	LLM         *llm.Model        // nil: off
	Stage       *generator.Stage
	Familiarity *rollout.Familiarity // nil without a checkpoint
	Rollout     *rollout.Rollout     // nil without a checkpoint
	Catalogue   *Catalogue
	Producer    *ingest.Producer
	Monitor     *replay.Monitor
	HTTP        *serve.Server
	Pipeline    *corastream.Pipeline

	newRanker func() (corastream.Ranker, error) // an empty list model of the same kind, for the monitor's late shadow; nil: none
	sink      *ingest.Sink
	source    *ingest.Source
	replica   *cluster.Replica   // nil but in a cluster's answering process
	shardHost *cluster.ShardHost // the shards that the same process learns, if it does; its page shows both
	crowd     *serve.Crowd
	audience  *corastream.Audience // nil in a cluster: everybody who moved is owed
	telemetry *tracing.Exporter    // nil: no traces
	tracer    *tracing.Tracer      // nil: no traces

	Judged  func() error // ends the monitor once the rows in its queue are judged
	opened  closers.List
	began   time.Time
	reading reading // of the catalogue, for lists
}

// Open opens every stage. What it opened is closed again when a later stage fails.
func Open(ctx context.Context, cfg Config, version string, log zerolog.Logger) (e *Node, err error) {
	e = &Node{Config: cfg, Version: version, Log: log, began: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close())
			e = nil
		}
	}()
	if err = e.openStages(ctx); err != nil {
		return e, err
	}
	e.source, err = ingest.NewSource(ctx, e.Config.Kafka, ingest.Hooks{
		Next: e.Store.Next, Meta: e.Store.Meta, Log: log,
		SetMeta: func(k, v string) error { return e.Store.SetMeta(ctx, k, v) },
	})
	if err != nil {
		return e, err
	}
	e.opened.Add(e.source.Close)
	e.Pipeline.Source = &saying{Source: e.source, kind: e.Config.Kafka.DefaultKind, log: e.Log}
	return e, nil
}

// openStages opens all but what is read.
func (e *Node) openStages(ctx context.Context) (err error) {
	log := e.Log
	if e.telemetry, err = tracing.Open(ctx, e.Version, log); err != nil {
		return err
	}
	if e.telemetry != nil {
		e.tracer = e.telemetry.Tracer()
		e.opened.Add(e.telemetry.Close)
	}
	if e.Broker, err = embed(&e.Config, log); err != nil {
		return err
	}
	if e.Broker != nil {
		e.opened.Add(e.Broker.Close)
	}
	if err = ingest.EnsureTopics(ctx, e.Config.Kafka); err != nil {
		return fmt.Errorf("topics: %w", err)
	}
	if err = e.openState(ctx); err != nil {
		return err
	}
	if err = e.openModels(); err != nil {
		return err
	}
	if e.sink, err = ingest.NewSink(e.Config.Kafka, log); err != nil {
		return err
	}
	e.opened.Add(e.sink.Close)
	if e.Producer, err = ingest.NewProducer(e.Config.Kafka, log); err != nil {
		return err
	}
	e.opened.Add(e.Producer.Close)
	return e.wire(ctx)
}

// Close ends the stages in the reverse order of opening.
func (e *Node) Close() error { return e.opened.Close() }

// openState opens the store and the CF model, and ties one to the other.
func (e *Node) openState(ctx context.Context) (err error) {
	if err = e.openList(ctx); err != nil {
		return err
	}
	if e.CF, err = cfstream.New(e.Config.CF); err != nil {
		return err
	}
	if err := e.Store.Bind(ctx, "cf", e.Config.CF.String(), "set cf in the configuration back, or start with another --data folder"); err != nil {
		return corastream.Usagef(e.Config.Data, "", "%v", err)
	}
	e.Catalogue = &Catalogue{untitled: e.Config.Retriever.Untitled, Retriever: serve.NewRetriever(e.Config.Retriever, e.CF, e.CF.Demand)}
	return nil
}

// openModels opens the LLM and the checkpoint. The store is tied to the checkpoint's basis: contents of two bases must
// not meet in one state.
func (e *Node) openModels() (err error) {
	if e.LLM, err = OpenLLM(e.Config.LLM, e.Log); err != nil || e.LLM == nil {
		return err
	}
	e.opened.Add(e.LLM.Close)
	ck, err := OpenCheckpoint(e.Config, e.LLM)
	if err != nil || ck == nil {
		return err
	}
	if err := e.Store.Bind(context.Background(), "basis", ck.Basis.Digest(), "use the checkpoint this store was made with, or another --data folder"); err != nil {
		return corastream.Usagef(e.Config.Checkpoint, "", "%v", err)
	}
	if e.Stage, err = NewStage(ck, e.Config.Generator, e.LLM, e.Log); err != nil {
		return err
	}
	e.Familiarity = rollout.NewFamiliarity(e.Stage)
	return nil
}

// crowdUsers is how many stored users are read for who took what, so that a large folder opens as quickly as before.
const crowdUsers = 200_000

func (e *Node) seedCrowd() error {
	n := 0
	for u, err := range e.Store.Users() {
		if err != nil {
			return fmt.Errorf("read who took what: %w", err)
		}
		e.crowd.Seed(u)
		if n++; n == crowdUsers {
			break
		}
	}
	return nil
}

// Run drives the pipeline and the HTTP server until the source ends or ctx is cancelled. after, when not nil, runs
// beside them; when it returns, all ends.
func (e *Node) Run(ctx context.Context, after func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := e.HTTP.Run(ctx); err != nil {
			cancel(fmt.Errorf("http: %w", err))
		}
	}()
	e.HTTP.SetReady(true)
	if e.Ranker != nil {
		wg.Go(func() { e.keepClock(ctx) })
		wg.Go(func() { e.codeCatalogue(ctx) })
		wg.Go(func() { e.watchLists(ctx) })
	}
	if after != nil {
		wg.Go(func() {
			if err := after(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			} else {
				cancel(nil)
			}
		})
	}
	err := e.Pipeline.Run(ctx)
	if err == nil && after == nil {
		cancel(nil)
	} else if err != nil {
		cancel(err)
	}
	wg.Wait()
	cancel(nil)
	<-served
	if err == nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause
		}
	}
	return err
}
