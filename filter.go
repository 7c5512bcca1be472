package corastream

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Filter says which items may be recommended, by the plain fields of their catalogue records. Withdrawn and removed items
// never are, whatever it says.
type Filter struct {
	// Allow lists, for a field, the values of which an item must have one. An item without the field is left out. Default none.
	Allow map[string][]string `yaml:"allow"`
	// Deny lists, for a field, the values that no item may have. Default none.
	Deny map[string][]string `yaml:"deny"`
	// Separators part a field that holds several values. Values are compared whole, without regard to case. Default "|,;".
	Separators string `yaml:"separators"`
	// ItemTTL keeps items out of lists of which nothing was heard for so long, by the log's clock: neither an event nor a catalogue record.
	// A record counts as of its append time, and a repeat of the same record once an hour. Items of a data folder of earlier builds have
	// no such time, and stay until something is heard of them. Default 0 (for ever), at least 1m.
	ItemTTL time.Duration `yaml:"item_ttl"`
}

// DefaultFilter lets every item through.
func DefaultFilter() Filter { return Filter{Separators: "|,;"} }

// Validate reports all problems at once.
func (f Filter) Validate() error {
	var errs []error
	for name, lists := range map[string]map[string][]string{"allow": f.Allow, "deny": f.Deny} {
		for field, values := range lists {
			if field == "" || len(values) == 0 || slices.Contains(values, "") {
				errs = append(errs, Usagef(fmt.Sprintf("%s.%s", name, field), "name a field and at least one value, none of them empty", "an empty list would leave nothing, or mean nothing"))
			}
		}
	}
	return errors.Join(append(errs, checkTTL("item_ttl", f.ItemTTL))...)
}

// Empty says that every item passes.
func (f Filter) Empty() bool { return len(f.Allow) == 0 && len(f.Deny) == 0 && f.ItemTTL == 0 }

// Passes says whether an item may be recommended.
func (f Filter) Passes(it *ItemState) bool {
	if it.Withdrawn || it.Removed {
		return false
	}
	for field, values := range f.Allow {
		if !f.has(it, field, values) {
			return false
		}
	}
	for field, values := range f.Deny {
		if f.has(it, field, values) {
			return false
		}
	}
	return true
}

func (f Filter) has(it *ItemState, field string, wanted []string) bool {
	text, ok := it.Fields[field]
	if !ok {
		return false
	}
	one := func(v string) bool {
		v = strings.TrimSpace(v)
		return slices.ContainsFunc(wanted, func(w string) bool { return strings.EqualFold(v, strings.TrimSpace(w)) })
	}
	return one(text) || slices.ContainsFunc(strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(f.Separators, r) }), one)
}
