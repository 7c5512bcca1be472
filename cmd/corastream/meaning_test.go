package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cmd/internal/datafile"
	"github.com/corastream/corastream/cmd/internal/node"
	"github.com/corastream/corastream/cmd/internal/testkit"
	"github.com/corastream/corastream/ingest"
)

// eventCase is one case: names and raw JSON values in turn, and the events in short form, or what the refusal names.
type eventCase struct {
	name   string
	from   string // where people met it: a public repository and the number of the issue or pull request, or a published file or page by name
	fields string // the members of a JSON object without braces; user u, item i and a time are added where they are missing
	want   string // "kind label weight item", more of them after a comma; implicit ends in +
	refuse string // a word of the refusal
}

// meanings is what an event may look like.
var meanings = []eventCase{
	// What happened, said and understood.
	{"a kind", "gorse-io/gorse#269", `"type":"click"`, "click 1 1 i+", ""},
	{"a purchase", "gorse-io/gorse#1010", `"type":"purchase"`, "purchase 1 1 i+", ""},
	{"a like", "guymorita/recommendationRaccoon#31", `"type":"like"`, "like 1 1 i", ""},
	{"a dislike", "gorse-io/gorse#244", `"type":"dislike"`, "dislike 0 1 i", ""},
	{"a kind with blanks", "matomo-org/matomo#15501", `"type":" like "`, "like 1 1 i", ""},
	{"a kind under another name", "REES46's 2019-Oct.csv", `"event_type":"like"`, "like 1 1 i", ""},
	{"the event is the kind", "RetailRocket's events.csv", `"event":"purchase"`, "purchase 1 1 i+", ""},
	{"a rating above", "RUCAIBox/RecBole#1007", `"rating":5`, "rating 1 1 i", ""},
	{"a rating below", "enoche/MMRec#9", `"rating":1`, "rating 0 1 i", ""},
	{"a rating as text", "dotnet/machinelearning#5865", `"rating":"3.5"`, "rating 0 1 i", ""},
	{"a negative rating", "benfred/implicit#114", `"rating":-1`, "rating 0 1 i", ""},
	{"Gorse's value of a rating", "gorse-io/gorse#1007", `"FeedbackType":"rating","Value":4.5`, "rating 1 1 i", ""},
	{"Gorse's value of a click", "gorse-io/gorse#1234", `"FeedbackType":"click","Value":0`, "click 1 1 i+", ""},
	{"Gorse's read", "gorse-io/gorse#269", `"FeedbackType":"read","Value":0`, "read 0 1 i", ""},
	{"a label", "RUCAIBox/RecBole#975", `"label":1`, "label 1 1 i", ""},
	{"a label of no", "lyst/lightfm#204", `"label":0`, "label 0 1 i", ""},
	{"a label as a word", "eugeneyan/align-app#3", `"label":true`, "label 1 1 i", ""},
	{"a label as a word, no", "dotCMS/core#11517", `"label":false`, "label 0 1 i", ""},
	{"a label of an unknown kind", "mozilla/chronicle#360", `"type":"dwell","label":0.25`, "dwell 0.25 1 i", ""},
	{"a label against its kind", "RUCAIBox/RecBole#1771", `"type":"click","label":0`, "click 0 1 i", ""},
	{"a kind and no rating", "apache/predictionio-template-ecom-recommender#1", `"type":"purchase","rating":null`, "purchase 1 1 i+", ""},
	{"nothing said", "NicolasHug/Surprise#220", ``, "click 1 1 i+", ""},
	{"a blank kind", "segmentio/analytics-go#131", `"type":null`, "click 1 1 i+", ""},
	{"a clicked flag of yes", "l294265421/NovelNet#2", `"clicked":1`, "click 1 1 i+", ""},
	{"shown and not clicked", "recsyschallenge/2016#11", `"type":"impression","clicked":0`, "impression 0 1 i", ""},
	{"shown and clicked", "ContentWise/contentwise-impressions#2", `"type":"impression","clicked":true`, "click 1 1 i", ""},
	{"a quantity", "lyst/lightfm#668", `"type":"purchase","quantity":2`, "purchase 1 1 i+", ""},

	// Unknown is never a like.
	{"an unknown kind", "gorse-io/gorse#353", `"type":"contact"`, "", "contact"},
	{"taken out of the cart", "snowplow/snowplow#154", `"type":"remove_from_cart"`, "remove_from_cart 0 1 i-", ""},
	{"a refund", "duracelltomi/gtm4wp#165", `"type":"refund"`, "refund 0 1 i-", ""},
	{"an unlike", "guymorita/recommendationRaccoon#36", `"type":"unlike"`, "unlike 0 1 i-", ""},
	{"taken back by its name", "grahamjenson/ger#18", `"type":"retract"`, "retract 0 1 i-", ""},
	{"an unlike with a rating", "davidcelis/recommendable#81", `"type":"unlike","rating":5`, "", "unlike"},
	{"a kind in capitals", "maartenba/GoogleAnalyticsTracker#79", `"type":"CLICKED"`, "", "CLICKED"},
	{"a kind that is an object", "rudderlabs/rudder-transformer#1768", `"type":{"a":1}`, "", "type"},
	{"type misspelt", "openshift/assisted-service#4794", `"tpye":"dislike"`, "", "tpye"},
	{"label misspelt", "drumih/turbo-fieldfare#168", `"lable":0`, "", "lable"},
	{"rating misspelt", "AtomaAI/atoma-infer#244", `"ratng":1`, "", "ratng"},
	{"timestamp misspelt", "opslane/opslane#27", `"type":"like","timestmp":5,"timestamp":null`, "", "timestmp"},
	{"the label is null", "ml5js/ml5-library#1471", `"label":null`, "", "label"},
	{"the label is null and the kind is known", "haifengl/smile#753", `"type":"impression","label":null`, "", "label"},
	{"the rating is null", "openai/prm800k#15", `"rating":null`, "", "rating"},
	{"a rating without one", "apache/predictionio#64", `"type":"rating"`, "", "rating"},
	{"the rating is a word", "NicolasHug/Surprise#41", `"rating":"good"`, "", "good"},
	{"the rating is NaN", "NicolasHug/Surprise#340", `"rating":"NaN"`, "", "rating"},
	{"the label is out of range", "gorse-io/gorse#1234", `"label":-0.5`, "", "label"},
	{"a clicked flag of no", "Ethan00Si/KuaiSAR#1", `"clicked":0`, "", "clicked"},
	{"a clicked flag of no, in words", "wireservice/csvkit#858", `"clicked":false`, "", "clicked"},
	{"no click, against its kind", "gorse-io/gorse#205", `"type":"click","clicked":false`, "", "clicked"},
	{"another flag of no", "KuaiRand's log_standard_4_22_to_5_08_pure.csv", `"is_click":false`, "", "is_click"},
	{"another flag of yes", "KuaiRand's log_standard_4_22_to_5_08_pure.csv", `"is_click":true`, "", "is_click"},
	{"a flag against the kind", "HabitRPG/habitica-chat-extension#47", `"type":"like","is_liked":0`, "", "is_liked"},
	{"returned", "lyst/lightfm#643", `"type":"purchase","returned":true`, "", "returned"},
	{"refunded", "matomo-org/matomo#11615", `"type":"purchase","refunded":1`, "", "refunded"},
	{"stars", "Yelp's review.json", `"stars":1`, "", "stars"},
	{"Book-Crossing's rating", "Book-Crossing's BX-Book-Ratings.csv", `"Book-Rating":0`, "", "Book-Rating"},
	{"a score", "Utagai/spice#24", `"score":-1`, "", "score"},
	{"a value of nothing", "yihong-chen/neural-collaborative-filtering#4", `"value":1`, "", "value"},
	{"an action", "Tianchi's UserBehavior.csv", `"behavior_type":"fav"`, "", "behavior_type"},
	{"a negative quantity", "peaksandpies/universal-analytics#51", `"type":"purchase","quantity":-1`, "", "return"},
	{"two kinds", "jqlang/jq#1509", `"type":"like","kind":"dislike"`, "", "twice"},

	// Lists.
	{"a basket of ids", "richdynamix/personalised-products#8", `"type":"purchase","items":["a","b"]`, "purchase 1 1 a+,purchase 1 1 b+", ""},
	{"a basket of objects", "GA4's purchase", `"type":"purchase","items":[{"item_id":"a","quantity":2,"price":3},{"item_id":"b"}]`, "purchase 1 1 a+,purchase 1 1 b+", ""},
	{"a basket of products", "Segment's Order Completed", `"type":"purchase","products":[{"product_id":"a","quantity":1}]`, "purchase 1 1 a+", ""},
	{"one item twice", "recsyschallenge/2016#9", `"type":"purchase","items":["a","a"]`, "purchase 1 1 a+", ""},
	{"a basket that came back", "braze-inc/braze-docs#6687", `"type":"purchase","items":[{"item_id":"a","quantity":-1}]`, "", "return"},
	{"a refund of items", "aawnu/php-ga4#16", `"type":"refund","items":["a","b"]`, "refund 0 1 a-,refund 0 1 b-", ""},
	{"an impression", "metarank/metarank#288", `"items":["a","b"],"clicked":["b"]`, "impression 0 1 a,click 1 1 b", ""},
	{"an impression without a click", "metarank/metarank#1554", `"type":"impression","items":["a","b"]`, "impression 0 1 a,impression 0 1 b", ""},
	{"an impression by its kind and clicks", "wuch15/KDD-NPA#5", `"type":"impression","items":["a",{"id":"b","clicked":1}]`, "impression 0 1 a,click 1 1 b", ""},
	{"dislikes", "lockhart-ai/penny#170", `"type":"dislike","items":["a"]`, "dislike 0 1 a", ""},
	{"a list of nobody knows what", "segment-boneyard/analytics.js-integrations#505", `"items":["a","b"]`, "", "items"},
	{"a list with one label", "skrub-data/skrub#1930", `"items":["a","b"],"label":1`, "", "label"},

	// When.
	{"unix milliseconds", "vectordotdev/vector#7360", `"type":"like","timestamp":1656105611000`, "like 1 1 i", ""},
	{"unix seconds as text", "getlago/lago#513", `"type":"like","timestamp":"1656105611"`, "like 1 1 i", ""},
	{"unix microseconds", "Netflix/atlas#1673", `"type":"like","timestamp":1656105611000000`, "like 1 1 i", ""},
	{"unix nanoseconds", "vshulcz/deja-vu#2102", `"type":"like","timestamp":1656105611000000000`, "like 1 1 i", ""},
	{"a blank between", "relvacode/iso8601#20", `"type":"like","timestamp":"2022-06-24 21:20:11"`, "like 1 1 i", ""},
	{"an offset without a colon", "spf13/cast#68", `"type":"like","timestamp":"2022-06-24T23:20:11+0200"`, "like 1 1 i", ""},
	{"UTC by name", "furlongm/patchman#860", `"type":"like","timestamp":"2022-06-24 21:20:11 UTC"`, "like 1 1 i", ""},
	{"Java's zone", "FasterXML/jackson-modules-java8#267", `"type":"like","timestamp":"2022-06-24T23:20:11+02:00[Europe/Paris]"`, "like 1 1 i", ""},
	{"a packed date and time", "anitagraser/TimeManager#123", `"type":"like","timestamp":20220624212011`, "like 1 1 i", ""},
	{"a word for a time", "bear/parsedatetime#298", `"type":"like","timestamp":"yesterday"`, "", "yesterday"},
	{"a zone that nobody knows", "waltzofpearls/dateparser#52", `"type":"like","timestamp":"2022-06-24 21:20:11 PST"`, "", "PST"},
	{"a time before 1970", "IBM/sarama#907", `"type":"like","timestamp":-1`, "", "time"},

	// Who and about what.
	{"blanks around ids", "kenkoooo/AtCoderProblems#324", `"type":"like","user_id":" u ","item_id":"i "`, "like 1 1 i", ""},
	{"a byte order mark in an id", "biolab/orange3#7000", `"type":"like","user_id":"\ufeffu"`, "like 1 1 i", ""},
	{"an id of its own", "customerio/customerio-python#22", `"type":"like","id":"e7"`, "like 1 1 i e7", ""},
	{"letters in two parts", "openfoodfacts/openfoodfacts-server#8225", `"type":"like","item_id":"cafe\u0301"`, "like 1 1 café", ""},
	{"no user", "optimizely/agent#205", `"type":"like","user_id":""`, "", "user_id"},
	{"no item", "lyst/lightfm#561", `"type":"like","item_id":null`, "", "item_id"},
}

// TestEveryFormOfAnEventMeansTheSame: a row of a CSV, a line of JSON, a record of the topic and a body of POST /v1/events make the
// same events, byte for byte, or are refused by the same name.
func TestEveryFormOfAnEventMeansTheSame(t *testing.T) {
	cfg := ingest.Default()
	for _, c := range meanings {
		t.Run(c.name, func(t *testing.T) {
			if c.from == "" {
				t.Error("no origin")
			}
			body := testkit.WholeEvent(c.fields)
			var first []byte
			for form, read := range map[string]func(*testing.T, ingest.Config, string) ([]corastream.Event, string){
				"csv": inCSV, "json line": inLine, "record": inRecord, "http": inHTTP,
			} {
				events, refusal := read(t, cfg, body)
				if c.refuse != "" {
					if len(events) > 0 || !strings.Contains(refusal, c.refuse) {
						t.Errorf("%s: %+v, refusal %q does not name %q", form, events, refusal, c.refuse)
					}
					continue
				}
				if got := inShort(events); got != c.want || refusal != "" {
					t.Errorf("%s: %q, want %q; %s", form, got, c.want, refusal)
				}
				b, err := json.Marshal(events)
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = b
				}
				if !bytes.Equal(first, b) {
					t.Errorf("%s: %s\nanother form: %s", form, b, first)
				}
				for _, ev := range events {
					if ev.User != "u" || !ev.Time.Equal(time.Date(2022, 6, 24, 21, 20, 11, 0, time.UTC)) {
						t.Errorf("%s: %+v", form, ev)
					}
				}
			}
		})
	}
	if len(meanings) < 60 {
		t.Errorf("%d cases", len(meanings))
	}
}

func inShort(events []corastream.Event) string {
	var out []string
	for _, ev := range events {
		s := fmt.Sprintf("%s %v %v %s", ev.Kind, ev.Label, ev.Weight, ev.Item)
		if ev.Implicit {
			s += "+"
		}
		if ev.Retract {
			s += "-"
		}
		if ev.ID != "" {
			s += " " + ev.ID
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

// bare takes off what says where an event lay.
func bare(events []corastream.Event) []corastream.Event {
	for i := range events {
		events[i].Pos, events[i].Appended = corastream.Position{}, time.Time{}
	}
	return events
}

// inCSV writes the members as a header and a row: text without its quotes, null as nothing, lists as they are.
func inCSV(t *testing.T, cfg ingest.Config, body string) ([]corastream.Event, string) {
	d := json.NewDecoder(strings.NewReader(body))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	var names, cells []string
	for d.More() {
		name, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			t.Fatal(err)
		}
		cell := string(raw)
		if raw[0] == '"' {
			if err := json.Unmarshal(raw, &cell); err != nil {
				t.Fatal(err)
			}
		} else if cell == "null" {
			cell = ""
		}
		names, cells = append(names, name.(string)), append(cells, cell)
	}
	var text strings.Builder
	w := csv.NewWriter(&text)
	if err := errors.Join(w.Write(names), w.Write(cells)); err != nil {
		t.Fatal(err)
	}
	w.Flush()
	events, err := datafile.Events(cfg, testkit.Write(t, "log.csv", text.String()), "log")
	return bare(events), said(err)
}

func said(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func inLine(t *testing.T, cfg ingest.Config, body string) ([]corastream.Event, string) {
	events, err := datafile.Events(cfg, testkit.Write(t, "log.jsonl", body+"\n"), "log")
	return bare(events), said(err)
}

func inRecord(_ *testing.T, cfg ingest.Config, body string) ([]corastream.Event, string) {
	return decoded(cfg, []ingest.Record{{Value: []byte(body)}})
}

// inHTTP is what the stream makes of the record that a body becomes.
func inHTTP(_ *testing.T, cfg ingest.Config, body string) ([]corastream.Event, string) {
	records, err := node.NewEventSink(nil, cfg).Records([][]byte{[]byte(body)}, nil, "", time.Now())
	if err != nil {
		return nil, err.Error()
	}
	return decoded(cfg, records)
}

func decoded(cfg ingest.Config, records []ingest.Record) (events []corastream.Event, refusal string) {
	var b corastream.Batch
	for _, r := range records {
		r.Pos, r.Time = corastream.Position{Topic: cfg.Topics.Interactions}, time.Now()
		ingest.NewDecoder(cfg).Decode(&b, r, r.Time)
	}
	for _, l := range b.Bad {
		refusal += l.Reason + ": " + l.Detail
	}
	return bare(b.Events), refusal
}
