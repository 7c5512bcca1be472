package serve

import (
	"encoding/json"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// ident is a user's or an item's id in a body: a string or a whole number. It is stored as the
// decoder of events stores it.
type ident string

// idents is a list of ids.
type idents []string

// plainID removes white space around an id and brings it into Unicode's normal form NFC, as the
// decoder of events does. So an id is found however it was typed.
func plainID(s string) string {
	return norm.NFC.String(strings.TrimFunc(s, func(r rune) bool { return r == '\ufeff' || unicode.IsSpace(r) }))
}

// UnmarshalJSON accepts a string or an integer, by its digits.
func (id *ident) UnmarshalJSON(raw []byte) error {
	switch {
	case string(raw) == "null":
		return nil
	case raw[0] == '"':
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		*id = ident(plainID(s))
	case strings.Trim(strings.TrimPrefix(string(raw), "-"), "0123456789") == "":
		*id = ident(raw)
	default:
		return wrongType[ident](raw)
	}
	return nil
}

// UnmarshalJSON accepts an array of ids.
func (ids *idents) UnmarshalJSON(raw []byte) error {
	var list []ident
	if raw[0] != '[' && string(raw) != "null" {
		return wrongType[idents](raw)
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return err
	}
	*ids = nil
	for _, id := range list {
		*ids = append(*ids, string(id))
	}
	return nil
}
