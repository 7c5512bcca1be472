package decode

import (
	"testing"
	"time"
)

// TestMarksAreFoundHoweverJSONIsWritten: an envelope that is not noticed would be read as an event of its own.
func TestMarksAreFoundHoweverJSONIsWritten(t *testing.T) {
	for v, want := range map[string]marks{
		`{"specversion":"1.0","data":{}}`:                         markSpec,
		"{ \"payload\" \t\r\n: {}, \"schema\": null }":            markPayload,
		`{"a":{"op":"c"},"event":"x"}`:                            markOp | markEvent,
		`{"time":"21:20:11","shop":1,"myevent":2,"to_payload":3}`: 0,
		`{"a":"payload","b":"op"}`:                                0,
		`:`:                                                       0,
		`":`:                                                      0,
		``:                                                        0,
	} {
		if got := marksOf([]byte(v)); got != want {
			t.Errorf("%s: %b, want %b", v, got, want)
		}
	}
}

// TestRelativeTimesCountFromTheirOrigin: numbers do, in JSON and as text; what names a date or a moment stays what it is.
func TestRelativeTimesCountFromTheirOrigin(t *testing.T) {
	cfg := Default()
	cfg.TimeOrigin, cfg.TimeUnit = time.UnixMilli(1465876799998).UTC(), time.Millisecond
	d := New(cfg)
	for raw, want := range map[string]string{
		`61`: "2016-06-14T04:00:00.059Z", `"61"`: "2016-06-14T04:00:00.059Z", `0`: "2016-06-14T03:59:59.998Z", `0.5`: "2016-06-14T03:59:59.9985Z",
		`1295999999`: "2016-06-29T03:59:59.997Z", `"2022-06-24 21:20:11"`: "2022-06-24T21:20:11Z", `"2022-06-24T23:20:11+02:00"`: "2022-06-24T21:20:11Z",
		`-1`: "", `1e300`: "", `"NaN"`: "", `"soon"`: "", `[1]`: "",
	} {
		got, ok := d.clock([]byte(raw))
		if ok != (want != "") || ok && got.Format(time.RFC3339Nano) != want {
			t.Errorf("%s: %v %v, want %s", raw, got, ok, want)
		}
	}
}
