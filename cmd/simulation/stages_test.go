package simulation

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest"
	"github.com/corastream/corastream/store"
)

// errInjected ends a process in an orderly way: what its stage was asked for failed for good.
var errInjected = errors.New("injected failure")

// source is the broker's reading side. It hands out what the log holds from the store's watermark on, in batches of its
// own making: partitions in any order, each with a share of any size, sometimes some records again.
type source struct {
	*life
	decoder *ingest.Decoder
	next    map[corastream.Partition]int64 // the offset to hand out
}

func (l *life) newSource() *source {
	s := &source{life: l, decoder: ingest.NewDecoder(l.w.kafka), next: map[corastream.Partition]int64{}}
	for _, p := range l.w.parts {
		from, known, err := l.store.Next(p)
		if err != nil || !known && from != 0 {
			l.w.t.Fatalf("watermark of %v: %d, %v", p, from, err)
		}
		if from != l.w.marks[p] {
			l.fail("%v goes on at %d, but %d was committed", p, from, l.w.marks[p])
		}
		s.next[p] = from
	}
	return s
}

func (s *source) waiting() bool {
	return slices.ContainsFunc(s.w.parts, func(p corastream.Partition) bool { return s.next[p] < int64(len(s.w.log[p])) })
}

// Next implements corastream.Source.
func (s *source) Next(ctx context.Context) (corastream.Batch, error) {
	w := s.w
	ready := func() bool { return s.waiting() || s.last && w.left == 0 && s.alone() }
	if err := s.step(ctx, "learn", "fetch", time.Time{}, ready); err != nil {
		return corastream.Batch{}, err
	}
	if !s.waiting() {
		w.note("end of the log")
		return corastream.Batch{}, corastream.ErrEnd
	}
	for !s.last && w.chance(w.mix.fetch) { // the broker is away: ingest tries again by itself
		w.count("fetches failed")
		if err := s.step(ctx, "learn", "broker away", w.now.Add(time.Duration(w.rng.IntN(30000))*time.Millisecond), nil); err != nil {
			return corastream.Batch{}, err
		}
	}
	if !s.last && w.chance(w.mix.gap) {
		w.note("retention has passed the watermark")
		return corastream.Batch{}, s.fatal(fmt.Errorf("simulated retention: %w", corastream.ErrGap))
	}
	var spans []corastream.Span
	left := w.mix.batch
	for _, i := range w.rng.Perm(len(w.parts)) {
		p := w.parts[i]
		from, end := s.next[p], int64(len(w.log[p]))
		if from == end || left == 0 || len(spans) > 0 && w.rng.IntN(3) == 0 {
			continue
		}
		to := min(end, from+1+w.rng.Int64N(int64(left)))
		left -= int(to - from)
		s.next[p] = to
		if w.chance(w.mix.redeliver) { // a rebalance: some of it was handed out before
			from = max(0, from-w.rng.Int64N(30))
			w.count("redeliveries")
		}
		spans = append(spans, corastream.Span{Partition: p, From: from, To: to})
	}
	w.note("batch %v", spans)
	return w.decode(s.decoder, spans), nil
}

// Committed implements corastream.Source.
func (s *source) Committed([]corastream.Span) {}

// disk is the store with a disk that may fail: before a write, so that nothing of it is there, or after it, so that all
// of it is and nobody knows.
type disk struct {
	*life
	*store.Store
}

// write runs one write of the store.
func (d disk) write(ctx context.Context, who, what string, do func() error) error {
	if !d.last && d.w.chance(d.w.mix.disk) { // no room: the store waits
		d.w.count("disk full")
		if err := d.step(ctx, who, what+" waits for room", d.w.now.Add(time.Duration(d.w.rng.IntN(90))*time.Second), nil); err != nil {
			return err
		}
	}
	return d.call(ctx, who, what, func() error {
		broken := !d.last && d.w.chance(d.w.mix.disk)
		if broken && d.w.rng.IntN(2) == 0 {
			d.w.count("disk failed before a write")
			return d.fatal(fmt.Errorf("%s: %w", what, errInjected))
		}
		if err := do(); err != nil {
			return err
		}
		if broken {
			d.w.count("disk failed after a write")
			return d.fatal(fmt.Errorf("%s: %w", what, errInjected))
		}
		return nil
	})
}

// Commit implements corastream.Store.
func (d disk) Commit(ctx context.Context, b corastream.Batch, learn func(corastream.State, corastream.Event) error) (done corastream.Commit, err error) {
	err = d.write(ctx, "learn", "commit", func() error {
		if done, err = d.Store.Commit(ctx, b, learn); err == nil {
			d.w.note("committed line %d: %d learnt, %d dropped", done.Seq, done.Learnt, done.Duplicates)
		}
		return err
	})
	return done, err
}

// Join implements corastream.Store.
func (d disk) Join(ctx context.Context, items []corastream.Item) error {
	return d.write(ctx, "read", "join", func() error { return d.Store.Join(ctx, items) })
}

// Settle implements corastream.Store.
func (d disk) Settle(ctx context.Context, paid []corastream.Owed) error {
	return d.write(ctx, "recommend", "settle", func() error {
		for _, o := range paid {
			if o.Request != nil && !d.w.answered[o.Request.ID] || o.Request == nil && d.w.last[o.User] != o.Cause {
				d.fail("user %s is settled for %v, request %v, but nothing was published", o.User, o.Cause, o.Request)
			}
		}
		return d.Store.Settle(ctx, paid)
	})
}

// Owed implements corastream.Store.
func (d disk) Owed(n int) (owed []corastream.Owed, err error) {
	err = d.call(d.ctx, "recommend", "owed", func() error { owed, err = d.Store.Owed(n); return err })
	return owed, err
}

// Unread implements corastream.Store.
func (d disk) Unread(n int) (list []corastream.Item, err error) {
	err = d.call(d.ctx, "read", "unread", func() error { list, err = d.Store.Unread(n); return err })
	return list, err
}

// topics is the broker's writing side, as ingest.Sink is to the pipeline: it tries again by itself, and what it tries
// again may have arrived.
type topics struct{ *life }

func (t topics) publish(ctx context.Context, who, what string, fails float64, n int, put func(i int)) error {
	w := t.w
	for {
		if err := t.step(ctx, who, what, time.Time{}, nil); err != nil {
			return err
		}
		if !t.last && w.chance(w.mix.slow) {
			w.count("slow answers")
			if err := t.step(ctx, who, what+" is slow", w.now.Add(time.Duration(w.rng.IntN(20000))*time.Millisecond), nil); err != nil {
				return err
			}
		}
		if t.last || !w.chance(fails) {
			break
		}
		some := 0
		if n > 0 {
			some = w.rng.IntN(n + 1)
		}
		w.note("%s: %d of %d arrived, no answer", what, some, n)
		w.count("writes failed")
		for i := range some {
			put(i)
		}
		if w.rng.IntN(20) == 0 {
			return t.fatal(fmt.Errorf("%s: %w", what, errInjected))
		}
		if err := t.step(ctx, who, what+" again", w.now.Add(time.Duration(50+w.rng.IntN(1000))*time.Millisecond), nil); err != nil {
			return err
		}
	}
	for i := range n {
		put(i)
	}
	w.note("%s: %d", what, n)
	return t.step(ctx, who, what+" done", time.Time{}, nil)
}

// Publish implements corastream.Sink.
func (t topics) Publish(ctx context.Context, recs []corastream.Recommendation) error {
	return t.publish(ctx, "recommend", "publish", t.w.mix.publish, len(recs), func(i int) { t.look(recs[i]) })
}

// look files a recommendation after holding it against what every recommendation must be.
func (t topics) look(r corastream.Recommendation) {
	if old, again := t.w.recs[r.ID]; again && (old.User != r.User || old.Cause != r.Cause || old.RequestID != r.RequestID) {
		t.fail("two answers have the id %s: %+v and %+v", r.ID, old, r)
	}
	for i, it := range r.Items {
		if it.Rank != i+1 || !(it.Score >= 0 && it.Score <= 1) || !(it.CF >= 0 && it.CF <= 1) || !t.w.titles[it.Item] {
			t.fail("user %s is shown %+v at place %d", r.User, it, i+1)
		}
	}
	t.w.recs[r.ID] = r
	if r.RequestID != "" {
		t.w.answered[r.RequestID] = true
		return
	}
	t.w.last[r.User] = r.Cause
}

// Bury implements corastream.DeadLetters.
func (t topics) Bury(ctx context.Context, letters []corastream.DeadLetter) error {
	return t.publish(ctx, "learn", "bury", t.w.mix.bury, len(letters), func(i int) {
		l := letters[i]
		if want := string(t.w.log[corastream.Partition{Topic: l.Pos.Topic, ID: l.Pos.Partition}][l.Pos.Offset].value); string(l.Value) != want {
			t.fail("the letter of %v holds %q, the record %q", l.Pos, l.Value, want)
		}
		t.w.letters[l.Pos] = l.Reason
	})
}

// contentWidth of the simulated language model's content vectors.
const contentWidth = 8

// model stands for the frozen LLM, its basis and the generator: functions of the title and of the user's version, which
// can fail. A failed score degrades the answer; a failed reading ends the process.
type model struct{ *life }

// Encode implements corastream.Encoder.
func (m model) Encode(ctx context.Context, list []corastream.Item) ([]corastream.States, error) {
	if err := m.step(ctx, "read", "encode", time.Time{}, nil); err != nil {
		return nil, err
	}
	if !m.last && m.w.chance(m.w.mix.llm/20) {
		return nil, m.fatal(fmt.Errorf("encode: %w", errInjected))
	}
	out := make([]corastream.States, len(list))
	for i, it := range list {
		out[i].Title = make([]float32, 2*contentWidth)
		for k := range out[i].Title {
			h := fnv.New32a()
			fmt.Fprintf(h, "%s %d", it.Title, k)
			out[i].Title[k] = float32(h.Sum32())/(1<<31) - 1
		}
	}
	return out, nil
}

// Content implements corastream.Basis.
func (m model) Content(s corastream.States) ([]float32, error) {
	c := slices.Clone(s.Title[:contentWidth])
	corastream.QuantizeContent(c)
	return c, nil
}

// Weights implements corastream.Generator.
func (m model) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	if err := m.step(ctx, "recommend", "weights", time.Time{}, nil); err != nil {
		return nil, nil, err
	}
	if m.w.chance(m.w.mix.llm) {
		m.w.count("generator failed")
		return nil, nil, errInjected
	}
	out := make([]corastream.Weights, len(pairs))
	for i, p := range pairs {
		out[i].UserVersion = p.User.Version
	}
	return out, &corastream.Projection{Rank: 1}, nil
}

// Score implements corastream.Scorer.
func (m model) Score(ctx context.Context, prompts []corastream.Prompt, ws []corastream.Weights, _ *corastream.Projection) ([]corastream.Logits, error) {
	if err := m.step(ctx, "recommend", "score", time.Time{}, nil); err != nil {
		return nil, err
	}
	if m.w.chance(m.w.mix.llm) {
		m.w.count("LLM failed")
		return nil, errInjected
	}
	out := make([]corastream.Logits, len(prompts))
	for i, p := range prompts {
		h := fnv.New32a()
		fmt.Fprintf(h, "%s %d", p.Title, ws[i].UserVersion)
		out[i].Yes = float32(h.Sum32()%1000) / 250
	}
	if len(out) > 0 && m.w.chance(m.w.mix.llm) {
		m.w.count("LLM answered NaN")
		nan := float32(math.NaN())
		for i := m.w.rng.IntN(len(out)); i < len(out); i++ {
			out[i].No = nan
		}
	}
	return out, nil
}
