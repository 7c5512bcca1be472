package ingest

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/ingest/decode"
)

func TestAHistoryInARequestComesOutAsItWentIn(t *testing.T) {
	at := time.Unix(1763895600, 0).UTC()
	in := corastream.Request{User: "u", Seen: corastream.SeenExclude, History: []corastream.Interaction{
		{Item: "a", Label: 1, Time: at}, {Item: "b", Shown: true, Time: at.Add(time.Second)}, {Item: "c", Label: .25, Time: at},
	}}
	v, err := EncodeRequest(in)
	if err != nil {
		t.Fatal(err)
	}
	d := NewDecoder(Default())
	var b corastream.Batch
	d.Decode(&b, Record{Pos: corastream.Position{Topic: Default().Topics.Requests}, Value: v, Time: at.Add(time.Minute)}, at.Add(time.Minute))
	if len(b.Requests) != 1 || b.Requests[0].Seen != in.Seen || !reflect.DeepEqual(b.Requests[0].History, in.History) {
		t.Errorf("%s gave %+v", v, b)
	}
	var usage *corastream.UsageError
	if _, err := d.Past([][]byte{[]byte(`"a"`), []byte(`7`)}, at); !errors.As(err, &usage) || usage.Where != "[1]" {
		t.Errorf("%v", err)
	}
}

func TestEventsItemsAndRequestsComeOutAsTheyWentIn(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		p := producer(t, cfg)
		in := events(0, 300)
		must(t, p.Events(t.Context(), in))
		items := []corastream.Item{
			{ID: "i1", Title: "Heat (1995)", Fields: map[string]string{"year": "1995", "genre": "Crime, Thriller"}},
			{ID: "i2", Title: "Gone", Withdrawn: true},
			{ID: "i3", Withdrawn: true, Removed: true},
		}
		must(t, p.Items(t.Context(), items))
		reqs := []corastream.Request{{ID: "r1", User: "u1", N: 5, Exclude: []string{"i1"}, Candidates: []string{"i2", "i9"}}, {User: "u2"}}
		must(t, p.Requests(t.Context(), reqs))

		s := newStore()
		mustDrain(t, cfg, s)
		got := s.all()
		if len(got.Bad) > 0 {
			t.Fatalf("dead letters: %+v", got.Bad)
		}
		byID := map[string]corastream.Event{}
		for _, e := range got.Events {
			byID[e.ID] = e
		}
		for _, want := range in {
			e := byID[want.ID]
			if e.Appended.IsZero() || time.Since(e.Appended) > time.Hour || e.Pos.Topic != cfg.Topics.Interactions {
				t.Fatalf("event %s: appended %v at %v", want.ID, e.Appended, e.Pos)
			}
			e.Appended, e.Pos, want.Weight = time.Time{}, corastream.Position{}, 1
			if !reflect.DeepEqual(e, want) {
				t.Fatalf("got %+v\nwant %+v", e, want)
			}
		}
		sameIDs(t, got.Events, 300)
		for i := range got.Items {
			if got.Items[i].Pos.Topic != cfg.Topics.Items {
				t.Errorf("item %s lies at %v", got.Items[i].ID, got.Items[i].Pos)
			}
			if age := time.Since(got.Items[i].Appended); age < 0 || age > time.Hour {
				t.Errorf("item %s was appended at %v", got.Items[i].ID, got.Items[i].Appended)
			}
			got.Items[i].Pos, got.Items[i].Appended = corastream.Position{}, time.Time{}
			got.Items[i] = got.Items[i].Onto(corastream.Item{})
		}
		if !reflect.DeepEqual(got.Items, items) {
			t.Errorf("items %+v", got.Items)
		}
		if len(got.Requests) != 2 {
			t.Fatalf("requests %+v", got.Requests)
		}
		for _, r := range got.Requests {
			want := reqs[0]
			if r.User == "u2" {
				want = reqs[1]
			}
			r.Pos, r.Appended = corastream.Position{}, time.Time{}
			if !reflect.DeepEqual(r, want) {
				t.Errorf("got %+v\nwant %+v", r, want)
			}
		}
	})
}

func TestOneUsersEventsKeepTheirOrder(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		must(t, producer(t, cfg).Events(t.Context(), events(0, 1000)))
		s := newStore()
		mustDrain(t, cfg, s)
		last := map[string]time.Time{}
		for _, e := range s.events() {
			if !e.Time.After(last[e.User]) {
				t.Fatalf("user %s: %v after %v", e.User, e.Time, last[e.User])
			}
			last[e.User] = e.Time
		}
		if len(s.next) < 4 {
			t.Errorf("only %d partitions took part", len(s.next))
		}
	})
}

func TestRecommendationsAndDeadLettersComeOutAsTheyWentIn(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		made := time.Date(2026, 11, 23, 10, 0, 0, 123_000_000, time.UTC)
		in := corastream.Recommendation{
			ID: "abc", User: "u1", Candidates: 20, RequestID: "r",
			Items: []corastream.Scored{{Item: "i1", Title: "Heat", Score: .75, CF: .5, Rank: 1, Propensity: 1}},
			Cause: corastream.Position{Topic: "x", Partition: 3, Offset: 9}, Oldest: made.Add(-150 * time.Millisecond), Made: made,
			Versions: corastream.Versions{User: 7, Generator: "g", LLM: "l"}, Degraded: "cf", Cold: true,
		}
		s := sink(t, cfg)
		must(t, s.Publish(t.Context(), []corastream.Recommendation{in}))
		recs := consume(t, cfg, cfg.Topics.Recommendations)
		if len(recs) != 1 || string(recs[0].Key) != "u1" {
			t.Fatalf("records: %+v", recs)
		}
		out, err := DecodeRecommendation(recs[0])
		must(t, err)
		if !reflect.DeepEqual(in, out) {
			t.Errorf("got %+v\nwant %+v", out, in)
		}
		if !bytes.Contains(recs[0].Value, []byte(`"freshness_ms":150`)) {
			t.Errorf("no freshness in %s", recs[0].Value)
		}
		head := map[string]string{}
		for _, h := range recs[0].Headers {
			head[h.Key] = string(h.Value)
		}
		if head["ce_specversion"] != "1.0" || head["ce_id"] != "abc" || head["ce_type"] != recommendationType || head["ce_generator"] != "g" {
			t.Errorf("headers %v", head)
		}

		letters := []corastream.DeadLetter{
			{Pos: corastream.Position{Topic: "in", Partition: 2, Offset: 77}, Key: []byte("k"), Value: []byte{0xff, 0, 1}, Reason: decode.ReasonJSON, Detail: "no"},
			{Pos: corastream.Position{Topic: "in"}, Value: bytes.Repeat([]byte("x"), cfg.MaxRecordBytes-100), Reason: decode.ReasonJSON},
		}
		must(t, s.Bury(t.Context(), letters))
		got := consume(t, cfg, cfg.Topics.DeadLetters)
		if len(got) != 2 {
			t.Fatalf("%d letters", len(got))
		}
		for _, want := range letters {
			if i := indexLetter(got, want); i < 0 {
				t.Errorf("letter %s of %d bytes is missing", want.Reason, len(want.Value))
			}
		}
	})
}

func indexLetter(records []Record, want corastream.DeadLetter) int {
	for i, r := range records {
		l := DecodeLetter(r)
		if bytes.Equal(l.Key, want.Key) && bytes.Equal(l.Value, want.Value) && l.Pos == want.Pos && l.Reason == want.Reason && l.Detail == want.Detail {
			return i
		}
	}
	return -1
}

func TestFollowSeesWhatIsWrittenLater(t *testing.T) {
	eachBroker(t, func(t *testing.T, cfg Config) {
		s := sink(t, cfg)
		must(t, s.Publish(t.Context(), []corastream.Recommendation{{ID: "before", User: "u"}}))
		c, err := NewConsumer(t.Context(), cfg, cfg.Topics.Recommendations, FromEnd(), true, testLog(t))
		must(t, err)
		must(t, s.Publish(t.Context(), []corastream.Recommendation{{ID: "after", User: "u"}}))
		r, err := c.Next(t.Context())
		must(t, err)
		if got, _ := DecodeRecommendation(r); got.ID != "after" {
			t.Errorf("got %q", got.ID)
		}
		must(t, c.Close())
		if _, err := c.Next(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("after Close: %v", err)
		}
	})
}
