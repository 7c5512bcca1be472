package corastream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Pipeline joins the stages. Two rhythms share it: Learn runs at the log's pace and never waits for
// the LLM; Recommend runs at the LLM's pace over a coalesced set of moved users. Ranker, Generator,
// Scorer, Encoder, Basis, Monitor and Tracer may be nil. A Ranker gives every list and its order,
// and Retriever is then only told what moved.
//
// The stages share no memory but the Store. They wake each other through channels of one token: a
// token says "look again", so a second one would add nothing, and a wake that comes while the other
// stage works is not lost.
type Pipeline struct {
	Config      PipelineConfig
	Source      Source
	Store       Store
	Learner     Learner
	Predictor   Predictor
	Retriever   Retriever
	Ranker      Ranker
	Encoder     Encoder
	Basis       Basis
	Generator   Generator
	Scorer      Scorer
	Sink        Sink
	DeadLetters DeadLetters
	Monitor     Monitor
	Tracer      Tracer
	Arms        Arms      // nil: Generator answers everybody
	Audience    *Audience // who is owed a recommendation; nil: everybody who moved
	Versions    Versions  // of the generator and the LLM in use, where Arms is nil
	Stats       Stats
	Behind      func() *Behind // of a replica: goes into every answer; nil elsewhere
	Warn        func(what string, err error)
	Now         func() time.Time
	Clock       LogClock                 // what lists are asked for at
	Hurry       func()                   // ends the Source's pause before a batch, for Learnt; nil: nothing
	Offered     func(it *ItemState) bool // which items a Ranker's list may hold, beside what filters say; nil: all

	once    sync.Once
	debts   chan struct{} // somebody is owed a recommendation
	unread  chan struct{} // an item waits to be read
	applied progress      // what Learnt waits for
	backlog atomic.Bool   // more items wait than one reading takes: the LLM is busy for a while
}

// Run drives the stages until the source ends and every debt is paid, or ctx is cancelled; both
// return nil. The first stage that fails cancels the others with its error as the cause, and Run
// waits for all three.
//
// The source's end closes learnt. The other two stages then go on until they find nothing to do: a
// replay's last answers are made before Run returns.
func (p *Pipeline) Run(ctx context.Context) error {
	p.init()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	learnt := make(chan struct{})
	var wg sync.WaitGroup
	stage := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				fail(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	stage("learn", func(ctx context.Context) error { defer close(learnt); return p.learn(ctx) })
	stage("read catalogue", func(ctx context.Context) error { return p.readCatalogue(ctx, learnt) })
	stage("recommend", func(ctx context.Context) error { return p.recommend(ctx, learnt) })
	wg.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// learn: log -> dead letters, then one transaction per micro-batch -> debts. No LLM is ever called
// from here. Committed comes after the transaction, and tells the source what it may report to the
// group; the offsets that count are in the transaction.
func (p *Pipeline) learn(ctx context.Context) error {
	for {
		batch, err := p.Source.Next(ctx)
		if errors.Is(err, ErrEnd) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := p.LearnBatch(ctx, batch); err != nil {
			return err
		}
		p.Source.Committed(batch.Spans)
	}
}

// LearnBatch applies one batch. Bad records are buried first, so that the offset never passes one
// that is not buried. A kill in between buries them twice, which a reader of the dead letters can
// tell by their position.
//
// The learn function runs inside the store's transaction, for each event that is new. The monitor
// sees the pair before the model learns it, because a score that has seen its label is worth
// nothing.
//
// Learnt waiters (applied) and the other stages are told last: whoever is woken finds the
// transaction in place.
func (p *Pipeline) LearnBatch(ctx context.Context, b Batch) (err error) {
	p.init()
	var done Commit
	ctx, end := p.Tracer.Learn(ctx, b)
	defer func() { end(done, err) }()
	if len(b.Bad) > 0 {
		if err := p.DeadLetters.Bury(ctx, b.Bad); err != nil {
			return fmt.Errorf("bury %d dead letters: %w", len(b.Bad), err)
		}
		p.Stats.DeadLetters.Add(int64(len(b.Bad)))
	}
	done, err = p.Store.Commit(ctx, b, func(s State, ev Event) error {
		if p.Monitor != nil {
			before, err := PairOf(s, p.Predictor, ev.User, ev.Item)
			if err != nil {
				return err
			}
			u, err := s.User(ev.User)
			if err != nil {
				return err
			}
			p.Monitor.Observe(ev, before, u)
		}
		return p.Learner.Learn(s, ev)
	})
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	p.Clock.set(b.Events, p.Now())
	p.Stats.Events.Add(int64(done.Learnt))
	p.Stats.Duplicates.Add(int64(done.Duplicates))
	if err := p.moved(ctx, done.Items); err != nil {
		return err
	}
	p.applied.reach(b.Spans)
	for _, r := range done.Reached {
		p.applied.reach([]Span{r.Span})
	}
	wake(p.debts)
	wake(p.unread)
	return nil
}

// readCatalogue: new items -> frozen LLM -> content vectors, joined as item data in their own
// transaction. An item's clicks are learnt meanwhile, without its content. A kill between Encode
// and Join reads the items again, from the LLM's cache on the disk.
func (p *Pipeline) readCatalogue(ctx context.Context, learnt <-chan struct{}) error {
	if p.Encoder == nil || p.Basis == nil {
		return nil
	}
	return p.rounds(ctx, p.unread, learnt, func() (int, error) {
		items, err := p.Store.Unread(p.Config.ReadBatch)
		p.backlog.Store(err == nil && len(items) == p.Config.ReadBatch)
		if err != nil || len(items) == 0 {
			return 0, err
		}
		states, err := p.Encoder.Encode(ctx, items)
		if err != nil {
			return 0, err
		}
		ids := make([]string, len(items))
		for i := range items {
			if items[i].Content, err = p.Basis.Content(states[i]); err != nil {
				return 0, fmt.Errorf("item %q: %w", items[i].ID, err)
			}
			ids[i] = items[i].ID
		}
		if err := p.Store.Join(ctx, items); err != nil {
			return 0, err
		}
		p.Stats.ItemsRead.Add(int64(len(items)))
		return len(items), p.moved(ctx, ids)
	})
}

// recommend: debts -> recommendations -> topic -> settled. A debt is settled only after the broker
// has the answer. A kill in between answers it again under the same id, since the id is a hash of
// the user, the cause and the versions.
func (p *Pipeline) recommend(ctx context.Context, learnt <-chan struct{}) error {
	return p.rounds(ctx, p.debts, learnt, func() (int, error) {
		owed, err := p.Store.Owed(p.Config.RecommendBatch)
		if err != nil || len(owed) == 0 {
			return 0, err
		}
		if err := p.pay(ctx, p.wanted(owed)); err != nil {
			return 0, err
		}
		return len(owed), p.Store.Settle(ctx, owed)
	})
}

// pay answers debts and publishes the answers. wanted has left out users to whom no answer is due
// (Audience); their debts are settled all the same.
func (p *Pipeline) pay(ctx context.Context, owed []Owed) error {
	if len(owed) == 0 {
		return nil
	}
	recs, err := p.Recommend(ctx, owed)
	if err != nil {
		return err
	}
	if err := p.Sink.Publish(ctx, recs); err != nil {
		return err
	}
	p.Stats.published(recs, p.Now())
	return nil
}

// Recommend makes one recommendation for each debt. The Ranker gives the list; for its items W_A is
// made from the embeddings as they stand, and the frozen LLM scores with those weights how likely a
// like is. Without a Ranker the Retriever finds candidates and that score ranks them. Without
// weights or LLM, or when they fail, the CF score stands in, and the answer says so.
//
// All that is read of the state is read in one View, so the users of a batch, their candidates and
// the items' contents belong to one transaction. The LLM runs after the View: a pass of seconds
// must not keep an old snapshot, and the disk space under it, alive.
func (p *Pipeline) Recommend(ctx context.Context, owed []Owed) (recs []Recommendation, err error) {
	p.init()
	ctx, end := p.Tracer.Recommend(ctx, owed)
	defer func() { end(recs, err) }()
	slates := make([]slate, len(owed))
	if err := p.Store.View(ctx, func(s State) error {
		for i, o := range owed {
			if o.Request != nil {
				p.Audience.Ask(o.User)
			}
			var err error
			if slates[i], err = p.slate(s, o); err != nil {
				return fmt.Errorf("candidates of %q: %w", o.User, err)
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := p.scoreSlates(ctx, slates); err != nil {
		return nil, err
	}
	recs = make([]Recommendation, len(owed))
	for i, s := range slates {
		recs[i] = p.answer(owed[i], s)
	}
	return recs, nil
}
