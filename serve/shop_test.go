package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/mix"
)

// shop is a fixture with the real list model: anna and carl take i1, i3 and i5, bob takes i2 and i4, and i6 is new.
func shop(t *testing.T, change ...func(*Config, *Deps)) *fixture {
	t.Helper()
	m, err := mix.New(mix.Default())
	if err != nil {
		t.Fatal(err)
	}
	crowd := NewCrowd()
	f := newFixture(t, append([]func(*Config, *Deps){func(_ *Config, d *Deps) {
		d.Past, d.Crowd, d.Browser = pastIDs, crowd, d.Recommender.(Browser)
	}}, change...)...)
	for i := range 6 {
		it, _ := f.store.m.Item(fmt.Sprint("i", i+1))
		it.Fields = map[string]string{"brand": string("ab"[i%2])}
		m.Describe(it.Item)
	}
	at := time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC)
	for n := range 10 {
		for user, items := range map[string][]string{"anna": {"i1", "i3"}, "bob": {"i2", "i4"}, "carl": {"i1", "i3", "i5"}} {
			var recent []corastream.Interaction
			for _, id := range items {
				ev := corastream.Event{User: user, Item: id, Label: 1, Weight: 1, Time: at.Add(time.Duration(n) * time.Hour)}
				m.Learn(corastream.Step{Item: id, Positive: true, Met: n > 0, Time: ev.Time, Recent: recent})
				recent = append([]corastream.Interaction{{Item: id, Label: 1, Time: ev.Time}}, recent...)
				crowd.Observe(ev, corastream.Pair{}, nil)
				if n == 0 {
					u, _ := f.store.m.User(user)
					u.Remember(ev, 0)
				}
			}
		}
	}
	f.pipeline.Ranker = m
	return f
}

func (f *fixture) list(path string) (ids string, out ListResponse) {
	f.t.Helper()
	f.ok("GET", path, "", &out)
	for _, it := range out.Items {
		ids += it.ItemID + " "
	}
	return ids, out
}

func TestListsForEverybodyAreServedWithFiltersAndReasons(t *testing.T) {
	f := shop(t)
	for path, want := range map[string]string{
		"/v1/popular?n=2":                     "i1 i3 ",
		"/v1/popular?n=9&allow=brand:b":       "i2 i4 ",
		"/v1/popular?n=9&deny=brand:b":        "i1 i3 i5 ",
		"/v1/latest?n=2":                      "i6 i5 ",
		"/v1/items/i1/similar?n=1":            "i3 ",
		"/v1/items/i1/similar?deny=brand:a":   "",
		"/v1/trending?window=7d&allow=year:1": "",
	} {
		if got, _ := f.list(path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	_, out := f.list("/v1/items/i1/similar?n=1")
	if it := out.Items[0]; it.Why.Text != "because of Alien" || it.Title != "Casablanca" || it.Rank != 1 {
		t.Errorf("%+v", it)
	}
	for path, field := range map[string]string{
		"/v1/popular?n=0": "n", "/v1/popular?window=7": "window", "/v1/popular?allow=brand": "allow", "/v1/popular?category=x": "category",
		"/v1/popular?cursor=x": "cursor", "/v1/items/i1/similar?window=7d": "window", "/v1/popular?n=1&n=2": "n",
	} {
		if status, fail := f.failure("GET", path, ""); status != 400 || fail.Field != field {
			t.Errorf("%s: %d %+v", path, status, fail)
		}
	}
	if status, _ := f.failure("GET", "/v1/items/nothing/similar", ""); status != 404 {
		t.Error(status)
	}
}

func TestScrollingThroughAListShowsNoItemTwice(t *testing.T) {
	f := shop(t)
	_, first := f.list("/v1/latest?n=4")
	it, _ := f.store.m.Item("i9")
	it.Title = "Gilda"
	f.pipeline.Ranker.Describe(it.Item) // a newer item comes while somebody scrolls
	if ids, second := f.list("/v1/latest?n=4&cursor=" + first.Cursor); ids != "i2 i1 " || second.Items[0].Rank != 5 || second.Cursor != "" {
		t.Errorf("%s %+v", ids, second)
	}
	if ids, _ := f.list("/v1/latest?n=1"); ids != "i9 " {
		t.Error(ids)
	}
	if status, fail := f.failure("GET", "/v1/popular?cursor="+first.Cursor, ""); status != 400 || fail.Field != "cursor" {
		t.Errorf("another list's cursor: %d %+v", status, fail)
	}

	var a, b RecommendResponse
	f.ok("POST", "/v1/recommend", `{"user_id":"dora","n":2,"cursor":"new"}`, &a)
	for range 30 { // what is learnt meanwhile changes the list, not the page
		f.pipeline.Ranker.Learn(corastream.Step{Item: "i6", Positive: true, Time: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)})
	}
	f.ok("POST", "/v1/recommend", `{"user_id":"dora","n":2,"cursor":"`+a.Cursor+`"}`, &b)
	var all []string
	for _, it := range slices.Concat(a.Items, b.Items) {
		if slices.Contains(all, it.Item) || it.Item == "i6" {
			t.Errorf("%s after %v", it.Item, all)
		}
		all = append(all, it.Item)
	}
	if len(all) != 4 || b.Items[0].Rank != 3 || b.Cursor == a.Cursor {
		t.Errorf("%v %+v", all, b)
	}
	if status, fail := f.failure("POST", "/v1/recommend", `{"user_id":"eve","cursor":"`+a.Cursor+`"}`); status != 400 || fail.Field != "cursor" {
		t.Errorf("another user's cursor: %d %+v", status, fail)
	}
	f.Forget("dora")
	if status, fail := f.failure("POST", "/v1/recommend", `{"user_id":"dora","cursor":"`+a.Cursor+`"}`); status != http.StatusGone || fail.Code != "cursor_gone" {
		t.Errorf("an erased user's cursor: %d %+v", status, fail)
	}
}

func TestKeptListsAreBounded(t *testing.T) {
	p, now := newPages(2), time.Now()
	items := make([]corastream.Listed, 3)
	a, b := p.keep("x", items, 1, now), p.keep("x", items, 1, now)
	p.keep("x", items, 1, now)
	if _, _, _, err := p.next("x", a, 1, now); err == nil {
		t.Error("the oldest list is still there")
	}
	if got, from, after, err := p.next("x", b, 1, now); err != nil || len(got) != 1 || from != 1 || after == "" {
		t.Error(got, from, after, err)
	}
	if _, _, _, err := p.next("x", b, 1, now.Add(pageLife+1)); err == nil {
		t.Error("a list is kept for ever")
	}
}

func TestUsersOfLikeTasteAreFound(t *testing.T) {
	f := shop(t)
	var out SimilarUsersResponse
	f.ok("GET", "/v1/users/anna/similar", "", &out)
	if len(out.Users) != 1 || out.Users[0].UserID != "carl" || out.Users[0].Common < 2 || out.Users[0].Shared[0].Title == "" {
		t.Errorf("%+v", out)
	}
	f.Forget("carl")
	f.ok("GET", "/v1/users/anna/similar", "", &out)
	if len(out.Users) != 0 {
		t.Errorf("an erased user: %+v", out)
	}
	if status, _ := f.failure("GET", "/v1/users/nobody/similar", ""); status != 404 {
		t.Error(status)
	}
}

func TestASessionBecomesTheUsersAtLoginOnce(t *testing.T) {
	f := shop(t)
	for range 2 {
		if w := f.call("POST", "/v1/users/anna/merge", `{"from":"carl"}`, nil); w.Code != http.StatusAccepted {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	half := len(f.sent.events) / 2
	if half != 3 || !slices.Equal(f.sent.events[:half], f.sent.events[half:]) {
		t.Fatalf("two merges of one session differ: %v", f.sent.events)
	}
	var ev struct {
		ID, Timestamp string
		User          string `json:"user_id"`
		Item          string `json:"item_id"`
		Label         float32
	}
	if err := json.Unmarshal([]byte(f.sent.events[0]), &ev); err != nil || ev.User != "anna" || ev.Item != "i1" || ev.Label != 1 || ev.ID == "" || ev.Timestamp != "2026-01-02T04:00:00Z" {
		t.Errorf("%+v %v", ev, err)
	}
	for body, field := range map[string]string{`{}`: "from", `{"from":"anna"}`: "from", `{"history":["?"]}`: "history[0]"} {
		if status, fail := f.failure("POST", "/v1/users/anna/merge", body); status != 400 || fail.Field != field {
			t.Errorf("%s: %d %+v", body, status, fail)
		}
	}
}

func TestWhatIsShownIsWrittenBackWhereTheRequestAsks(t *testing.T) {
	f := shop(t)
	var out RecommendResponse
	f.ok("POST", "/v1/recommend", `{"user_id":"anna","n":2}`, &out)
	if len(f.sent.events) > 0 || out.WrittenBack {
		t.Fatal("written back unasked")
	}
	f.ok("POST", "/v1/recommend", `{"user_id":"anna","n":2,"write_back":true}`, &out)
	if len(f.sent.events) != 1 || !out.WrittenBack || !strings.Contains(f.sent.events[0], `"type":"impression"`) || !strings.Contains(f.sent.events[0], out.Items[0].Item) {
		t.Errorf("%v %+v", f.sent.events, out)
	}
	f.sent.err = fmt.Errorf("the broker is away")
	f.ok("POST", "/v1/recommend", `{"user_id":"anna","n":2,"write_back":true}`, &out)
	if len(out.Items) == 0 {
		t.Error("an answer was withheld")
	}
	if status, fail := f.failure("POST", "/v1/recommend", `{"history":["i1"],"write_back":true}`); status != 400 || fail.Field != "write_back" {
		t.Errorf("%d %+v", status, fail)
	}
}

func TestListsByNameHaveTheirSourcesFiltersAndVariety(t *testing.T) {
	f := shop(t)
	f.pipeline.Config.Recommend = corastream.RecommendConfig{Lists: map[string]corastream.ListConfig{
		"cart":  {Sources: []string{corastream.ListSimilar}, Items: 1},
		"home":  {Sources: []string{corastream.ListTrending, corastream.ListPopular}, Items: 3, Variety: corastream.Variety{Cap: map[string]int{"brand": 1}}},
		"fresh": {Sources: []string{corastream.ListLatest}, Deny: map[string][]string{"brand": {"b"}}, Items: 2},
	}}
	for body, want := range map[string]string{
		`{"history":["i1"],"list":"cart"}`:                  "i3 ",
		`{"user_id":"nobody","list":"fresh"}`:               "i5 i3 ",
		`{"user_id":"nobody","list":"fresh","n":1}`:         "i5 ",
		`{"user_id":"nobody","list":"home"}`:                "i1 i2 ",
		`{"history":["i2"],"list":"cart","seen":"include"}`: "i4 ",
	} {
		var out RecommendResponse
		f.ok("POST", "/v1/recommend", body, &out)
		ids := ""
		for _, it := range out.Items {
			ids += it.Item + " "
		}
		if ids != want {
			t.Errorf("%s: %q, want %q", body, ids, want)
		}
	}
	if status, fail := f.failure("POST", "/v1/recommend", `{"user_id":"a","list":"?"}`); status != 400 || fail.Field != "list" {
		t.Errorf("%d %+v", status, fail)
	}
}

// TestAListIsFilledWithTheNewestItems: few items were ever taken in a new shop, and its home page has ten places.
func TestAListIsFilledWithTheNewestItems(t *testing.T) {
	f := shop(t)
	f.pipeline.Config.Seen = corastream.SeenExclude
	for body, want := range map[string]bool{
		`{"user_id":"nobody","n":6}`:                          true,
		`{"user_id":"anna","n":6}`:                            true,
		`{"user_id":"nobody","n":6,"deny":{"brand":["b"]}}`:   false,
		`{"user_id":"nobody","n":6,"exclude":["i6"]}`:         false,
		`{"user_id":"nobody","candidates":["i1","i2"],"n":6}`: false,
		`{"history":["i6"],"n":6}`:                            false,
		`{"history":["i6"],"n":6,"seen":"include"}`:           true,
	} {
		var out RecommendResponse
		f.ok("POST", "/v1/recommend", body, &out)
		ids, scores := []string{}, []float32{}
		for _, it := range out.Items {
			ids, scores = append(ids, it.Item), append(scores, it.ListScore)
		}
		slices.Reverse(scores)
		whole := slices.Clone(ids)
		slices.Sort(whole)
		if slices.Contains(ids, "i6") != want || !slices.IsSorted(scores) || len(slices.Compact(whole)) != len(ids) {
			t.Errorf("%s: %v, want i6: %v; %v", body, ids, want, scores)
		}
	}
}

// TestTheNewestItemsKeepToTheCap: what fills a list is held to the same cap.
func TestTheNewestItemsKeepToTheCap(t *testing.T) {
	f := shop(t)
	f.pipeline.Config.Recommend.Cap = map[string]int{"brand": 2}
	var out RecommendResponse
	f.ok("POST", "/v1/recommend", `{"user_id":"nobody","n":6}`, &out)
	by := map[string]int{}
	for _, it := range out.Items {
		st, _ := f.store.m.Item(it.Item)
		by[st.Fields["brand"]]++
	}
	if by["a"] != 2 || by["b"] != 2 {
		t.Errorf("%v in %+v", by, out.Items)
	}
}

func TestWhatWasShownInVainFallsBack(t *testing.T) {
	f := shop(t)
	f.pipeline.Config.Recommend.ShownDecay = .05
	ask := func() string {
		var out RecommendResponse
		f.ok("POST", "/v1/recommend", `{"user_id":"zoe","n":1}`, &out)
		return out.Items[0].Item
	}
	first := ask()
	u, _ := f.store.m.User("zoe")
	for range 3 {
		u.History = append(u.History, corastream.Interaction{Item: first, Shown: true, Time: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)})
	}
	if again := ask(); again == first {
		t.Errorf("%s leads after it was shown 3 times", again)
	}
}

func TestAUsersEventsAreReadByPages(t *testing.T) {
	f := shop(t)
	var a, b UserEventsResponse
	f.ok("GET", "/v1/users/anna/events?n=5", "", &a)
	f.ok("GET", "/v1/users/anna/events?n=100&cursor="+a.Cursor, "", &b)
	if a.Total != 12 || len(a.Events) != 5 || len(b.Events) != 7 || b.Cursor != "" || a.Events[0].ItemID != "i3" {
		t.Errorf("%+v %+v", a, b)
	}
}
