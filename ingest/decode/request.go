package decode

import (
	"bytes"
	"fmt"
	"time"

	"github.com/corastream/corastream"
)

// request decodes {user_id, n, request_id, exclude, candidates, history, seen}.
func (j *job) request(v []byte) {
	r, bad := j.readRequest(v)
	if bad != nil {
		j.bury(v, bad.reason, bad.detail)
		return
	}
	j.b.Requests = append(j.b.Requests, r)
	j.d.Counts.event(j.dialect)
}

func (j *job) readRequest(v []byte) (r corastream.Request, bad *problem) {
	var user, id, n, exclude, candidates, history, seen []byte
	var twice string
	members(v, func(k, x []byte) {
		var buf [32]byte
		switch string(word(&buf, k)) {
		case "userid", "user":
			slot(&user, x, &twice, "user_id")
		case "requestid", "id":
			slot(&id, x, &twice, "request_id")
		case "n", "count":
			slot(&n, x, &twice, "n")
		case "exclude":
			slot(&exclude, x, &twice, "exclude")
		case "candidates":
			slot(&candidates, x, &twice, "candidates")
		case "history":
			slot(&history, x, &twice, "history")
		case "seen":
			slot(&seen, x, &twice, "seen")
		}
	})
	r = corastream.Request{Pos: j.r.Pos, Appended: j.r.Time, Trace: j.trace}
	if twice != "" {
		return r, &problem{ReasonAmbiguous, twice + " comes twice with different values", fContext}
	}
	if r.User, bad = j.d.id("user_id", user); bad != nil {
		return r, bad
	}
	if r.User == "" {
		return r, &problem{ReasonNoUser, "user_id is missing", fContext}
	}
	if r.ID, bad = j.d.id("request_id", id); bad != nil {
		return r, bad
	}
	if r.ID == "" {
		r.ID = j.ce.id
		if bad = j.d.checkID("the CloudEvent's source and id", r.ID); bad != nil {
			return r, bad
		}
	}
	if n != nil && !isNull(n) {
		x, ok := number(n)
		if !ok || x != x || x != float64(int(x)) || x < 0 || x > float64(j.d.cfg.MaxArray) {
			return r, &problem{ReasonType, fmt.Sprintf("n is not a whole number from 0 to max_array=%d: %s", j.d.cfg.MaxArray, brief(n)), fContext}
		}
		r.N = int(x)
	}
	if r.Exclude, bad = j.d.ids("exclude", exclude); bad != nil {
		return r, bad
	}
	if r.Candidates, bad = j.d.ids("candidates", candidates); bad != nil {
		return r, bad
	}
	if seen != nil && !isNull(seen) {
		var ok bool
		if r.Seen, ok = text(seen); !ok || corastream.CheckSeen("seen", r.Seen) != nil {
			return r, &problem{ReasonType, "seen is none of auto, exclude, include, clicked: " + brief(seen), fContext}
		}
	}
	r.History, bad = j.history(history)
	return r, bad
}

// history reads what a request says of its asker's own history.
func (j *job) history(raw []byte) (out []corastream.Interaction, bad *problem) {
	if len(raw) == 0 || isNull(raw) {
		return nil, nil
	}
	if raw[0] != '[' {
		return nil, &problem{ReasonType, "history is not an array", fContext}
	}
	var entries [][]byte
	elements(raw, func(e []byte) bool {
		entries = append(entries, e)
		return len(entries) <= corastream.MaxPast
	})
	if len(entries) > corastream.MaxPast {
		return nil, &problem{ReasonTooMany, fmt.Sprintf("history holds over %d interactions", corastream.MaxPast), fContext}
	}
	out, at, bad := j.d.past(entries, j.r.Time)
	if bad != nil {
		bad.detail = fmt.Sprintf("history[%d]: %s", at, bad.detail)
	}
	return out, bad
}

// Past reads interactions as a request brings them, oldest first: item ids, or events in the flat form without a user. One that
// says nothing of what happened counts as liked, and one without a time as of now. The error is a *corastream.UsageError whose
// Where names the entry ("[3]").
func (d *Decoder) Past(entries [][]byte, now time.Time) ([]corastream.Interaction, error) {
	out, at, bad := d.past(entries, now)
	if bad != nil {
		return nil, corastream.Usagef(fmt.Sprintf("[%d]", at), "send item_id and, where known, timestamp and type, label or rating", "%s: %s", bad.reason, bad.detail)
	}
	return out, nil
}

func (d *Decoder) past(entries [][]byte, now time.Time) (out []corastream.Interaction, at int, bad *problem) {
	quiet := *d // these are not records of a topic: its counters do not count them
	quiet.Counts = newCounts(d.strangers)
	j := job{d: &quiet, b: new(corastream.Batch), r: Record{Time: now}, now: now, dialect: DialectFlat}
	for i, e := range entries {
		e = bytes.TrimSpace(e)
		f := newInteraction()
		switch {
		case len(e) > 0 && e[0] == '{':
			members(e, func(k, x []byte) { f.put(&quiet, k, x) })
			f.mapped(e, d.events)
		case len(e) > 0 && e[0] == '"':
			f.raw[fItem] = e
		default:
			return nil, i, &problem{ReasonType, "it is neither an object nor an item id", fContext}
		}
		if !f.has(fKind) && !f.has(fEvent) && !f.has(fLabel) && !f.has(fRating) && !f.has(fValue) && !f.has(fItems) {
			f.raw[fLabel] = []byte("1")
		}
		f.raw[fUser] = []byte(`"asker"`)
		j.interaction(e, &f)
		if len(j.b.Bad) > 0 {
			return nil, i, &problem{j.b.Bad[0].Reason, j.b.Bad[0].Detail, fContext}
		}
	}
	for i, ev := range j.b.Events {
		if ev.OfUser() {
			return nil, min(i, len(entries)-1), &problem{ReasonNoItem, "item_id is missing", fItem}
		}
		out = append(out, corastream.Interaction{Item: ev.Item, Label: ev.Label, Shown: ev.Shown(), Time: ev.Time})
	}
	if len(out) > corastream.MaxPast { // an entry may list several items
		out = out[len(out)-corastream.MaxPast:]
	}
	return out, 0, nil
}
