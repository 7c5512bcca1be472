package serve

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

func ids(items []RecommendedItem) string {
	var out []string
	for _, it := range items {
		out = append(out, it.Item)
	}
	return strings.Join(out, " ")
}

// sorted is for sets whose order is not what a test is about.
func sorted(text string) string {
	f := strings.Fields(text)
	slices.Sort(f)
	return strings.Join(f, " ")
}

func TestRecommend(t *testing.T) {
	f := newFixture(t)
	var anna, bob RecommendResponse
	f.ok("POST", "/v1/recommend", `{"user_id":"anna","n":2,"request_id":"r1"}`, &anna)
	f.ok("POST", "/v1/recommend", `{"user_id":"bob","n":2}`, &bob)
	if sorted(ids(anna.Items)) != "i3 i5" || sorted(ids(bob.Items)) != "i4 i6" {
		t.Errorf("opposite tastes must get opposite films: %s against %s", ids(anna.Items), ids(bob.Items))
	}
	if first := anna.Items[0]; first.Rank != 1 || first.Title == "" || first.Score != first.CF || first.Score < anna.Items[1].Score {
		t.Errorf("the first item: %+v", first)
	}
	if anna.ID == "" || anna.RequestID != "r1" || anna.UserID != "anna" || anna.Degraded != "cf" || anna.Cold || anna.Note != "" ||
		anna.Versions.User != 10 || anna.Made.IsZero() || anna.FreshnessMS != nil || anna.Candidates != 4 {
		t.Errorf("%+v", anna)
	}
	if !strings.HasPrefix(bob.RequestID, "http-") || bob.ID == anna.ID {
		t.Errorf("%+v", bob)
	}
	var again RecommendResponse
	f.ok("POST", "/v1/recommend", `{"user_id":"anna","n":2,"request_id":"r1"}`, &again)
	if again.ID != anna.ID {
		t.Error("the same request on the same state must have the same id")
	}
}

func TestRecommendForAStrangerSaysSo(t *testing.T) {
	f := newFixture(t)
	var got RecommendResponse
	f.ok("POST", "/v1/recommend", `{"user_id":"nobody"}`, &got)
	if !got.Cold || got.Note == "" || len(got.Items) != 6 || got.Versions.User != 0 {
		t.Errorf("%+v", got)
	}
}

func TestRecommendKeepsToCandidatesAndExclude(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ body, want string }{
		{`{"user_id":"anna","exclude":["i3","nothing"]}`, "i4 i5 i6"},
		{`{"user_id":"anna","candidates":["i1","i4","i1"]}`, "i1 i4"},
		{`{"user_id":"anna","candidates":["i1","i4","i5"],"exclude":["i4"]}`, "i1 i5"},
	} {
		var got RecommendResponse
		f.ok("POST", "/v1/recommend", c.body, &got)
		if sorted(ids(got.Items)) != c.want {
			t.Errorf("%s: %s, want %s", c.body, ids(got.Items), c.want)
		}
	}
}

func TestRecommendExplains(t *testing.T) {
	f := newFixture(t)
	var got RecommendResponse
	f.ok("POST", "/v1/recommend", `{"user_id":"anna","explain":true}`, &got)
	for _, it := range got.Items {
		z := float64(it.Why.Mean + it.Why.User + it.Why.Item + it.Why.Match)
		if p := 1 / (1 + math.Exp(-z)); math.Abs(p-float64(it.CF)) > 1e-6 {
			t.Errorf("%s: the parts give %v, CF says %v", it.Item, p, it.CF)
		}
		// The odd films have the content of what anna liked, the even ones of what she did not.
		if odd := it.Item == "i3" || it.Item == "i5"; odd != (it.Why.Match > 0) || odd != (it.Why.Because != nil && it.Why.Because.ItemID == "i1") {
			t.Errorf("%s: %+v", it.Item, it.Why)
		}
	}
}

func TestScoreIsTheLLMsWithThisUsersWeights(t *testing.T) {
	f := newFixture(t, withLLM)
	var got ScoreResponse
	f.ok("POST", "/v1/score", `{"user_id":"anna","items":["i1",{"item_id":"i4"},{"text":"Gilda"},"Heat",{"id":"i2","text":"another title"}]}`, &got)
	want := []struct {
		id, title string
		known     bool
	}{{"i1", "Alien", true}, {"i4", "Duck Soup", true}, {"", "Gilda", false}, {"", "Heat", false}, {"i2", "Blade Runner", true}}
	if len(got.Data) != len(want) || got.Degraded != "" || got.Versions.Generator != "sha256:gen" || got.Model != "smollm+cora" || got.Cold {
		t.Fatalf("%+v", got)
	}
	for i, w := range want {
		d := got.Data[i]
		p := 1 / (1 + math.Exp(-float64(len(w.title))*4/10)) // len("anna") = 4
		if d.Index != i || d.ItemID != w.id || d.Title != w.title || *d.Known != w.known || math.Abs(d.Score-p) > 1e-6 || math.Abs(got.Scores[i][0]+got.Scores[i][1]-1) > 1e-9 {
			t.Errorf("item %d: %+v, want %+v with %v", i, d, w, p)
		}
	}
	var bob ScoreResponse
	f.ok("POST", "/v1/score", `{"user_id":"bob","items":["i1"]}`, &bob)
	if bob.Data[0].Score == got.Data[0].Score {
		t.Error("two users must have two scores")
	}
}

func TestScoreGoesOnByCF(t *testing.T) {
	f := newFixture(t)
	var got ScoreResponse
	f.ok("POST", "/v1/score", `{"user_id":"stranger","items":["i1"]}`, &got)
	if got.Degraded != "cf" || !got.Cold || got.Note == "" || got.Data[0].Score != *got.Data[0].CF || got.Versions.Generator != "" {
		t.Errorf("%+v", got)
	}
}

func TestScoreText(t *testing.T) {
	f := newFixture(t, withLLM)
	var got, personal, first, raw ScoreResponse
	f.ok("POST", "/v1/score", `{"model":"smollm","query":"Is it good? ","items":["Alien","Up"],"label_token_ids":[9,4],"apply_softmax":true,"item_first":false}`, &got)
	for i, n := range []int{17, 14} { // prompt lengths
		want := 1 / (1 + math.Exp(float64(4-9)*float64(n)/100))
		if math.Abs(got.Data[i].Score-want) > 1e-6 || math.Abs(got.Scores[i][0]-want) > 1e-6 || math.Abs(got.Scores[i][1]-1+want) > 1e-6 {
			t.Errorf("%d: %+v, want %v", i, got.Data[i], want)
		}
	}
	if got.Usage.PromptTokens != 31 || got.Model != "smollm" || got.Object != "list" {
		t.Errorf("%+v", got)
	}
	f.ok("POST", "/v1/score", `{"query":"Is it good? ","items":["Alien"],"label_token_ids":[9,4],"user_id":"anna"}`, &personal)
	if personal.Data[0].Score <= got.Data[0].Score {
		t.Error("the user's weights must be merged in")
	}
	f.ok("POST", "/v1/score", `{"query":"Yes!","items":["A"],"item_first":true,"apply_softmax":false,"labels":["abc","a"]}`, &first)
	f.ok("POST", "/v1/score", `{"query":"","items":["AYes!"],"apply_softmax":false,"labels":["abc","a"]}`, &raw)
	if !slices.Equal(first.Scores[0], raw.Scores[0]) || math.Abs(raw.Scores[0][0]-.15) > 1e-6 {
		t.Errorf("item first %v, by hand %v", first.Scores, raw.Scores)
	}
	none := newFixture(t)
	if code, fail := none.failure("POST", "/v1/score", `{"query":"q","items":["a"]}`); code != 400 || fail.Field != "query" || fail.Fix == "" {
		t.Errorf("without an LLM: %d %+v", code, fail)
	}
}

func TestRerank(t *testing.T) {
	f := newFixture(t, withLLM)
	var got RerankResponse
	// As Cohere's and Jina's clients send it.
	f.ok("POST", "/v1/rerank", `{"model":"smollm+cora","query":"anna","documents":["i1",{"text":"A rather long title"},"i4"],"top_n":2,"return_documents":true,"max_tokens_per_doc":4096}`, &got)
	if len(got.Results) != 2 || got.Results[0].Index != 1 || got.Results[1].Index != 2 || got.Results[0].RelevanceScore <= got.Results[1].RelevanceScore {
		t.Fatalf("%+v", got)
	}
	if d := string(got.Results[0].Document); d != `{"text":"A rather long title"}` {
		t.Errorf("an object must come back as it was: %s", d)
	}
	if d := string(got.Results[1].Document); d != `{"text":"i4"}` || got.Results[1].ItemID != "i4" || got.Results[1].Title != "Duck Soup" {
		t.Errorf("%s %+v", d, got.Results[1])
	}
	var named RerankResponse
	f.ok("POST", "/v1/rerank", `{"query":{"user_id":"anna"},"documents":["i1","i2","i4"],"top_n":99}`, &named)
	if len(named.Results) != 3 || named.Results[0].Document != nil || named.Cold {
		t.Errorf("%+v", named)
	}
}

func TestEventsReachTheSinkAsTheyCame(t *testing.T) {
	f := newFixture(t)
	one, two := `{"user_id":"anna","item_id":"i3"}`, `{"UserId":"bob","ItemId":"i4","FeedbackType":"like"}`
	for _, c := range []struct {
		body    string
		headers []string
		events  []string
		ce      string
	}{
		{one, nil, []string{one}, ""},
		{"[" + one + ", " + two + "]", nil, []string{one, two}, ""},
		{two, []string{"Content-Type", "application/cloudevents+json"}, []string{two}, ""},
		{"[" + two + "]", []string{"Content-Type", "application/cloudevents-batch+json; charset=utf-8"}, []string{two}, ""},
		{one, []string{"Ce-Id", "e1", "Ce-Type", "click"}, []string{one}, "e1"},
	} {
		f.sent.events = nil
		w := f.call("POST", "/v1/events", c.body, nil, c.headers...)
		if w.Code != http.StatusAccepted || strings.TrimSpace(w.Body.String()) != fmt.Sprintf(`{"accepted":%d}`, len(c.events)) || !slices.Equal(f.sent.events, c.events) || f.sent.headers["ce-id"] != c.ce {
			t.Errorf("%s: %d %s, sent %q %v", c.body, w.Code, w.Body, f.sent.events, f.sent.headers)
		}
	}
	if code, fail := f.failure("POST", "/v1/events", "["+one+","+two+"]", "Ce-Id", "e1"); code != 400 || fail.Field != "ce-id" {
		t.Errorf("headers of one event over two: %d %+v", code, fail)
	}
	for _, c := range []struct {
		err    error
		status int
		field  string
	}{
		{corastream.Usagef("[3].user_id", "give an id", "it is missing"), 400, "[3].user_id"},
		{fmt.Errorf("produce: %w", corastream.ErrOverloaded), 503, ""},
		{errors.New("broker 10.1.2.3 refused canary"), 500, ""},
	} {
		f.sent.err = c.err
		code, fail := f.failure("POST", "/v1/events", one)
		if code != c.status || fail.Field != c.field || strings.Contains(fail.Message, "canary") {
			t.Errorf("%v: %d %+v", c.err, code, fail)
		}
	}
	if !strings.Contains(f.log.String(), "canary") {
		t.Error("what the client is not told must be in the log")
	}
}

func TestUserPageTells(t *testing.T) {
	f := newFixture(t)
	if err := f.Publish(t.Context(), []corastream.Recommendation{{ID: "x", User: "anna", Items: []corastream.Scored{{Item: "i3", Title: "Casablanca"}}}}); err != nil {
		t.Fatal(err)
	}
	var got UserResponse
	f.ok("GET", "/v1/users/anna", "", &got)
	if got.Events != 10 || got.Liked != 5 || got.Total != 10 || len(got.History) != 10 || got.History[0].Title != "Blade Runner" || got.History[0].Label != 0 ||
		got.History[0].Time.Before(got.History[9].Time) {
		t.Errorf("%+v", got)
	}
	if len(got.Taste) != 6 || got.Taste[0].Cosine < .5 || got.Taste[5].Cosine > -.5 || got.Taste[0].Title == "" {
		t.Errorf("taste must point to the films like Alien, and away from those like Blade Runner: %+v", got.Taste)
	}
	if len(got.Recent) != 1 || got.Recent[0].ID != "x" {
		t.Errorf("%+v", got.Recent)
	}
	if code, fail := f.failure("GET", "/v1/users/nobody", ""); code != 404 || fail.Code != "unknown_user" || fail.Fix == "" {
		t.Errorf("%d %+v", code, fail)
	}
}

func TestItemPageTells(t *testing.T) {
	f := newFixture(t)
	var got ItemResponse
	f.ok("GET", "/v1/items/i1", "", &got)
	if got.Title != "Alien" || got.Fields["year"] != "1979" || got.Status != "available" || got.Events != 10 || !got.Read || len(got.Similar) != 5 ||
		sorted(got.Similar[0].ItemID+" "+got.Similar[1].ItemID) != "i3 i5" || got.Similar[0].Cosine < .9 {
		t.Errorf("%+v", got)
	}
	it, _ := f.store.m.Item("i1")
	it.Withdrawn = true
	f.ok("GET", "/v1/items/i1", "", &got)
	if got.Status != "withdrawn" {
		t.Errorf("%+v", got)
	}
	if code, fail := f.failure("GET", "/v1/items/nothing", ""); code != 404 || fail.Code != "unknown_item" || fail.Fix == "" {
		t.Errorf("%d %+v", code, fail)
	}
}

// TestAnyIDCanBeLookedUp: ids are the organisation's own; what a path can not carry plainly comes percent-encoded.
func TestAnyIDCanBeLookedUp(t *testing.T) {
	f := newFixture(t)
	for id, path := range map[string]string{"a/b": "a%2Fb", "Zoë 7": "Zo%C3%AB%207", "a?b#c": "a%3Fb%23c", "100%": "100%25", "<b>": "%3Cb%3E", "a+b": "a+b"} {
		f.store.m.Put(corastream.Item{ID: id, Title: "T"})
		var got ItemResponse
		f.ok("GET", "/v1/items/"+path, "", &got)
		if got.ItemID != id {
			t.Errorf("%s gave %q", path, got.ItemID)
		}
	}
}

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
