package gorse

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// item is Gorse's. Comment is where people keep the title.
type item struct {
	ItemID     string `json:"ItemId"`
	IsHidden   *bool
	Categories *[]string
	Timestamp  *string
	Labels     json.RawMessage
	Comment    *string
}

// The plain fields of our catalogue that hold the rest of a Gorse item.
const (
	fieldCategories = "categories"
	fieldLabels     = "labels"
	fieldTime       = "timestamp"
)

// fields are the plain fields of what the item names; "" removes one.
func (it item) fields() map[string]string {
	out := map[string]string{}
	if it.Categories != nil {
		out[fieldCategories] = strings.Join(*it.Categories, "|")
	}
	if it.Timestamp != nil {
		out[fieldTime] = *it.Timestamp
	}
	if len(it.Labels) > 0 && string(it.Labels) != "null" {
		var list []string
		if json.Unmarshal(it.Labels, &list) == nil {
			out[fieldLabels] = strings.Join(list, "|")
		} else {
			out[fieldLabels] = string(it.Labels)
		}
	}
	return out
}

// record is the whole catalogue record. An item without a comment has its id as title, since lists leave out what has none.
func (it item) record() map[string]any {
	fields := it.fields()
	for name, v := range fields {
		if v == "" {
			delete(fields, name)
		}
	}
	out := map[string]any{"item_id": it.ItemID, "title": it.ItemID, "withdrawn": it.IsHidden != nil && *it.IsHidden, "fields": fields}
	if it.Comment != nil && *it.Comment != "" {
		out["title"] = *it.Comment
	}
	return out
}

// line is an item of ours.
type line struct {
	ItemID string            `json:"item_id"`
	Title  string            `json:"title"`
	Fields map[string]string `json:"fields"`
	Status string            `json:"status"`
}

// shown is a Gorse item as it goes out.
type shown struct {
	ItemID     string `json:"ItemId"`
	IsHidden   bool
	Categories []string
	Timestamp  string
	Labels     any
	Comment    string
}

func (l line) gorse() shown {
	out := shown{ItemID: l.ItemID, IsHidden: l.Status != "available", Categories: split(l.Fields[fieldCategories]), Timestamp: l.Fields[fieldTime], Comment: l.Title}
	if out.Comment == l.ItemID {
		out.Comment = ""
	}
	if out.Timestamp == "" {
		out.Timestamp = "0001-01-01T00:00:00Z"
	}
	text := l.Fields[fieldLabels]
	if strings.HasPrefix(text, "{") || strings.HasPrefix(text, "[") {
		var v any
		if json.Unmarshal([]byte(text), &v) == nil {
			out.Labels = v
			return out
		}
	}
	out.Labels = split(text)
	return out
}

func split(text string) []string {
	if text == "" {
		return []string{}
	}
	return strings.Split(text, "|")
}

func insertItem(c *call) error {
	var it item
	if err := c.read(&it); err != nil {
		return err
	}
	return c.put([]item{it})
}

func insertItems(c *call) error {
	var list []item
	if err := c.read(&list); err != nil {
		return err
	}
	return c.put(list)
}

func (c *call) put(list []item) error {
	records := make([]map[string]any, len(list))
	for i, it := range list {
		if it.ItemID == "" {
			return bad("[%d].ItemId: it is missing", i)
		}
		records[i] = it.record()
	}
	if err := c.send("/v1/items", records); err != nil {
		return err
	}
	return c.affected(len(list))
}

func itemPath(id string) string { return "/v1/items/" + url.PathEscape(id) }

func (c *call) lookUp(id string) (line, error) {
	var l line
	err := c.ask("GET", itemPath(id), nil, nil, &l)
	if err == nil && l.Status == "removed" {
		err = &failure{http.StatusNotFound, "item not found"}
	}
	return l, err
}

func getItem(c *call) error {
	l, err := c.lookUp(c.r.PathValue("item"))
	if err != nil {
		return err
	}
	return c.answer(l.gorse())
}

func getItems(c *call) error {
	n, err := c.number("n", defaultN)
	if err != nil {
		return err
	}
	q := withCursor(n, cursorOf(c))
	if text := c.r.URL.Query().Get("q"); text != "" {
		q.Set("q", text)
	}
	var page struct {
		Items  []line `json:"items"`
		Cursor string `json:"cursor"`
	}
	if err := c.ask("GET", "/v1/items", q, nil, &page); err != nil {
		return err
	}
	out := struct {
		Cursor string
		Items  []shown
	}{page.Cursor, []shown{}}
	for _, l := range page.Items {
		if l.Status != "removed" {
			out.Items = append(out.Items, l.gorse())
		}
	}
	return c.answer(out)
}

func patchItem(c *call) error {
	var it item
	if err := c.read(&it); err != nil {
		return err
	}
	patch := map[string]any{"fields": it.fields()}
	if it.Comment != nil {
		patch["title"] = *it.Comment
	}
	if it.IsHidden != nil {
		patch["withdrawn"] = *it.IsHidden
	}
	return c.change(patch)
}

func (c *call) change(patch map[string]any) error {
	if err := c.ask("PATCH", itemPath(c.r.PathValue("item")), url.Values{"wait": {"learnt"}}, patch, nil); err != nil {
		return err
	}
	return c.affected(1)
}

func deleteItem(c *call) error {
	if err := c.ask("DELETE", itemPath(c.r.PathValue("item")), url.Values{"wait": {"learnt"}}, nil, nil); err != nil {
		return err
	}
	return c.affected(1)
}

// setCategory adds an item to a category, or takes it out.
func setCategory(c *call) error {
	l, err := c.lookUp(c.r.PathValue("item"))
	if err != nil {
		return err
	}
	name := c.r.PathValue("category")
	all := slices.DeleteFunc(split(l.Fields[fieldCategories]), func(have string) bool { return have == name })
	if c.r.Method == http.MethodPut {
		all = append(all, name)
	}
	return c.change(map[string]any{"fields": map[string]string{fieldCategories: strings.Join(all, "|")}})
}
