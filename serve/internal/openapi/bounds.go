package openapi

import (
	"reflect"
	"strconv"
	"strings"
)

// bounds are an api tag.
type bounds struct {
	required, notNull, nullable bool
	form                        string
	enum                        []any
	pattern                     string
	min, max                    *float64
	each                        *bounds
}

// parse reads an api tag: parts between semicolons.
//
//	required         of a request: the field must be there
//	notnull          it is never null: a field of a request that may be left out, or a pointer of an answer
//	nullable         of an answer: it may be null though it is no pointer
//	min=N, max=N     of a number its value, of a string its length, of an array or an object its size;
//	                 N is a number or a name of Limits
//	enum=a|b         the values of a string
//	pattern=RE       of a string; RE has no semicolon
//	form=NAME        of raw JSON: one of Forms
//	each.PART        any part above, of the values of an array or an object
func (t *Types) parse(where, tag string) (b bounds) {
	each := []string{}
	for _, part := range strings.Split(tag, ";") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "":
		case "required":
			b.required = true
		case "notnull":
			b.notNull = true
		case "nullable":
			b.nullable = true
		case "form":
			b.form = value
		case "pattern":
			b.pattern = value
		case "min":
			b.min = t.limit(where, value)
		case "max":
			b.max = t.limit(where, value)
		case "enum":
			for _, v := range strings.Split(value, "|") {
				b.enum = append(b.enum, v)
			}
		default:
			inner, ok := strings.CutPrefix(part, "each.")
			if !ok {
				t.fail("%s: api tag %q: there is no part %q", where, tag, key)
				continue
			}
			each = append(each, inner)
		}
	}
	if len(each) > 0 {
		inner := t.parse(where, strings.Join(each, ";"))
		b.each = &inner
	}
	return b
}

func (t *Types) limit(where, value string) *float64 {
	if n, ok := t.Limits[value]; ok {
		x := float64(n)
		return &x
	}
	x, err := strconv.ParseFloat(value, 64)
	if err != nil {
		t.fail("%s: %q is neither a number nor a limit", where, value)
	}
	return &x
}

// Bounded is the schema of a type with the parts of an api tag, as a parameter has it.
func (t *Types) Bounded(where string, typ reflect.Type, tag string) Object {
	return t.bound(where, t.Schema(typ, true), t.parse(where, tag))
}

// bound puts bounds into a schema.
func (t *Types) bound(where string, s Object, b bounds) Object {
	if b.form != "" {
		form, ok := t.Forms[b.form]
		if !ok {
			t.fail("%s: there is no form %q", where, b.form)
		}
		s = form
	}
	if b.enum != nil {
		s = s.With("enum", b.enum)
	}
	if b.pattern != "" {
		s = s.With("pattern", b.pattern)
	}
	if b.min != nil || b.max != nil {
		names := map[any][2]string{
			"string": {"minLength", "maxLength"}, "integer": {"minimum", "maximum"}, "number": {"minimum", "maximum"},
			"array": {"minItems", "maxItems"}, "object": {"minProperties", "maxProperties"},
		}[s.Get("type")]
		if names[0] == "" {
			t.fail("%s: min and max of something without a type", where)
			return s
		}
		if b.min != nil {
			s = s.With(names[0], *b.min)
		}
		if b.max != nil {
			s = s.With(names[1], *b.max)
		}
	}
	if b.each != nil {
		key := "items"
		if s.Get("type") == "object" {
			key = "additionalProperties"
		}
		inner, ok := s.Get(key).(Object)
		if !ok {
			t.fail("%s: bounds of values, and it has none", where)
			return s
		}
		s = s.With(key, t.bound(where, inner, *b.each))
	}
	return s
}
