package tracing

import (
	"context"
	"net/http"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve"
)

// Tracer implements corastream.Tracer with OpenTelemetry's spans, and puts spans around the stages. No id of a user or an item, and no
// title, is ever in a span.
type Tracer struct {
	trace.Tracer
	causes causes
}

// Tracer makes the spans that this exporter sends.
func (t *Exporter) Tracer() *Tracer {
	return &Tracer{Tracer: t.provider.Tracer("github.com/corastream/corastream", trace.WithInstrumentationVersion(t.version))}
}

// WrapPipeline puts the tracer into a pipeline whose stages are wired.
func (t *Tracer) WrapPipeline(p *corastream.Pipeline) {
	p.Tracer, p.Store, p.Sink, p.DeadLetters = t, tracedStore{p.Store, t}, tracedSink{p.Sink, t}, tracedLetters{p.DeadLetters, t}
	if p.Encoder != nil {
		p.Encoder = tracedEncoder{p.Encoder, t}
	}
	p.Generator, p.Scorer, p.Arms = t.stages(p.Generator, p.Scorer, p.Arms)
}

// WrapHTTP puts spans around the stages that the HTTP server calls, and around each of its requests.
func (t *Tracer) WrapHTTP(d *serve.Deps) {
	d.Span = t.request
	d.Generator, d.Scorer, d.Arms = t.stages(d.Generator, d.Scorer, d.Arms)
	if d.Text != nil {
		d.Text = tracedText{d.Text, t}
	}
	if d.Speaker != nil {
		d.Speaker = tracedSpeaker{d.Speaker, t}
	}
}

func (t *Tracer) stages(g corastream.Generator, s corastream.Scorer, a corastream.Arms) (corastream.Generator, corastream.Scorer, corastream.Arms) {
	if g != nil {
		g = t.generator(g)
	}
	if s != nil {
		s = tracedScorer{s, t}
	}
	if a != nil {
		a = tracedArms{a, t}
	}
	return g, s, a
}

// remote reads a trace context that came with a record.
func remote(parent string) trace.SpanContext {
	ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": parent})
	return trace.SpanContextFromContext(ctx)
}

// Traceparent writes the context of the span in ctx; "" without one.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// maxLinks is how many traces one span is linked with; OpenTelemetry's own default.
const maxLinks = 128

// begin opens a span for a batch of work: below the span in ctx, else below the only trace that the work came with, else beside all of them.
func (t *Tracer) begin(ctx context.Context, name string, kind trace.SpanKind, came []string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	options := []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attrs...)}
	if !trace.SpanContextFromContext(ctx).IsValid() {
		var links []trace.Link
		seen := map[string]bool{"": true}
		for _, parent := range came {
			if seen[parent] || len(links) == maxLinks {
				continue
			}
			seen[parent] = true
			links = append(links, trace.Link{SpanContext: remote(parent)})
		}
		if len(links) == 1 {
			ctx = trace.ContextWithRemoteSpanContext(ctx, links[0].SpanContext)
		} else {
			options = append(options, trace.WithLinks(links...))
		}
	}
	return t.Start(ctx, name, options...)
}

// inner opens a span below the span in ctx. Without a span in ctx it opens none.
func (t *Tracer) inner(ctx context.Context, name string, attrs ...attribute.KeyValue) (context.Context, func(error)) {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return ctx, func(error) {}
	}
	ctx, span := t.Start(ctx, name, trace.WithAttributes(attrs...))
	return ctx, func(err error) { finish(span, err) }
}

// finish ends a span. The error's text stays out: it may name what must not be in a trace.
func finish(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

// Learn implements corastream.Tracer.
func (t *Tracer) Learn(ctx context.Context, b corastream.Batch) (context.Context, func(corastream.Commit, error)) {
	var came []string
	for _, ev := range b.Events {
		if ev.Trace != "" {
			came = append(came, ev.Trace)
			t.causes.note(ev.Pos, ev.Trace)
		}
	}
	for _, r := range b.Requests {
		if r.Trace != "" {
			came = append(came, r.Trace)
			t.causes.note(r.Pos, r.Trace)
		}
	}
	name := "learn"
	if len(b.Changes) > 0 && len(b.Events)+len(b.Items)+len(b.Requests) == 0 { // a replica's: what the shards have learnt
		name = "follow"
	}
	ctx, span := t.begin(ctx, name, trace.SpanKindConsumer, came, attribute.String("messaging.system", "kafka"), attribute.Int("corastream.changes", len(b.Changes)),
		attribute.Int("corastream.events", len(b.Events)), attribute.Int("corastream.items", len(b.Items)),
		attribute.Int("corastream.requests", len(b.Requests)), attribute.Int("corastream.dead_letters", len(b.Bad)))
	return context.WithValue(ctx, viewName{}, "index"), func(done corastream.Commit, err error) {
		span.SetAttributes(attribute.Int("corastream.learnt", done.Learnt), attribute.Int("corastream.duplicates", done.Duplicates),
			attribute.Int("corastream.users_moved", len(done.Users)), attribute.Int64("corastream.journal", int64(done.Seq)))
		finish(span, err)
	}
}

// Recommend implements corastream.Tracer.
func (t *Tracer) Recommend(ctx context.Context, owed []corastream.Owed) (context.Context, func([]corastream.Recommendation, error)) {
	var came []string
	for _, o := range owed {
		pos := o.Cause
		if o.Request != nil {
			pos = o.Request.Pos
		}
		came = append(came, t.causes.of(pos))
	}
	ctx, span := t.begin(ctx, "recommend", trace.SpanKindInternal, came, attribute.Int("corastream.users", len(owed)))
	return ctx, func(recs []corastream.Recommendation, err error) {
		parent, candidates, degraded := Traceparent(ctx), 0, 0
		for i := range recs {
			recs[i].Trace = parent
			candidates += recs[i].Candidates
			if recs[i].Degraded != "" {
				degraded++
			}
		}
		span.SetAttributes(attribute.Int("corastream.candidates", candidates), attribute.Int("corastream.degraded", degraded))
		finish(span, err)
	}
}

// request opens the span of one HTTP request, below the caller's span.
func (t *Tracer) request(r *http.Request, route string) (context.Context, func(status int)) {
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.Start(ctx, r.Method+" "+route, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("http.route", route)))
	return ctx, func(status int) {
		span.SetAttributes(attribute.Int("http.response.status_code", status))
		if status >= http.StatusInternalServerError { // the caller's mistakes are not ours
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// causes maps the newest records to the traces they came with, so that a recommendation finds the click that caused it. It lives in
// memory alone, so recommendations owed since before a restart have no trace.
type causes struct {
	mu     sync.Mutex
	traces map[corastream.Position]string
	order  []corastream.Position // a ring
	next   int
}

// maxCauses records are remembered.
const maxCauses = 8192

func (c *causes) note(pos corastream.Position, parent string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.traces == nil {
		c.traces, c.order = map[corastream.Position]string{}, make([]corastream.Position, maxCauses)
	}
	if _, known := c.traces[pos]; !known {
		delete(c.traces, c.order[c.next])
		c.order[c.next], c.next = pos, (c.next+1)%maxCauses
	}
	c.traces[pos] = parent
}

func (c *causes) of(pos corastream.Position) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.traces[pos]
}
