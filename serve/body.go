package serve

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

// readBody returns the whole body when its type is one of types; "application/json" is always
// allowed. The type must be named, because a page elsewhere can make a browser post forms and
// plain text without asking first.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, types ...string) ([]byte, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	ok := err == nil && kind == "application/json"
	for _, t := range types {
		ok = ok || err == nil && kind == t
	}
	if !ok {
		return nil, &Failure{
			Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Field: "Content-Type",
			Message: "the body must be JSON", Fix: "send the header Content-Type: application/json",
		}
	}
	body, err := s.unpacked(w, r)
	var tooLarge *http.MaxBytesError
	var refused *Failure
	switch {
	case errors.As(err, &refused):
		return nil, refused
	case errors.As(err, &tooLarge):
		return nil, &Failure{
			Status: http.StatusRequestEntityTooLarge, Code: "too_large", Message: fmt.Sprintf("the body is over %d bytes", s.cfg.MaxBodyBytes),
			Fix: "send less at once, or raise max_body_bytes",
		}
	case err != nil:
		return nil, &Failure{Status: http.StatusBadRequest, Code: "bad_body", Message: "the body did not arrive whole", cause: err}
	case len(bytes.TrimSpace(body)) == 0:
		return nil, &Failure{Status: http.StatusBadRequest, Code: "bad_json", Message: "the body is empty", Fix: "send a JSON object"}
	case !utf8.Valid(body):
		return nil, &Failure{Status: http.StatusBadRequest, Code: "bad_json", Message: "the body is not valid UTF-8", Fix: "encode it as UTF-8"}
	}
	return body, nil
}

// unpacked reads a body, compressed by gzip or not, up to MaxBodyBytes after decompression.
func (s *Server) unpacked(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	in := http.MaxBytesReader(w, r.Body, int64(s.cfg.MaxBodyBytes))
	switch encoding := strings.ToLower(r.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
		return io.ReadAll(in)
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(io.LimitReader(z, int64(s.cfg.MaxBodyBytes)+1))
		if len(body) > s.cfg.MaxBodyBytes {
			return nil, &http.MaxBytesError{Limit: int64(s.cfg.MaxBodyBytes)}
		}
		return body, err
	default:
		return nil, &Failure{
			Status: http.StatusUnsupportedMediaType, Code: "unsupported_media_type", Field: "Content-Encoding",
			Message: fmt.Sprintf("%.40q is not unpacked here", encoding), Fix: "send the body as it is, or packed by gzip",
		}
	}
}

// decode reads a JSON body into the struct that v points to and refuses what it does not know.
func (s *Server) decode(w http.ResponseWriter, r *http.Request, v any) error {
	body, err := s.readBody(w, r)
	if err != nil {
		return err
	}
	return decodeStrict(body, v)
}

func decodeStrict(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			return &Failure{Status: http.StatusBadRequest, Code: "bad_json", Message: "something follows the JSON object", Fix: "send one object and nothing after it"}
		}
		return nil
	}
	var f *Failure
	var wrong *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &f):
		return withPath(body, v, f)
	case errors.As(err, &wrong):
		field := wrong.Field
		if field == "" {
			field = "body"
		}
		return withPath(body, v, badField(field, "send "+jsonKind(wrong.Type), "%s is not what belongs here", wrong.Value))
	case errors.As(err, &syntax):
		return &Failure{Status: http.StatusBadRequest, Code: "bad_json", Message: fmt.Sprintf("the body is not JSON: %v at byte %d", syntax, syntax.Offset), Fix: "send a JSON object"}
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		name := strings.Trim(strings.TrimPrefix(err.Error(), "json: unknown field "), `"`)
		fix := "leave it out; /openapi.json lists the fields"
		if near := meant(name, reflect.TypeOf(v)); near != "" {
			fix = fmt.Sprintf("write %s, or %s", near, fix)
		}
		return withPath(body, v, &Failure{Status: http.StatusBadRequest, Code: "unknown_field", Field: name, Message: "there is no such field", Fix: fix})
	}
	return &Failure{Status: http.StatusBadRequest, Code: "bad_json", Message: "the body is not JSON: " + strings.TrimPrefix(err.Error(), "json: "), Fix: "send a JSON object"}
}

// meant returns the field that an unknown name was probably meant to be: one with the same letters
// in another spelling, or one that begins with the name, or that the name begins with. It returns
// "" when there is none. It does not look into structs inside the body.
func meant(name string, t reflect.Type) string {
	letters := func(s string) string {
		return strings.NewReplacer("_", "", "-", "", " ", "").Replace(strings.ToLower(s))
	}
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	have := letters(name)
	if t.Kind() != reflect.Struct || len(have) < 3 {
		return ""
	}
	near := ""
	for _, f := range reflect.VisibleFields(t) {
		key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch want := letters(key); {
		case want == "" || key == "-":
		case want == have:
			return key
		case near == "" && len(want) >= 3 && (strings.HasPrefix(want, have) || strings.HasPrefix(have, want)):
			near = key
		}
	}
	return near
}

func jsonKind(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[document]():
		return `"id", {"id": ...} or {"text": ...}`
	case reflect.TypeFor[rerankDocument]():
		return `"id", or an object with an id or a text`
	case reflect.TypeFor[chatContent]():
		return `a string, or [{"type": "text", "text": ...}]`
	case reflect.TypeFor[stopTexts]():
		return "a string, or an array of strings"
	case reflect.TypeFor[ident]():
		return "a string or a whole number"
	case reflect.TypeFor[idents]():
		return "an array of ids"
	case reflect.TypeFor[rerankUser]():
		return `the user's id as a string, or {"user_id": ...}`
	}
	switch t.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number that fits"
}

// wrongType is what encoding/json itself reports; it fills in the field's name.
func wrongType[T any](raw []byte) error {
	var kind string
	switch raw[0] {
	case '{':
		kind = "object"
	case '[':
		kind = "array"
	case '"':
		kind = "string"
	case 't', 'f':
		kind = "bool"
	case 'n':
		kind = "null"
	default:
		kind = "number " + string(raw[:min(len(raw), 40)])
	}
	return &json.UnmarshalTypeError{Value: kind, Type: reflect.TypeFor[T]()}
}

// whole is an integer that may also be written 5.0 or 5e0. JSON makes no difference between them,
// and some clients write every number so.
type whole int

// UnmarshalJSON accepts integers up to 2^53, beyond which a float64 skips some; null is as left
// out.
func (n *whole) UnmarshalJSON(raw []byte) error {
	if string(raw) == "null" {
		return nil
	}
	x, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
		return wrongType[whole](raw)
	}
	*n = whole(x)
	return nil
}

// checkID refuses ids that no topic of this program can carry.
func (s *Server) checkID(field, id string) error {
	switch {
	case id == "":
		return &Failure{Status: http.StatusBadRequest, Code: "missing_field", Field: field, Message: "it is missing or empty", Fix: "give an id"}
	case len(id) > s.cfg.MaxIDBytes:
		return badField(field, fmt.Sprintf("give at most %d bytes", s.cfg.MaxIDBytes), "the id has %d bytes", len(id))
	case !utf8.ValidString(id):
		return badField(field, "encode it as UTF-8", "the id is not valid UTF-8")
	}
	return nil
}

// checkIDs checks a list of at most kafka.max_array ids.
func (s *Server) checkIDs(field string, ids []string) error {
	if err := s.checkLen(field, len(ids)); err != nil {
		return err
	}
	for i, id := range ids {
		if err := s.checkID(fmt.Sprintf("%s[%d]", field, i), id); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) checkLen(field string, n int) error {
	if n > s.cfg.MaxCandidates {
		return badField(field, fmt.Sprintf("send at most %d at once, or raise kafka.max_array", s.cfg.MaxCandidates), "%d entries", n)
	}
	return nil
}
