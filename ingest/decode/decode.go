package decode

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"github.com/corastream/corastream"
)

// Reasons of dead letters. They are part of the interface: dashboards and alerts count by them.
const (
	ReasonJSON           = "json"            // not JSON, or not an object or array
	ReasonEmpty          = "empty"           // no value
	ReasonSchemaRegistry = "schema_registry" // Confluent wire format: first byte 0
	ReasonTooLarge       = "too_large"       // over max_record_bytes
	ReasonTooMany        = "too_many"        // over max_array
	ReasonNoUser         = "no_user"
	ReasonNoItem         = "no_item"
	ReasonID             = "id"        // an id is too long, or has control characters or bytes that are not UTF-8
	ReasonType           = "type"      // a value of the wrong type
	ReasonAmbiguous      = "ambiguous" // one field twice, under two spellings, with two values
	ReasonKind           = "kind"      // an event type that kinds does not list, without label or rating
	ReasonLabel          = "label"     // outside [0,1]
	ReasonNaN            = "nan"       // NaN or infinite
	ReasonTime           = "time"      // not readable as a time
	ReasonFuture         = "future"    // more than max_ahead after the broker got it
	ReasonOld            = "old"       // more than max_age before the broker got it
	ReasonTitle          = "title"     // missing or too long
	ReasonFields         = "fields"    // too many fields, or one that is too long
	ReasonUnread         = "unread"    // a field that nothing reads, where it matters
)

var reasons = []string{
	ReasonJSON, ReasonEmpty, ReasonSchemaRegistry, ReasonTooLarge, ReasonTooMany, ReasonNoUser, ReasonNoItem,
	ReasonID, ReasonType, ReasonAmbiguous, ReasonKind, ReasonLabel, ReasonNaN, ReasonTime, ReasonFuture, ReasonOld, ReasonTitle,
	ReasonFields, ReasonUnread,
}

// Dialects, found out per record.
const (
	DialectFlat         = "flat"
	DialectGorse        = "gorse"
	DialectCEBinary     = "cloudevents_binary"
	DialectCEStructured = "cloudevents_structured"
	DialectMetarank     = "metarank"
)

var dialects = []string{DialectFlat, DialectGorse, DialectCEBinary, DialectCEStructured, DialectMetarank}

// Decoder turns records into events, items, requests and dead letters. It may be used by many goroutines.
type Decoder struct {
	cfg           Config
	events, items []mapping
	kinds         map[string]string // kinds' names, by how JSON writes them
	mapped        map[string]bool   // the outermost names that fields.events maps; true: it maps the whole member
	strangers     *strangers
	strict        bool
	Counts        *Counts
}

// New makes a decoder for a valid config.
func New(c Config) *Decoder {
	s := &strangers{m: map[string]*sense{}}
	if _, ok := c.Kinds[kindRetract]; !ok { // a caller's own list need not have it, and a deletion still takes back
		c.Kinds = maps.Clone(c.Kinds)
		if c.Kinds == nil {
			c.Kinds = map[string]Kind{}
		}
		c.Kinds[kindRetract] = DefaultKinds()[kindRetract]
	}
	d := &Decoder{
		cfg: c, events: mappings(c.Fields.Events), items: mappings(c.Fields.Items), mapped: map[string]bool{}, kinds: map[string]string{},
		strangers: s, Counts: newCounts(s),
	}
	for name := range c.Kinds {
		d.kinds[`"`+name+`"`] = name
	}
	for _, m := range d.events {
		d.mapped[m.path[0]] = d.mapped[m.path[0]] || len(m.path) == 1
	}
	return d
}

// Strict is d with an event refused when a field of it is not read: for senders who wait for the answer, as over HTTP.
func (d *Decoder) Strict() *Decoder {
	out := *d
	out.strict = true
	return &out
}

// Decode appends to b what the record says: by its topic events, items or requests, or a dead letter. It is pure but for
// the counters: now is the moment against which an event is too far ahead or too old. The source passes the record's own
// time, so that reading the log again later decides the same.
func (d *Decoder) Decode(b *corastream.Batch, r Record, now time.Time) {
	j := job{d: d, b: b, r: r, now: now, dialect: DialectFlat}
	switch {
	case r.TooLarge > 0 && r.Covers > 1:
		j.bury(nil, ReasonTooLarge, fmt.Sprintf("the batch of offsets %d to %d unpacks to more than the %d bytes that are taken at once",
			r.Pos.Offset, r.Pos.Offset+r.Covers-1, d.cfg.MaxFetchBytes))
	case r.TooLarge > 0:
		j.bury(r.Value, ReasonTooLarge, fmt.Sprintf("%d bytes are over max_record_bytes=%d; the value is cut", r.TooLarge, d.cfg.MaxRecordBytes))
	case len(r.Value) > d.cfg.MaxRecordBytes: // of a file: a topic's record comes with TooLarge
		j.bury(nil, ReasonTooLarge, fmt.Sprintf("%d bytes are over max_record_bytes=%d", len(r.Value), d.cfg.MaxRecordBytes))
	case len(r.Value) == 0 && r.Pos.Topic == d.cfg.Topics.Items:
		j.tombstone()
	case len(r.Value) == 0:
		j.bury(nil, ReasonEmpty, "the record has no value")
	case r.Value[0] == 0 && !json.Valid(unframed(r.Value)):
		j.bury(r.Value, ReasonSchemaRegistry,
			"the first byte is 0, as in Confluent's wire format, and no JSON follows; a schema registry is not supported: produce JSON")
	default:
		j.envelope()
		j.document(unframed(r.Value))
	}
}

// job is the decoding of one record.
type job struct {
	d       *Decoder
	b       *corastream.Batch
	r       Record
	now     time.Time
	dialect string
	ce      ce
	trace   string // W3C traceparent of the record or its envelope
	at      field  // what the last dead letter was for
}

// ce holds a CloudEvents envelope's attributes; they stand in for what the data does not say.
type ce struct {
	id, kind string
	time     time.Time
}

// envelope reads the binary binding's headers (CloudEvents Kafka protocol binding 1.0, 3.2).
func (j *job) envelope() {
	var id, source string
	for _, h := range j.r.Headers {
		switch strings.ToLower(h.Key) {
		case "traceparent", "ce_traceparent": // the record's own says more: whoever sent it was last
			if t := traceOf(h.Value); t != "" && (j.trace == "" || len(h.Key) == len("traceparent")) {
				j.trace = t
			}
		case "ce_specversion":
			j.dialect = DialectCEBinary
		case "ce_id":
			id = string(h.Value)
		case "ce_source":
			source = string(h.Value)
		case "ce_type":
			j.ce.kind = string(h.Value)
		case "ce_time":
			j.ce.time, _ = time.Parse(time.RFC3339Nano, string(h.Value))
		}
	}
	if j.dialect != DialectCEBinary {
		j.ce = ce{}
		return
	}
	j.ce.id = identity(source, id)
}

// identity of a CloudEvent: source and id together.
func identity(source, id string) string {
	if id == "" {
		return ""
	}
	return source + "#" + id
}

// document decodes a whole value: an object, or an array of them of which each stands for itself.
func (j *job) document(v []byte) {
	if !json.Valid(v) {
		if reason, detail := diagnose(v); reason != "" {
			j.bury(v, reason, detail)
		}
		return
	}
	switch v = bytes.TrimSpace(v); v[0] {
	case '{':
		j.object(v)
	case '[':
		n := 0
		elements(v, func(e []byte) bool {
			if n++; n > j.d.cfg.MaxArray {
				j.bury(v, ReasonTooMany, fmt.Sprintf("over max_array=%d events in one record; the first ones are used", j.d.cfg.MaxArray))
				return false
			}
			if e[0] != '{' {
				j.bury(e, ReasonJSON, "an array may hold objects only")
				return true
			}
			outer, trace := j.ce, j.trace // a structured element's envelope is its own
			j.object(e)
			j.ce, j.trace = outer, trace
			return true
		})
		if n == 0 {
			j.bury(v, ReasonEmpty, "the array is empty")
		}
	default:
		j.bury(v, ReasonJSON, "a JSON object or array is expected")
	}
}

// diagnose says why a value is not JSON. Python and others write NaN and Infinity bare.
func diagnose(v []byte) (reason, detail string) {
	var x any
	err := json.Unmarshal(v, &x)
	if err == nil {
		return ReasonJSON, "not JSON"
	}
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '"':
			i = stringEnd(v, i) - 1
		case bytes.HasPrefix(v[i:], []byte("NaN")), bytes.HasPrefix(v[i:], []byte("Infinity")):
			return ReasonNaN, "NaN or Infinity is not a number in JSON"
		}
	}
	return ReasonJSON, err.Error()
}

// object decodes one JSON object by the topic it came on.
func (j *job) object(v []byte) {
	names := marksOf(v)
	v, done := j.unwrapped(v, names)
	if done {
		return
	}
	if names&markSpec != 0 {
		if data, ok, done := j.structured(v); done {
			return
		} else if ok {
			v = data
		}
	}
	if names&markEvent != 0 && j.r.Pos.Topic != j.d.cfg.Topics.Requests && len(j.d.events) == 0 && j.metarank(v) {
		return
	}
	switch j.r.Pos.Topic {
	case j.d.cfg.Topics.Items:
		j.item(v)
	case j.d.cfg.Topics.Requests:
		j.request(v)
	default:
		j.event(v)
	}
}

// structured opens a structured CloudEvent: an object with specversion. done says that it ended in a dead letter.
func (j *job) structured(v []byte) (data []byte, ok, done bool) {
	var spec, raw, raw64, id, source, kind, at, trace []byte
	members(v, func(k, x []byte) {
		switch string(k) {
		case "traceparent":
			trace = x
		case "specversion":
			spec = x
		case "data":
			raw = x
		case "data_base64":
			raw64 = x
		case "id":
			id = x
		case "source":
			source = x
		case "type":
			kind = x
		case "time":
			at = x
		}
	})
	if spec == nil {
		return nil, false, false
	}
	j.dialect = DialectCEStructured
	if raw64 != nil {
		s, _ := text(raw64)
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil || !json.Valid(b) {
			j.bury(v, ReasonJSON, "data_base64 does not hold JSON")
			return nil, false, true
		}
		raw = bytes.TrimSpace(b)
	}
	if len(raw) == 0 || raw[0] != '{' {
		j.bury(v, ReasonJSON, "the CloudEvent's data is not a JSON object")
		return nil, false, true
	}
	src, _ := text(source)
	name, _ := text(id)
	j.ce = ce{id: identity(src, name)}
	if own, ok := j.d.kinds[string(kind)]; ok {
		j.ce.kind = own
	} else {
		j.ce.kind, _ = text(kind)
	}
	if j.trace == "" && trace != nil {
		t, _ := text(trace)
		j.trace = traceOf([]byte(t))
	}
	if at != nil {
		j.ce.time, _ = clock(at)
	}
	return raw, true, false
}

// fault buries an event or item for a problem.
func (j *job) fault(v []byte, p *problem) {
	j.at = p.field
	j.bury(v, p.reason, p.detail)
}

// bury appends a dead letter. Its bytes are copied: the batch they share would otherwise stay in memory with them.
func (j *job) bury(v []byte, reason, detail string) {
	j.d.Counts.letter(reason)
	j.b.Bad = append(j.b.Bad, corastream.DeadLetter{
		Pos: j.r.Pos, Key: slices.Clone(j.r.Key), Value: slices.Clone(v), Reason: reason, Detail: detail,
	})
}

// problem is why a field can not be used; nil when it can.
type problem struct {
	reason, detail string
	field          field
}

// at says in which field a problem is; where it knows already, it stays.
func (p *problem) at(f field) *problem {
	if p != nil && p.field == fContext {
		p.field = f
	}
	return p
}

// id reads a user, item, event or request id: a string, or an integer by its digits, without blanks around it and in the normal
// form NFC, so that one name is one id however it was typed. "" means absent.
func (d *Decoder) id(name string, raw []byte) (string, *problem) {
	if len(raw) == 0 || isNull(raw) {
		return "", nil
	}
	if plain(raw) && len(raw)-2 <= d.cfg.MaxIDBytes { // nearly all: nothing to trim, to normalise or to refuse
		return string(raw[1 : len(raw)-1]), nil
	}
	s, ok := text(raw)
	switch {
	case ok:
		s = norm.NFC.String(trim(s))
	case raw[0] == '"':
		return "", &problem{ReasonID, name + " is not UTF-8", fContext}
	case integer(raw):
		s = string(raw)
	default:
		return "", &problem{ReasonType, name + " is neither a string nor an integer", fContext}
	}
	return s, d.checkID(name, s)
}

// plain says that a raw value is a JSON string of visible ASCII alone, without blanks and escapes.
func plain(raw []byte) bool {
	if len(raw) < 3 || raw[0] != '"' {
		return false
	}
	for _, c := range raw[1 : len(raw)-1] {
		if c <= ' ' || c >= 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

// trim takes blanks and byte order marks off both ends.
func trim(s string) string {
	return strings.TrimFunc(s, func(r rune) bool { return r == '\ufeff' || unicode.IsSpace(r) })
}

func (d *Decoder) checkID(name, s string) *problem {
	if len(s) > d.cfg.MaxIDBytes {
		return &problem{ReasonID, fmt.Sprintf("%s has %d bytes, over max_id_bytes=%d", name, len(s), d.cfg.MaxIDBytes), fContext}
	}
	ascii := true
	for i := range len(s) {
		ascii = ascii && s[i] >= ' ' && s[i] < 0x7f
	}
	if ascii {
		return nil
	}
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }) {
		return &problem{ReasonID, name + " has control characters or bytes that are not UTF-8", fContext}
	}
	return nil
}

// ids reads an array of ids.
func (d *Decoder) ids(name string, raw []byte) (out []string, bad *problem) {
	if len(raw) == 0 || isNull(raw) {
		return nil, nil
	}
	if raw[0] != '[' {
		return nil, &problem{ReasonType, name + " is not an array", fContext}
	}
	elements(raw, func(e []byte) bool {
		var s string
		if s, bad = d.id(name, e); bad == nil && s == "" {
			bad = &problem{ReasonNoItem, name + " holds an empty id", fContext}
		}
		if len(out) == d.cfg.MaxArray {
			bad = &problem{ReasonTooMany, fmt.Sprintf("%s holds over max_array=%d ids", name, d.cfg.MaxArray), fContext}
		}
		out = append(out, s)
		return bad == nil
	})
	return out, bad
}

// slot collects one field of a request that may come under several spellings.
func slot(dst *[]byte, v []byte, twice *string, name string) {
	if *dst != nil && !bytes.Equal(*dst, v) {
		*twice = name
	}
	*dst = v
}
