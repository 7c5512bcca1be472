package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/rollout"
	"github.com/corastream/corastream/replay"
	"github.com/corastream/corastream/serve"
)

// wire builds the pipeline, the monitor and the HTTP server around the opened stages.
func (e *Node) wire(ctx context.Context) (err error) {
	p := &corastream.Pipeline{
		Config: e.Config.pipeline(), Store: e.Store, Learner: e.CF, Predictor: e.CF, Retriever: e.Catalogue, Ranker: e.Ranker, Audience: e.audience,
		Warn: func(what string, err error) { e.Log.Warn().Err(err).Msg(what) },
	}
	if e.Ranker != nil {
		p.Offered = e.Catalogue.offered
	}
	e.Pipeline = p
	if err := e.restoreClock(); err != nil {
		return err
	}
	if e.Familiarity != nil {
		e.Rollout = e.newRollout()
		e.opened.Add(e.Rollout.Close)
		p.Encoder, p.Basis, p.Generator, p.Scorer, p.Arms = e.LLM, e.Rollout, e.Rollout, e.LLM, e.Rollout
		p.Versions = corastream.Versions{Generator: e.Stage.Version(), LLM: e.LLM.Digest()}
	}
	likes := map[string]int{}
	if err := e.Store.View(ctx, func(s corastream.State) (err error) {
		if e.Ranker != nil {
			if likes, err = likesOf(s, e.CF); err != nil {
				return err
			}
		}
		if e.replica != nil && e.Familiarity != nil {
			e.Catalogue.read = e.Familiarity.Note
		}
		if err := e.Catalogue.fill(s); err != nil {
			return err
		}
		if e.Familiarity != nil && e.replica == nil {
			return e.Familiarity.Fill(s)
		}
		return nil
	}); err != nil {
		return fmt.Errorf("index the catalogue: %w", err)
	}
	bias, err := NewCF(e.Config, replay.Bias)
	if err != nil {
		return err
	}
	mc := replay.DefaultMonitor()
	mc.Queue = 1 << 16
	if e.Monitor, err = replay.NewMonitor(mc, replay.MonitorDeps{
		Bias: bias, Generator: p.Generator, Scorer: p.Scorer, Prompt: e.Catalogue.prompt, Warn: p.Warn,
		Ranker: e.Ranker, NewRanker: e.newRanker, Likes: likes,
	}); err != nil {
		return err
	}
	e.Catalogue.tell(e.Monitor.Describe)
	e.Judged = sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return e.Monitor.Close(ctx)
	})
	e.opened.Add(e.Judged)
	e.crowd = serve.NewCrowd()
	if err := e.seedCrowd(); err != nil {
		return err
	}
	p.Monitor = teeMonitor{e.Monitor, e.crowd}
	if e.Rollout != nil {
		p.Monitor = teeMonitor{e.Monitor, e.crowd, e.Rollout}
		if err := e.Rollout.Begin(ctx); err != nil {
			return err
		}
	}
	if e.HTTP, err = serve.New(e.Config.HTTP, e.httpDeps()); err != nil {
		return err
	}
	p.Sink = teeSink{e.sink, e.HTTP, e.Rollout}
	p.DeadLetters = teeLetters{e.sink, e.HTTP}
	if e.tracer != nil {
		e.tracer.WrapPipeline(p)
	}
	return nil
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
