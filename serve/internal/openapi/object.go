package openapi

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Object is a JSON object whose members keep their order: a reader of the description sees the
// fields of a struct, and the routes, in the order of the code.
type Object []Member

// Member is a name of an Object and what it holds.
type Member struct {
	Name  string
	Value any
}

// Get is the member of a name; nil where there is none.
func (o Object) Get(name string) any {
	for _, m := range o {
		if m.Name == name {
			return m.Value
		}
	}
	return nil
}

// With returns the object with a member set: in its place where there is one of that name, else at
// the end. The object itself stays as it is.
func (o Object) With(name string, value any) Object {
	out := append(Object{}, o...)
	for i := range out {
		if out[i].Name == name {
			out[i].Value = value
			return out
		}
	}
	return append(out, Member{name, value})
}

// MarshalJSON writes the members in their order.
func (o Object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := encode(m.Name)
		if err != nil {
			return nil, err
		}
		value, err := encode(m.Value)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encode is json.Marshal that leaves <, > and & readable.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// Encode is the text of a document, indented by one space, with a line end.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(v)
	return b.Bytes(), err
}

// Parse reads a JSON object: its objects become an Object, and an array of objects []Object.
func Parse(text []byte) (Object, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := parse(d)
	if err != nil {
		return nil, err
	}
	o, ok := v.(Object)
	if !ok {
		return nil, fmt.Errorf("%.20s is no JSON object", text)
	}
	return o, nil
}

func parse(d *json.Decoder) (any, error) {
	token, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		o := Object{}
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			value, err := parse(d)
			if err != nil {
				return nil, err
			}
			o = append(o, Member{name.(string), value})
		}
		_, err := d.Token()
		return o, err
	case json.Delim('['):
		all, objects := []any{}, []Object{}
		for d.More() {
			value, err := parse(d)
			if err != nil {
				return nil, err
			}
			all = append(all, value)
			if o, ok := value.(Object); ok {
				objects = append(objects, o)
			}
		}
		_, err := d.Token()
		if len(objects) == len(all) && len(all) > 0 {
			return objects, err
		}
		return all, err
	}
	return token, nil
}
