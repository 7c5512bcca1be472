package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve"
)

type tracedStore struct {
	corastream.Store
	t *Tracer
}

// Store puts a span around a store's commits and reads.
func (t *Tracer) Store(s corastream.Store) corastream.Store { return tracedStore{s, t} }

// viewName keys the name of a read of the state in a context. The name is "index" while a batch is learnt, because the retriever's
// index is rebuilt then, and "candidates" otherwise.
type viewName struct{}

// Commit implements corastream.Store.
func (s tracedStore) Commit(ctx context.Context, b corastream.Batch, learn func(corastream.State, corastream.Event) error) (corastream.Commit, error) {
	ctx, end := s.t.inner(ctx, "commit")
	done, err := s.Store.Commit(ctx, b, learn)
	end(err)
	return done, err
}

// View implements corastream.Store.
func (s tracedStore) View(ctx context.Context, read func(corastream.State) error) error {
	name, _ := ctx.Value(viewName{}).(string)
	if name == "" {
		name = "candidates"
	}
	ctx, end := s.t.inner(ctx, name)
	err := s.Store.View(ctx, read)
	end(err)
	return err
}

type tracedGenerator struct {
	corastream.Generator
	t *Tracer
}

// generator wraps a generator and keeps its optional PerPair method, which callers find by a type assertion.
func (t *Tracer) generator(g corastream.Generator) corastream.Generator {
	traced := tracedGenerator{g, t}
	if per, ok := g.(interface{ PerPair() bool }); ok {
		return struct {
			tracedGenerator
			perPair
		}{traced, per}
	}
	return traced
}

type perPair interface{ PerPair() bool }

// Weights implements corastream.Generator.
func (g tracedGenerator) Weights(ctx context.Context, pairs []corastream.Pair) ([]corastream.Weights, *corastream.Projection, error) {
	ctx, end := g.t.inner(ctx, "weights", attribute.Int("corastream.pairs", len(pairs)))
	w, p, err := g.Generator.Weights(ctx, pairs)
	end(err)
	return w, p, err
}

type tracedArms struct {
	corastream.Arms
	t *Tracer
}

// Arm implements corastream.Arms.
func (a tracedArms) Arm(user string) corastream.Arm {
	arm := a.Arms.Arm(user)
	if arm.Generator != nil {
		arm.Generator = a.t.generator(arm.Generator)
	}
	return arm
}

type tracedScorer struct {
	corastream.Scorer
	t *Tracer
}

// Score implements corastream.Scorer.
func (s tracedScorer) Score(ctx context.Context, prompts []corastream.Prompt, w []corastream.Weights, p *corastream.Projection) ([]corastream.Logits, error) {
	ctx, end := s.t.inner(ctx, "score", attribute.Int("corastream.prompts", len(prompts)))
	logits, err := s.Scorer.Score(ctx, prompts, w, p)
	end(err)
	return logits, err
}

type tracedText struct {
	serve.TextScorer
	t *Tracer
}

// LabelLogits implements serve.TextScorer.
func (s tracedText) LabelLogits(ctx context.Context, prompts []string, labels []int, w []corastream.Weights, p *corastream.Projection) ([][]float32, int, error) {
	ctx, end := s.t.inner(ctx, "score", attribute.Int("corastream.prompts", len(prompts)))
	logits, tokens, err := s.TextScorer.LabelLogits(ctx, prompts, labels, w, p)
	end(err)
	return logits, tokens, err
}

type tracedSpeaker struct {
	corastream.Speaker
	t *Tracer
}

// Speak implements corastream.Speaker.
func (s tracedSpeaker) Speak(ctx context.Context, d corastream.Dialogue, each func(corastream.Piece) error) (corastream.Reply, error) {
	ctx, end := s.t.inner(ctx, "speak")
	reply, err := s.Speaker.Speak(ctx, d, each)
	trace.SpanFromContext(ctx).SetAttributes(attribute.Int("gen_ai.usage.input_tokens", reply.PromptTokens), attribute.Int("gen_ai.usage.output_tokens", reply.Tokens))
	end(err)
	return reply, err
}

type tracedEncoder struct {
	corastream.Encoder
	t *Tracer
}

// Encode implements corastream.Encoder; it begins a trace of its own.
func (e tracedEncoder) Encode(ctx context.Context, items []corastream.Item) ([]corastream.States, error) {
	ctx, span := e.t.begin(ctx, "read items", trace.SpanKindInternal, nil, attribute.Int("corastream.items", len(items)))
	states, err := e.Encoder.Encode(ctx, items)
	finish(span, err)
	return states, err
}

type tracedSink struct {
	corastream.Sink
	t *Tracer
}

// Publish implements corastream.Sink, below the span that made the recommendations.
func (s tracedSink) Publish(ctx context.Context, recs []corastream.Recommendation) error {
	var made []string
	for _, r := range recs {
		made = append(made, r.Trace)
	}
	ctx, span := s.t.begin(ctx, "publish", trace.SpanKindProducer, made, attribute.String("messaging.system", "kafka"), attribute.Int("corastream.recommendations", len(recs)))
	err := s.Sink.Publish(ctx, recs)
	finish(span, err)
	return err
}

type tracedLetters struct {
	corastream.DeadLetters
	t *Tracer
}

// Bury implements corastream.DeadLetters.
func (l tracedLetters) Bury(ctx context.Context, letters []corastream.DeadLetter) error {
	ctx, end := l.t.inner(ctx, "bury", attribute.Int("corastream.dead_letters", len(letters)))
	err := l.DeadLetters.Bury(ctx, letters)
	end(err)
	return err
}
