package corastream

import (
	"cmp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// About says which plain fields of a catalogue tell what an item is, in the order in which a prompt names them.
type About struct{ Fields []string }

// The limits of an About: columns that fewer items have are left out, of a field with many values the first count.
const (
	aboutCoverage = 0.05
	aboutFields   = 12
	aboutValues   = 8
	aboutRunes    = 400 // of one field
)

// NewAbout looks at a catalogue's columns. Fields of one value come first and lists of values last, since a limit cuts the end;
// within both, the fields that more items have come first, and of these the ones with more distinct values. Ids, addresses, prices
// and plain numbers are left out, and columns that say the same of all items.
func NewAbout(items []Item) About {
	type column struct {
		name          string
		have, several int
		distinct      map[string]struct{}
	}
	columns := map[string]*column{}
	for _, it := range items {
		for name, value := range it.Fields {
			values := FieldValues(name, value)
			if len(values) == 0 {
				continue
			}
			c := columns[name]
			if c == nil {
				c = &column{name: name, distinct: map[string]struct{}{}}
				columns[name] = c
			}
			c.have++
			if len(values) > 1 {
				c.several++
			}
			c.distinct[value] = struct{}{}
		}
	}
	var use []*column
	for _, c := range columns {
		if float64(c.have) >= aboutCoverage*float64(len(items)) && (len(c.distinct) > 1 || len(items) == 1) {
			use = append(use, c)
		}
	}
	list := func(c *column) int {
		if 4*c.several > c.have {
			return 1
		}
		return 0
	}
	slices.SortFunc(use, func(a, b *column) int {
		return cmp.Or(cmp.Compare(list(a), list(b)), cmp.Compare(10*b.have/len(items), 10*a.have/len(items)),
			cmp.Compare(len(b.distinct), len(a.distinct)), cmp.Compare(a.name, b.name))
	})
	var a About
	for _, c := range use[:min(len(use), aboutFields)] {
		a.Fields = append(a.Fields, c.name)
	}
	return a
}

// Text is what a prompt says of an item behind its title: "Eric Eve. 2004. Political. escape, dystopia, prison". What the title
// holds already is not said again.
func (a About) Text(it Item) string {
	var b strings.Builder
	title := strings.ToLower(it.Title)
	for _, name := range a.Fields {
		var said []string
		for _, v := range FieldValues(name, it.Fields[name]) {
			if !strings.Contains(title, strings.ToLower(v)) && len(said) < aboutValues {
				said = append(said, v)
			}
		}
		if len(said) == 0 {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(". ")
		}
		text := strings.Join(said, ", ")
		if utf8.RuneCountInString(text) > aboutRunes {
			text = string([]rune(text)[:aboutRunes])
		}
		b.WriteString(text)
	}
	return b.String()
}

// FieldValues are the values of a plain field as text, split where it holds several of them: "Action; Indie", "escape,prison",
// "Fantasy/Mystery". A date counts by its year. An id, an address, a price or another plain number has none.
func FieldValues(name, value string) []string {
	name = strings.ToLower(name)
	for _, word := range strings.FieldsFunc(name, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		switch word {
		case "id", "ids", "uuid", "guid", "sku", "asin", "isbn", "ean", "gtin", "url", "urls", "uri", "link", "href", "image", "images", "img",
			"thumbnail", "embedding", "price", "cost", "currency", "timestamp", "hash":
			return nil
		}
	}
	if value = strings.TrimSpace(value); value == "" || strings.Contains(value, "://") {
		return nil
	}
	if year, ok := yearOf(value); ok {
		return []string{year}
	}
	if strings.IndexFunc(value, unicode.IsLetter) < 0 {
		return nil
	}
	var values []string
	for _, v := range strings.FieldsFunc(value, func(r rune) bool { return strings.ContainsRune(",;|/", r) }) {
		if v = strings.TrimSpace(v); v != "" && !slices.Contains(values, v) {
			values = append(values, v)
		}
	}
	return values
}

// yearOf is the year of a plain one or of an ISO date.
func yearOf(value string) (string, bool) {
	if len(value) < 4 || len(value) > 25 || len(value) > 4 && value[4] != '-' || value[0] != '1' && value[0] != '2' {
		return "", false
	}
	for _, c := range value[:4] {
		if c < '0' || c > '9' {
			return "", false
		}
	}
	if len(value) > 4 && (len(value) < 7 || strings.IndexFunc(value[:7], unicode.IsLetter) >= 0) {
		return "", false
	}
	return value[:4], true
}
