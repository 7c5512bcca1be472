package decode

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/bounded"
)

var recordTime = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func decodeOne(cfg Config, topic, key, value string, headers ...Header) corastream.Batch {
	var b corastream.Batch
	r := Record{Pos: corastream.Position{Topic: topic, Partition: 1, Offset: 5}, Headers: headers, Time: recordTime, Covers: 1}
	if key != "" {
		r.Key = []byte(key)
	}
	if value != "" {
		r.Value = []byte(value)
	}
	New(cfg).Decode(&b, r, r.Time)
	return b
}

// ev is an event as decodeOne makes it from a record without a time of its own.
func ev(change func(*corastream.Event)) corastream.Event {
	e := corastream.Event{
		Pos: corastream.Position{Topic: "corastream.interactions", Partition: 1, Offset: 5}, User: "u", Item: "i",
		Kind: "click", Label: 1, Weight: 1, Implicit: true, Time: recordTime, Appended: recordTime,
	}
	if change != nil {
		change(&e)
	}
	return e
}

func TestDialectsOfEvents(t *testing.T) {
	at := time.Date(1997, 12, 4, 15, 55, 49, 0, time.UTC)
	rating := func(label float32) func(*corastream.Event) {
		return func(e *corastream.Event) { e.Kind, e.Label, e.Implicit = "rating", label, false }
	}
	when := func(e *corastream.Event) { e.Time = at }
	ce := []Header{
		{"ce_specversion", []byte("1.0")},
		{"ce_id", []byte("7")},
		{"ce_source", []byte("/web")},
		{"ce_type", []byte("com.example.like")},
		{"ce_time", []byte("1997-12-04T15:55:49Z")},
		{"content-type", []byte("application/json")},
	}
	like := func(e *corastream.Event) {
		e.Kind, e.Implicit, e.ID, e.Time = "like", false, "/web#7", at
	}
	shown := func(item string, click bool, id string) corastream.Event {
		return ev(func(e *corastream.Event) {
			e.Item, e.ID, e.Implicit, e.Kind, e.Label = item, id, false, "impression", 0
			if click {
				e.Kind, e.Label = "click", 1
			}
		})
	}
	for name, c := range map[string]struct {
		value   string
		headers []Header
		want    []corastream.Event
	}{
		"snake":            {`{"user_id":"u","item_id":"i"}`, nil, []corastream.Event{ev(nil)}},
		"camel":            {`{"userId":"u","itemId":"i","eventType":"click"}`, nil, []corastream.Event{ev(nil)}},
		"pascal":           {`{"UserId":"u","ItemId":"i"}`, nil, []corastream.Event{ev(nil)}},
		"kebab":            {`{"user-id":"u","item-id":"i"}`, nil, []corastream.Event{ev(nil)}},
		"spaces":           {" \n{ \"user_id\" : \"u\" ,\t\"item_id\" :\r\n\"i\" , \"x\" : { \"user_id\" : \"no\" } } ", nil, []corastream.Event{ev(nil)}},
		"escapes":          {`{"user_\u0069d":"\u0075","item_id":"i","z":"}\"]"}`, nil, []corastream.Event{ev(nil)}},
		"integer ids":      {`{"user_id":12345678901234567890,"item_id":-7}`, nil, []corastream.Event{ev(func(e *corastream.Event) { e.User, e.Item = "12345678901234567890", "-7" })}},
		"other alphabets":  {`{"user_id":"ユーザー","item_id":"фильм 😀"}`, nil, []corastream.Event{ev(func(e *corastream.Event) { e.User, e.Item = "ユーザー", "фильм 😀" })}},
		"same field twice": {`{"user_id":"u","user":"u","item_id":"i"}`, nil, []corastream.Event{ev(nil)}},
		"gorse": {
			`{"FeedbackType":"star","UserId":"u","ItemId":"i","Value":0,"Timestamp":"1997-12-04T15:55:49Z","Labels":null,"Comment":""}`, nil,
			[]corastream.Event{ev(func(e *corastream.Event) { e.Kind, e.Time = "star", at })},
		},
		"gorse rating":      {`{"FeedbackType":"rating","UserId":"u","ItemId":"i","Value":4.5,"Timestamp":"0001-01-01T00:00:00Z"}`, nil, []corastream.Event{ev(rating(1))}},
		"rating below":      {`{"user_id":"u","item_id":"i","rating":3.9}`, nil, []corastream.Event{ev(rating(0))}},
		"rating at":         {`{"user_id":"u","item_id":"i","rating":"4"}`, nil, []corastream.Event{ev(rating(1))}},
		"label":             {`{"user_id":"u","item_id":"i","label":0.25}`, nil, []corastream.Event{ev(func(e *corastream.Event) { e.Kind, e.Label, e.Implicit = "label", .25, false })}},
		"label true":        {`{"user_id":"u","item_id":"i","label":true,"type":"viewed"}`, nil, []corastream.Event{ev(func(e *corastream.Event) { e.Kind, e.Implicit = "viewed", false })}},
		"label over rating": {`{"user_id":"u","item_id":"i","label":0,"rating":5,"type":"rating"}`, nil, []corastream.Event{ev(rating(0))}},
		"unix seconds":      {`{"user_id":"u","item_id":"i","timestamp":881250949}`, nil, []corastream.Event{ev(when)}},
		"unix ms":           {`{"user_id":"u","item_id":"i","ts":881250949000}`, nil, []corastream.Event{ev(when)}},
		"unix text":         {`{"user_id":"u","item_id":"i","timestamp":"881250949"}`, nil, []corastream.Event{ev(when)}},
		"unix float":        {`{"user_id":"u","item_id":"i","timestamp":881250949.25}`, nil, []corastream.Event{ev(func(e *corastream.Event) { e.Time = at.Add(250 * time.Millisecond) })}},
		"rfc 3339":          {`{"user_id":"u","item_id":"i","timestamp":"1997-12-04T17:55:49+02:00"}`, nil, []corastream.Event{ev(when)}},
		"plain date":        {`{"user_id":"u","item_id":"i","timestamp":"1997-12-04 15:55:49"}`, nil, []corastream.Event{ev(when)}},
		"null time":         {`{"user_id":"u","item_id":"i","timestamp":null,"type":null}`, nil, []corastream.Event{ev(nil)}},
		"array": {
			`[{"user_id":"u","item_id":"i"},{"user_id":"u","item_id":"i","rating":5}]`, nil,
			[]corastream.Event{ev(nil), ev(rating(1))},
		},
		"cloudevents binary":          {`{"user_id":"u","item_id":"i"}`, ce, []corastream.Event{ev(like)}},
		"cloudevents structured":      {`{"specversion":"1.0","id":"7","source":"/web","type":"like","time":"1997-12-04T15:55:49Z","data":{"userId":"u","itemId":"i"}}`, nil, []corastream.Event{ev(like)}},
		"cloudevents base64":          {`{"specversion":"1.0","id":"7","source":"/web","type":"like","time":"1997-12-04T15:55:49Z","data_base64":"eyJ1c2VyIjoidSIsIml0ZW0iOiJpIn0="}`, nil, []corastream.Event{ev(like)}},
		"the data's type goes first":  {`{"user_id":"u","item_id":"i","type":"click"}`, ce, []corastream.Event{ev(func(e *corastream.Event) { e.ID, e.Time = "/web#7", at })}},
		"headers without specversion": {`{"user_id":"u","item_id":"i"}`, ce[1:], []corastream.Event{ev(nil)}},
		"impression":                  {`{"user_id":"u","type":"impression","items":["a","b",3],"clicked":["b"]}`, nil, []corastream.Event{shown("a", false, ""), shown("b", true, ""), shown("3", false, "")}},
		"impression of objects":       {`{"user_id":"u","items":[{"item_id":"a","clicked":true},{"id":"b"}],"id":"x"}`, nil, []corastream.Event{shown("a", true, "x#a"), shown("b", false, "x#b")}},
		"clicked outside":             {`{"user_id":"u","items":["a","a"],"clicked":"z"}`, nil, []corastream.Event{shown("a", false, ""), shown("z", true, "")}},
		"all kinds of other members":  {`{"user_id":"u","a":[1,[2,{"b":"]"}]],"item_id":"i","c":-1.5e3,"d":true}`, nil, []corastream.Event{ev(nil)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := decodeOne(Default(), "corastream.interactions", "ignored", c.value, c.headers...)
			if len(b.Bad) > 0 {
				t.Fatalf("dead letters: %+v", b.Bad)
			}
			if !reflect.DeepEqual(b.Events, c.want) {
				t.Errorf("\n got %+v\nwant %+v", b.Events, c.want)
			}
		})
	}
}

func TestBadRecordsBecomeDeadLetters(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, c := range map[string]struct{ topic, key, value, reason, detail string }{
		"not json":            {"interactions", "", `{"user_id":"u"`, ReasonJSON, "unexpected end"},
		"text":                {"interactions", "", `hello`, ReasonJSON, ""},
		"number":              {"interactions", "", `42`, ReasonJSON, "object or array"},
		"nested array":        {"interactions", "", `[[]]`, ReasonJSON, "objects only"},
		"two documents":       {"interactions", "", `{} {}`, ReasonJSON, ""},
		"empty":               {"interactions", "k", ``, ReasonEmpty, ""},
		"empty array":         {"interactions", "", `[]`, ReasonEmpty, ""},
		"confluent":           {"interactions", "", "\x00\x00\x00\x00\x07\x02ab", ReasonSchemaRegistry, "schema registry"},
		"no user":             {"interactions", "u", `{"item_id":"i"}`, ReasonNoUser, ""},
		"null user":           {"interactions", "", `{"user_id":null,"item_id":"i"}`, ReasonNoUser, ""},
		"blank user":          {"interactions", "", `{"user_id":"","item_id":"i"}`, ReasonNoUser, ""},
		"no item":             {"interactions", "", `{"user_id":"u"}`, ReasonNoItem, ""},
		"object as user":      {"interactions", "", `{"user_id":{"id":1},"item_id":"i"}`, ReasonType, "user_id"},
		"float as user":       {"interactions", "", `{"user_id":1.5,"item_id":"i"}`, ReasonType, "user_id"},
		"bool as item":        {"interactions", "", `{"user_id":"u","item_id":true}`, ReasonType, "item_id"},
		"long id":             {"interactions", "", `{"user_id":"` + long + `","item_id":"i"}`, ReasonID, "max_id_bytes=256"},
		"long number":         {"interactions", "", `{"user_id":1` + strings.Repeat("0", 300) + `,"item_id":"i"}`, ReasonID, "max_id_bytes"},
		"control character":   {"interactions", "", `{"user_id":"a\u0000b","item_id":"i"}`, ReasonID, "control"},
		"escape sequence":     {"interactions", "", `{"user_id":"u","item_id":"\u001b[31m"}`, ReasonID, "control"},
		"lone surrogate":      {"interactions", "", `{"user_id":"\ud800","item_id":"i"}`, ReasonID, ""},
		"not utf-8":           {"interactions", "", "{\"user_id\":\"\xff\xfe\",\"item_id\":\"i\"}", ReasonID, "UTF-8"},
		"two users":           {"interactions", "", `{"user_id":"u","userId":"v","item_id":"i"}`, ReasonAmbiguous, "user_id"},
		"unknown kind":        {"interactions", "", `{"user_id":"u","item_id":"i","type":"hover"}`, ReasonKind, "hover"},
		"kind is a number":    {"interactions", "", `{"user_id":"u","item_id":"i","type":1}`, ReasonType, "type"},
		"nan":                 {"interactions", "", `{"user_id":"u","item_id":"i","rating":NaN}`, ReasonNaN, ""},
		"infinity":            {"interactions", "", `{"user_id":"u","item_id":"i","rating":-Infinity}`, ReasonNaN, ""},
		"nan as text":         {"interactions", "", `{"user_id":"u","item_id":"i","rating":"NaN"}`, ReasonNaN, ""},
		"overflow":            {"interactions", "", `{"user_id":"u","item_id":"i","label":1e999}`, ReasonNaN, ""},
		"the word nan":        {"interactions", "", `{"user_id":"NaN","item_id":}`, ReasonJSON, ""},
		"label too high":      {"interactions", "", `{"user_id":"u","item_id":"i","label":1.01}`, ReasonLabel, "1.01"},
		"rating missing":      {"interactions", "", `{"user_id":"u","item_id":"i","type":"rating"}`, ReasonLabel, ""},
		"rating is text":      {"interactions", "", `{"user_id":"u","item_id":"i","rating":"good"}`, ReasonType, "good"},
		"bad time":            {"interactions", "", `{"user_id":"u","item_id":"i","timestamp":"yesterday"}`, ReasonTime, "yesterday"},
		"before 1970":         {"interactions", "", `{"user_id":"u","item_id":"i","timestamp":-1}`, ReasonTime, ""},
		"future":              {"interactions", "", `{"user_id":"u","item_id":"i","timestamp":"2026-11-23T12:05:01Z"}`, ReasonFuture, "max_ahead=5m"},
		"far future":          {"interactions", "", `{"user_id":"u","item_id":"i","timestamp":"9999-12-31T23:59:59Z"}`, ReasonFuture, ""},
		"impression of none":  {"interactions", "", `{"user_id":"u","items":[]}`, ReasonNoItem, ""},
		"impression, no list": {"interactions", "", `{"user_id":"u","items":"a"}`, ReasonType, "items"},
		"impression, bad id":  {"interactions", "", `{"user_id":"u","items":["a",{}]}`, ReasonNoItem, ""},
		"impression, clicked": {"interactions", "", `{"user_id":"u","items":[{"id":"a","clicked":"maybe"}]}`, ReasonType, "maybe"},
		"ce without data":     {"interactions", "", `{"specversion":"1.0","id":"1","source":"s","type":"click"}`, ReasonJSON, "data"},
		"ce bad base64":       {"interactions", "", `{"specversion":"1.0","id":"1","source":"s","data_base64":"!"}`, ReasonJSON, "base64"},
		"item without id":     {"items", "", `{"title":"x"}`, ReasonNoItem, ""},
		"item without title":  {"items", "", `{"item_id":"i","UserId":"u"}`, ReasonTitle, "interactions topic"},
		"item, long title":    {"items", "", `{"item_id":"i","title":"` + strings.Repeat("x", 5000) + `"}`, ReasonTitle, "max_text_bytes"},
		"item, long field":    {"items", "", `{"item_id":"i","title":"t","plot":"` + strings.Repeat("x", 5000) + `"}`, ReasonFields, "plot"},
		"item, title type":    {"items", "", `{"item_id":"i","title":["t"]}`, ReasonType, "title"},
		"item, available":     {"items", "", `{"item_id":"i","title":"t","available":"perhaps"}`, ReasonType, "available"},
		"tombstone of none":   {"items", "", ``, ReasonNoItem, "key"},
		"tombstone, bad key":  {"items", "a\nb", ``, ReasonID, "key"},
		"request, no user":    {"requests", "u", `{"n":3}`, ReasonNoUser, ""},
		"request, n":          {"requests", "", `{"user_id":"u","n":-1}`, ReasonType, "n is not"},
		"request, n text":     {"requests", "", `{"user_id":"u","n":"many"}`, ReasonType, "n is not"},
		"request, n huge":     {"requests", "", `{"user_id":"u","n":1e300}`, ReasonType, "n is not"},
		"request, list":       {"requests", "", `{"user_id":"u","exclude":"a"}`, ReasonType, "exclude"},
		"request, seen":       {"requests", "", `{"user_id":"u","seen":"never"}`, ReasonType, "never"},
		"request, history":    {"requests", "", `{"user_id":"u","history":[{"item_id":"a"},{"type":"click"}]}`, ReasonNoItem, "history[1]"},
		"request, long past":  {"requests", "", `{"user_id":"u","history":["a"` + strings.Repeat(`,"a"`, 200) + `]}`, ReasonTooMany, "200"},
		"request, empty id":   {"requests", "", `{"user_id":"u","candidates":["a",""]}`, ReasonNoItem, "candidates"},
	} {
		t.Run(name, func(t *testing.T) {
			b := decodeOne(Default(), "corastream."+c.topic, c.key, c.value)
			if len(b.Bad) != 1 || len(b.Events)+len(b.Items)+len(b.Requests) != 0 {
				t.Fatalf("got %+v", b)
			}
			l := b.Bad[0]
			if l.Reason != c.reason || !strings.Contains(l.Detail, c.detail) {
				t.Errorf("reason %q, detail %q", l.Reason, l.Detail)
			}
			if string(l.Value) != strings.TrimSpace(c.value) && !strings.Contains(c.value, string(l.Value)) || string(l.Key) != c.key ||
				l.Pos != (corastream.Position{Topic: "corastream." + c.topic, Partition: 1, Offset: 5}) {
				t.Errorf("letter %+v", l)
			}
		})
	}
}

// A request's own history comes in the forms of the interactions topic, and none of it is counted as a record.
func TestARequestBringsItsOwnHistory(t *testing.T) {
	b := decodeOne(Default(), "corastream.requests", "u", `{"user_id":"u","seen":"include","history":["a",{"item_id":"b","timestamp":1763895600},
		{"item":"c","type":"dislike"},{"item_id":"d","rating":2},{"item_id":"e","type":"impression"},{"items":["f","g"],"clicked":"g"}]}`)
	if len(b.Requests) != 1 || len(b.Events) != 0 {
		t.Fatalf("%+v", b)
	}
	r := b.Requests[0]
	got := ""
	for _, h := range r.History {
		got += h.Item
		switch {
		case h.Shown:
			got += "~"
		case h.Label == 1:
			got += "+"
		}
		if h.Time.IsZero() || (h.Item == "b") != h.Time.Equal(time.Unix(1763895600, 0)) {
			t.Errorf("%+v", h)
		}
	}
	if got != "a+b+cde~f~g+" || r.Seen != "include" {
		t.Errorf("%q, %+v", got, r)
	}
}

func TestOneBadElementLeavesTheOthers(t *testing.T) {
	b := decodeOne(Default(), "corastream.interactions", "k", `[{"user_id":"u","item_id":"i"}, {"user_id":"v"} ,7,{"user_id":"u","item_id":"i","rating":1}]`)
	if len(b.Events) != 2 || len(b.Bad) != 2 {
		t.Fatalf("got %+v", b)
	}
	if string(b.Bad[0].Value) != `{"user_id":"v"}` || b.Bad[0].Reason != ReasonNoItem || string(b.Bad[1].Value) != "7" {
		t.Errorf("letters %+v", b.Bad)
	}
}

func TestLimitsAreKept(t *testing.T) {
	cfg := Default()
	cfg.MaxArray = 3
	four := `[` + strings.Repeat(`{"user_id":"u","item_id":"i"},`, 3) + `{"user_id":"u","item_id":"last"}]`
	b := decodeOne(cfg, cfg.Topics.Interactions, "", four)
	if len(b.Events) != 3 || len(b.Bad) != 1 || b.Bad[0].Reason != ReasonTooMany {
		t.Errorf("array: %d events, letters %+v", len(b.Events), b.Bad)
	}
	for _, v := range []string{`{"user_id":"u","items":["a","b","c","d"]}`, `{"user_id":"u","items":["a"],"clicked":["a","b","c","d"]}`} {
		b = decodeOne(cfg, cfg.Topics.Interactions, "", v)
		if len(b.Events) != 0 || len(b.Bad) != 1 || b.Bad[0].Reason != ReasonTooMany {
			t.Errorf("%s: %+v", v, b)
		}
	}
	var many strings.Builder
	for i := range 65 {
		fmt.Fprintf(&many, `,"f%d":1`, i)
	}
	b = decodeOne(cfg, cfg.Topics.Items, "", `{"item_id":"i","title":"t"`+many.String()+`}`)
	if len(b.Bad) != 1 || b.Bad[0].Reason != ReasonFields {
		t.Errorf("fields: %+v", b)
	}
	cfg.MaxAge = 24 * time.Hour
	b = decodeOne(cfg, cfg.Topics.Interactions, "", `{"user_id":"u","item_id":"i","timestamp":"2026-11-22T11:59:59Z"}`)
	if len(b.Bad) != 1 || b.Bad[0].Reason != ReasonOld {
		t.Errorf("age: %+v", b)
	}
	cfg.DefaultKind = ""
	b = decodeOne(cfg, cfg.Topics.Interactions, "", `{"user_id":"u","item_id":"i"}`)
	if len(b.Bad) != 1 || b.Bad[0].Reason != ReasonKind {
		t.Errorf("kind: %+v", b)
	}
}

func TestCatalogueRecords(t *testing.T) {
	for name, c := range map[string]struct {
		key, value string
		want       corastream.Item
	}{
		"plain": {
			"", `{"item_id":"i","title":"Heat","year":1995,"genres":["Crime","Drama"],"hd":true,"deep":{"x":1},"none":null}`,
			corastream.Item{ID: "i", Title: "Heat", Fields: map[string]string{"year": "1995", "genres": "Crime, Drama", "hd": "true"}},
		},
		"nested fields": {"", `{"itemId":"i","name":"Heat","fields":{"year":"1995"}}`, corastream.Item{ID: "i", Title: "Heat", Fields: map[string]string{"year": "1995"}}},
		"key as id":     {"i9", `{"title":"Heat"}`, corastream.Item{ID: "i9", Title: "Heat"}},
		"withdrawn":     {"", `{"id":7,"withdrawn":true}`, corastream.Item{ID: "7", Withdrawn: true}},
		"unavailable":   {"", `{"item_id":"i","title":"t","available":false}`, corastream.Item{ID: "i", Title: "t", Withdrawn: true}},
		"available":     {"", `{"item_id":"i","title":"t","available":true,"withdrawn":false}`, corastream.Item{ID: "i", Title: "t"}},
		"gorse":         {"", `{"ItemId":"i","IsHidden":true,"Categories":["film"],"Comment":"Heat"}`, corastream.Item{ID: "i", Title: "Heat", Withdrawn: true, Fields: map[string]string{"Categories": "film"}}},
		"tombstone":     {"i", "", corastream.Item{ID: "i", Withdrawn: true, Removed: true}},
	} {
		t.Run(name, func(t *testing.T) {
			b := decodeOne(Default(), "corastream.items", c.key, c.value)
			c.want.Pos = corastream.Position{Topic: "corastream.items", Partition: 1, Offset: 5} // a redelivered record is known by it
			if len(b.Items) != 1 || !reflect.DeepEqual(b.Items[0].Onto(corastream.Item{}), c.want) {
				t.Errorf("got %+v", b)
			}
		})
	}
}

func TestCountersTellDialectsAndReasonsApart(t *testing.T) {
	d := New(Default())
	var b corastream.Batch
	for _, v := range []string{
		`{"user_id":"u","item_id":"i"}`, `{"user_id":"u","item_id":"i","timestamp":881250949}`,
		`{"FeedbackType":"star","UserId":"u","ItemId":"i"}`, `{"specversion":"1.0","data":{"user_id":"u","item_id":"i"}}`, `{}`, `x`,
	} {
		d.Decode(&b, Record{Pos: corastream.Position{Topic: "corastream.interactions"}, Value: []byte(v), Time: recordTime}, recordTime)
	}
	if got := d.Counts.Dialects(); got[DialectFlat] != 2 || got[DialectGorse] != 1 || got[DialectCEStructured] != 1 || got[DialectCEBinary] != 0 || len(got) != len(dialects) {
		t.Errorf("dialects %v", got)
	}
	if got := d.Counts.Letters(); got[ReasonNoUser] != 1 || got[ReasonJSON] != 1 || len(got) != len(reasons) {
		t.Errorf("letters %v", got)
	}
	if n := d.Counts.NoTime(); n != 3 {
		t.Errorf("%d events without a time", n)
	}
}

// FuzzDecode holds decoding to what a batch promises: everything comes to something, ids are clean, numbers finite, and
// the same record gives the same again.
func FuzzDecode(f *testing.F) {
	for _, v := range []string{
		`{"user_id":"u","item_id":"i","rating":4}`, `[{"user_id":"u","items":["a",{"id":"b","clicked":true}],"clicked":["c"]}]`,
		`{"FeedbackType":"star","UserId":"u","ItemId":"i","Timestamp":"2020-01-01T00:00:00Z"}`, `{"specversion":"1.0","id":"7","source":"s","type":"like","data":{"user":"u","item":"i"}}`,
		`{"item_id":"i","title":"t","year":1995,"fields":{"a":[1,"b",[2]]},"available":false}`, `{"user_id":"u","n":3,"exclude":["a"],"candidates":[1]}`,
		"\x00\x00\x00\x00\x01", `{"a":"\`, `{"rating":NaN}`, `[[[[`, `{"user_id":"\ud800","item_id":"i","label":1e999,"timestamp":-1e20}`, `{"\u0075ser":"x"}`, ``,
	} {
		for role := range byte(3) {
			f.Add([]byte(v), []byte("key"), "like", role)
		}
	}
	cfg := Default()
	topics := []string{cfg.Topics.Interactions, cfg.Topics.Items, cfg.Topics.Requests}
	clean := func(t *testing.T, s string, empty bool) {
		if s == "" && !empty || New(cfg).checkID("id", s) != nil && !strings.Contains(s, "#") {
			t.Fatalf("id %q", s)
		}
	}
	f.Fuzz(func(t *testing.T, value, key []byte, kind string, role byte) {
		r := Record{Pos: corastream.Position{Topic: topics[role%3], Offset: 1}, Key: key, Value: value, Time: recordTime, Covers: 1}
		if role >= 3 {
			r.Headers = []Header{{"ce_specversion", []byte("1.0")}, {"ce_id", key}, {"ce_type", []byte(kind)}}
		}
		var b, again corastream.Batch
		bounded.Parse(t, len(value)+len(key)+len(kind), func() { New(cfg).Decode(&b, r, r.Time) })
		New(cfg).Decode(&again, r, r.Time)
		if !reflect.DeepEqual(b, again) {
			t.Fatalf("not a function: %+v, then %+v", b, again)
		}
		if len(b.Events)+len(b.Items)+len(b.Requests)+len(b.Bad) == 0 {
			t.Fatal("the record vanished")
		}
		if !json.Valid(unframed(value)) && len(value) > 0 && len(b.Bad) != 1 {
			t.Fatalf("bad JSON gave %+v", b)
		}
		for _, e := range b.Events {
			clean(t, e.User, false)
			clean(t, e.Item, false)
			clean(t, e.ID, true)
			if !(e.Label >= 0 && e.Label <= 1) || !(e.Weight > 0) || e.Time.Sub(recordTime) > cfg.MaxAhead {
				t.Fatalf("event %+v", e)
			}
		}
		for _, it := range b.Items {
			clean(t, it.ID, false)
			if len(it.Fields) > corastream.MaxFields {
				t.Fatalf("item %+v", it)
			}
		}
		for _, q := range b.Requests {
			clean(t, q.User, false)
			if q.N < 0 || q.N > cfg.MaxArray || len(q.Candidates) > cfg.MaxArray {
				t.Fatalf("request %+v", q)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	cfg := Default()
	for name, v := range map[string]string{
		"flat":       `{"user_id":"u196","item_id":"i242","type":"rating","rating":3,"timestamp":881250949,"id":"e-0000012345"}`,
		"rfc3339":    `{"user_id":"u196","item_id":"i242","type":"rating","label":1,"timestamp":"1997-12-04T15:55:49Z","id":"e12345"}`,
		"gorse":      `{"FeedbackType":"star","UserId":"u196","ItemId":"i242","Value":1,"Timestamp":"1997-12-04T15:55:49Z","Labels":null,"Comment":""}`,
		"structured": `{"specversion":"1.0","id":"7","source":"/web","type":"like","time":"1997-12-04T15:55:49Z","data":{"userId":"u","itemId":"i"}}`,
		"impression": `{"user_id":"u196","items":["a1","a2","a3","a4","a5","a6","a7","a8","a9","a10"],"clicked":["a3"],"timestamp":881250949}`,
	} {
		b.Run(name, func(b *testing.B) {
			d := New(cfg)
			r := Record{Pos: corastream.Position{Topic: cfg.Topics.Interactions}, Value: []byte(v), Time: recordTime, Covers: 1}
			batch := corastream.Batch{}
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				batch.Events = batch.Events[:0]
				d.Decode(&batch, r, recordTime)
				n += len(batch.Events)
			}
			if len(batch.Bad) > 0 {
				b.Fatal(batch.Bad[0])
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// TestACatalogueMeansTheSameInEveryForm: a record and a row of a table.
func TestACatalogueMeansTheSameInEveryForm(t *testing.T) {
	for name, c := range map[string]struct {
		record string
		header []string
		cells  []string
		want   corastream.Item
		reason string
	}{
		"plain":            {`{"item_id":"i","title":"A Harbour (1994)","Genre":"Drama"}`, []string{"item_id", "title", "Genre"}, []string{"i", "A Harbour (1994)", "Drama"}, corastream.Item{ID: "i", Title: "A Harbour (1994)", Fields: map[string]string{"Genre": "Drama", "year": "1994"}}, ""},
		"withdrawn":        {`{"item_id":"i","title":"t","withdrawn":true}`, []string{"item_id", "title", "withdrawn"}, []string{"i", "t", "true"}, corastream.Item{ID: "i", Title: "t", Withdrawn: true}, ""},
		"available, no":    {`{"item_id":"i","title":"t","available":0}`, []string{"item_id", "title", "available"}, []string{"i", "t", "0"}, corastream.Item{ID: "i", Title: "t", Withdrawn: true}, ""},
		"hidden":           {`{"item_id":"i","title":"t","hidden":1}`, []string{"item_id", "title", "hidden"}, []string{"i", "t", "1"}, corastream.Item{ID: "i", Title: "t", Withdrawn: true}, ""},
		"available, yes":   {`{"item_id":"i","title":"t","available":true}`, []string{"item_id", "title", "available"}, []string{"i", "t", "TRUE"}, corastream.Item{ID: "i", Title: "t"}, ""},
		"available, blank": {`{"item_id":"i","title":"t","available":null}`, []string{"item_id", "title", "available"}, []string{"i", "t", ""}, corastream.Item{ID: "i", Title: "t"}, ""},
		"blanks":           {`{"item_id":" i","title":" t "}`, []string{"item_id", "title"}, []string{" i", " t "}, corastream.Item{ID: "i", Title: "t"}, ""},
		"no title":         {`{"item_id":"i","title":null}`, []string{"item_id", "title"}, []string{"i", ""}, corastream.Item{ID: "i"}, ""},
		"an event":         {`{"item_id":"i","user_id":"u"}`, []string{"item_id", "user_id"}, []string{"i", "u"}, corastream.Item{}, ReasonTitle},
		"Latin-1":          {"{\"item_id\":\"i\",\"title\":\"caf\xe9\"}", []string{"item_id", "title"}, []string{"i", "caf\xe9"}, corastream.Item{}, ReasonType},
		"available, maybe": {`{"item_id":"i","title":"t","available":"maybe"}`, []string{"item_id", "title", "available"}, []string{"i", "t", "maybe"}, corastream.Item{}, ReasonType},
	} {
		record := decodeOne(Default(), "corastream.items", "", c.record)
		var row corastream.Batch
		New(Default()).ItemRows(c.header)(&row, c.cells, corastream.Position{Topic: "corastream.items", Partition: 1, Offset: 5}, recordTime)
		for form, b := range map[string]corastream.Batch{"record": record, "row": row} {
			if c.reason != "" {
				if len(b.Items) != 0 || len(b.Bad) != 1 || b.Bad[0].Reason != c.reason {
					t.Errorf("%s, %s: %+v", name, form, b)
				}
				continue
			}
			c.want.Pos = corastream.Position{Topic: "corastream.items", Partition: 1, Offset: 5}
			if len(b.Items) != 1 || !reflect.DeepEqual(b.Items[0].Onto(corastream.Item{}), c.want) {
				t.Errorf("%s, %s: %+v", name, form, b)
			}
		}
	}
}

// TestARecordChangesWhatItNames: as a record and as a row, over an item that is known; null and a blank cell clear (RFC 7396).
func TestARecordChangesWhatItNames(t *testing.T) {
	known := func() corastream.Item {
		return corastream.Item{ID: "i", Title: "A Harbour", Withdrawn: true, Fields: map[string]string{"genre": "Drama", "year": "1994"}}
	}
	for name, c := range map[string]struct {
		members string
		change  func(*corastream.Item)
	}{
		"nothing":             {``, func(*corastream.Item) {}},
		"a title":             {`"title":"Boats"`, func(it *corastream.Item) { it.Title = "Boats" }},
		"a title with a year": {`"title":"Boats (2001)"`, func(it *corastream.Item) { it.Title, it.Fields["year"] = "Boats (2001)", "2001" }},
		"no title any more":   {`"title":null`, func(it *corastream.Item) { it.Title = "" }},
		"one field":           {`"genre":"Crime"`, func(it *corastream.Item) { it.Fields["genre"] = "Crime" }},
		"a new field":         {`"price":3`, func(it *corastream.Item) { it.Fields["price"] = "3" }},
		"a field less":        {`"genre":null`, func(it *corastream.Item) { delete(it.Fields, "genre") }},
		"the year less":       {`"release_year":null`, func(it *corastream.Item) { delete(it.Fields, "year") }},
		"available":           {`"available":true`, func(it *corastream.Item) { it.Withdrawn = false }},
		"not withdrawn":       {`"withdrawn":false`, func(it *corastream.Item) { it.Withdrawn = false }},
		"withdrawn is null":   {`"withdrawn":null`, func(it *corastream.Item) { it.Withdrawn = false }},
		"withdrawn again":     {`"available":false`, func(*corastream.Item) {}},
		"hidden":              {`"is_hidden":0`, func(it *corastream.Item) { it.Withdrawn = false }},
		"a deleted row":       {`"__deleted":"true"`, func(it *corastream.Item) { *it = corastream.Item{ID: "i", Withdrawn: true, Removed: true} }},
		"a row not deleted":   {`"__deleted":"false"`, func(*corastream.Item) {}},
	} {
		want := known()
		c.change(&want)
		var record, row corastream.Batch
		New(Default()).Decode(&record, Record{Pos: corastream.Position{Topic: "corastream.items"}, Value: []byte(`{"item_id":"i"` + strings.TrimSuffix(","+c.members, ",") + `}`)}, recordTime)
		header, cells := []string{"item_id"}, []string{"i"}
		members([]byte("{"+c.members+"}"), func(k, x []byte) {
			s, ok := text(x)
			if !ok && !isNull(x) {
				s = string(x)
			}
			header, cells = append(header, string(k)), append(cells, s)
		})
		New(Default()).ItemRows(header)(&row, cells, corastream.Position{Topic: "corastream.items"}, recordTime)
		for form, b := range map[string]corastream.Batch{"record": record, "row": row} {
			if len(b.Items) != 1 {
				t.Errorf("%s, %s: %+v", name, form, b)
				continue
			}
			got := b.Items[0].Onto(known())
			got.Pos = corastream.Position{}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s: %+v, want %+v", name, form, got, want)
			}
		}
	}
	for members, want := range map[string]corastream.Item{
		`"fields":{"genre":"Crime","year":null,"length":90}`: {Title: "A Harbour", Withdrawn: true, Fields: map[string]string{"genre": "Crime", "length": "90"}},
		`"fields":null`:                  {Title: "A Harbour", Withdrawn: true},
		`"genre":[]`:                     {Title: "A Harbour", Withdrawn: true, Fields: map[string]string{"year": "1994"}},
		`"Comment":"Boats"`:              {Title: "Boats", Withdrawn: true, Fields: known().Fields},
		`"title":null,"Comment":"Boats"`: {Title: "Boats", Withdrawn: true, Fields: known().Fields},
	} {
		b := decodeOne(Default(), "corastream.items", "", `{"item_id":"i",`+members+`}`)
		if len(b.Items) != 1 {
			t.Fatalf("%s: %+v", members, b)
		}
		got := b.Items[0].Onto(known())
		want.ID, want.Pos = "i", got.Pos
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", members, got, want)
		}
	}
	removed := corastream.Item{ID: "i", Withdrawn: true, Removed: true}
	for members, back := range map[string]bool{
		`"title":"Boats"`: true, `"available":true`: true, `"available":true,"price":3`: true, `"price":3`: false,
		`"withdrawn":true`: false, `"title":null`: false,
	} {
		b := decodeOne(Default(), "corastream.items", "", `{"item_id":"i",`+members+`}`)
		if got := b.Items[0].Onto(removed); got.Removed == back || got.Withdrawn == back || !back && got.Fields != nil {
			t.Errorf("%s of a removed item: %+v", members, got)
		}
	}
}

// TestWrappedRecordsAreOpened: what Connect, Debezium (debezium/debezium.github.io#310, confluentinc/kafka-connect-jdbc#859) and
// schema-registry clients (obsidiandynamics/kafdrop#547) put around a key or a value.
func TestWrappedRecordsAreOpened(t *testing.T) {
	framed := func(s string) string { return "\x00\x00\x00\x00\x07" + s }
	for _, key := range []string{
		"k", `"k"`, `{"item_id":"k"}`, `{"ID":"k"}`, `{"sku":"k"}`, framed(`"k"`), framed(`{"item_id":"k"}`),
		`{"schema":{"type":"string"},"payload":"k"}`, `{"schema":{"type":"struct"},"payload":{"item_id":"k"}}`,
	} {
		b := decodeOne(Default(), "corastream.items", key, "")
		if len(b.Items) != 1 || b.Items[0].ID != "k" || !b.Items[0].Removed {
			t.Errorf("tombstone of %q: %+v", key, b)
		}
	}
	for _, key := range []string{`{"a":1,"b":2}`, `["k"]`, `{"item_id":`, `{"item_id":null}`, `"`} {
		if b := decodeOne(Default(), "corastream.items", key, ""); len(b.Items) != 0 || len(b.Bad) != 1 {
			t.Errorf("tombstone of %q: %+v", key, b)
		}
	}
	row := `{"item_id":"k","title":"t"}`
	for value, removed := range map[string]bool{
		framed(row): false, `{"schema":{},"payload":` + row + `}`: false, `{"before":null,"after":` + row + `,"op":"c"}`: false,
		`{"schema":{},"payload":{"before":null,"after":` + row + `,"op":"u"}}`: false,
		`{"before":` + row + `,"after":null,"op":"d"}`:                         true, `{"schema":{},"payload":null}`: true,
	} {
		b := decodeOne(Default(), "corastream.items", "k", value)
		if len(b.Items) != 1 || b.Items[0].ID != "k" || b.Items[0].Removed != removed {
			t.Errorf("%q: %+v", value, b)
		}
	}
	click := `{"user_id":"u","item_id":"i","type":"click"}`
	for _, value := range []string{framed(click), `{"schema":{},"payload":` + click + `}`, `{"before":null,"after":` + click + `,"op":"c"}`} {
		if b := decodeOne(Default(), "corastream.interactions", "u", value); len(b.Events) != 1 || b.Events[0].Kind != "click" {
			t.Errorf("%q: %+v", value, b)
		}
	}
	if b := decodeOne(Default(), "corastream.interactions", "u", `{"before":`+click+`,"after":null,"op":"d"}`); len(b.Events) != 1 || !b.Events[0].Retract || b.Events[0].User != "u" {
		t.Errorf("a deletion of an event: %+v", b)
	}
	row = `{"before":{"id":7,"user_id":"u","item_id":"i","rating":5,"timestamp":"2026-11-01"},"after":null,"op":"d"}`
	if b := decodeOne(Default(), "corastream.interactions", `{"id":7}`, row); len(b.Events) != 1 || !b.Events[0].Retract || b.Events[0].ID != "7#retract" || b.Events[0].Time.Day() != 1 {
		t.Errorf("a deletion of a row with an id: %+v", b)
	}
	if b := decodeOne(Default(), "corastream.interactions", `{"id":7}`, `{"before":null,"after":null,"op":"d"}`); len(b.Events) != 0 || len(b.Bad) != 1 || b.Bad[0].Reason != ReasonNoUser {
		t.Errorf("a deletion of nobody knows what: %+v", b)
	}
}

// TestACloudEventOfAnUnknownTypeIsNoLike: by its whole name or its last part, in both bindings.
func TestACloudEventOfAnUnknownTypeIsNoLike(t *testing.T) {
	for kind, want := range map[string]string{
		"click": "click", "com.shop.click": "click", "com.shop.click.v1": "click", "com.shop.click.v2.1": "",
		"com.shop.order.returned": "", "remove_from_basket": "", "com.shop.unlike": "unlike", "com.shop.like.removed": "", "returned": "",
	} {
		structured := decodeOne(Default(), "corastream.interactions", "", `{"specversion":"1.0","id":"1","source":"s","type":"`+kind+`","data":{"user_id":"u","item_id":"i"}}`)
		binary := decodeOne(Default(), "corastream.interactions", "", `{"user_id":"u","item_id":"i"}`,
			Header{"ce_specversion", []byte("1.0")}, Header{"ce_id", []byte("1")}, Header{"ce_source", []byte("s")}, Header{"ce_type", []byte(kind)})
		basket := decodeOne(Default(), "corastream.interactions", "", `{"user_id":"u","items":["i"]}`,
			Header{"ce_specversion", []byte("1.0")}, Header{"ce_id", []byte("1")}, Header{"ce_source", []byte("s")}, Header{"ce_type", []byte(kind)})
		for form, b := range map[string]corastream.Batch{"structured": structured, "binary": binary, "basket": basket} {
			if want != "" && (len(b.Events) != 1 || b.Events[0].Kind != want) || want == "" && (len(b.Events) != 0 || len(b.Bad) != 1 || !strings.Contains(b.Bad[0].Detail, kind)) {
				t.Errorf("%s, %s: %+v", kind, form, b)
			}
		}
	}
}
