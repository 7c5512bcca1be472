package decode

import (
	"slices"
	"strings"
)

// likely are parts of the names that other data sets give our fields.
var likely = map[string][]string{
	"user_id":   {"user", "customer", "visitor", "member", "account", "client", "buyer", "uuid", "uid"},
	"item_id":   {"item", "article", "product", "sku", "isbn", "business", "document", "movie", "track", "content", "offer", "asin", "ad_id"},
	"timestamp": {"time", "date", "dat", "when", "_at", "occurred"},
	"title":     {"title", "name", "headline", "caption"},
}

// Likely finds among foreign names those that are likely our fields, where the names give none of ours: user_id, item_id and timestamp, and
// type or rating where nothing says what happened; for a catalogue title.
func (d *Decoder) Likely(names []string) map[string]string {
	given, _ := d.Columns(names)
	found := map[string]string{}
	for _, our := range []string{"user_id", "item_id", "timestamp", "title"} {
		if given[our] || our == "item_id" && given["items"] {
			continue
		}
		for _, name := range names {
			var buf [32]byte
			to, known := eventWord(word(&buf, []byte(name)))
			if known && to != fContext && to != fID {
				continue
			}
			if slices.ContainsFunc(likely[our], func(w string) bool { return strings.Contains(strings.ToLower(name), w) }) {
				found[our] = name
				break
			}
		}
	}
	if given["type"] || given["event"] || given["rating"] || given["label"] || given["value"] || given["clicked"] {
		return found
	}
	for _, name := range names {
		our := ""
		switch senseOf(name).like {
		case fKind:
			our = "type"
		case fRating:
			our = "rating"
		}
		if our != "" && found["type"] == "" && found["rating"] == "" {
			found[our] = name
		}
	}
	return found
}

// Mapping writes what Likely finds as the setting that reads it; "" where it finds nothing.
func (d *Decoder) Mapping(part string, names []string) string {
	found := d.Likely(names)
	var parts []string
	for _, our := range []string{"user_id", "item_id", "title", "type", "rating", "timestamp"} {
		name, ok := found[our]
		if !ok || (part == "events") == (our == "title") {
			continue
		}
		if strings.ContainsAny(name, " :,{}[]#&*!|>'\"%@`") {
			name = "'" + strings.ReplaceAll(name, "'", "''") + "'"
		}
		parts = append(parts, our+": "+name)
	}
	if len(parts) == 0 {
		return ""
	}
	return "kafka: {fields: {" + part + ": {" + strings.Join(parts, ", ") + "}}}"
}
