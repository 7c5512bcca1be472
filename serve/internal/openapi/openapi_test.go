package openapi

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

type request struct {
	_     struct{}          `api:"anyOf=who|where"`
	Who   string            `json:"who" api:"notnull;max=id"`
	Where string            `json:"where" api:"enum=|here"`
	Many  map[string][]int  `json:"many" api:"max=2;each.min=1;each.each.max=9"`
	Inner *inner            `json:"inner"`
	Sure  []json.RawMessage `json:"sure" api:"required;each.form=thing"`
}

// inner is held by a request.
type inner struct {
	At uint64 `json:"at"` // when
}

type answer struct {
	Base
	*Extra
	Own  *float64 `json:"own"` // it hides the embedded one
	Next *answer  `json:"next,omitempty"`
	// Long is told above.
	Long  string `json:"long_name"`
	inner int    //lint:ignore U1000 not exported, so not sent
}

type Base struct {
	Own  string `json:"own"`
	Kept string `json:"kept"`
}

type Extra struct {
	More string `json:"more"`
}

func schemas(t *testing.T, typ reflect.Type, isRequest bool) map[string]string {
	t.Helper()
	types := made(t)
	types.Schema(typ, isRequest)
	all, err := types.Components()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range all {
		b, err := json.Marshal(m.Value)
		if err != nil {
			t.Fatal(err)
		}
		out[m.Name] = string(b)
	}
	return out
}

func made(t *testing.T) *Types {
	t.Helper()
	comments := Comments{}
	if err := comments.ReadComments(reflect.TypeFor[request]().PkgPath(), "testdata"); err != nil {
		t.Fatal(err)
	}
	return &Types{Comments: comments, Limits: map[string]int{"id": 7}, Forms: map[string]Object{"thing": {{"type", "string"}}}}
}

func TestARequestsFieldsMayBeNullUnlessItsTagSaysOtherwise(t *testing.T) {
	got := schemas(t, reflect.TypeFor[request](), true)
	want := map[string]string{
		"Request": `{"type":"object","properties":{"who":{"type":"string","maxLength":7},"where":{"type":["string","null"],"enum":["","here",null]},` +
			`"many":{"type":["object","null"],"additionalProperties":{"type":"array","items":{"type":"integer","maximum":9},"minItems":1},"maxProperties":2},` +
			`"inner":{"oneOf":[{"type":"null"},{"$ref":"#/components/schemas/Inner"}]},"sure":{"type":"array","items":{"type":"string"}}},` +
			`"required":["sure"],"additionalProperties":false,"anyOf":[{"required":["who"]},{"required":["where"]}]}`,
		"Inner": `{"type":"object","description":"Inner is held by a request.","properties":{"at":{"type":["integer","null"],"minimum":0,"description":"when"}},"additionalProperties":false}`,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestAnAnswersEmbeddedPointerIsLeftOutWhole(t *testing.T) {
	got := schemas(t, reflect.TypeOf(answer{inner: 1}), false)["Answer"]
	want := `{"type":"object","properties":{"kept":{"type":"string"},"more":{"type":"string"},"own":{"type":["number","null"],"description":"it hides the embedded one"},` +
		`"next":{"$ref":"#/components/schemas/Answer"},"long_name":{"type":"string","description":"long_name is told above."}},"required":["kept","own","long_name"],"additionalProperties":false}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWhatCanNotBeDescribedIsRefusedByName(t *testing.T) {
	type part struct {
		X int `json:"x"`
	}
	for _, c := range []struct {
		typ  reflect.Type
		want string
	}{
		{reflect.TypeFor[struct{ part }](), "has no name"},
		{reflect.TypeOf(wrongTag{}), `wrongTag.X: api tag "least=1": there is no part "least"`},
		{reflect.TypeOf(wrongLimit{}), `wrongLimit.X: "ids" is neither a number nor a limit`},
		{reflect.TypeOf(wrongForm{}), `wrongForm.X: there is no form "none"`},
		{reflect.TypeOf(wrongAny{}), "wrongAny: anyOf names y, which is no field"},
		{reflect.TypeOf(own{}), "openapi.own reads itself: give it a form"},
		{reflect.TypeOf(untagged{}), "untagged.X has no json tag"},
		{reflect.TypeOf(channel{}), "chan int has no schema"},
		{reflect.TypeOf(bounded{}), "bounded.X: min and max of something without a type"},
	} {
		types := made(t)
		types.Schema(c.typ, true)
		if _, err := types.Components(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.typ, err, c.want)
		}
	}
	types := made(t)
	types.Schema(reflect.TypeFor[inner](), true)
	types.Schema(reflect.TypeFor[inner](), false)
	if _, err := types.Components(); err == nil || !strings.Contains(err.Error(), "inner is in a request and in an answer") {
		t.Error(err)
	}
}

type (
	wrongTag struct {
		X int `json:"x" api:"least=1"`
	}
	wrongLimit struct {
		X int `json:"x" api:"max=ids"`
	}
	wrongForm struct {
		X json.RawMessage `json:"x" api:"form=none"`
	}
	wrongAny struct {
		_ struct{} `api:"anyOf=x|y"`
		X int      `json:"x"`
	}
	untagged struct{ X int }
	channel  struct {
		X chan int `json:"x"`
	}
	bounded struct {
		X any `json:"x" api:"max=1"`
	}
	own struct{}
)

func (*own) UnmarshalJSON([]byte) error { return nil }

func TestAFolderWithoutGoFilesIsRefused(t *testing.T) {
	if err := (Comments{}).ReadComments("p", t.TempDir()); err == nil || !strings.Contains(err.Error(), "holds no Go file") {
		t.Error(err)
	}
}
