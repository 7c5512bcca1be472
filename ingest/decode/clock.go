package decode

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// From these numbers on a unix time is in milli-, micro- and nanoseconds. As the coarser unit each would be the year 5138.
const (
	millisFrom = 1e11
	microsFrom = 1e14
	nanosFrom  = 1e17
)

// layouts of times as people write them; without an offset they are UTC. Seconds may have a fraction after a dot or a comma.
var layouts = []string{
	time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02", "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05Z0700",
	"2006-01-02 15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05 -0700", "2006-01-02 15:04:05 -07:00",
	"2006-01-02 15:04", "2006-01-02T15:04", "2006-01-02T15:04Z07:00", "2006/01/02 15:04:05", "2006/01/02",
	"Mon, 02 Jan 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 -0700",
}

// Time reads a time as an event's timestamp is read.
func Time(s string) (time.Time, bool) { return clockText(s) }

// clock reads an event's time: as text in one of layouts, or unix seconds, milli-, micro- or nanoseconds as a number or a string of one.
func clock(raw []byte) (time.Time, bool) {
	if len(raw) > 0 && raw[0] != '"' {
		return unixTime(string(raw))
	}
	if plain(raw) && len(raw) > 20 && raw[5] == '-' && raw[11] == 'T' { // nearly all that are text
		if t, err := time.Parse(time.RFC3339Nano, string(raw[1:len(raw)-1])); err == nil {
			return t.UTC(), true
		}
	}
	s, ok := text(raw)
	if !ok {
		return time.Time{}, false
	}
	return clockText(s)
}

// clock reads an event's time as the configuration says: a number counts from TimeOrigin, where that is set.
func (d *Decoder) clock(raw []byte) (time.Time, bool) {
	origin := d.cfg.TimeOrigin
	n, isNumber := 0.0, false
	if !origin.IsZero() {
		n, isNumber = number(raw)
	}
	if !isNumber {
		return clock(raw)
	}
	const most = 200 * 365 * 24 * time.Hour // a Duration holds 292 years
	if unit := float64(d.cfg.TimeUnit); n >= 0 && n*unit <= float64(most) {
		return origin.Add(time.Duration(math.Round(n * unit))).UTC(), true
	}
	return time.Time{}, false
}

func clockText(s string) (time.Time, bool) {
	s = trim(s)
	if len(s) > 64 {
		return time.Time{}, false
	}
	if i := strings.IndexByte(s, '['); i > 0 && strings.HasSuffix(s, "]") { // Java's zone beside the offset
		s = s[:i]
	}
	for _, zone := range []string{" UTC", " GMT", " Z"} {
		if rest, ok := strings.CutSuffix(s, zone); ok && !strings.Contains(rest, "+") {
			if s = rest; strings.Contains(s, ", ") {
				s += " +0000"
			}
		}
	}
	if !strings.ContainsAny(s, "-/: ") {
		return unixTime(s)
	}
	for _, l := range layouts {
		if t, err := time.Parse(l, s); err == nil {
			return t.UTC(), true
		}
	}
	return unixTime(s)
}

func unixTime(s string) (time.Time, bool) {
	if t, ok := packed(s); ok {
		return t, true
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil { // exactly
		switch {
		case n < 0:
			return time.Time{}, false
		case n < millisFrom:
			return time.Unix(n, 0).UTC(), true
		case n < microsFrom:
			return time.UnixMilli(n).UTC(), true
		case n < nanosFrom:
			return time.UnixMicro(n).UTC(), true
		}
		return time.Unix(0, n).UTC(), true
	}
	v, ok := number([]byte(s))
	if !ok || !(v >= 0) || v >= microsFrom { // negative or NaN too
		return time.Time{}, false
	}
	if v < millisFrom {
		v *= 1000
	}
	// Milliseconds are kept exactly; what is below them is noise of the float.
	return time.UnixMilli(int64(math.Round(v))).UTC(), true
}

// packed reads a date of eight digits, or a date and time of fourteen. As unix times they would be of 1970 and of the year 2600.
func packed(s string) (time.Time, bool) {
	var layout string
	switch len(s) {
	case 8:
		layout = "20060102"
	case 14:
		layout = "20060102150405"
	default:
		return time.Time{}, false
	}
	t, err := time.Parse(layout, s)
	return t, err == nil && t.Year() >= 1990 && t.Year() <= 2100
}
