package gorse

import (
	"net/url"
	"strconv"
)

// score is an item or a user of a list.
type score struct {
	ID    string `json:"Id"`
	Score float64
}

// listed is an item of one of our lists.
type listed struct {
	ItemID    string  `json:"item_id"`
	Score     float64 `json:"score"`
	ListScore float64 `json:"list_score"`
}

func scores(items []listed) []score {
	out := make([]score, len(items))
	for i, it := range items {
		if out[i] = (score{it.ItemID, it.Score}); it.ListScore != 0 {
			out[i].Score = it.ListScore // what the order follows
		}
	}
	return out
}

// filter is the filter of the path's category.
func (c *call) filter(body map[string]any) {
	if name := c.r.PathValue("category"); name != "" {
		body["allow"] = map[string][]string{fieldCategories: {name}}
	}
}

// recommend answers with ids, and with scores where the client says X-API-Version: 2.
func recommend(c *call) error {
	n, offset, all, err := c.page()
	if err != nil {
		return err
	}
	body := map[string]any{"user_id": c.r.PathValue("user"), "n": all}
	c.filter(body)
	if c.r.URL.Query().Get("write-back-type") != "" && offset == 0 {
		body["write_back"] = true
	}
	var out struct {
		Items []listed `json:"items"`
	}
	if err := c.ask("POST", "/v1/recommend", nil, body, &out); err != nil {
		return err
	}
	page := cut(scores(out.Items), n, offset)
	if v, _ := strconv.Atoi(c.r.Header.Get("X-API-Version")); v >= 2 {
		return c.answer(page)
	}
	ids := make([]string, len(page))
	for i, s := range page {
		ids[i] = s.ID
	}
	return c.answer(ids)
}

// session lists for a visitor by what he did, of which nothing is kept.
func session(c *call) error {
	n, offset, all, err := c.page()
	if err != nil {
		return err
	}
	var list []feedback
	if err := c.read(&list); err != nil {
		return err
	}
	past := make([]map[string]any, len(list))
	for i, f := range list {
		past[i] = map[string]any{"item_id": f.ItemID, "type": f.FeedbackType}
		if f.Timestamp != "" {
			past[i]["timestamp"] = f.Timestamp
		}
	}
	body := map[string]any{"history": past, "n": all}
	if len(past) == 0 {
		return browse("popular")(c)
	}
	c.filter(body)
	var out struct {
		Items []listed `json:"items"`
	}
	if err := c.ask("POST", "/v1/recommend", nil, body, &out); err != nil {
		return err
	}
	return c.answer(cut(scores(out.Items), n, offset))
}

// browse answers with a list that is the same for everybody.
func browse(list string) func(*call) error {
	return func(c *call) error { return c.list("/v1/" + list) }
}

func (c *call) list(path string) error {
	n, offset, all, err := c.page()
	if err != nil {
		return err
	}
	q := url.Values{"n": {strconv.Itoa(all)}}
	if name := c.r.PathValue("category"); name != "" {
		q.Set("allow", fieldCategories+":"+name)
	}
	var out struct {
		Items []listed `json:"items"`
	}
	if err := c.ask("GET", path, q, nil, &out); err != nil {
		return err
	}
	return c.answer(cut(scores(out.Items), n, offset))
}

func itemNeighbors(c *call) error { return c.list(itemPath(c.r.PathValue("item")) + "/similar") }

func userNeighbors(c *call) error {
	n, offset, all, err := c.page()
	if err != nil {
		return err
	}
	var out struct {
		Users []struct {
			UserID string  `json:"user_id"`
			Score  float64 `json:"score"`
		} `json:"users"`
	}
	q := url.Values{"n": {strconv.Itoa(all)}}
	if err := c.ask("GET", userPath(c.r.PathValue("user"))+"/similar", q, nil, &out); err != nil {
		return err
	}
	list := make([]score, len(out.Users))
	for i, u := range out.Users {
		list[i] = score{u.UserID, u.Score}
	}
	return c.answer(cut(list, n, offset))
}
