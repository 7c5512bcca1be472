package serve

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// withPath names the element of a list, or the field inside an object, that a refusal is about, as in items[1].id: encoding/json names the list alone, and a type that reads
// itself only its own field. It reads the body again, element by element, which costs time only when a body is refused.
func withPath(body []byte, v any, f *Failure) *Failure {
	var top map[string]json.RawMessage
	typ := reflect.TypeOf(v).Elem()
	if typ.Kind() != reflect.Struct || json.Unmarshal(body, &top) != nil {
		return f
	}
	root, _, _ := strings.Cut(f.Field, ".")
	fields := reflect.VisibleFields(typ)
	known := false // by the body itself: the refusal is about a field of it, or about one of an element
	for _, field := range fields {
		known = known || jsonName(field) == root
	}
	if _, sent := top[root]; sent && !known {
		return f // an unknown field of the body
	}
	for _, field := range fields {
		name := jsonName(field)
		kind := field.Type
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if known && name != root {
			continue
		}
		if raw, sent := top[name]; sent && kind.Kind() == reflect.Struct {
			var inner *Failure
			if err := decodeStrict(raw, reflect.New(kind).Interface()); errors.As(err, &inner) {
				copied := *inner
				copied.Field = within(name, inner.Field)
				return &copied
			}
		}
		if kind.Kind() != reflect.Slice || reflect.PointerTo(kind).Implements(reflect.TypeFor[json.Unmarshaler]()) {
			continue
		}
		var parts []json.RawMessage
		if json.Unmarshal(top[name], &parts) != nil {
			continue
		}
		for i, part := range parts {
			var inner *Failure
			if err := decodeStrict(part, reflect.New(kind.Elem()).Interface()); errors.As(err, &inner) {
				copied := *inner
				copied.Field = within(fmt.Sprintf("%s[%d]", name, i), inner.Field)
				return &copied
			}
		}
	}
	return f
}

// within is the path of a field inside another; "body" is all of it. A type that reads itself names fields as seen from itself.
func within(outer, field string) string {
	if field == "" || field == "body" {
		return outer
	}
	if field[0] == '[' {
		return outer + field
	}
	return outer + "." + field
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}
