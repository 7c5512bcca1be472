package decode

import "testing"

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
