package openapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Types makes schemas and collects those that others refer to.
type Types struct {
	Comments Comments
	// Forms are schemas by name: of a type that reads or writes itself, by its Go name, and of raw
	// JSON, by the name that an api tag gives.
	Forms map[string]Object
	// Names are component names of types that are not called as in Go. A form with a name here is
	// a component.
	Names map[reflect.Type]string
	// Limits are the bounds that api tags name.
	Limits map[string]int

	components Object
	made       map[string]use
	errs       []error
}

// use is the type behind a component, and the side it was made for.
type use struct {
	typ     reflect.Type
	request bool
}

// Components returns the schemas that were referred to, in the order of their first mention, or all
// problems that were met.
func (t *Types) Components() (Object, error) { return t.components, errors.Join(t.errs...) }

func (t *Types) fail(format string, args ...any) {
	t.errs = append(t.errs, fmt.Errorf(format, args...))
}

// Schema is the schema of a type, as a request or as an answer. A struct becomes a component.
func (t *Types) Schema(typ reflect.Type, request bool) Object {
	if typ.Kind() == reflect.Pointer {
		return t.Schema(typ.Elem(), request)
	}
	if form, ok := t.Forms[typ.Name()]; ok && typ.Name() != "" {
		if name := t.Names[typ]; name != "" {
			return t.component(name, typ, request, func() Object { return form })
		}
		return form
	}
	switch {
	case typ == reflect.TypeFor[time.Time]():
		return Object{{"type", "string"}, {"format", "date-time"}}
	case typ == reflect.TypeFor[json.RawMessage]():
		return Object{}
	case reflect.PointerTo(typ).Implements(reflect.TypeFor[json.Unmarshaler]()):
		t.fail("%s reads itself: give it a form", typ)
	}
	switch typ.Kind() {
	case reflect.Struct:
		return t.component(t.nameOf(typ), typ, request, func() Object { return t.structure(typ, request) })
	case reflect.Slice:
		return Object{{"type", "array"}, {"items", t.Schema(typ.Elem(), request)}}
	case reflect.Array:
		return Object{{"type", "array"}, {"items", t.Schema(typ.Elem(), request)}, {"minItems", typ.Len()}, {"maxItems", typ.Len()}}
	case reflect.Map:
		return Object{{"type", "object"}, {"additionalProperties", t.Schema(typ.Elem(), request)}}
	case reflect.Interface:
		return Object{}
	}
	return t.scalar(typ)
}

func (t *Types) scalar(typ reflect.Type) Object {
	switch typ.Kind() {
	case reflect.String:
		return Object{{"type", "string"}}
	case reflect.Bool:
		return Object{{"type", "boolean"}}
	case reflect.Float32, reflect.Float64:
		return Object{{"type", "number"}}
	case reflect.Int:
		return Object{{"type", "integer"}}
	case reflect.Int32, reflect.Int64:
		return Object{{"type", "integer"}, {"format", typ.Kind().String()}}
	case reflect.Uint32, reflect.Uint64:
		return Object{{"type", "integer"}, {"minimum", 0}}
	}
	t.fail("%s has no schema", typ)
	return Object{}
}

// nameOf is a type's component name: as in Go, with a capital.
func (t *Types) nameOf(typ reflect.Type) string {
	name := t.Names[typ]
	if name == "" {
		name = typ.Name()
	}
	if name == "" {
		t.fail("%s has no name: declare it as a type", typ)
		return "?"
	}
	return string(unicode.ToUpper(rune(name[0]))) + name[1:]
}

// component refers to a schema and makes it at its first mention.
func (t *Types) component(name string, typ reflect.Type, request bool, build func() Object) Object {
	ref := Object{{"$ref", "#/components/schemas/" + name}}
	if before, ok := t.made[name]; ok {
		switch {
		case before.typ != typ:
			t.fail("%s and %s are both called %s: give one of them a name", before.typ, typ, name)
		case before.request != request:
			t.fail("%s is in a request and in an answer: use two types", typ)
		}
		return ref
	}
	if t.made == nil {
		t.made = map[string]use{}
	}
	t.made[name] = use{typ, request}
	t.components = append(t.components, Member{name, nil}) // its place, and the end of a type that holds itself
	at := len(t.components) - 1
	schema := build()
	if text := t.Comments.ofType(typ, name); text != "" && schema.Get("description") == nil {
		schema = slices.Insert(slices.Clone(schema), min(1, len(schema)), Member{"description", text})
	}
	t.components[at].Value = schema
	return ref
}

func (t *Types) structure(typ reflect.Type, request bool) Object {
	out := Object{{"type", "object"}}
	fields := Object{}
	required := []string{}
	t.fields(typ, request, func(name string, schema Object, always bool) {
		fields = append(fields, Member{name, schema})
		if always {
			required = append(required, name)
		}
	})
	out = append(out, Member{"properties", fields})
	if len(required) > 0 {
		out = append(out, Member{"required", required})
	}
	out = append(out, Member{"additionalProperties", false})
	for i := range typ.NumField() {
		if f := typ.Field(i); f.Name == "_" {
			out = t.oneIsRequired(typ, f.Tag.Get("api"), out)
		}
	}
	return out
}

// oneIsRequired reads the api tag of a field called _: anyOf=a|b says that one of them must be there.
func (t *Types) oneIsRequired(typ reflect.Type, tag string, schema Object) Object {
	names, ok := strings.CutPrefix(tag, "anyOf=")
	if !ok {
		t.fail("%s: tag %q of its field _ is not anyOf=FIELD|FIELD", typ, tag)
		return schema
	}
	var any []Object
	for _, n := range strings.Split(names, "|") {
		if schema.Get("properties").(Object).Get(n) == nil {
			t.fail("%s: anyOf names %s, which is no field", typ, n)
		}
		any = append(any, Object{{"required", []string{n}}})
	}
	return append(schema, Member{"anyOf", any})
}

// fields goes through a struct as encoding/json does: an embedded struct's fields are its own, unless
// it has one of that name itself. The fields of an embedded pointer may be left out, with it.
func (t *Types) fields(typ reflect.Type, request bool, add func(name string, schema Object, always bool)) {
	own := map[string]bool{}
	for i := range typ.NumField() {
		if f := typ.Field(i); !f.Anonymous {
			own[jsonName(f)] = true
		}
	}
	for i := range typ.NumField() {
		f := typ.Field(i)
		name := jsonName(f)
		switch {
		case f.Anonymous && name == "":
			pointer := f.Type.Kind() == reflect.Pointer
			inner := f.Type
			if pointer {
				inner = inner.Elem()
			}
			t.fields(inner, request, func(name string, schema Object, always bool) {
				if !own[name] {
					add(name, schema, always && !pointer)
				}
			})
		case name == "-" || name == "" && !f.IsExported():
		case name == "":
			t.fail("%s.%s has no json tag", typ, f.Name)
		default:
			schema, always := t.field(typ, f, request)
			if text := t.Comments.ofField(typ, f, name); text != "" {
				schema = schema.With("description", text)
			}
			add(name, schema, always)
		}
	}
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

// field is a field's schema, and whether it is always there.
func (t *Types) field(typ reflect.Type, f reflect.StructField, request bool) (schema Object, always bool) {
	b := t.parse(typ.String()+"."+f.Name, f.Tag.Get("api"))
	schema = t.bound(typ.String()+"."+f.Name, t.Schema(f.Type, request), b)
	if request {
		if !b.required && !b.notNull {
			schema = orNull(schema)
		}
		return schema, b.required
	}
	_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	left := strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
	if b.nullable || f.Type.Kind() == reflect.Pointer && !left && !b.notNull {
		schema = orNull(schema)
	}
	return schema, !left
}

// orNull lets a schema be null too. An empty one is that already.
func orNull(s Object) Object {
	if kind, ok := s.Get("type").(string); ok {
		if kind == "null" {
			return s
		}
		s = s.With("type", []string{kind, "null"})
		if enum, ok := s.Get("enum").([]any); ok {
			s = s.With("enum", append(slices.Clone(enum), nil))
		}
		return s
	}
	if one, ok := s.Get("oneOf").([]Object); ok {
		return s.With("oneOf", append([]Object{{{"type", "null"}}}, one...))
	}
	if len(s) == 0 {
		return s
	}
	return Object{{"oneOf", []Object{{{"type", "null"}}, s}}}
}
