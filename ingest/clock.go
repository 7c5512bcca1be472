package ingest

import (
	"math"
	"time"
)

// millisFrom: unix times at or above it are milliseconds. As seconds it is the year 5138, as milliseconds March 1973.
const millisFrom = 1e11

// layouts beside RFC 3339, all read as UTC.
var layouts = []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02"}

// clock reads an event's time: RFC 3339, a date, or unix seconds or milliseconds as a number or a string of one.
func clock(raw []byte) (time.Time, bool) {
	if len(raw) > 0 && raw[0] != '"' {
		return unixTime(raw)
	}
	s, ok := text(raw)
	if !ok {
		return time.Time{}, false
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UTC(), true
	}
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil {
			return t, true
		}
	}
	return unixTime([]byte(s))
}

func unixTime(raw []byte) (time.Time, bool) {
	v, ok := number(raw)
	// 1e15 ms is the year 33658: what lies beyond is micro- or nanoseconds, which is not guessed at.
	if !ok || v != v || math.Abs(v) > 1e15 {
		return time.Time{}, false
	}
	if math.Abs(v) < millisFrom {
		v *= 1000
	}
	// Milliseconds are kept exactly; what is below them is noise of the float.
	return time.UnixMilli(int64(math.Round(v))).UTC(), true
}
