package decode

import (
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/corastream/corastream"
)

// interaction is one event's names and raw values, from whatever form it came in.
type interaction struct {
	raw   [fields][]byte
	gorse bool
	twice field // came twice, with two values; fContext: none did

	// Names that nothing reads, the first of each sort: any; what may say what happened; when; a flag against a like.
	unread, what, when, against string
	whatLike                    field
}

func newInteraction() interaction { return interaction{twice: fContext} }

// put takes in one member.
func (f *interaction) put(d *Decoder, name, x []byte) {
	whole, mapped := d.mapped[string(name)]
	if whole {
		return // read where it is mapped to alone: an id that is an item's must not be the event's too
	}
	var buf [32]byte
	w := word(&buf, name)
	to, known := eventWord(w)
	if known {
		f.gorse = f.gorse || string(w) == "feedbacktype"
		f.set(to, x)
		return
	}
	if mapped {
		return
	}
	s := d.strangers.look(name)
	s.n.Add(1)
	if f.unread == "" {
		f.unread = string(name)
	}
	switch s.like {
	case fTime:
		f.when = string(name)
	case fContext:
	default:
		if f.what == "" {
			f.what, f.whatLike = string(name), s.like
		}
		if on, ok := flag(x); ok && s.flag != 0 && on != (s.flag > 0) {
			f.against = string(name)
		}
	}
}

func (f *interaction) set(to field, x []byte) {
	if to == fContext {
		return
	}
	if f.raw[to] != nil && string(f.raw[to]) != string(x) {
		f.twice = to
	}
	f.raw[to] = x
}

// has says that a field came with a value.
func (f *interaction) has(n field) bool { return len(f.raw[n]) > 0 && !isNull(f.raw[n]) }

// kind is the type that the record itself names, else "event"'s.
func (f *interaction) kind() []byte {
	if f.has(fKind) || !f.has(fEvent) {
		return f.raw[fKind]
	}
	return f.raw[fEvent]
}

// event decodes one JSON object: a rating, a labelled event, a click, a basket, or an impression with what was clicked in it.
func (j *job) event(v []byte) {
	f := newInteraction()
	members(v, func(k, x []byte) { f.put(j.d, k, x) })
	f.mapped(v, j.d.events)
	if f.gorse && j.dialect == DialectFlat {
		defer func() { j.dialect = DialectFlat }()
		j.dialect = DialectGorse
	}
	j.interaction(v, &f)
}

// interaction makes events of the fields; v is what a dead letter keeps.
func (j *job) interaction(v []byte, f *interaction) {
	ev, bad := j.common(f)
	var made []corastream.Event
	switch {
	case bad != nil:
	case f.ofUser():
		if ev.Labels, bad = j.d.labels(f.raw[fLabels]); bad == nil {
			ev.Kind = corastream.KindLabels
			j.b.Events = append(j.b.Events, ev)
		}
	case f.has(fItems):
		made, bad = j.several(ev, f)
	default:
		if bad = j.single(&ev, f); bad == nil {
			j.b.Events = append(j.b.Events, ev)
		}
	}
	if bad == nil && j.d.strict && f.unread != "" {
		bad = &problem{ReasonUnread, fmt.Sprintf("nothing reads %.60q: leave it out, or map it with kafka.fields.events", f.unread), fContext}
		if made == nil {
			j.b.Events = j.b.Events[:len(j.b.Events)-1]
		}
	}
	if bad != nil {
		j.fault(v, bad)
		return
	}
	j.b.Events = append(j.b.Events, made...)
	j.d.Counts.event(j.dialect)
}

// common reads what every event has: user, id, time.
func (j *job) common(f *interaction) (ev corastream.Event, bad *problem) {
	ev = corastream.Event{Pos: j.r.Pos, Appended: j.r.Time, Weight: 1, Trace: j.trace}
	if f.twice != fContext {
		return ev, &problem{ReasonAmbiguous, ourNames[f.twice] + " comes twice with different values", f.twice}
	}
	if ev.User, bad = j.d.id("user_id", f.raw[fUser]); bad != nil {
		return ev, bad.at(fUser)
	}
	if ev.User == "" {
		return ev, &problem{ReasonNoUser, "user_id is missing", fUser}
	}
	if ev.ID, bad = j.d.id("id", f.raw[fID]); bad != nil {
		return ev, bad.at(fID)
	}
	if j.ce.id != "" {
		ev.ID = j.ce.id
		if bad = j.d.checkID("the CloudEvent's source and id", ev.ID); bad != nil {
			return ev, bad
		}
	}
	if f.when != "" && !f.has(fTime) {
		return ev, &problem{ReasonUnread, fmt.Sprintf("%.60q is not read, and timestamp is missing: is it misspelt?", f.when), fContext}
	}
	return ev, j.when(&ev, f.raw[fTime])
}

// when sets the event's time: its own, else the envelope's, else the record's.
func (j *job) when(ev *corastream.Event, raw []byte) *problem {
	ev.Time = j.ce.time
	if len(raw) > 0 && !isNull(raw) {
		t, ok := j.d.clock(raw)
		if !ok {
			return &problem{ReasonTime, "timestamp is not a time: " + brief(raw) + " (write RFC 3339, 2022-06-24 21:20:11, a date, or unix s, ms, us or ns)", fTime}
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
			ev.Time.Format("2006-01-02T15:04:05Z07:00"), ahead.Round(1e9), j.d.cfg.MaxAhead), fTime}
	}
	if age := j.now.Sub(ev.Time); j.d.cfg.MaxAge > 0 && age > j.d.cfg.MaxAge {
		return &problem{ReasonOld, fmt.Sprintf("%s is %s before the record, over max_age=%s",
			ev.Time.Format("2006-01-02T15:04:05Z07:00"), age.Round(1e9), j.d.cfg.MaxAge), fTime}
	}
	return nil
}

// single sets item, kind and label of an event about one item.
func (j *job) single(ev *corastream.Event, f *interaction) (bad *problem) {
	if ev.Item, bad = j.d.id("item_id", f.raw[fItem]); bad != nil {
		return bad.at(fItem)
	}
	if ev.Item == "" {
		return &problem{ReasonNoItem, "item_id is missing", fItem}
	}
	if bad = j.named(ev, f); bad != nil {
		return bad
	}
	kind, known := j.d.cfg.Kinds[ev.Kind]
	switch {
	case kind.Retract && (f.has(fLabel) || f.has(fRating)):
		return &problem{ReasonAmbiguous, fmt.Sprintf("type %q takes back, and a label or rating says something else", ev.Kind), fKind}
	case kind.Retract:
	case f.raw[fLabel] != nil:
		if ev.Kind == "" {
			ev.Kind = "label"
		}
		j.weigh(ev)
		return setLabel(ev, f.raw[fLabel])
	case f.has(fRating) || ev.Kind == kindRating && f.has(fValue):
		if ev.Kind == "" {
			ev.Kind = kindRating
		}
		j.weigh(ev)
		if f.has(fRating) {
			return j.setRating(ev, f.raw[fRating])
		}
		return j.setRating(ev, f.raw[fValue]) // Gorse calls it Value
	case ev.Kind == kindRating:
		return &problem{ReasonLabel, "a rating without a value", fRating}
	case f.raw[fClicked] != nil && (ev.Kind == "" && j.ce.kind == "" || ev.Kind == kindImpression || ev.Kind == kindClick):
		return j.flagged(ev, f)
	case ev.Kind == "":
		if bad = j.implied(ev, f); bad != nil {
			return bad
		}
		kind, known = j.d.cfg.Kinds[ev.Kind]
	}
	if !known {
		return &problem{ReasonKind, fmt.Sprintf("type %q is not in kinds, and the event has neither label nor rating", ev.Kind), fKind}
	}
	kind.means(ev)
	return f.contradicts(ev)
}

// means sets what the kind says of an event.
func (k Kind) means(ev *corastream.Event) {
	ev.Weight, ev.Label, ev.Implicit, ev.Retract = k.Weight, k.Label, k.Implicit, k.Retract
}

// named sets the kind that the record or its envelope names; "" is none.
func (j *job) named(ev *corastream.Event, f *interaction) *problem {
	raw := f.kind()
	if name, known := j.d.kinds[string(raw)]; known {
		ev.Kind = name
		return nil
	}
	if len(raw) > 0 && !isNull(raw) {
		s, ok := text(raw)
		if !ok {
			return &problem{ReasonType, "type is not a string", fKind}
		}
		ev.Kind = strings.TrimSpace(s)
		if bad := j.d.checkID("type", ev.Kind); bad != nil {
			return bad.at(fKind)
		}
	}
	if ev.Kind == "" {
		ev.Kind = j.ceKind()
	}
	return nil
}

func (j *job) weigh(ev *corastream.Event) {
	if k, ok := j.d.cfg.Kinds[ev.Kind]; ok {
		ev.Weight = k.Weight
	}
}

// flagged: the event is about one item and says by a flag whether it was clicked.
func (j *job) flagged(ev *corastream.Event, f *interaction) *problem {
	on, ok := flag(f.raw[fClicked])
	switch {
	case !ok:
		return &problem{ReasonType, "clicked of one item is neither yes nor no: " + brief(f.raw[fClicked]), fClicked}
	case !on && ev.Kind != kindImpression:
		return &problem{ReasonKind, "clicked says no: write type impression for what was shown, or map fields.events.label to clicked", fClicked}
	case ev.Kind == "" || ev.Kind == kindClick:
		ev.Kind = kindClick
		k, known := j.d.cfg.Kinds[kindClick]
		if !known {
			return &problem{ReasonKind, "clicked says yes, and kinds has no click", fClicked}
		}
		k.means(ev)
		return f.contradicts(ev)
	}
	id := ev.ID
	*ev = j.shown(*ev, ev.Item, on)
	ev.ID = id
	return nil
}

// implied sets the kind of an event that names none: the default one, unless something that is not read may have said another.
func (j *job) implied(ev *corastream.Event, f *interaction) *problem {
	switch {
	case j.ce.kind != "":
		return &problem{ReasonKind, fmt.Sprintf("type %q is not in kinds, and the event has neither label nor rating", j.ce.kind), fKind}
	case f.raw[fRating] != nil:
		return &problem{ReasonLabel, "rating is null, and the event has neither type nor label", fRating}
	case f.raw[fValue] != nil:
		return &problem{ReasonKind, "value says nothing without a type: is it a rating?", fValue}
	case f.what != "":
		return &problem{ReasonKind, fmt.Sprintf("%.60q is not read, and the event has neither type, label nor rating: write %s, or map fields.events.%s to it",
			f.what, ourNames[f.whatLike], ourNames[f.whatLike]), fContext}
	case j.d.cfg.DefaultKind == "":
		return &problem{ReasonKind, "the event has neither type, label nor rating", fKind}
	}
	ev.Kind = j.d.cfg.DefaultKind
	j.d.Counts.implied.Add(1)
	return nil
}

// contradicts refuses a like against which something in the same record speaks.
func (f *interaction) contradicts(ev *corastream.Event) *problem {
	if !ev.Positive() {
		return nil
	}
	if f.against != "" {
		return &problem{ReasonKind, fmt.Sprintf("%.60q speaks against type %q", f.against, ev.Kind), fContext}
	}
	if on, ok := flag(f.raw[fClicked]); ok && !on {
		return &problem{ReasonKind, fmt.Sprintf("clicked speaks against type %q", ev.Kind), fClicked}
	}
	if bad := none(f.raw[fQuantity]); bad != nil {
		return bad
	}
	return nil
}

// none refuses a quantity of nothing, or of what came back.
func none(raw []byte) *problem {
	if len(raw) == 0 || isNull(raw) {
		return nil
	}
	if v, ok := number(raw); ok && v <= 0 {
		return &problem{ReasonKind, "a quantity of " + brief(raw) + " is a return, or nothing: it is no like", fQuantity}
	}
	return nil
}

var versionSuffix = regexp.MustCompile(`\.v?\d+$`)

// ceKind is the envelope's type, by its whole name or by its last part: com.example.click and com.example.click.v1 are clicks.
func (j *job) ceKind() string {
	k := j.ce.kind
	if _, ok := j.d.cfg.Kinds[k]; ok || k == "" {
		return k
	}
	if n := len(k); k[n-1] >= '0' && k[n-1] <= '9' {
		k = versionSuffix.ReplaceAllString(k, "")
	}
	if i := strings.LastIndexByte(k, '.'); i >= 0 {
		k = k[i+1:]
	}
	if _, ok := j.d.cfg.Kinds[k]; ok {
		return k
	}
	return ""
}

func setLabel(ev *corastream.Event, raw []byte) *problem {
	if isNull(raw) {
		return &problem{ReasonLabel, "label is null: nobody knows what happened", fLabel}
	}
	switch string(raw) {
	case "true", "1":
		ev.Label = 1
		return nil
	case "false", "0":
		ev.Label = 0
		return nil
	}
	if s, ok := text(raw); ok {
		switch strings.ToLower(strings.TrimSpace(s)) {
		case "true":
			ev.Label = 1
			return nil
		case "false":
			ev.Label = 0
			return nil
		}
	}
	v, bad := finite("label", raw)
	if bad != nil {
		return bad.at(fLabel)
	}
	if v < 0 || v > 1 {
		return &problem{ReasonLabel, fmt.Sprintf("label %v is outside 0 to 1", v), fLabel}
	}
	ev.Label = float32(v)
	return nil
}

func (j *job) setRating(ev *corastream.Event, raw []byte) *problem {
	v, bad := finite("rating", raw)
	if bad != nil {
		return bad.at(fRating)
	}
	j.d.Counts.rated(v)
	if v >= j.d.cfg.RatingThreshold {
		ev.Label = 1
	}
	return nil
}

func finite(name string, raw []byte) (float64, *problem) {
	v, ok := number(raw)
	if !ok {
		return 0, &problem{ReasonType, name + " is not a number: " + brief(raw), fContext}
	}
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0, &problem{ReasonNaN, name + " is not finite: " + brief(raw), fContext}
	}
	return v, nil
}

// brief quotes the start of a value for a person.
func brief(raw []byte) string {
	const most = 40
	if s, ok := text(raw); ok {
		raw = []byte(s)
	}
	if len(raw) > most {
		return fmt.Sprintf("%.*q...", most, raw[:most])
	}
	return fmt.Sprintf("%q", raw)
}
