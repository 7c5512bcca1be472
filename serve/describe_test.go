package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/serve/internal/openapi"
)

// TestTheDescriptionIsUpToDate makes openapi.json from the routes, the types and their comments, and
// holds the file to it. With CORASTREAM_WRITE it writes the file.
func TestTheDescriptionIsUpToDate(t *testing.T) {
	made, err := describe(newFixture(t).Server)
	if err != nil {
		t.Fatal(err)
	}
	if os.Getenv("CORASTREAM_WRITE") != "" {
		if err := os.WriteFile("openapi.json", made, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, wanted := bytes.Split(openAPIDocument, []byte("\n")), bytes.Split(made, []byte("\n"))
	for i := range max(len(have), len(wanted)) {
		if i >= len(have) || i >= len(wanted) || !bytes.Equal(have[i], wanted[i]) {
			t.Fatalf("serve/openapi.json is not what the code says, from line %d: run go generate ./serve", i+1)
		}
	}
}

// failures say what a status means, whoever answers it.
var failures = map[int]string{
	304: "unchanged",
	400: "a field is missing or wrong; the error names it",
	401: "the token is missing or wrong",
	403: "another site's page, or a foreign Host",
	404: "not known",
	409: "not as things are; the error says why",
	405: "this is the main address; the error names the other one",
	410: "the list that the cursor belongs to is not kept any more",
	413: "the body is too large",
	415: "the body's type is not JSON",
	429: "too many requests from one client",
	500: "the server failed; its log says why",
	501: "this process runs without the part that is needed",
	503: "too much at once, or not ready",
	504: "it took too long",
}

// describe makes the document.
func describe(s *Server) ([]byte, error) {
	d, err := newDescriber()
	if err != nil {
		return nil, err
	}
	paths := openapi.Object{}
	add := func(rt route, admin bool) {
		path := strings.TrimSuffix(rt.path, "{$}")
		ops, _ := paths.Get(path).(openapi.Object)
		paths = paths.With(path, ops.With(strings.ToLower(rt.method), d.operation(rt, admin)))
	}
	d.types.Schema(reflect.TypeFor[failureBody](), false)
	for _, rt := range s.routes() {
		add(rt, false)
	}
	for _, rt := range s.adminRoutes() {
		if rt.id != "" {
			add(rt, true)
		}
	}
	schemas, err := d.types.Components()
	if err != nil {
		return nil, err
	}
	return openapi.Encode(openapi.Object{
		{Name: "openapi", Value: "3.1.0"},
		{Name: "info", Value: openapi.Object{
			{Name: "title", Value: "corastream"},
			{Name: "version", Value: "1"},
			{Name: "description", Value: "A recommender whose language model learns from every click. Every error is {\"error\": {code, message, field, fix}}, on /v1/chat/completions and /v1/models {\"error\": {message, type, param, code}}; unknown fields are refused. List lengths and id lengths are the defaults of the configuration."},
			{Name: "license", Value: openapi.Object{{Name: "name", Value: "Apache-2.0"}, {Name: "identifier", Value: "Apache-2.0"}}},
		}},
		{Name: "servers", Value: []openapi.Object{{{Name: "url", Value: "/"}}}},
		{Name: "security", Value: []openapi.Object{{{Name: "bearer", Value: []string{}}}, {{Name: "key", Value: []string{}}}, {}}},
		{Name: "paths", Value: paths},
		{Name: "components", Value: openapi.Object{
			{Name: "schemas", Value: schemas},
			{Name: "securitySchemes", Value: openapi.Object{
				{Name: "bearer", Value: openapi.Object{{Name: "type", Value: "http"}, {Name: "scheme", Value: "bearer"}}},
				{Name: "key", Value: openapi.Object{{Name: "type", Value: "apiKey"}, {Name: "in", Value: "header"}, {Name: "name", Value: "X-API-Key"}}},
			}},
		}},
	})
}

type describer struct{ types openapi.Types }

// newDescriber reads the comments of the packages that bodies are declared in. Its limits are the
// defaults of the configuration, and the constants that handlers check with.
func newDescriber() (*describer, error) {
	comments := openapi.Comments{}
	for path, dir := range map[string]string{reflect.TypeFor[Server]().PkgPath(): ".", reflect.TypeFor[corastream.Scored]().PkgPath(): ".."} {
		if err := comments.ReadComments(path, dir); err != nil {
			return nil, err
		}
	}
	cfg := DefaultConfig()
	d := &describer{openapi.Types{
		Comments: comments,
		Limits: map[string]int{
			"id": cfg.MaxIDBytes, "candidates": cfg.MaxCandidates, "past": corastream.MaxPast, "fields": maxFields, "labels": maxLabels,
			"cursor": maxCursor, "messages": maxMessages, "likely": maxLikely, "biases": maxBiases,
		},
		Names: map[reflect.Type]string{
			reflect.TypeFor[failureBody](): "Error", reflect.TypeFor[openAIFailure](): "OpenAIError", reflect.TypeFor[OpenAIError](): "OpenAIFailure",
			reflect.TypeFor[corastream.Why](): "Reason", reflect.TypeFor[document](): "Document", reflect.TypeFor[rerankDocument](): "RerankDocument", reflect.TypeFor[event](): "Event", reflect.TypeFor[record](): "Record",
		},
		Forms: map[string]openapi.Object{},
	}}
	text := strings.NewReplacer(
		"ID", fmt.Sprintf(`{"type":"string","minLength":1,"maxLength":%d}`, cfg.MaxIDBytes), "MAX", strconv.Itoa(cfg.MaxCandidates),
		"STOP", fmt.Sprintf(`{"type":"string","minLength":1,"maxLength":%d}`, maxStopBytes), "MANY", strconv.Itoa(maxStops),
		"USER", fmt.Sprintf(`{"type":["string","null"],"maxLength":%d}`, cfg.MaxIDBytes))
	for name, form := range forms {
		object, err := openapi.Parse([]byte(text.Replace(form)))
		if err != nil {
			return nil, fmt.Errorf("form %s: %w", name, err)
		}
		d.types.Forms[name] = object
	}
	return d, nil
}

func (d *describer) operation(rt route, admin bool) openapi.Object {
	out := openapi.Object{{Name: "operationId", Value: rt.id}, {Name: "summary", Value: rt.summary}}
	if rt.note != "" {
		out = out.With("description", rt.note)
	}
	if rt.public {
		out = out.With("security", []string{})
	}
	if admin {
		out = out.With("servers", []openapi.Object{{
			{Name: "url", Value: "http://{admin}"},
			{Name: "description", Value: "http.admin_listen"},
			{Name: "variables", Value: openapi.Object{{Name: "admin", Value: openapi.Object{{Name: "default", Value: "127.0.0.1:8643"}}}}},
		}})
	}
	if p := d.parameters(rt); len(p) > 0 {
		out = out.With("parameters", p)
	}
	if rt.body != nil {
		out = out.With("requestBody", openapi.Object{{Name: "required", Value: true}, {Name: "content", Value: d.bodies(rt)}})
	}
	return out.With("responses", d.responses(rt, admin))
}

// parameters are those of the path, which are ids but for a file's name, and those of the query.
func (d *describer) parameters(rt route) (all []openapi.Object) {
	for _, part := range strings.Split(rt.path, "/") {
		name, ok := strings.CutPrefix(part, "{")
		if !ok || name == "$}" {
			continue
		}
		name = strings.TrimSuffix(name, "}")
		schema := d.types.Forms["ident"]
		if name == "file" {
			schema = openapi.Object{{Name: "type", Value: "string"}}
		}
		all = append(all, openapi.Object{{Name: "name", Value: name}, {Name: "in", Value: "path"}, {Name: "required", Value: true}, {Name: "schema", Value: schema}})
	}
	for _, p := range rt.query {
		one := openapi.Object{{Name: "name", Value: p.name}, {Name: "in", Value: "query"}, {Name: "description", Value: p.about}}
		if slices.Contains(strings.Split(p.bounds, ";"), "required") {
			one = one.With("required", true)
		}
		one = one.With("schema", d.types.Bounded(rt.path+"?"+p.name, reflect.TypeOf(p.kind), p.bounds))
		if reflect.TypeOf(p.kind).Kind() == reflect.Slice {
			one = one.With("explode", true)
		}
		all = append(all, one)
	}
	return all
}

func (d *describer) bodies(rt route) (content openapi.Object) {
	for _, m := range append([]mediaBody{{"application/json", rt.body}}, rt.also...) {
		one := openapi.Object{{Name: "schema", Value: d.types.Schema(reflect.TypeOf(m.body), true)}}
		if rt.example != "" && reflect.TypeOf(m.body) == reflect.TypeOf(rt.body) {
			one = one.With("example", json.RawMessage(rt.example))
		}
		content = content.With(m.media, one)
	}
	return content
}

// responses are the answer, what the handler fails with, and what the guards of wrap may answer
// before it.
func (d *describer) responses(rt route, admin bool) openapi.Object {
	codes := map[int]bool{http.StatusForbidden: true}
	for _, c := range rt.fails {
		codes[c] = true
	}
	codes[http.StatusTooManyRequests] = codes[http.StatusTooManyRequests] || !admin
	if !rt.public {
		codes[http.StatusUnauthorized], codes[http.StatusInternalServerError] = true, true
	}
	if rt.body != nil {
		codes[http.StatusRequestEntityTooLarge], codes[http.StatusUnsupportedMediaType] = true, true
	}
	if rt.heavy || rt.writes || rt.long {
		codes[http.StatusServiceUnavailable], codes[http.StatusGatewayTimeout] = true, true
	}
	done := rt.done
	if done == nil {
		done = statuses{http.StatusOK: "done"}
	}
	out := openapi.Object{}
	for _, status := range slices.Sorted(maps.Keys(done)) {
		out = out.With(strconv.Itoa(status), openapi.Object{{Name: "description", Value: done[status]}, {Name: "content", Value: d.answer(rt)}})
	}
	for _, c := range slices.Sorted(maps.Keys(codes)) {
		if codes[c] {
			out = out.With(strconv.Itoa(c), d.failure(rt, c))
		}
	}
	return out
}

func (d *describer) answer(rt route) (content openapi.Object) {
	if kinds, ok := rt.answer.(string); ok {
		for _, kind := range strings.Split(kinds, ",") {
			schema := openapi.Object{{Name: "type", Value: "string"}}
			switch kind {
			case "application/zip":
				schema = schema.With("format", "binary")
			case "application/json":
				schema = d.types.Forms["object"]
			}
			content = content.With(kind, openapi.Object{{Name: "schema", Value: schema}})
		}
		return content
	}
	typ := reflect.TypeOf(rt.answer)
	content = content.With("application/json", openapi.Object{{Name: "schema", Value: d.types.Schema(typ, false)}})
	if rt.streams {
		content = content.With("text/event-stream", openapi.Object{{Name: "schema", Value: openapi.Object{
			{Name: "description", Value: "with stream: data: {" + typ.Name() + "}, one for each part, then data: [DONE]"},
		}}})
	}
	return content
}

// failure is an error in the shape that the route's clients expect. A page answers 404 with itself,
// and /readyz 503 with its checks.
func (d *describer) failure(rt route, code int) openapi.Object {
	out := openapi.Object{{Name: "description", Value: failures[code]}}
	body := func(media string, schema openapi.Object) {
		out = out.With("content", openapi.Object{{Name: media, Value: openapi.Object{{Name: "schema", Value: schema}}}})
	}
	switch {
	case code == http.StatusNotModified:
		return out
	case code == http.StatusNotFound && rt.answer == "text/html":
		out = out.With("description", "the same page, which says where to go on")
		body("text/html", openapi.Object{{Name: "type", Value: "string"}})
	case code == http.StatusServiceUnavailable && reflect.TypeOf(rt.answer) == reflect.TypeFor[readiness]():
		out = out.With("description", "not yet, or not any more; the checks say why")
		body("application/json", d.types.Schema(reflect.TypeFor[readiness](), false))
	case likeOpenAI(rt.path):
		body("application/json", d.types.Schema(reflect.TypeFor[openAIFailure](), false))
	default:
		body("application/json", d.types.Schema(reflect.TypeFor[failureBody](), false))
	}
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		out = out.With("headers", openapi.Object{{Name: "Retry-After", Value: openapi.Object{
			{Name: "description", Value: "seconds"}, {Name: "schema", Value: openapi.Object{{Name: "type", Value: "integer"}}},
		}}})
	}
	return out
}
