//go:build app

package apptest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	"github.com/corastream/corastream/cmd/internal/testkit"
)

// spanReceiver is a collector: it takes OTLP over HTTP and keeps the spans.
type spanReceiver struct {
	*httptest.Server
	mu       sync.Mutex
	spans    []*tracepb.Span
	text     strings.Builder // of all spans, as text
	services map[string]bool
	faults   []string
}

func newSpanReceiver(t *testing.T) *spanReceiver {
	c := &spanReceiver{services: map[string]bool{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if r.Header.Get("Content-Encoding") == "gzip" {
			var z *gzip.Reader
			if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
				body, err = io.ReadAll(z)
			}
		}
		var in collector.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(body, &in)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" || r.Header.Get("X-Key") != "k1" {
			c.faults = append(c.faults, fmt.Sprint(r.URL, r.Header, err))
		}
		for _, rs := range in.ResourceSpans {
			for _, a := range rs.Resource.Attributes {
				if a.Key == "service.name" {
					c.services[a.Value.GetStringValue()] = true
				}
			}
			c.text.WriteString(prototext.Format(rs.Resource))
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
				for _, s := range ss.Spans { // without ids, whose random bytes may spell anything
					plain := &tracepb.Span{Name: s.Name, TraceState: s.TraceState, Attributes: s.Attributes, Events: s.Events, Status: s.Status}
					for _, l := range s.Links {
						plain.Links = append(plain.Links, &tracepb.Span_Link{TraceState: l.TraceState, Attributes: l.Attributes})
					}
					c.text.WriteString(prototext.Format(plain))
				}
			}
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// of are the spans of one trace by name.
func (c *spanReceiver) of(trace string) map[string]*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]*tracepb.Span{}
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) == trace {
			out[s.Name] = s
		}
	}
	return out
}

// named are all spans of a name.
func (c *spanReceiver) named(name string) (out []*tracepb.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if s.Name == name {
			out = append(out, s)
		}
	}
	return out
}

func figureOf(s *tracepb.Span, key string) int64 {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value.GetIntValue()
		}
	}
	return -1
}

const (
	askTrace     = "0af7651916cd43dd8448eb211c80319c"
	eventTrace   = "1bf7651916cd43dd8448eb211c80319d"
	kafkaTrace   = "2cf7651916cd43dd8448eb211c80319e"
	kafkaTrace2  = "3df7651916cd43dd8448eb211c80319f"
	requestTrace = "4ef7651916cd43dd8448eb211c8031a0"
	callersSpan  = "b7ad6b7169203331"
)

// TestTracesGoFromTheCallerToTheTopicAndBack runs `up` with a tiny LLM and a checkpoint against a collector, configured by the standard
// variables: a request's, an event's over HTTP and a record's over Kafka are each one trace from the caller to what is published.
func TestTracesGoFromTheCallerToTheTopicAndBack(t *testing.T) {
	c := newSpanReceiver(t)
	h := newHome(t, "", tinyConfig(tinyLLM(t, 1), ""))
	h.amend(t, `checkpoint: ""`, `checkpoint: "`+untrained(t, h.config, 40, nil)+`"`)
	env := []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + c.URL, "OTEL_EXPORTER_OTLP_HEADERS=x-key=k1", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_BSP_SCHEDULE_DELAY=20", "OTEL_SERVICE_NAME=shop"}
	p := startWith(t, program, env, "up", "-c", h.config)
	url := p.url(t)
	if where := p.logged(t, "sending traces", "endpoint"); where != c.URL {
		t.Errorf("traces go to %q", where)
	}
	events, items := csvLog(t, 40, 10, 40)
	ok(t, "produce", items, "-c", h.config)
	ok(t, "produce", events, "-c", h.config)
	eventually(t, "the stream", func() bool {
		return counter(url, "corastream_events_total") == 40 && counter(url, "corastream_items_read_total") == 40
	})

	// HTTP: the request is below its caller, and its steps below the request.
	post(t, url+"/v1/recommend", `{"user_id":"u7","n":3}`, 200, "Traceparent", "00-"+askTrace+"-"+callersSpan+"-01")
	follow := func(trace string, parents map[string]string) map[string]*tracepb.Span {
		t.Helper()
		var spans map[string]*tracepb.Span
		eventually(t, "the spans of trace "+trace, func() bool {
			spans = c.of(trace)
			for name := range parents {
				if spans[name] == nil {
					return false
				}
			}
			return true
		})
		for name, parent := range parents {
			want := callersSpan
			if parent != "" {
				want = hex.EncodeToString(spans[parent].SpanId)
			}
			if got := hex.EncodeToString(spans[name].ParentSpanId); got != want {
				t.Errorf("trace %s: the parent of %s is %s, want %s (%q)", trace, name, got, want, parent)
			}
			if s := spans[name]; s.EndTimeUnixNano < s.StartTimeUnixNano {
				t.Errorf("%s ends before it begins", name)
			}
		}
		return spans
	}
	spans := follow(askTrace, map[string]string{"POST /v1/recommend": "", "recommend": "POST /v1/recommend", "candidates": "recommend", "weights": "recommend", "score": "recommend"})
	if s := spans["POST /v1/recommend"]; s.Kind != tracepb.Span_SPAN_KIND_SERVER || figureOf(s, "http.response.status_code") != 200 {
		t.Errorf("%v", s)
	}
	if n := figureOf(spans["score"], "corastream.prompts"); n != 3 {
		t.Errorf("%d prompts: %v", n, spans["recommend"])
	}

	// An event over HTTP: through the topic into the commit, and out again.
	post(t, url+"/v1/events", `{"user_id":"u3","item_id":"i5","rating":5,"timestamp":1700009999}`, 202, "Traceparent", "00-"+eventTrace+"-"+callersSpan+"-01")
	// The recommendation is below the event that caused it, not below the batch that learnt it: that may hold many.
	spans = follow(eventTrace, map[string]string{
		"POST /v1/events": "", "learn": "POST /v1/events", "commit": "learn", "recommend": "POST /v1/events",
		"candidates": "recommend", "publish": "recommend",
	})
	if figureOf(spans["learn"], "corastream.learnt") != 1 {
		t.Errorf("%v", spans["learn"])
	}

	// CloudEvents as HTTP writes them keep their attributes on the topic: this one's kind comes with its header alone, and twice is once.
	for range 2 {
		post(t, url+"/v1/events", `{"user_id":"u4","item_id":"i7"}`, 202, "Ce-Specversion", "1.0", "Ce-Id", "e1", "Ce-Source", "/shop", "Ce-Type", "like")
	}
	eventually(t, "the repeat", func() bool { return counter(url, "corastream_duplicates_total") == 1 })

	// Two records with traces of their own in one batch: the batch is beside both.
	client, err := kgo.NewClient(kgo.SeedBrokers(h.address()), kgo.ConsumeTopics(h.topics.recommendations), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	record := func(user, key, trace string) *kgo.Record {
		return &kgo.Record{
			Topic: h.topics.interactions, Partition: 0, Key: []byte("same"), Value: []byte(`{"user_id":"` + user + `","item_id":"i6","rating":4}`),
			Headers: []kgo.RecordHeader{{Key: key, Value: []byte("00-" + trace + "-" + callersSpan + "-01")}, {Key: "traceparent", Value: []byte("not a trace")}},
		}
	}
	if err := client.ProduceSync(t.Context(), record("u1", "ce_traceparent", kafkaTrace), record("u2", "traceparent", kafkaTrace2)).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"learn", "recommend"} {
		eventually(t, "both records in a span "+name, func() bool {
			found := map[string]bool{}
			for _, s := range c.named(name) {
				found[hex.EncodeToString(s.TraceId)] = true
				for _, l := range s.Links {
					found[hex.EncodeToString(l.TraceId)] = true
				}
			}
			return found[kafkaTrace] && found[kafkaTrace2]
		})
	}
	// A request over Kafka is answered within its trace: nobody else is owed an answer now that would be beside it.
	ask := &kgo.Record{Topic: h.topics.requests, Value: []byte(`{"user_id":"u9","n":2}`), Headers: []kgo.RecordHeader{{Key: "traceparent", Value: []byte("00-" + requestTrace + "-" + callersSpan + "-01")}}}
	if err := client.ProduceSync(t.Context(), ask).FirstErr(); err != nil {
		t.Fatal(err)
	}
	follow(requestTrace, map[string]string{"learn": "", "recommend": "", "score": "recommend", "publish": "recommend"})

	// What goes out says which span made it.
	ctx, cancel := context.WithTimeout(t.Context(), testkit.Patience)
	defer cancel()
	for said := false; !said; {
		fetched := client.PollFetches(ctx)
		if err := fetched.Err0(); err != nil {
			t.Fatal(err)
		}
		fetched.EachRecord(func(r *kgo.Record) {
			said = said || slices.ContainsFunc(r.Headers, func(h kgo.RecordHeader) bool {
				return h.Key == "traceparent" && strings.HasPrefix(string(h.Value), "00-"+eventTrace)
			})
		})
	}

	p.signal(syscall.SIGTERM)
	if r := p.wait(t); r.code != 0 {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
	if len(c.named("read items")) == 0 {
		t.Error("the catalogue was read without a span")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.faults) > 0 || !c.services["shop"] || len(c.services) != 1 {
		t.Errorf("%v, services %v", c.faults, c.services)
	}
	if !strings.Contains(c.text.String(), "read items") {
		t.Errorf("no span's text is here: %s", c.text.String())
	}
	for _, secret := range []string{"u7", "u3", title(5)} {
		if strings.Contains(c.text.String(), secret) {
			t.Errorf("a span holds %q", secret)
		}
	}
}

// post sends a JSON body and expects a status.
func post(t *testing.T, url, body string, want int, headers ...string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		t.Fatalf("%s: %d %s %v", url, resp.StatusCode, b, err)
	}
	return string(b)
}

// TestACollectorThatIsAwayCostsSpansAlone: the stream runs as without, the log says so, and the end does not wait.
func TestACollectorThatIsAwayCostsSpansAlone(t *testing.T) {
	h := newHome(t, "", noLLM)
	events, items := csvLog(t, 100, 10, 20)
	p := startWith(t, program, []string{"OTEL_BSP_SCHEDULE_DELAY=20", fmt.Sprintf("OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:%d", freePort(t))}, "up", "-c", h.config)
	url := p.url(t)
	ok(t, "produce", items, "-c", h.config)
	ok(t, "produce", events, "-c", h.config)
	eventually(t, "the stream", func() bool { return counter(url, "corastream_events_total") == 100 })
	p.signal(syscall.SIGTERM)
	if r := p.wait(t); r.code != 0 || !strings.Contains(r.stderr, "spans are lost (fix: see OTEL_EXPORTER_OTLP_ENDPOINT") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}
