package decode

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// Row decodes one row of a table into b, as Decode does a record. pos and now are its place and its record's time. column is the
// column at fault where the row became a dead letter; -1 where it did not, or where no column alone is.
type Row = func(b *corastream.Batch, cells []string, pos corastream.Position, now time.Time) (column int)

// EventRows decodes the rows of a table of events with these columns. A blank cell is what null is in JSON.
func (d *Decoder) EventRows(columns []string) Row {
	mapped, isMapped := d.columns(d.events, columns)
	var buf []byte
	return func(b *corastream.Batch, cells []string, pos corastream.Position, now time.Time) int {
		j := job{d: d, b: b, r: Record{Pos: pos, Time: now}, now: now, dialect: DialectFlat}
		f := newInteraction()
		buf = buf[:0]
		for c, name := range columns[:min(len(columns), len(cells))] {
			if isMapped[c] {
				continue
			}
			var w [32]byte
			to, _ := eventWord(word(&w, []byte(name)))
			var raw []byte
			raw, buf = cell(buf, cells[c], to == fItems || to == fClicked || to == fLabels)
			f.put(d, []byte(name), raw)
		}
		for our, c := range mapped {
			if to := ours(our); c < len(cells) {
				var raw []byte
				raw, buf = cell(buf, cells[c], to == fItems || to == fClicked || to == fLabels)
				f.over(to, raw)
			}
		}
		bad := len(b.Bad)
		j.interaction([]byte(strings.Join(cells, ",")), &f)
		if len(b.Bad) == bad {
			return -1
		}
		return d.column(j.at, columns, mapped, &f)
	}
}

// ItemRows decodes the rows of a catalogue.
func (d *Decoder) ItemRows(columns []string) Row {
	mapped, isMapped := d.columns(d.items, columns)
	var buf []byte
	return func(b *corastream.Batch, cells []string, pos corastream.Position, now time.Time) int {
		j := job{d: d, b: b, r: Record{Pos: pos, Time: now}, now: now, dialect: DialectFlat}
		buf = buf[:0]
		j.itemOf([]byte(strings.Join(cells, ",")), func(member func(k, x []byte)) {
			for c, name := range columns[:min(len(columns), len(cells))] {
				if !isMapped[c] {
					var raw []byte
					raw, buf = cell(buf, cells[c], false)
					member([]byte(name), raw)
				}
			}
		}, func(m mapping) []byte {
			c, ok := mapped[m.our]
			if !ok || c >= len(cells) {
				return nil
			}
			var raw []byte
			raw, buf = cell(buf, cells[c], false)
			return raw
		})
		return -1
	}
}

// columns finds the mapped columns. Names are compared as a table's are: case does not count.
func (d *Decoder) columns(ms []mapping, columns []string) (out map[string]int, is map[int]bool) {
	out, is = map[string]int{}, map[int]bool{}
	for _, m := range ms {
		for c, name := range columns {
			if strings.EqualFold(name, strings.Join(m.path, ".")) {
				out[m.our], is[c] = c, true
			}
		}
	}
	return out, is
}

// column is where a field came from.
func (d *Decoder) column(at field, columns []string, mapped map[string]int, f *interaction) int {
	if at >= fContext {
		for c, name := range columns {
			if name == f.what && f.what != "" || name == f.against && f.against != "" {
				return c
			}
		}
		return -1
	}
	if c, ok := mapped[ourNames[at]]; ok {
		return c
	}
	for c, name := range columns {
		var w [32]byte
		if to, ok := eventWord(word(&w, []byte(name))); ok && (to == at || at == fKind && to == fEvent || at == fRating && to == fValue) {
			return c
		}
	}
	return -1
}

// cell writes a cell as a raw JSON value to the end of buf: null where it is blank, itself where it may and does hold a list, else a string.
func cell(buf []byte, s string, list bool) (raw, rest []byte) {
	t := strings.TrimSpace(s)
	if t == "" {
		return []byte("null"), buf
	}
	n := len(buf)
	switch {
	case list && (t[0] == '[' || t[0] == '{') && json.Valid([]byte(t)):
		buf = append(buf, t...)
	default:
		buf = append(buf, '"')
		for i := range len(s) {
			switch c := s[i]; {
			case c == '"' || c == '\\':
				buf = append(buf, '\\', c)
			case c < ' ':
				const hex = "0123456789abcdef"
				buf = append(buf, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			default:
				buf = append(buf, c)
			}
		}
		buf = append(buf, '"')
	}
	return buf[n:len(buf):len(buf)], buf
}

// Columns says whether a table's columns are those of a catalogue or of events, and which fields of ours they give.
func (d *Decoder) Columns(columns []string) (given map[string]bool, catalogue bool) {
	given = map[string]bool{}
	events, _ := d.columns(d.events, columns)
	for our := range events {
		given[our] = true
	}
	items, _ := d.columns(d.items, columns)
	_, title := items["title"]
	if _, ok := items["item_id"]; ok {
		given["item_id"] = true
	}
	for _, name := range columns {
		var w [32]byte
		folded := word(&w, []byte(name))
		if to, ok := eventWord(folded); ok && to < fContext {
			given[ourNames[to]] = true
		}
		title = title || titleWords[string(folded)]
	}
	return given, title && !given["user_id"]
}
