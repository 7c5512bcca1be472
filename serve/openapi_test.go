package serve

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/corastream/corastream"
)

type schema struct {
	Ref         string             `json:"$ref"`
	Properties  map[string]*schema `json:"properties"`
	Required    []string           `json:"required"`
	Description string             `json:"description"`
	Additional  any                `json:"additionalProperties"`
}

type described struct {
	OperationID string    `json:"operationId"`
	Security    *[]string `json:"security"`
	Servers     []struct{ URL, Description string }
	RequestBody *struct {
		Content map[string]struct{ Example any }
	}
	Responses map[string]any
}

func description(t *testing.T) (paths map[string]map[string]described, schemas map[string]*schema) {
	t.Helper()
	var doc struct {
		Paths      map[string]map[string]described
		Components struct{ Schemas map[string]*schema }
	}
	if err := json.Unmarshal(openAPIDocument, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Paths, doc.Components.Schemas
}

func TestTheDescriptionHasExactlyTheRoutes(t *testing.T) {
	paths, _ := description(t)
	f := newFixture(t)
	left := map[string]bool{}
	for path, ops := range paths {
		for method := range ops {
			left[strings.ToUpper(method)+" "+path] = true
		}
	}
	seen := map[string]bool{}
	for _, rt := range f.routes() {
		path := strings.TrimSuffix(rt.path, "{$}")
		op, ok := paths[path][strings.ToLower(rt.method)]
		if !ok {
			t.Errorf("%s %s is not described", rt.method, path)
			continue
		}
		delete(left, rt.method+" "+path)
		if public := op.Security != nil && len(*op.Security) == 0; public != rt.public {
			t.Errorf("%s: public is %v, described as %v", path, rt.public, public)
		}
		if (rt.method == "POST" || rt.method == "PATCH" || rt.method == "PUT") != (op.RequestBody != nil) {
			t.Errorf("%s: the body", path)
		}
		if op.OperationID == "" || seen[op.OperationID] {
			t.Errorf("%s: operationId %q", path, op.OperationID)
		}
		seen[op.OperationID] = true
	}
	for _, rt := range f.adminRoutes() { // those that the main address has too are described there
		if name := rt.method + " " + rt.path; left[name] {
			delete(left, name)
			if op := paths[rt.path][strings.ToLower(rt.method)]; len(op.Servers) != 1 || !strings.Contains(op.Servers[0].Description, "admin_listen") {
				t.Errorf("%s: it is on the admin address: %+v", name, op.Servers)
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("described, but no route: %v", slices.Sorted(maps.Keys(left)))
	}
}

// TestTheDescriptionHasExactlyTheFields holds each schema to the struct of its name: a field that may be left out of an
// answer is not required, every other one is. It is written apart from package openapi, which makes the schemas, to check it.
func TestTheDescriptionHasExactlyTheFields(t *testing.T) {
	_, schemas := description(t)
	answers := map[string]any{
		"RecommendResponse": RecommendResponse{}, "RecommendedItem": RecommendedItem{}, "Why": Why{}, "NearRef": NearRef{}, "Versions": corastream.Versions{},
		"ScoreResponse": ScoreResponse{}, "ScoredText": ScoredText{}, "Usage": usage{}, "RerankResponse": RerankResponse{}, "RerankResult": RerankResult{},
		"UserResponse": UserResponse{}, "HistoryLine": HistoryLine{}, "Made": Made{}, "ItemResponse": ItemResponse{}, "Check": Check{}, "StatusResponse": StatusResponse{},
		"FreshnessStatus": FreshnessStatus{}, "FreshnessBucket": FreshnessBucket{}, "CurvePoint": CurvePoint{}, "GaugeStatus": GaugeStatus{}, "Fact": Fact{}, "Letter": Letter{},
		"ChatResponse": ChatResponse{}, "ChatChoice": ChatChoice{}, "ChatText": ChatText{}, "ChatLogprobs": ChatLogprobs{}, "ChatToken": ChatToken{}, "ChatUsage": ChatUsage{},
		"ListResponse": ListResponse{}, "ListedItem": ListedItem{}, "SimilarUsersResponse": SimilarUsersResponse{}, "SimilarUser": SimilarUser{}, "SharedItem": SharedItem{},
		"UserEventsResponse": UserEventsResponse{}, "UserEvent": UserEvent{},
		"ChatWeights": ChatWeights{}, "ModelLine": modelLine{}, "LLMStatus": LLMStatus{}, "LLMWorth": LLMWorth{}, "LLMShadow": LLMShadow{}, "LLMVerdict": LLMVerdict{},
		"RolloutStatus": RolloutStatus{}, "TrialStatus": TrialStatus{}, "ShadowFigures": ShadowFigures{},
	}
	for name, v := range answers {
		all, always := fields(reflect.TypeOf(v))
		compare(t, name, schemas[name], all, always)
	}
	for name, v := range map[string]any{"RecommendRequest": RecommendRequest{}, "ScoreRequest": ScoreRequest{}, "RerankRequest": RerankRequest{}, "ChatRequest": ChatRequest{}, "ChatMessage": chatMessage{}, "RolloutRequest": RolloutRequest{}, "MergeRequest": MergeRequest{}, "UserLabels": UserLabels{}} {
		all, _ := fields(reflect.TypeOf(v))
		compare(t, name, schemas[name], all, schemas[name].Required)
		if schemas[name].Additional != false {
			t.Errorf("%s: unknown fields are refused, so say so", name)
		}
	}
	if got := slices.Sorted(maps.Keys(schemas["OpenAIFailure"].Properties)); !slices.Equal(got, []string{"code", "message", "param", "type"}) {
		t.Errorf("OpenAIError: %v", got)
	}
	if got := slices.Sorted(maps.Keys(schemas["Failure"].Properties)); !slices.Equal(got, []string{"code", "field", "fix", "message"}) {
		t.Errorf("Error: %v", got)
	}
	for _, ref := range bytes.Split(openAPIDocument, []byte(`"#/components/schemas/`))[1:] {
		name, _, _ := strings.Cut(string(ref), `"`)
		if schemas[name] == nil {
			t.Errorf("there is no schema %s", name)
		}
	}
}

func fields(typ reflect.Type) (all, always []string) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		if f.Name == "_" { // it carries a tag of the whole struct
			continue
		}
		if f.Anonymous && f.Type.Kind() == reflect.Pointer { // its fields are left out with it
			a, _ := fields(f.Type.Elem())
			all = append(all, a...)
			continue
		}
		if f.Anonymous {
			a, b := fields(f.Type)
			all, always = append(all, a...), append(always, b...)
			continue
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if slices.Contains(all, name) { // it hides the embedded struct's
			continue
		}
		all = append(all, name)
		if options != "omitempty" && options != "omitzero" {
			always = append(always, name)
		}
	}
	return all, always
}

func compare(t *testing.T, name string, s *schema, all, always []string) {
	t.Helper()
	if s == nil {
		t.Errorf("there is no schema %s", name)
		return
	}
	slices.Sort(all)
	slices.Sort(always)
	if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, all) {
		t.Errorf("%s: described %v, in the code %v", name, got, all)
	}
	if got := slices.Sorted(slices.Values(s.Required)); !slices.Equal(got, always) {
		t.Errorf("%s: required %v, always there %v", name, got, always)
	}
}

// TestTheDescriptionsExamplesAreAnswered: whoever pastes one must not get an error.
func TestTheDescriptionsExamplesAreAnswered(t *testing.T) {
	paths, _ := description(t)
	f := newFixture(t, withLLM)
	tried := 0
	for path, ops := range paths {
		for method, op := range ops {
			id := "anna"
			if strings.HasPrefix(path, "/v1/items") {
				id = "i1"
			}
			if op.RequestBody == nil {
				continue
			}
			body, err := json.Marshal(op.RequestBody.Content["application/json"].Example)
			if err != nil {
				t.Fatal(err)
			}
			call := f.call
			if op.Servers != nil {
				call = f.admin
			}
			w := call(strings.ToUpper(method), strings.ReplaceAll(path, "{id}", id), string(body), nil)
			if w.Code/100 != 2 || op.Responses[strconv.Itoa(w.Code)] == nil {
				t.Errorf("%s %s: %d %s", path, body, w.Code, w.Body)
			}
			tried++
		}
	}
	wanted := 0
	for _, rt := range slices.Concat(f.routes(), f.adminRoutes()) {
		if rt.body != nil {
			wanted++
		}
	}
	if tried != wanted || wanted == 0 {
		t.Errorf("%d examples of %d bodies", tried, wanted)
	}
}
