package ingest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Fields map our fields to where foreign records keep them: a member's name, or a path of names joined by dots
// (payload.customer.id). A mapped field is read there first, and under our own names where a record has nothing there, so
// that our own producers' records stay readable. Names are compared letter by letter.
type Fields struct {
	// Events may map user_id, item_id, type, label, rating, timestamp, id, items and clicked. Default: none.
	Events map[string]string `yaml:"events"`
	// Items may map item_id, title, available and withdrawn. Default: none.
	Items map[string]string `yaml:"items"`
}

const maxPath = 8 // names in a path

var (
	eventNames = []string{"user_id", "item_id", "type", "label", "rating", "timestamp", "id", "items", "clicked"}
	itemNames  = []string{"item_id", "title", "available", "withdrawn"}
)

func (f Fields) validate(bad func(key, fix, format string, args ...any)) {
	for _, part := range []struct {
		name string
		m    map[string]string
		of   []string
	}{{"events", f.Events, eventNames}, {"items", f.Items, itemNames}} {
		for _, our := range slices.Sorted(maps.Keys(part.m)) {
			key, path := "fields."+part.name+"."+our, part.m[our]
			if !slices.Contains(part.of, our) {
				bad(key, "map "+strings.Join(part.of, ", "), "%q is not a field of ours", our)
			}
			if names := strings.Split(path, "."); slices.Contains(names, "") || len(names) > maxPath {
				bad(key, fmt.Sprintf("write the name it has in your records, or up to %d names joined by dots", maxPath), "%q is not a path", path)
			}
		}
	}
}
