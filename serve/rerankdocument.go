package serve

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
)

// maxDocumentFields bounds the fields of one document.
const maxDocumentFields = 64

// rerankDocument is a document of a body: what document reads, or an object with any fields. Texts, numbers, true and false are read as they
// are written, lists of them with commas between; null and objects inside are passed over.
type rerankDocument struct {
	document
	names []string // of fields, as they came
}

// UnmarshalJSON accepts "id or text", and objects with fields of any name.
func (d *rerankDocument) UnmarshalJSON(raw []byte) error {
	if len(raw) == 0 || raw[0] != '{' {
		return d.document.UnmarshalJSON(raw)
	}
	d.raw, d.Fields = bytes.Clone(raw), map[string]string{}
	in := json.NewDecoder(bytes.NewReader(raw))
	if _, err := in.Token(); err != nil {
		return err
	}
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := in.Decode(&value); err != nil {
			return err
		}
		name := key.(string) // between { and }, the token where a value ended is a key
		text := plainText(value, true)
		if (name == "id" || name == "item_id") && text != "" {
			var id ident
			if json.Unmarshal(value, &id) != nil {
				return badField(name, "send a string or a whole number", "%.40s is no id", value)
			}
			text = string(id)
		}
		if text != "" {
			if _, again := d.Fields[name]; !again {
				d.names = append(d.names, name)
			}
			d.Fields[name] = text
		}
		if len(d.names) > maxDocumentFields {
			return badField("body", fmt.Sprintf("send at most %d", maxDocumentFields), "a document with more fields")
		}
	}
	d.ID = cmp.Or(d.Fields["id"], d.Fields["item_id"])
	d.Text = cmp.Or(d.Fields["title"], d.Fields["text"])
	if len(d.names) == 0 {
		return wrongType[rerankDocument](raw)
	}
	return nil
}

// plainText is a JSON value as people write it; "" for what is no text.
func plainText(raw json.RawMessage, lists bool) string {
	switch raw[0] {
	case '"':
		var s string
		if json.Unmarshal(raw, &s) != nil {
			return ""
		}
		return s
	case '[':
		var parts []json.RawMessage
		if !lists || json.Unmarshal(raw, &parts) != nil {
			return ""
		}
		var texts []string
		for _, p := range parts {
			if text := plainText(p, false); text != "" {
				texts = append(texts, text)
			}
		}
		return strings.Join(texts, ", ")
	case '{', 'n':
		return ""
	}
	return string(raw)
}

// documents gives each object its text: the fields that rank_fields names, or title or text, or all of its fields with their names.
func (q *RerankRequest) documents() ([]document, error) {
	out := make([]document, len(q.Documents))
	for i, d := range q.Documents {
		var texts []string
		switch {
		case d.Fields == nil:
		case len(q.RankFields) > 0:
			for _, name := range q.RankFields {
				if text := d.Fields[name]; text != "" {
					texts = append(texts, text)
				}
			}
			if len(texts) == 0 && d.ID == "" {
				return nil, badField(fmt.Sprintf("documents[%d]", i), "give it one of rank_fields, or an id", "it has none of the fields %.200q", q.RankFields)
			}
			d.Text = strings.Join(texts, ", ")
		case d.ID == "" && d.Text == "":
			for _, name := range d.names {
				texts = append(texts, name+": "+d.Fields[name])
			}
			d.Text = strings.Join(texts, ", ")
		}
		out[i] = d.document
		out[i].Fields = withoutText(d.Fields)
	}
	return out, nil
}

// withoutText are the fields beside id and text.
func withoutText(fields map[string]string) map[string]string {
	for _, name := range []string{"id", "item_id", "title", "text"} {
		delete(fields, name)
	}
	return fields
}
