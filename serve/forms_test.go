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
		"ident":       {func() any { return new(ident) }, []string{`"anna"`}, `{}`},
		"idents":      {func() any { return new(idents) }, []string{`["a","b"]`, `[]`}, `"a"`},
		"whole":       {func() any { return new(whole) }, []string{`5`, `-1`, `5.0`}, `5.5`},
		"document":    {func() any { return new(document) }, []string{`"a"`, `{"id":"a"}`, `{"item_id":"a","text":null}`, `{"text":"t"}`, `{"title":"t"}`}, `{"name":"t"}`},
		"rerankUser":  {func() any { return new(rerankUser) }, []string{`"a"`, `{"user_id":"a"}`, `{"user":"a","user_id":null}`}, `{"id":"a"}`},
		"stopTexts":   {func() any { return new(stopTexts) }, []string{`"a"`, `["a","b"]`, `null`}, `{}`},
		"chatContent": {func() any { return new(chatContent) }, []string{`"a"`, `[{"type":"text","text":"a"}]`}, `[{"type":"image","text":"a"}]`},
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
