package serve

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

func TestModels(t *testing.T) {
	f := newFixture(t)
	var got struct {
		Object string
		Data   []struct{ ID, Object, Parent, Digest string }
	}
	f.ok("GET", "/v1/models", "", &got)
	if got.Object != "list" || len(got.Data) != 2 || got.Data[1].Parent != "smollm" || got.Data[0].Object != "model" {
		t.Errorf("%+v", got)
	}
}

func TestReadyOnlyWhenToldAndAllChecksPass(t *testing.T) {
	check := Check{Name: "llm", Why: "loading"}
	f := newFixture(t, func(_ *Config, d *Deps) { d.Status = func() []Check { return []Check{check} } })
	f.SetReady(false)
	for _, step := range []struct {
		do     func()
		status int
		why    string
	}{
		{func() {}, 503, "recovering"},
		{func() { f.SetReady(true) }, 503, "loading"},
		{func() { check = Check{Name: "llm", OK: true} }, 200, ""},
		{func() { f.SetReady(false) }, 503, "recovering"},
	} {
		step.do()
		w := f.call("GET", "/readyz", "", nil)
		if w.Code != step.status || !strings.Contains(w.Body.String(), step.why) {
			t.Errorf("%d %s, want %d with %q", w.Code, w.Body, step.status, step.why)
		}
	}
}

func TestMetrics(t *testing.T) {
	f := newFixture(t, withLLM)
	st := &f.pipeline.Stats
	st.Events.Store(12)
	st.Duplicates.Store(2)
	st.DeadLetters.Store(5)
	st.Recommendations.Store(3)
	st.Freshness.Observe(30 * time.Millisecond)
	st.Freshness.Observe(3 * time.Hour)
	if err := f.Bury(t.Context(), []corastream.DeadLetter{{Reason: "json"}, {Reason: "json"}, {Reason: "nan"}}); err != nil {
		t.Fatal(err)
	}
	f.call("POST", "/v1/recommend", `{"user_id":"user-canary-77"}`, nil)
	f.call("GET", "/v1/users/user-canary-77", "", nil)
	f.call("BREW", "/nowhere", "", nil)
	body := f.call("GET", "/metrics", "", nil).Body.String()
	for _, want := range []string{
		"corastream_events_total 12", "corastream_duplicates_total 2", `corastream_dead_letters_total{reason="json"} 2`,
		`corastream_dead_letters_total{reason="nan"} 1`, `corastream_dead_letters_total{reason="unseen"} 2`,
		"corastream_recommendations_total 3", `corastream_freshness_seconds_bucket{le="0.05"} 1`, `corastream_freshness_seconds_bucket{le="+Inf"} 2`,
		"corastream_freshness_seconds_count 2", `corastream_lag_events{partition="0"} 3`, `corastream_running_auc{model="cf"} 0.75`, "corastream_ready 1",
		`corastream_http_request_seconds_count{code="200",method="POST",route="/v1/recommend"} 1`,
		`corastream_http_request_seconds_count{code="404",method="GET",route="/v1/users/{id}"} 1`,
		`corastream_http_request_seconds_count{code="404",method="other",route="/"} 1`,
		`corastream_build_info{goversion="go`, `version="1.2.3"} 1`, "go_goroutines ", "process_open_fds ",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if strings.Contains(body, "canary") {
		t.Error("an id became a label")
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestStatus(t *testing.T) {
	f := newFixture(t)
	f.pipeline.Stats.Freshness.Observe(40 * time.Millisecond)
	f.pipeline.Stats.Freshness.Observe(24 * time.Hour)
	start := time.Unix(1000, 0)
	for i := range 21 {
		f.curve.sample(start.Add(time.Duration(i)*time.Second), float64(i), int64(100*i), map[string]float64{"cf": .5 + float64(i)/100}, nil)
	}
	for i := range 30 {
		rec := corastream.Recommendation{User: fmt.Sprint("u", i), Made: start.Add(time.Second), Oldest: start}
		if err := f.Publish(t.Context(), []corastream.Recommendation{rec}); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Bury(t.Context(), []corastream.DeadLetter{{Pos: corastream.Position{Topic: "t", Partition: 1, Offset: 7}, Reason: "json", Detail: "d", Value: []byte("{\x00\xffü" + strings.Repeat("x", 500))}}); err != nil {
		t.Fatal(err)
	}
	var got StatusResponse
	f.ok("GET", "/v1/status", "", &got)
	if got.EventsPerS != 100 || len(got.Curve) != 21 || got.Curve[20].Events != 2000 || got.Curve[20].AUC["cf"] != .7 || got.AUC["cf"] != .75 {
		t.Errorf("rate %v, curve %+v", got.EventsPerS, got.Curve)
	}
	if len(got.Recent) != 20 || got.Recent[0].UserID != "u29" || *got.Recent[0].FreshnessMS != 1000 {
		t.Errorf("recent %+v", got.Recent)
	}
	l := got.RecentLetters[0]
	if l.Topic != "t" || l.Offset != 7 || !strings.HasPrefix(l.Preview, "{··üxxx") || len([]rune(l.Preview)) != previewBytes+1 || got.DeadLetters["json"] != 1 {
		t.Errorf("dead letters %+v", got.RecentLetters)
	}
	var sum int64
	for _, b := range got.Freshness.Buckets {
		sum += b.Count
	}
	if last := got.Freshness.Buckets[len(got.Freshness.Buckets)-1]; sum != 2 || last.LeMS != nil || last.Count != 1 || got.Freshness.P50MS > 50 || got.Freshness.P50MS < 40 {
		t.Errorf("freshness %+v", got.Freshness)
	}
	if !got.Ready || got.Facts[0].Name != "generator" || got.Gauges[0].Value != 3 || got.Version != "1.2.3" {
		t.Errorf("%+v", got)
	}
}

func TestForgetLeavesNoTraceOfAUser(t *testing.T) {
	f := newFixture(t, func(c *Config, _ *Deps) { c.Recent = 3 })
	for i := range 5 {
		user := []string{"anna", "user-canary-77"}[i%2]
		if err := f.Publish(t.Context(), []corastream.Recommendation{{User: user, ID: fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
		if err := f.Bury(t.Context(), []corastream.DeadLetter{{Reason: "nan", Value: []byte(`{"user_id":"` + user + `"}`)}}); err != nil {
			t.Fatal(err)
		}
	}
	f.Forget("user-canary-77")
	if err := f.Publish(t.Context(), []corastream.Recommendation{{User: "bob", ID: "new"}}); err != nil {
		t.Fatal(err)
	}
	body := f.call("GET", "/v1/status", "", nil).Body.String()
	if strings.Contains(body, "canary") || strings.Index(body, `"id":"new"`) > strings.Index(body, `"id":"4"`) || !strings.Contains(body, `"id":"2"`) {
		t.Errorf("%s", body)
	}
}

func TestCurveCoversTheWholeRunInBoundedPoints(t *testing.T) {
	var c curve
	const seconds = 20_000
	for i := range seconds {
		c.sample(time.Unix(int64(i), 0), float64(i), int64(i), map[string]float64{"cf": .5}, nil)
	}
	for i := range 1000 { // an idle night
		c.sample(time.Unix(int64(seconds+i), 0), float64(seconds+i), seconds-1, map[string]float64{"cf": .5}, nil)
	}
	points, rate := c.snapshot()
	if len(points) > maxPoints || len(points) < maxPoints/2-1 || points[0].Events != 0 || points[len(points)-1].Events < seconds*9/10 || rate != 0 {
		t.Errorf("%d points from %v to %v, rate %v", len(points), points[0].Events, points[len(points)-1].Events, rate)
	}
	for i := 1; i < len(points); i++ {
		if points[i].Events <= points[i-1].Events {
			t.Fatalf("point %d goes back", i)
		}
	}
}

func TestReasonsAreBounded(t *testing.T) {
	f := newFixture(t)
	for i := range 100 {
		if err := f.Bury(t.Context(), []corastream.DeadLetter{{Reason: fmt.Sprint("made up ", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	f.pipeline.Stats.DeadLetters.Store(100)
	if n := f.deadLetters(); len(n) != maxReasons+1 || n["other"] != 100-maxReasons {
		t.Errorf("%v", n)
	}
}

// TestRoutesWithoutTheirPartSayWhatIsMissing: `run --stages` may start a server without a store or a broker. A route answers 501 then
// if its description says so, and no other does.
func TestRoutesWithoutTheirPartSayWhatIsMissing(t *testing.T) {
	f := newFixture(t, func(_ *Config, d *Deps) { *d = Deps{Log: d.Log} })
	for _, rt := range f.routes() {
		w := f.call(rt.method, example(rt), rt.example, nil)
		needs := slices.Contains(rt.fails, http.StatusNotImplemented)
		if needs && (w.Code != 501 || !strings.Contains(w.Body.String(), "fix")) || !needs && w.Code >= 400 && rt.path != "/v1/models/{model}" {
			t.Errorf("%s %s: %d %s", rt.method, rt.path, w.Code, w.Body)
		}
	}
}
