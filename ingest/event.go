package ingest

import (
	"fmt"
	"math"
	"strings"

	"github.com/corastream/corastream"
)

// eventFields are the raw values of one event.
type eventFields struct {
	user, item, items, clicked, kind, rating, value, label, at, id []byte
	gorse                                                          bool
	twice                                                          string // a field that came twice, with two values
}

func readEvent(v []byte) (f eventFields) {
	var event []byte
	members(v, func(k, x []byte) {
		var buf [32]byte
		switch string(word(&buf, k)) {
		case "userid", "user":
			slot(&f.user, x, &f.twice, "user_id")
		case "itemid", "item":
			slot(&f.item, x, &f.twice, "item_id")
		case "items", "impressions":
			slot(&f.items, x, &f.twice, "items")
		case "clicked", "clicks":
			slot(&f.clicked, x, &f.twice, "clicked")
		case "feedbacktype":
			f.gorse = true
			slot(&f.kind, x, &f.twice, "type")
		case "type", "kind", "eventtype":
			slot(&f.kind, x, &f.twice, "type")
		case "event":
			event = x
		case "rating":
			slot(&f.rating, x, &f.twice, "rating")
		case "value":
			slot(&f.value, x, &f.twice, "value")
		case "label":
			slot(&f.label, x, &f.twice, "label")
		case "timestamp", "time", "ts", "eventtime":
			slot(&f.at, x, &f.twice, "timestamp")
		case "id", "eventid":
			slot(&f.id, x, &f.twice, "id")
		}
	})
	if f.kind == nil {
		f.kind = event
	}
	return f
}

// event decodes one interaction: a rating, a labelled event, a click, or an impression with what was clicked in it.
func (j *job) event(v []byte) {
	f := readEvent(v)
	f.mapped(v, j.d.events)
	if f.gorse && j.dialect == DialectFlat {
		defer func() { j.dialect = DialectFlat }()
		j.dialect = DialectGorse
	}
	j.interaction(v, f)
}

// interaction makes events of the fields; v is what a dead letter keeps.
func (j *job) interaction(v []byte, f eventFields) {
	ev, bad := j.common(f)
	if bad == nil && f.items != nil {
		var shown []corastream.Event
		if shown, bad = j.impression(ev, f); bad == nil {
			j.b.Events = append(j.b.Events, shown...)
			j.d.Counts.event(j.dialect)
			return
		}
	}
	if bad == nil {
		bad = j.single(&ev, f)
	}
	if bad != nil {
		j.bury(v, bad.reason, bad.detail)
		return
	}
	j.b.Events = append(j.b.Events, ev)
	j.d.Counts.event(j.dialect)
}

// common reads what every event has: user, id, time.
func (j *job) common(f eventFields) (ev corastream.Event, bad *problem) {
	ev = corastream.Event{Pos: j.r.Pos, Appended: j.r.Time, Weight: 1, Trace: j.trace}
	if f.twice != "" {
		return ev, &problem{ReasonAmbiguous, f.twice + " comes twice with different values"}
	}
	if ev.User, bad = j.d.id("user_id", f.user); bad != nil {
		return ev, bad
	}
	if ev.User == "" {
		return ev, &problem{ReasonNoUser, "user_id is missing"}
	}
	if ev.ID, bad = j.d.id("id", f.id); bad != nil {
		return ev, bad
	}
	if j.ce.id != "" {
		ev.ID = j.ce.id
		if bad = j.d.checkID("the CloudEvent's source and id", ev.ID); bad != nil {
			return ev, bad
		}
	}
	return ev, j.when(&ev, f.at)
}

// when sets the event's time: its own, else the envelope's, else the record's.
func (j *job) when(ev *corastream.Event, raw []byte) *problem {
	ev.Time = j.ce.time
	if raw != nil && !isNull(raw) {
		t, ok := clock(raw)
		if !ok {
			return &problem{ReasonTime, "timestamp is neither RFC 3339 nor unix seconds or milliseconds: " + brief(raw)}
		}
		ev.Time = t
	}
	if ev.Time.IsZero() { // also Go's zero time, which some producers write for "none"
		ev.Time = j.r.Time
		j.d.Counts.noTime.Add(1)
		return nil
	}
	if ahead := ev.Time.Sub(j.now); ahead > j.d.cfg.MaxAhead {
		return &problem{ReasonFuture, fmt.Sprintf("%s is %s after the record, over max_ahead=%s",
			ev.Time.Format("2006-01-02T15:04:05Z07:00"), ahead.Round(1e9), j.d.cfg.MaxAhead)}
	}
	if age := j.now.Sub(ev.Time); j.d.cfg.MaxAge > 0 && age > j.d.cfg.MaxAge {
		return &problem{ReasonOld, fmt.Sprintf("%s is %s before the record, over max_age=%s",
			ev.Time.Format("2006-01-02T15:04:05Z07:00"), age.Round(1e9), j.d.cfg.MaxAge)}
	}
	return nil
}

// single sets item, kind and label of an event about one item.
func (j *job) single(ev *corastream.Event, f eventFields) (bad *problem) {
	if ev.Item, bad = j.d.id("item_id", f.item); bad != nil {
		return bad
	}
	if ev.Item == "" {
		return &problem{ReasonNoItem, "item_id is missing"}
	}
	if f.kind != nil && !isNull(f.kind) {
		var ok bool
		if ev.Kind, ok = text(f.kind); !ok {
			return &problem{ReasonType, "type is not a string"}
		}
		if bad = j.d.checkID("type", ev.Kind); bad != nil {
			return bad
		}
	}
	if ev.Kind == "" {
		ev.Kind = j.ceKind()
	}
	rating := f.rating
	if rating == nil && ev.Kind == kindRating {
		rating = f.value // Gorse calls it Value
	}
	kind, known := j.d.cfg.Kinds[ev.Kind]
	if known {
		ev.Weight = kind.Weight
	}
	switch {
	case f.label != nil && !isNull(f.label):
		if ev.Kind == "" {
			ev.Kind = "label"
		}
		return setLabel(ev, f.label)
	case rating != nil && !isNull(rating):
		if ev.Kind == "" {
			ev.Kind = kindRating
		}
		return j.setRating(ev, rating)
	case ev.Kind == kindRating:
		return &problem{ReasonLabel, "a rating without a value"}
	case ev.Kind == "":
		ev.Kind = j.d.cfg.DefaultKind
		if kind, known = j.d.cfg.Kinds[ev.Kind]; !known {
			return &problem{ReasonKind, "the event has neither type, label nor rating"}
		}
		ev.Weight = kind.Weight
	case !known:
		return &problem{ReasonKind, fmt.Sprintf("type %q is not in kinds, and the event has neither label nor rating", ev.Kind)}
	}
	ev.Label, ev.Implicit = kind.Label, kind.Implicit
	return nil
}

// ceKind is the envelope's type, by its whole name or by its last part: com.example.click is a click.
func (j *job) ceKind() string {
	k := j.ce.kind
	if _, ok := j.d.cfg.Kinds[k]; ok || k == "" {
		return k
	}
	if i := strings.LastIndexByte(k, '.'); i >= 0 {
		if _, ok := j.d.cfg.Kinds[k[i+1:]]; ok {
			return k[i+1:]
		}
	}
	return ""
}

func setLabel(ev *corastream.Event, raw []byte) *problem {
	switch string(raw) {
	case "true":
		ev.Label = 1
		return nil
	case "false":
		ev.Label = 0
		return nil
	}
	v, bad := finite("label", raw)
	if bad != nil {
		return bad
	}
	if v < 0 || v > 1 {
		return &problem{ReasonLabel, fmt.Sprintf("label %v is outside 0 to 1", v)}
	}
	ev.Label = float32(v)
	return nil
}

func (j *job) setRating(ev *corastream.Event, raw []byte) *problem {
	v, bad := finite("rating", raw)
	if bad != nil {
		return bad
	}
	if v >= j.d.cfg.RatingThreshold {
		ev.Label = 1
	}
	return nil
}

func finite(name string, raw []byte) (float64, *problem) {
	v, ok := number(raw)
	if !ok {
		return 0, &problem{ReasonType, name + " is not a number: " + brief(raw)}
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, &problem{ReasonNaN, name + " is not finite: " + brief(raw)}
	}
	return v, nil
}

// brief quotes the start of a value for a person.
func brief(raw []byte) string {
	const most = 40
	if len(raw) > most {
		return fmt.Sprintf("%.*q...", most, raw[:most])
	}
	return fmt.Sprintf("%q", raw)
}
