package decode

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

// TestTheTraceOfARecordGoesToItsEvents: from the record's header, which goes first, or the CloudEvents envelope; what is no trace
// context is as if it were not there, and costs no event.
func TestTheTraceOfARecordGoesToItsEvents(t *testing.T) {
	trace := func(n int) string { return fmt.Sprintf("00-%032x-%016x-01", n, n) }
	head := func(pairs ...string) (h []Header) {
		for i := 0; i < len(pairs); i += 2 {
			h = append(h, Header{pairs[i], []byte(pairs[i+1])})
		}
		return h
	}
	flat := `{"user_id":"u","item_id":"i"}`
	structured := func(trace string) string {
		return `{"specversion":"1.0","type":"click","source":"s","id":"` + fmt.Sprint(len(trace)) + `","traceparent":"` + trace + `","data":` + flat + `}`
	}
	for _, c := range []struct {
		name, value string
		headers     []Header
		want        []string
	}{
		{"none", flat, nil, []string{""}},
		{"a header", flat, head("traceparent", trace(1)), []string{trace(1)}},
		{"in capitals", flat, head("Traceparent", trace(1)), []string{trace(1)}},
		{"an envelope's", flat, head("ce_specversion", "1.0", "ce_id", "7", "ce_source", "s", "ce_traceparent", trace(2)), []string{trace(2)}},
		{"both", flat, head("ce_traceparent", trace(2), "traceparent", trace(1)), []string{trace(1)}},
		{"both, the other way", flat, head("traceparent", trace(1), "ce_traceparent", trace(2)), []string{trace(1)}},
		{"structured", structured(trace(3)), nil, []string{trace(3)}},
		{"structured, in a record with one", structured(trace(3)), head("traceparent", trace(1)), []string{trace(1)}},
		{"each element its own", "[" + structured(trace(3)) + "," + structured("") + "," + structured(trace(4)) + "]", nil, []string{trace(3), "", trace(4)}},
		{"an impression's events", `{"user_id":"u","items":["a","b"],"clicked":["b"]}`, head("traceparent", trace(1)), []string{trace(1), trace(1)}},
		{"too long", flat, head("traceparent", trace(1)+"-x"), []string{""}},
		{"megabytes", flat, head("traceparent", strings.Repeat("0", 1<<20)), []string{""}},
		{"another version", flat, head("traceparent", "cc"+trace(1)[2:]), []string{""}},
		{"capitals in it", flat, head("traceparent", strings.ToUpper(trace(0xabc))), []string{""}},
		{"no trace id", flat, head("traceparent", "00-"+strings.Repeat("0", 32)+"-0000000000000001-01"), []string{""}},
		{"no span id", flat, head("traceparent", "00-"+strings.Repeat("1", 32)+"-0000000000000000-01"), []string{""}},
		{"a dash too many", flat, head("traceparent", "00-"+strings.Repeat("1", 31)+"--"+strings.Repeat("1", 16)+"-01"), []string{""}},
	} {
		cfg := Default()
		var b corastream.Batch
		r := Record{Pos: corastream.Position{Topic: cfg.Topics.Interactions}, Value: []byte(c.value), Headers: c.headers, Time: recordTime}
		New(cfg).Decode(&b, r, r.Time)
		var got []string
		for _, e := range b.Events {
			got = append(got, e.Trace)
		}
		if !slices.Equal(got, c.want) || len(b.Bad) > 0 {
			t.Errorf("%s: %q, want %q; %v", c.name, got, c.want, b.Bad)
		}
		if c.value != flat {
			continue
		}
		b, r.Pos.Topic = corastream.Batch{}, cfg.Topics.Requests
		r.Value = []byte(`{"user_id":"u","n":3}`)
		New(cfg).Decode(&b, r, r.Time)
		if len(b.Requests) != 1 || b.Requests[0].Trace != c.want[0] {
			t.Errorf("%s, a request: %+v", c.name, b)
		}
	}
}
