package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream"
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

// engine is all stages of one process, wired. open makes it, run drives it, close ends it.
type engine struct {
	cfg Config
	log zerolog.Logger

	broker    *devbroker.Broker // nil with a real Kafka
	store     *store.Store
	cf        cfstream.Model
	ranker    corastream.Ranker                 // the list model; nil: the retriever's candidates are ranked by P(like)
	newRanker func() (corastream.Ranker, error) // an empty list model of the same kind, for the monitor's late shadow; nil: none
	llm       *llm.Model                        // nil: off
	stage     *generator.Stage
	gate      *rollout.Familiarity // nil without a checkpoint
	rollout   *rollout.Rollout     // nil without a checkpoint
	catalogue *catalogue
	sink      *ingest.Sink
	producer  *ingest.Producer
	source    *ingest.Source
	replica   *cluster.Replica   // nil but in a cluster's answering process
	learner   *cluster.ShardHost // what the same process learns, if it does; its page shows both
	monitor   *replay.Monitor
	crowd     *serve.Crowd
	http      *serve.Server
	telemetry *tracing.Exporter // nil: no traces
	tracer    *tracing.Tracer   // the same
	pipeline  *corastream.Pipeline

	judged  func() error // ends the monitor once the rows in its queue are judged
	closers []func() error
	began   time.Time
}

// embed starts the embedded broker where the configuration names no brokers.
func embed(cfg *Config, log zerolog.Logger) (*devbroker.Broker, error) {
	if len(cfg.Kafka.Brokers) > 0 {
		return nil, nil
	}
	_, port, err := net.SplitHostPort(cfg.Broker.Listen)
	if err != nil {
		return nil, corastream.Usagef("broker.listen", "write 127.0.0.1:PORT", "%v", err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, corastream.Usagef("broker.listen", "write 127.0.0.1:PORT", "%q is not a port", port)
	}
	b, err := devbroker.Start(devbroker.Options{
		Dir: filepath.Join(cfg.Data, "broker"), Port: n, SyncWrites: cfg.Broker.SyncWrites, Partitions: cfg.Kafka.Create.Partitions,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded broker: %w", err)
	}
	cfg.Kafka.Brokers = []string{b.Addr()}
	cfg.Kafka.Group = "" // one process owns the folder; a killed member would hold its partitions for seconds
	log.Info().Str("address", b.Addr()).Msg("embedded broker")
	return b, nil
}

// openEngine opens every stage. What it opened is closed again when a later stage fails.
func openEngine(ctx context.Context, cfg Config, log zerolog.Logger) (e *engine, err error) {
	e = &engine{cfg: cfg, log: log, began: time.Now()}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close())
			e = nil
		}
	}()
	if err = e.openStages(ctx); err != nil {
		return e, err
	}
	e.source, err = ingest.NewSource(ctx, e.cfg.Kafka, ingest.Hooks{
		Next: e.store.Next, Meta: e.store.Meta, Log: log,
		SetMeta: func(k, v string) error { return e.store.SetMeta(ctx, k, v) },
	})
	if err != nil {
		return e, err
	}
	e.onClose(e.source.Close)
	e.pipeline.Source = &saying{Source: e.source, kind: e.cfg.Kafka.DefaultKind, log: e.log}
	return e, nil
}

// openStages opens all but what is read.
func (e *engine) openStages(ctx context.Context) (err error) {
	log := e.log
	if e.telemetry, err = tracing.Open(ctx, e.cfg.Telemetry, version, log); err != nil {
		return err
	}
	if e.telemetry != nil {
		e.tracer = e.telemetry.Tracer()
		e.onClose(e.telemetry.Close)
	}
	if e.broker, err = embed(&e.cfg, log); err != nil {
		return err
	}
	if e.broker != nil {
		e.onClose(e.broker.Close)
	}
	if err = ingest.EnsureTopics(ctx, e.cfg.Kafka); err != nil {
		return fmt.Errorf("topics: %w", err)
	}
	if err = e.openState(ctx); err != nil {
		return err
	}
	if err = e.openModels(); err != nil {
		return err
	}
	if e.sink, err = ingest.NewSink(e.cfg.Kafka, log); err != nil {
		return err
	}
	e.onClose(e.sink.Close)
	if e.producer, err = ingest.NewProducer(e.cfg.Kafka, log); err != nil {
		return err
	}
	e.onClose(e.producer.Close)
	return e.wire(ctx)
}

func (e *engine) onClose(f func() error) { e.closers = append(e.closers, f) }

// close ends the stages in the reverse order of opening.
func (e *engine) close() error {
	var errs []error
	for i := len(e.closers) - 1; i >= 0; i-- {
		errs = append(errs, e.closers[i]())
	}
	e.closers = nil
	return errors.Join(errs...)
}

// openState opens the store and the CF model, and ties one to the other.
func (e *engine) openState(ctx context.Context) (err error) {
	if err = e.openList(ctx); err != nil {
		return err
	}
	if e.cf, err = cfstream.New(e.cfg.CF); err != nil {
		return err
	}
	if err := e.store.Bind(ctx, "cf", e.cfg.CF.String(), "set cf in the configuration back, or start with another --data folder"); err != nil {
		return corastream.Usagef(e.cfg.Data, "", "%v", err)
	}
	e.catalogue = &catalogue{untitled: e.cfg.Retriever.Untitled, Retriever: serve.NewRetriever(e.cfg.Retriever, e.cf, e.cf.Demand)}
	return nil
}

// openModels opens the LLM and the checkpoint. The store is tied to the checkpoint's basis: contents of two bases must
// not meet in one state.
func (e *engine) openModels() (err error) {
	if e.llm, err = openLLM(e.cfg.LLM, e.log); err != nil || e.llm == nil {
		return err
	}
	e.onClose(e.llm.Close)
	ck, err := openCheckpoint(e.cfg, e.llm)
	if err != nil || ck == nil {
		return err
	}
	if err := e.store.Bind(context.Background(), "basis", ck.Basis.Digest(), "use the checkpoint this store was made with, or another --data folder"); err != nil {
		return corastream.Usagef(e.cfg.Checkpoint, "", "%v", err)
	}
	if e.stage, err = newStage(ck, e.cfg.Generator, e.llm, e.log); err != nil {
		return err
	}
	e.gate = rollout.NewFamiliarity(e.stage)
	return nil
}

// wire builds the pipeline, the monitor and the HTTP server around the opened stages.
func (e *engine) wire(ctx context.Context) (err error) {
	p := &corastream.Pipeline{
		Config: e.cfg.pipeline(), Store: e.store, Learner: e.cf, Predictor: e.cf, Retriever: e.catalogue, Ranker: e.ranker,
		Warn: func(what string, err error) { e.log.Warn().Err(err).Msg(what) },
	}
	if e.ranker != nil {
		p.Offered = e.catalogue.offered
	}
	e.pipeline = p
	if err := e.restoreClock(); err != nil {
		return err
	}
	if e.gate != nil {
		e.rollout = e.newRollout()
		e.onClose(e.rollout.Close)
		p.Encoder, p.Basis, p.Generator, p.Scorer, p.Arms = e.llm, e.rollout, e.rollout, e.llm, e.rollout
		p.Versions = corastream.Versions{Generator: e.stage.Version(), LLM: e.llm.Digest()}
	}
	likes := map[string]int{}
	if err := e.store.View(ctx, func(s corastream.State) (err error) {
		if e.ranker != nil {
			if likes, err = likesOf(s, e.cf); err != nil {
				return err
			}
		}
		if e.replica != nil && e.gate != nil {
			e.catalogue.read = e.gate.Note
		}
		if err := e.catalogue.fill(s); err != nil {
			return err
		}
		if e.gate != nil && e.replica == nil {
			return e.gate.Fill(s)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("index the catalogue: %w", err)
	}
	bias, err := newCF(e.cfg, replay.Bias)
	if err != nil {
		return err
	}
	mc := replay.DefaultMonitor()
	mc.Queue = 1 << 16
	if e.monitor, err = replay.NewMonitor(mc, replay.MonitorDeps{
		Bias: bias, Generator: p.Generator, Scorer: p.Scorer, Prompt: e.catalogue.prompt, Warn: p.Warn,
		Ranker: e.ranker, NewRanker: e.newRanker, Likes: likes,
	}); err != nil {
		return err
	}
	e.catalogue.tell(e.monitor.Describe)
	e.judged = sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return e.monitor.Close(ctx)
	})
	e.onClose(e.judged)
	e.crowd = serve.NewCrowd()
	if err := e.seedCrowd(); err != nil {
		return err
	}
	p.Monitor = teeMonitor{e.monitor, e.crowd}
	if e.rollout != nil {
		p.Monitor = teeMonitor{e.monitor, e.crowd, e.rollout}
		if err := e.rollout.Begin(ctx); err != nil {
			return err
		}
	}
	if e.http, err = serve.New(e.cfg.HTTP, e.httpDeps()); err != nil {
		return err
	}
	p.Sink = teeSink{e.sink, e.http, e.rollout}
	p.DeadLetters = teeLetters{e.sink, e.http}
	if e.tracer != nil {
		e.tracer.WrapPipeline(p)
	}
	return nil
}

// crowdUsers is how many stored users are read for who took what, so that a large folder opens as quickly as before.
const crowdUsers = 200_000

func (e *engine) seedCrowd() error {
	n := 0
	for u, err := range e.store.Users() {
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

// run drives the pipeline and the HTTP server until the source ends or ctx is cancelled. after, when not nil, runs
// beside them; when it returns, all ends.
func (e *engine) run(ctx context.Context, after func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := e.http.Run(ctx); err != nil {
			cancel(fmt.Errorf("http: %w", err))
		}
	}()
	e.http.SetReady(true)
	if e.ranker != nil {
		wg.Go(func() { e.keepClock(ctx) })
		wg.Go(func() { e.codeCatalogue(ctx) })
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
	err := e.pipeline.Run(ctx)
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

// catalogue is the retriever, with the prompt of every titled item at hand for the monitor.
type catalogue struct {
	*serve.Retriever
	prompts sync.Map        // item id -> corastream.Prompt
	read    func([]float32) // of a replica: told the content of each item once; others read it themselves
	known   sync.Map        // item ids of which it was told

	untitled bool        // items without a title are listed
	titled   atomic.Bool // some item has one

	describe func(corastream.Item) // the monitor's late list model: told each record once, and again when it changes; may be nil
}

// Moved implements corastream.Retriever.
func (c *catalogue) Moved(s corastream.State, items []string) error {
	for _, id := range items {
		it, err := s.Item(id)
		if err != nil {
			return err
		}
		c.note(it)
	}
	return c.Retriever.Moved(s, items)
}

func (c *catalogue) note(it *corastream.ItemState) {
	if c.read != nil && it.Content != nil {
		if _, told := c.known.LoadOrStore(it.Item.ID, true); !told {
			c.read(it.Content)
		}
	}
	if it.Title == "" {
		c.prompts.Delete(it.Item.ID)
		return
	}
	c.titled.Store(true)
	was, _ := c.prompts.Swap(it.Item.ID, corastream.Prompt{ItemID: it.Item.ID, Title: it.Title, Fields: it.Fields})
	if p, ok := was.(corastream.Prompt); c.describe != nil && !(ok && p.Title == it.Title && maps.Equal(p.Fields, it.Fields)) {
		c.describe(corastream.Item{ID: it.Item.ID, Title: it.Title, Fields: it.Fields, Withdrawn: it.Withdrawn})
	}
}

// offered says whether a list may hold the item: one of which nothing but clicks is known is listed only where no item has a
// title, as in a log that came without a catalogue.
func (c *catalogue) offered(it *corastream.ItemState) bool {
	return c.untitled || it.Title != "" || it.Content != nil || !c.titled.Load()
}

// tell has every record described from now on, and those that are known at once.
func (c *catalogue) tell(describe func(corastream.Item)) {
	c.describe = describe
	c.prompts.Range(func(_, v any) bool {
		p := v.(corastream.Prompt)
		describe(corastream.Item{ID: p.ItemID, Title: p.Title, Fields: p.Fields})
		return true
	})
}

// likesOf counts each item's likes as the state has them: the steps learnt of it times the probability of a like.
func likesOf(s corastream.State, p corastream.Predictor) (map[string]int, error) {
	shared, err := s.Shared()
	if err != nil {
		return nil, err
	}
	out := make(map[string]int, s.Items())
	for i := range s.Items() {
		it, err := s.ItemAt(uint32(i))
		if err != nil {
			return nil, err
		}
		e, err := p.ItemVector(s, it)
		if err != nil {
			return nil, err
		}
		if n := int(math.Round(float64(it.Count) / (1 + math.Exp(-float64(shared.Bias)-float64(e.Bias))))); n > 0 {
			out[it.Item.ID] = n
		}
	}
	return out, nil
}

func (c *catalogue) fill(s corastream.State) error {
	for i := range s.Items() {
		it, err := s.ItemAt(uint32(i))
		if err != nil {
			return err
		}
		c.note(it)
	}
	return c.Rebuild(s)
}

func (c *catalogue) prompt(item string) (corastream.Prompt, bool) {
	p, ok := c.prompts.Load(item)
	if !ok {
		return corastream.Prompt{}, false
	}
	return p.(corastream.Prompt), true
}

// teeSink shows on the dashboard what was published; the broker decides whether it was.
type teeSink struct {
	corastream.Sink
	page    *serve.Server
	rollout *rollout.Rollout
}

// Publish implements corastream.Sink.
func (t teeSink) Publish(ctx context.Context, recs []corastream.Recommendation) error {
	if err := t.Sink.Publish(ctx, recs); err != nil {
		return err
	}
	if t.rollout != nil {
		t.rollout.Published(recs)
	}
	return t.page.Publish(ctx, recs)
}

// teeMonitor shows each event to all.
type teeMonitor []corastream.Monitor

// Observe implements corastream.Monitor.
func (t teeMonitor) Observe(ev corastream.Event, before corastream.Pair, user *corastream.UserState) {
	for _, m := range t {
		m.Observe(ev, before, user)
	}
}

type teeLetters struct {
	corastream.DeadLetters
	page *serve.Server
}

// Bury implements corastream.DeadLetters.
func (t teeLetters) Bury(ctx context.Context, letters []corastream.DeadLetter) error {
	if err := t.DeadLetters.Bury(ctx, letters); err != nil {
		return err
	}
	return t.page.Bury(ctx, letters)
}
