package serve

import (
	"encoding/json"
	"testing"
)

// TestTheFormsAreRead sends each type that reads itself the kinds of JSON that its form in
// describe_test.go names, and one that it does not.
func TestTheFormsAreRead(t *testing.T) {
	for name, c := range map[string]struct {
		into func() any
		good []string
		bad  string
	}{
		"ident":          {func() any { return new(ident) }, []string{`"anna"`}, `{}`},
		"idents":         {func() any { return new(idents) }, []string{`["a","b"]`, `[]`}, `"a"`},
		"whole":          {func() any { return new(whole) }, []string{`5`, `-1`, `5.0`}, `5.5`},
		"document":       {func() any { return new(document) }, []string{`"a"`, `{"id":"a"}`, `{"item_id":"a","text":null}`, `{"text":"t"}`, `{"title":"t"}`}, `{"name":"t"}`},
		"rerankDocument": {func() any { return new(rerankDocument) }, []string{`"a"`, `7`, `{"id":"a"}`, `{"text":"t","year":1995}`, `{"name":"t","tags":["a","b"],"more":{"x":1}}`}, `{"name":null}`},
		"rerankUser":     {func() any { return new(rerankUser) }, []string{`"a"`, `{"user_id":"a"}`, `{"user":"a","user_id":null}`}, `{"id":"a"}`},
		"stopTexts":      {func() any { return new(stopTexts) }, []string{`"a"`, `["a","b"]`, `null`}, `{}`},
		"chatContent":    {func() any { return new(chatContent) }, []string{`"a"`, `[{"type":"text","text":"a"}]`}, `[{"type":"image","text":"a"}]`},
	} {
		if forms[name] == "" {
			t.Errorf("%s has no form", name)
		}
		for _, text := range c.good {
			if err := json.Unmarshal([]byte(text), c.into()); err != nil {
				t.Errorf("%s %s: %v", name, text, err)
			}
		}
		if err := json.Unmarshal([]byte(c.bad), c.into()); err == nil {
			t.Errorf("%s takes %s", name, c.bad)
		}
	}
}

// forms are the schemas of what reads itself: by the name of its Go type, or by the name that an api
// tag gives. TestTheFormsAreRead sends some of each.
var forms = map[string]string{
	"ident":          `ID`,
	"idents":         `{"type":"array","items":ID}`,
	"whole":          `{"type":"integer"}`,
	"object":         `{"type":"object"}`,
	"null":           `{"type":"null"}`,
	"rerankDocument": `{"description":"an item id, a text that is read as a title, or an object with an id, a text or any fields","oneOf":[{"type":"string","minLength":1},{"type":"object","minProperties":1,"additionalProperties":true}]}`,
	"document":       `{"description":"an item id, or a text that is read as a title","oneOf":[{"type":"string","minLength":1},{"type":"object","properties":{"id":{"type":["string","null"]},"item_id":{"type":["string","null"]},"text":{"type":["string","null"]},"title":{"type":["string","null"]}},"additionalProperties":false}]}`,
	"rerankUser":     `{"description":"the user","oneOf":[ID,{"type":"object","properties":{"user_id":USER,"user":USER},"additionalProperties":false}]}`,
	"stopTexts":      `{"oneOf":[STOP,{"type":"array","items":STOP,"maxItems":MANY}]}`,
	"chatContent":    `{"oneOf":[{"type":"string"},{"type":"array","items":{"type":"object","properties":{"type":{"type":"string","enum":["text"]},"text":{"type":"string"}},"required":["type","text"],"additionalProperties":false}}]}`,
	"event":          `{"type":"object","properties":{"user_id":{"type":"string"},"item_id":{"type":"string"}}}`,
	"record":         `{"type":"object","properties":{"item_id":{"type":"string"},"title":{"type":"string"}}}`,
	"itemList":       `{"oneOf":[{"$ref":"#/components/schemas/Record"},{"type":"array","items":{"$ref":"#/components/schemas/Record"},"minItems":1,"maxItems":MAX}]}`,
	"eventList":      `{"oneOf":[{"$ref":"#/components/schemas/Event"},{"type":"array","items":{"$ref":"#/components/schemas/Event"},"minItems":1,"maxItems":MAX}]}`,
	"past":           `{"anyOf":[ID,{"type":"object","properties":{"item_id":ID,"timestamp":{"description":"RFC 3339, or unix seconds or milliseconds; default: now","type":["string","number"]},"type":{"type":"string","description":"a kind of event, such as click or dislike"},"label":{"type":["number","boolean"],"description":"1 liked, 0 not"},"rating":{"type":"number"}},"required":["item_id"]}]}`,
}
