package serve

import (
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics has a registry of its own. So metrics that libraries register elsewhere do not show, and
// two servers can run in one process.
type metrics struct {
	handler  http.Handler
	requests *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	inFlight prometheus.Gauge
	tokens   prometheus.Counter
	answers  *prometheus.CounterVec
}

func newMetrics(s *Server) *metrics {
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "corastream_http_request_seconds", Help: "Time to answer an HTTP request.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method", "code"}),
		refused:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "corastream_http_refused_total", Help: "Requests refused for load: overloaded, rate_limited, degraded."}, []string{"reason"}),
		tokens:   prometheus.NewCounter(prometheus.CounterOpts{Name: "corastream_generated_tokens_total", Help: "Tokens said in conversations."}),
		answers:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "corastream_generations_total", Help: "Answers in conversations, by whose weights and how they ended."}, []string{"weights", "finish"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{Name: "corastream_http_in_flight", Help: "HTTP requests being answered."}),
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.requests, m.refused, m.inFlight, m.tokens, m.answers, stageCollector{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(reg, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: 4})
	return m
}

// observe counts one request. Clients can make up methods, so only those of the API become labels.
func (m *metrics) observe(route, method string, status int, took time.Duration) {
	if !slices.Contains([]string{"GET", "HEAD", "POST"}, method) {
		method = "other"
	}
	if status == 0 {
		status = http.StatusOK
	}
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Observe(took.Seconds())
}

func (s *Server) metricsPage(w http.ResponseWriter, r *http.Request) error {
	s.metrics.handler.ServeHTTP(w, r)
	return nil
}

// stageCollector reads the pipeline's own counters when it is asked, so nothing is counted twice.
type stageCollector struct{ s *Server }

// Describe sends nothing: Gauges decides at run time which metrics there are.
func (stageCollector) Describe(chan<- *prometheus.Desc) {}

var freshnessBounds = []time.Duration{
	ms(5), ms(10), ms(25), ms(50), ms(100), ms(250), ms(500), time.Second, ms(2500), 5 * time.Second, 10 * time.Second,
	30 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour,
}

// Collect implements prometheus.Collector.
func (c stageCollector) Collect(out chan<- prometheus.Metric) {
	s := c.s
	send := func(kind prometheus.ValueType, name, help string, value float64, labels map[string]string) {
		keys := slices.Sorted(maps.Keys(labels))
		values := make([]string, len(keys))
		for i, k := range keys {
			values[i] = labels[k]
		}
		desc := prometheus.NewDesc("corastream_"+name, help, keys, nil)
		m, err := prometheus.NewConstMetric(desc, kind, value, values...)
		if err != nil {
			m = prometheus.NewInvalidMetric(desc, err)
		}
		out <- m
	}
	st := s.deps.Stats
	for _, x := range []struct {
		name, help string
		value      int64
	}{
		{"events_total", "Events learnt.", st.Events.Load()},
		{"duplicates_total", "Events dropped because they had been learnt before.", st.Duplicates.Load()},
		{"items_read_total", "Catalogue items read by the LLM.", st.ItemsRead.Load()},
		{"recommendations_total", "Recommendations published.", st.Recommendations.Load()},
		{"degraded_total", "Scoring batches that fell back to CF alone after an error.", st.Degraded.Load()},
	} {
		send(prometheus.CounterValue, x.name, x.help, float64(x.value), nil)
	}
	for reason, n := range s.deadLetters() {
		send(prometheus.CounterValue, "dead_letters_total", "Records that could not be used.", float64(n), map[string]string{"reason": reason})
	}
	h := &st.Freshness
	out <- prometheus.MustNewConstHistogram(
		prometheus.NewDesc("corastream_freshness_seconds", "From the append of the oldest newly covered event to its recommendation.", nil, nil),
		uint64(h.Count()), h.Sum().Seconds(), h.Cumulative(freshnessBounds))
	ready := 0.
	if ok, _ := s.readiness(); ok {
		ready = 1
	}
	send(prometheus.GaugeValue, "ready", "1 when /readyz says so.", ready, nil)
	send(prometheus.GaugeValue, "http_waiting", "Requests waiting for a slot.", float64(s.gate.waiting.Load()+s.inlet.waiting.Load()), nil)
	send(prometheus.GaugeValue, "generations_waiting", "Conversations waiting for a slot.", float64(s.talk.waiting.Load()), nil)
	send(prometheus.GaugeValue, "build_info", "Always 1; the labels tell the build.", 1, map[string]string{"version": s.deps.Version, "goversion": runtime.Version()})
	if s.deps.AUC != nil {
		for model, auc := range s.deps.AUC() {
			send(prometheus.GaugeValue, "running_auc", "Prequential AUC so far.", auc, map[string]string{"model": model})
		}
	}
	for list, share := range figures(s.deps.Hits) {
		send(prometheus.GaugeValue, "running_hits10", "Share of likes whose item stood among the first 10 of a list made just before.", share, map[string]string{"list": list})
	}
	if s.deps.Gauges != nil {
		for _, g := range s.deps.Gauges() {
			send(prometheus.GaugeValue, g.Name, g.Help, g.Value, g.Labels)
		}
	}
}
