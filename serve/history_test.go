package serve

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
)

// next lists the film after the last one of the history, round and round.
type next struct{}

func (next) Window() int              { return 10 }
func (next) Describe(corastream.Item) {}
func (next) Learn(corastream.Step)    {}

func (next) Rank(q corastream.Query) (out []corastream.Candidate) {
	from := 0
	c := corastream.Candidate{Source: corastream.SourceTrending}
	if len(q.Recent) > 0 {
		c.Source, c.From = corastream.SourceSession, q.Recent[0].Item
		fmt.Sscanf(c.From, "i%d", &from)
	}
	for i := range 6 {
		if c.Item, c.Score = fmt.Sprintf("i%d", (from+i)%6+1), 1/float32(1+i); len(out) < q.N && !q.Skip(c.Item) {
			out = append(out, c)
		}
	}
	return out
}

// pastIDs reads ids alone; "?" is refused.
func pastIDs(entries [][]byte, now time.Time) (out []corastream.Interaction, err error) {
	for i, e := range entries {
		if string(e) == `"?"` {
			return nil, corastream.Usagef(fmt.Sprintf("[%d]", i), "send item_id", "no_item: item_id is missing")
		}
		out = append(out, corastream.Interaction{Item: strings.Trim(string(e), `"`), Label: 1, Time: now})
	}
	return out, nil
}

func TestAVisitorIsServedByTheHistoryThatTheRequestBrings(t *testing.T) {
	f := newFixture(t, func(_ *Config, d *Deps) { d.Past = pastIDs })
	f.pipeline.Ranker = next{}
	for _, c := range []struct{ body, items, text string }{
		{`{"history":["i2","i4"],"n":3}`, "i5 i6 i1", "goes with Duck Soup, which you just looked at"},
		{`{"user_id":"nobody","history":["i6"],"n":2}`, "i1 i2", "goes with Fargo, which you just looked at"},
		{`{"user_id":"anna","n":2}`, "i3 i4", "goes with Blade Runner, which you just looked at"},
		{`{"user_id":"anna","history":["i5"],"n":2}`, "i6 i3", "goes with Eraserhead, which you just looked at"},
		{`{"user_id":"anna","seen":"include","n":6}`, "i3 i4 i5 i6 i1 i2", "goes with Blade Runner, which you just looked at"},
		{`{"user_id":"nobody","n":1}`, "i1", "popular right now"},
	} {
		var out RecommendResponse
		f.ok("POST", "/v1/recommend", c.body, &out)
		var ids []string
		for _, it := range out.Items {
			ids = append(ids, it.Item)
		}
		if got := strings.Join(ids, " "); got != c.items || out.Items[0].Why.Text != c.text || out.Items[0].ListScore == 0 || out.Degraded != "" {
			t.Errorf("%s: %s, %+v", c.body, got, out.Items[0])
		}
	}
	var out RecommendResponse
	f.ok("POST", "/v1/recommend", `{"history":["i2"],"explain":true,"n":1}`, &out)
	if w := out.Items[0].Why; w.Source != "session" || w.Split == nil {
		t.Errorf("%+v", w)
	}
}

func TestHistoriesThatCanNotBeReadAreRefusedByName(t *testing.T) {
	f := newFixture(t, func(_ *Config, d *Deps) { d.Past = pastIDs })
	for body, field := range map[string]string{
		`{}`:                            "user_id",
		`{"history":[]}`:                "user_id",
		`{"history":["i1","?"]}`:        "history[1]",
		`{"history":"i1"}`:              "history",
		`{"user_id":"u","seen":"ever"}`: "seen",
		`{"history":["i1"` + strings.Repeat(`,"i1"`, corastream.MaxPast) + `]}`: "history",
	} {
		if status, fail := f.failure("POST", "/v1/recommend", body); status != http.StatusBadRequest || fail.Field != field {
			t.Errorf("%.60s: %d %+v", body, status, fail)
		}
	}
	if status, fail := newFixture(t).failure("POST", "/v1/recommend", `{"history":["i1"]}`); status != http.StatusNotImplemented {
		t.Errorf("%d %+v", status, fail)
	}
}
