package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"

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

func TestDocumentsMayHaveAnyFields(t *testing.T) {
	f := newFixture(t, withLLM)
	for body, want := range map[string][]string{
		`[{"name":"Heat","year":1995,"genres":["Crime","Drama"],"more":{"x":1},"none":null},"i4"]`: {"name: Heat, year: 1995, genres: Crime, Drama", "Duck Soup"},
		`[{"title":"Heat","year":1995},{"text":"Ran","id":"nobody's"}]`:                            {"Heat", "Ran"},
		`[{"id":"i4","year":1995}]`: {"Duck Soup"},
		`[{"title":"Heat","plot":"a robbery"},{"plot":"rain"},{"id":"i4"}],"rank_fields":["plot"]`: {"a robbery", "rain", "Duck Soup"},
	} {
		var got RerankResponse
		f.ok("POST", "/v1/rerank", `{"query":"anna","documents":`+body+`}`, &got)
		titles := make([]string, len(got.Results))
		for _, r := range got.Results {
			titles[r.Index] = r.Title
		}
		if !slices.Equal(titles, want) {
			t.Errorf("%s is read as %q, want %q", body, titles, want)
		}
	}
	var d rerankDocument
	if err := json.Unmarshal([]byte(`{"title":"Heat","year":1995,"seen":true,"id":7}`), &d); err != nil {
		t.Fatal(err)
	}
	q := RerankRequest{Documents: []rerankDocument{d}}
	docs, err := q.documents()
	if err != nil || docs[0].ID != "7" || !maps.Equal(docs[0].Fields, map[string]string{"year": "1995", "seen": "true"}) {
		t.Errorf("%+v, %v", docs, err)
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

// longTexts refuses as the LLM does: by the prompt it was given, or by the place of a label.
type longTexts struct {
	byHand
	where string
}

func (l longTexts) LabelLogits(context.Context, []string, []int, []corastream.Weights, *corastream.Projection) ([][]float32, int, error) {
	return nil, 0, corastream.Usagef(l.where, "shorten it", "it is too long")
}

func TestARefusalOfTheLLMNamesWhatWasSent(t *testing.T) {
	for _, c := range []struct{ where, body, want string }{
		{"prompts[1]", `{"query":"q","items":["a","b"]}`, "items[1]"},
		{"labels[0]", `{"query":"q","items":["a"],"labels":[" Yes"]}`, "labels[0]"},
		{"labels[2]", `{"query":"q","items":["a"],"label_token_ids":[1,2,999999]}`, "label_token_ids[2]"},
	} {
		f := newFixture(t, withLLM, func(_ *Config, d *Deps) { d.Text = longTexts{where: c.where} })
		if code, fail := f.failure("POST", "/v1/score", c.body); code != 400 || fail.Field != c.want {
			t.Errorf("%s: %d %+v, want %s", c.body, code, fail, c.want)
		}
	}
}
