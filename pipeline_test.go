package corastream_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// The stages below do as little as a stage can; they stand where a test needs one that fails, waits or answers NaN. What
// the real ones do together is tested with the program, in cmd/corastream.

// log is a source of ready batches.
type log struct {
	batches []corastream.Batch
	err     error // after the last batch; nil is the end
	used    chan struct{}
	applied []corastream.Span
}

func (l *log) Committed(spans []corastream.Span) { l.applied = append(l.applied, spans...) }

func (l *log) Next(ctx context.Context) (corastream.Batch, error) {
	if len(l.batches) == 0 {
		if l.used != nil {
			close(l.used)
			l.used = nil
		}
		if l.err != nil {
			return corastream.Batch{}, l.err
		}
		return corastream.Batch{}, corastream.ErrEnd
	}
	b := l.batches[0]
	l.batches = l.batches[1:]
	return b, nil
}

// books is a store in memory. Its lock is a channel, so that a test that hangs shows where.
type books struct {
	turn      chan struct{}
	state     *corastream.Memory
	owed      []corastream.Owed
	unread    []corastream.Item
	commits   int
	joined    []string
	commitErr error
}

func newBooks() *books {
	b := &books{turn: make(chan struct{}, 1), state: corastream.NewMemory()}
	b.turn <- struct{}{}
	return b
}

func (b *books) take() func() { <-b.turn; return func() { b.turn <- struct{}{} } }

func (b *books) Commit(_ context.Context, batch corastream.Batch, learn func(corastream.State, corastream.Event) error) (corastream.Commit, error) {
	defer b.take()()
	if b.commitErr != nil {
		return corastream.Commit{}, b.commitErr
	}
	b.commits++
	done := corastream.Commit{Seq: uint64(b.commits)}
	for _, it := range batch.Items {
		b.state.Put(it)
		b.unread = append(b.unread, it)
		done.Items = append(done.Items, it.ID)
	}
	for _, ev := range batch.Events {
		if err := learn(b.state, ev); err != nil {
			return done, err
		}
		u, _ := b.state.User(ev.User)
		u.Remember(ev, 0)
		b.owed = slices.DeleteFunc(b.owed, func(o corastream.Owed) bool { return o.User == ev.User && o.Request == nil })
		b.owed = append(b.owed, corastream.Owed{User: ev.User, Cause: ev.Pos, Oldest: ev.Appended, Seq: done.Seq})
		done.Learnt++
		done.Items = append(done.Items, ev.Item)
	}
	for i := range batch.Requests {
		r := &batch.Requests[i]
		b.owed = append(b.owed, corastream.Owed{User: r.User, Cause: r.Pos, Request: r})
	}
	return done, nil
}

func (b *books) Join(_ context.Context, items []corastream.Item) error {
	defer b.take()()
	for _, it := range items {
		b.joined = append(b.joined, it.ID)
		s, _ := b.state.Item(it.ID)
		s.Content = it.Content
	}
	b.unread = b.unread[len(items):]
	return nil
}

func (b *books) View(_ context.Context, read func(corastream.State) error) error {
	defer b.take()()
	return read(b.state)
}

func (b *books) Unread(n int) ([]corastream.Item, error) {
	defer b.take()()
	return slices.Clone(b.unread[:min(n, len(b.unread))]), nil
}

func (b *books) Owed(n int) ([]corastream.Owed, error) {
	defer b.take()()
	return slices.Clone(b.owed[:min(n, len(b.owed))]), nil
}

func (b *books) Settle(_ context.Context, paid []corastream.Owed) error {
	defer b.take()()
	b.owed = slices.DeleteFunc(b.owed, func(o corastream.Owed) bool {
		return slices.ContainsFunc(paid, func(p corastream.Owed) bool { return p.User == o.User && p.Request == o.Request && o.Seq <= p.Seq })
	})
	return nil
}

// counting is the simplest CF: a bias that grows with each positive.
type counting struct{}

func (counting) Learn(s corastream.State, ev corastream.Event) error {
	u, _ := s.User(ev.User)
	it, _ := s.Item(ev.Item)
	it.Bias += ev.Label
	it.Version++
	u.Version++
	return nil
}

func (counting) UserVector(_ corastream.State, u *corastream.UserState) (corastream.Embedding, error) {
	return u.Embedding, nil
}

func (counting) ItemVector(_ corastream.State, it *corastream.ItemState) (corastream.Embedding, error) {
	return it.Embedding, nil
}

// shelf retrieves all its items in their order.
type shelf []string

func (shelf) Moved(corastream.State, []string) error { return nil }

func (s shelf) Candidates(q corastream.Query) ([]corastream.Candidate, error) {
	return s.first(q, corastream.SourceTaste), nil
}

func (s shelf) first(q corastream.Query, source string) (out []corastream.Candidate) {
	for i, id := range s {
		if len(out) < q.N && (q.Skip == nil || !q.Skip(id)) {
			out = append(out, corastream.Candidate{Item: id, Score: -float32(i), Source: source})
		}
	}
	return out
}

// post is a sink and keeps what it was given.
type post struct {
	recs    []corastream.Recommendation
	letters []corastream.DeadLetter
	err     error
	buryErr error
}

func (p *post) Publish(_ context.Context, recs []corastream.Recommendation) error {
	if p.err != nil {
		return p.err
	}
	p.recs = append(p.recs, recs...)
	return nil
}

func (p *post) Bury(_ context.Context, letters []corastream.DeadLetter) error {
	if p.buryErr != nil {
		return p.buryErr
	}
	p.letters = append(p.letters, letters...)
	return nil
}

// model is generator and scorer by functions.
type model struct {
	weights func() error
	score   func(prompts []corastream.Prompt) ([]corastream.Logits, error)
}

func (m model) Weights(_ context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	if m.weights != nil {
		if err := m.weights(); err != nil {
			return nil, nil, err
		}
	}
	return make([]corastream.Weights, len(pairs)), &corastream.Projection{Rank: 1}, nil
}

func (m model) Score(_ context.Context, prompts []corastream.Prompt, _ []corastream.Weights, _ *corastream.Projection) ([]corastream.Logits, error) {
	return m.score(prompts)
}

// byID scores items by their last letter: the later, the better.
func byID(prompts []corastream.Prompt) (out []corastream.Logits, _ error) {
	for _, p := range prompts {
		out = append(out, corastream.Logits{Yes: float32(p.ItemID[len(p.ItemID)-1] - 'a')})
	}
	return out, nil
}

func newPipeline(batches ...corastream.Batch) (*corastream.Pipeline, *books, *post) {
	b, p := newBooks(), &post{}
	return &corastream.Pipeline{
		Config: corastream.DefaultPipelineConfig(), Source: &log{batches: batches}, Store: b, Learner: counting{}, Predictor: counting{},
		Retriever: shelf{"a", "b", "c", "d"}, Sink: p, DeadLetters: p,
	}, b, p
}

func click(offset int64, user, item string) corastream.Event {
	return corastream.Event{
		Pos: corastream.Position{Topic: "t", Offset: offset}, User: user, Item: item, Label: 1, Weight: 1, Appended: time.Unix(100+offset, 0),
	}
}

func events(evs ...corastream.Event) corastream.Batch { return corastream.Batch{Events: evs} }

func TestNothingIsCommittedBeforeItsBadRecordsAreBuried(t *testing.T) {
	bad := events(click(1, "u", "a"))
	bad.Spans = []corastream.Span{{Partition: corastream.Partition{Topic: "t"}, From: 1, To: 3}}
	bad.Bad = []corastream.DeadLetter{{Reason: "json"}}
	p, store, sink := newPipeline(bad)
	sink.buryErr = errors.New("no broker")
	if err := p.Run(t.Context()); !errors.Is(err, sink.buryErr) || !strings.Contains(err.Error(), "dead letters") {
		t.Errorf("Run: %v", err)
	}
	if store.commits != 0 || p.Source.(*log).applied != nil {
		t.Error("the offset went past a record that nobody has")
	}
	p, store, sink = newPipeline(bad)
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.Source.(*log).applied; !slices.Equal(got, bad.Spans) {
		t.Errorf("the source heard of %v", got)
	}
	if store.commits != 1 || len(sink.letters) != 1 || p.Stats.DeadLetters.Load() != 1 {
		t.Errorf("%d commits, %d letters", store.commits, len(sink.letters))
	}
}

func TestDebtStaysUntilTheBrokerHasTheAnswer(t *testing.T) {
	p, store, sink := newPipeline(events(click(1, "u", "a"), click(2, "v", "b")))
	sink.err = errors.New("no broker")
	if err := p.Run(t.Context()); !errors.Is(err, sink.err) {
		t.Errorf("Run: %v", err)
	}
	if len(store.owed) != 2 || p.Stats.Recommendations.Load() != 0 {
		t.Fatalf("%d debts are left, 2 answers were never taken", len(store.owed))
	}
	// The next start has no new events, and pays.
	again, _, _ := newPipeline()
	again.Store = store
	good := &post{}
	again.Sink = good
	if err := again.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(store.owed) != 0 || len(good.recs) != 2 {
		t.Errorf("%d debts are left after %d answers", len(store.owed), len(good.recs))
	}
}

func TestSlowLLMNeverHoldsTheLogBack(t *testing.T) {
	var batches []corastream.Batch
	for i := range int64(50) {
		batches = append(batches, events(click(i, fmt.Sprint("u", i%3), "a")))
	}
	p, _, sink := newPipeline(batches...)
	used := make(chan struct{})
	p.Source.(*log).used = used
	p.Generator = model{}
	p.Scorer = model{score: func(prompts []corastream.Prompt) ([]corastream.Logits, error) {
		select {
		case <-used: // an LLM that answers only when the whole log is learnt
		case <-time.After(time.Minute):
			return nil, errors.New("the log waits for the LLM")
		}
		return byID(prompts)
	}}
	p.Warn = func(_ string, err error) { t.Error(err) }
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.Stats.Events.Load() != 50 {
		t.Errorf("%d events learnt", p.Stats.Events.Load())
	}
	if n := len(sink.recs); n > 6 {
		t.Errorf("%d recommendations for 3 users: clicks that came while the LLM worked cost one each, not one a click", n)
	}
}

func TestUnusableScoresAreNeverPublished(t *testing.T) {
	broken := errors.New("broken")
	nan := float32(math.NaN())
	for name, c := range map[string]struct {
		m     model
		quiet bool // a checkpoint that does not fit is a state, not an incident
	}{
		"generator fails": {model{weights: func() error { return broken }, score: byID}, false},
		"no checkpoint":   {model{weights: func() error { return fmt.Errorf("%w: of films", corastream.ErrDegraded) }, score: byID}, true},
		"LLM fails":       {model{score: func([]corastream.Prompt) ([]corastream.Logits, error) { return nil, broken }}, false},
		"one score is NaN": {model{score: func(ps []corastream.Prompt) ([]corastream.Logits, error) {
			l, _ := byID(ps)
			l[1].No = nan
			return l, nil
		}}, false},
		"infinity less inf": {model{score: func(ps []corastream.Prompt) ([]corastream.Logits, error) {
			l, _ := byID(ps)
			inf := float32(math.Inf(1))
			l[0] = corastream.Logits{Yes: inf, No: inf}
			return l, nil
		}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, sink := newPipeline(events(click(1, "u", "d"), click(2, "v", "b")))
			p.Generator, p.Scorer = c.m, c.m
			p.Versions = corastream.Versions{Generator: "g", LLM: "l"}
			warned := 0
			p.Warn = func(string, error) { warned++ }
			if err := p.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(sink.recs) != 2 {
				t.Fatalf("%d recommendations", len(sink.recs))
			}
			for _, r := range sink.recs {
				if r.Degraded != "cf" || r.Versions.Generator != "" || r.Versions.LLM != "" {
					t.Errorf("degraded %q, versions %+v", r.Degraded, r.Versions)
				}
				for _, it := range r.Items {
					if it.Score != it.CF || math.IsNaN(float64(it.Score)) {
						t.Errorf("score %v, cf %v", it.Score, it.CF)
					}
				}
			}
			if (warned == 0) != c.quiet || (p.Stats.Degraded.Load() == 0) != c.quiet {
				t.Errorf("%d warnings, %d counted", warned, p.Stats.Degraded.Load())
			}
		})
	}
}

func TestAnswersFollowTheRequest(t *testing.T) {
	p, _, _ := newPipeline()
	p.Generator, p.Scorer = model{}, model{score: byID}
	if err := p.LearnBatch(t.Context(), events(click(1, "u", "d"))); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		request *corastream.Request
		want    string
	}{
		"seen items stay out":      {nil, "cba"},
		"as many as asked for":     {&corastream.Request{N: 2}, "cb"},
		"none of the excluded":     {&corastream.Request{Exclude: []string{"c"}}, "ba"},
		"the candidates, seen too": {&corastream.Request{Candidates: []string{"a", "d"}}, "da"},
	} {
		recs, err := p.Recommend(t.Context(), []corastream.Owed{{User: "u", Request: c.request}})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for i, it := range recs[0].Items {
			got += it.Item
			if it.Rank != i+1 {
				t.Errorf("%s: item %d has rank %d", name, i, it.Rank)
			}
		}
		if got != c.want || recs[0].Degraded != "" || recs[0].Cold {
			t.Errorf("%s: %q, want %q; %+v", name, got, c.want, recs[0])
		}
	}
	recs, err := p.Recommend(t.Context(), []corastream.Owed{{User: "nobody"}})
	if err != nil || !recs[0].Cold || len(recs[0].Items) != 4 {
		t.Errorf("a user nobody knows: %+v, %v", recs, err)
	}
}

func TestIDNamesWhatDecidedTheAnswer(t *testing.T) {
	p, _, _ := newPipeline()
	one := func(o corastream.Owed) string {
		recs, err := p.Recommend(t.Context(), []corastream.Owed{o})
		if err != nil {
			t.Fatal(err)
		}
		return recs[0].ID
	}
	owed := corastream.Owed{User: "u", Cause: corastream.Position{Topic: "t", Offset: 5}}
	first := one(owed)
	if again := one(owed); again != first || first == "" {
		t.Errorf("the same debt gives %q and %q", first, again)
	}
	later := owed
	later.Cause.Offset++
	asked := owed
	asked.Request = &corastream.Request{ID: "r"}
	other := owed
	other.User = "v"
	seen := map[string]bool{first: true}
	for _, o := range []corastream.Owed{later, asked, other} {
		id := one(o)
		if seen[id] {
			t.Errorf("%+v has the id of another answer", o)
		}
		seen[id] = true
	}
	if err := p.LearnBatch(t.Context(), events(click(6, "u", "a"))); err != nil {
		t.Fatal(err)
	}
	if seen[one(owed)] {
		t.Error("the id stayed when the user's vector moved")
	}
}

func TestContentJoinsEveryItem(t *testing.T) {
	var b corastream.Batch
	for i := range 70 {
		b.Items = append(b.Items, corastream.Item{ID: fmt.Sprint("i", i), Title: "A Title"})
	}
	p, store, _ := newPipeline(b, events(click(1, "u", "i3")))
	p.Config.ReadBatch = 16
	reader := reader{most: 16}
	p.Encoder, p.Basis = &reader, &reader
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(store.joined) != 70 || p.Stats.ItemsRead.Load() != 70 {
		t.Errorf("%d items joined, %d counted", len(store.joined), p.Stats.ItemsRead.Load())
	}
	reader.err = errors.New("bad basis")
	p, _, _ = newPipeline(b)
	p.Encoder, p.Basis = &reader, &reader
	if err := p.Run(t.Context()); !errors.Is(err, reader.err) || !strings.Contains(err.Error(), "i0") {
		t.Errorf("Run: %v", err)
	}
}

// reader is encoder and basis.
type reader struct {
	most int
	err  error
}

func (r *reader) Encode(_ context.Context, items []corastream.Item) ([]corastream.States, error) {
	if len(items) > r.most && r.err == nil {
		return nil, fmt.Errorf("%d items at once", len(items))
	}
	return make([]corastream.States, len(items)), nil
}

func (r *reader) Content(corastream.States) ([]float32, error) { return []float32{1}, r.err }

func TestRunEndsAsItsStagesDo(t *testing.T) {
	p, _, _ := newPipeline(events(click(1, "u", "a")))
	p.Source.(*log).err = fmt.Errorf("offset 7: %w", corastream.ErrGap)
	if err := p.Run(t.Context()); !errors.Is(err, corastream.ErrGap) || !strings.HasPrefix(err.Error(), "learn: ") {
		t.Errorf("a gap: %v", err)
	}
	p, store, _ := newPipeline(events(click(1, "u", "a")))
	store.commitErr = errors.New("disk full")
	if err := p.Run(t.Context()); !errors.Is(err, store.commitErr) {
		t.Errorf("a full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	p, store, _ = newPipeline(events(click(1, "u", "a")))
	p.Source = endless{p.Source, cancel}
	if err := p.Run(ctx); err != nil {
		t.Errorf("a cancelled run: %v", err)
	}
	if store.commits != 1 {
		t.Errorf("%d commits before the end", store.commits)
	}
}

// endless waits for its context once the log is used up, and asks for its end.
type endless struct {
	corastream.Source
	end func()
}

func (e endless) Next(ctx context.Context) (corastream.Batch, error) {
	b, err := e.Source.Next(ctx)
	if errors.Is(err, corastream.ErrEnd) {
		e.end()
		<-ctx.Done()
		return b, context.Cause(ctx)
	}
	return b, err
}
