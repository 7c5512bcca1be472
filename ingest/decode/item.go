package decode

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"

	"github.com/corastream/corastream"
)

const (
	maxFieldName = 64
	maxNulls     = 1000 // as many columns as a table may have
)

// tombstone: a record without a value removes the item that its key names.
func (j *job) tombstone() {
	id, bad := j.key()
	if bad != nil {
		j.fault(nil, bad)
		return
	}
	if id == "" {
		j.bury(nil, ReasonNoItem, "a tombstone without a key names no item")
		return
	}
	j.b.Items = append(j.b.Items, corastream.Item{Pos: j.r.Pos, ID: id, Withdrawn: true, Removed: true})
	j.d.Counts.event(j.dialect)
}

// titleWords are the names of a title.
var titleWords = map[string]bool{"title": true, "name": true, "movietitle": true}

// item decodes a catalogue record: item_id (else the key), title, available or withdrawn; every other member that is a
// string, number, boolean or list of those is a field. The record is silent about members that it lacks; null clears.
func (j *job) item(v []byte) { j.itemAs(v, v) }

// itemAs decodes doc; v is what a dead letter keeps.
func (j *job) itemAs(v, doc []byte) {
	j.itemOf(v, func(f func(k, x []byte)) { members(doc, f) }, func(m mapping) []byte { return lookup(doc, m.path) })
}

// itemOf decodes an item's names and values, from whatever form they came in.
func (j *job) itemOf(v []byte, each func(func(k, x []byte)), at func(mapping) []byte) {
	it, bad := j.readItem(each, at)
	if bad != nil {
		j.fault(v, bad)
		return
	}
	if it.Removed {
		it = corastream.Item{ID: it.ID, Withdrawn: true, Removed: true}
	}
	it.Pos = j.r.Pos
	j.b.Items = append(j.b.Items, it)
	j.d.Counts.event(j.dialect)
}

var trailingYear = regexp.MustCompile(`\((\d{4})\)\s*$`)

func (j *job) readItem(each func(func(k, x []byte)), at func(mapping) []byte) (it corastream.Item, bad *problem) {
	var itemID, otherID, title, comment []byte
	fields := &fieldSet{limit: j.d.cfg.MaxTextBytes}
	it.Keep = corastream.Keep{Withdrawn: true, Fields: true}
	say := func(name string, x []byte) bool { // null says no, which is what an item is that nobody spoke of
		it.Keep.Withdrawn = false
		on, ok := flag(x)
		if !ok && !isNull(x) && bad == nil {
			bad = &problem{ReasonType, name + " is neither true nor false: " + brief(x), fContext}
		}
		return on
	}
	each(func(k, x []byte) {
		var buf [32]byte
		switch w := word(&buf, k); string(w) {
		case "itemid", "movieid":
			itemID = x
		case "id", "item":
			otherID = x
		case "title", "name", "movietitle":
			title = x
		case "comment": // where Gorse keeps an item's name
			comment = x
		case "available":
			on := say("available", x)
			it.Withdrawn = it.Withdrawn || !isNull(x) && !on
		case "withdrawn", "ishidden", "hidden":
			it.Withdrawn = say("withdrawn", x) || it.Withdrawn
		case "deleted": // as __deleted, where Debezium's flattened rows keep it
			if on, ok := flag(x); ok {
				it.Removed = on
			} else {
				fields.add(k, x)
			}
		case "corastreamchanged": // as PATCH /v1/items/{id} writes it
			it.Changed = []string{}
			if len(x) > 0 && x[0] == '[' {
				elements(x, func(e []byte) bool {
					if s, ok := text(e); ok && len(it.Changed) <= corastream.MaxFields+2 {
						it.Changed = append(it.Changed, s)
					}
					return true
				})
			}
		case "releaseyear":
			fields.add([]byte("year"), x)
		case "fields":
			if x[0] == '{' {
				members(x, fields.add)
			} else if it.Keep.Fields = !isNull(x); it.Keep.Fields {
				bad = &problem{ReasonType, "fields is not an object", fContext}
			}
		default:
			fields.add(k, x)
		}
	})
	for _, m := range j.d.items {
		x := at(m)
		if x == nil {
			continue
		}
		switch m.our {
		case "item_id":
			itemID, otherID = x, nil
		case "title":
			title, comment = x, nil
		case "available":
			on := say("available", x)
			it.Withdrawn = !isNull(x) && !on
		case "withdrawn":
			it.Withdrawn = say("withdrawn", x)
		}
	}
	if bad != nil {
		return it, bad
	}
	if itemID == nil {
		itemID = otherID
	}
	if it.ID, bad = j.d.id("item_id", itemID); bad != nil {
		return it, bad
	}
	if it.ID == "" {
		if it.ID, bad = j.key(); bad != nil {
			return it, bad
		}
	}
	if it.ID == "" {
		return it, &problem{ReasonNoItem, "item_id is missing, and the record has no key", fItem}
	}
	if len(title) == 0 || isNull(title) && comment != nil {
		title = comment
	}
	it.Keep.Title = title == nil
	if it.Title, bad = j.title(title); bad != nil {
		return it, bad
	}
	if it.Title == "" && !it.Withdrawn && !it.Removed {
		for name := range fields.m {
			if folded := strings.ToLower(strings.ReplaceAll(name, "_", "")); folded == "userid" || folded == "user" {
				return it, &problem{ReasonTitle, fmt.Sprintf("title is missing, and %q names a user: an event belongs on the interactions topic", name), fItem}
			}
		}
	}
	if m := trailingYear.FindStringSubmatch(it.Title); m != nil && fields.m["year"] == "" {
		fields.add([]byte("year"), []byte(m[1]))
	}
	if fields.bad != nil {
		return it, fields.bad
	}
	it.Fields, it.Keep.Clear = fields.m, fields.clear
	return it, nil
}

// title may be missing: such an item is listed by what is clicked alone.
func (j *job) title(raw []byte) (string, *problem) {
	if len(raw) == 0 || isNull(raw) {
		return "", nil
	}
	s, ok := text(raw)
	if !ok {
		return "", &problem{ReasonType, "title is not a UTF-8 string", fContext}
	}
	if len(s) > j.d.cfg.MaxTextBytes {
		return "", &problem{ReasonTitle, fmt.Sprintf("title has %d bytes, over max_text_bytes=%d", len(s), j.d.cfg.MaxTextBytes), fContext}
	}
	return trim(s), nil
}

// fieldSet gathers an item's plain fields within bounds.
type fieldSet struct {
	m     map[string]string
	clear []string // those that are null
	limit int
	bad   *problem
}

func (f *fieldSet) add(key, raw []byte) {
	if string(key) == corastream.FieldEmbedding {
		f.embedding(raw)
		return
	}
	s, ok := plainText(raw, f.limit)
	name := string(key)
	if !ok && len(name) <= maxFieldName && len(f.clear) < maxNulls && (isNull(raw) || isEmpty(raw)) {
		f.clear = append(f.clear, name)
	}
	if !ok || f.bad != nil {
		return // nested objects are not plain fields
	}
	switch {
	case len(name) > maxFieldName:
		f.bad = &problem{ReasonFields, fmt.Sprintf("a field's name has %d bytes, over %d", len(name), maxFieldName), fContext}
	case len(s) > f.limit:
		f.bad = &problem{ReasonFields, fmt.Sprintf("field %q is over max_text_bytes=%d", name, f.limit), fContext}
	default:
		f.put(name, s)
	}
}

// embedding takes in the item's own vector: a list of numbers, as JSON or as text, or what PackEmbedding wrote.
func (f *fieldSet) embedding(raw []byte) {
	const name = corastream.FieldEmbedding
	if len(raw) == 0 || isNull(raw) || isEmpty(raw) {
		f.clear = append(f.clear, name)
		return
	}
	list := raw
	if raw[0] != '[' {
		s, ok := text(raw)
		if ok && corastream.UnpackEmbedding(s) != nil {
			f.put(name, s)
			return
		}
		list = []byte(strings.TrimSpace(s))
	}
	v, err := numbers(list)
	packed := ""
	if err == nil {
		packed, err = corastream.PackEmbedding(v)
	}
	if err != nil {
		if f.bad == nil {
			f.bad = &problem{ReasonFields, fmt.Sprintf("%v (fix: embedding is the item's vector, a list of numbers such as [0.1, -0.2]; give another name to a field that is something else)", err), fContext}
		}
		return
	}
	f.put(name, packed)
}

// numbers reads a list of numbers: a JSON array, or numbers apart by commas or blanks.
func numbers(list []byte) ([]float64, error) {
	text := strings.TrimSuffix(strings.TrimPrefix(string(list), "["), "]")
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || unicode.IsSpace(r) })
	if len(words) > corastream.MaxEmbedding {
		return nil, fmt.Errorf("the embedding has %d numbers, over %d", len(words), corastream.MaxEmbedding)
	}
	v := make([]float64, len(words))
	for i, w := range words {
		x, err := strconv.ParseFloat(w, 64)
		if err != nil {
			return nil, fmt.Errorf("element %d of the embedding is not a number: %s", i, brief([]byte(w)))
		}
		v[i] = x
	}
	return v, nil
}

// put keeps a field.
func (f *fieldSet) put(name, value string) {
	switch {
	case f.bad != nil:
	case len(f.m) == corastream.MaxFields:
		f.bad = &problem{ReasonFields, fmt.Sprintf("more than %d fields", corastream.MaxFields), fContext}
	default:
		if f.m == nil {
			f.m = map[string]string{}
		}
		f.m[name] = value
	}
}

// isEmpty says that a value is an empty list.
func isEmpty(raw []byte) bool {
	return len(raw) > 1 && raw[0] == '[' && len(bytes.TrimSpace(raw[1:len(raw)-1])) == 0
}

// plainText is a string's text, a number's or boolean's spelling, or a list of these joined by ", "; joining stops
// once it is over limit.
func plainText(raw []byte, limit int) (string, bool) {
	switch {
	case len(raw) == 0 || isNull(raw) || raw[0] == '{':
		return "", false
	case raw[0] == '"':
		return text(raw)
	case raw[0] != '[':
		return string(raw), true
	}
	var b strings.Builder
	elements(raw, func(e []byte) bool {
		if e[0] == '[' {
			return true
		}
		if s, ok := plainText(e, limit); ok {
			if b.Len() > 0 {
				b.WriteString(", ")
			}
			b.WriteString(s)
		}
		return b.Len() <= limit
	})
	return b.String(), b.Len() > 0
}
