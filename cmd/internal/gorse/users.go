package gorse

import (
	"encoding/json"
	"net/url"
)

// user is Gorse's. Comments are not kept.
type user struct {
	UserID  string `json:"UserId"`
	Labels  json.RawMessage
	Comment string
}

// shownUser is a user as it goes out.
type shownUser struct {
	UserID  string `json:"UserId"`
	Labels  []string
	Comment string
}

func gorseUser(id string, labels []string) shownUser {
	return shownUser{UserID: id, Labels: append([]string{}, labels...)}
}

// labelled sends the labels of those who have any. The others are known once something happens.
func (c *call) labelled(list []user) error {
	var records []map[string]any
	for i, u := range list {
		if u.UserID == "" {
			return bad("[%d].UserId: it is missing", i)
		}
		if len(u.Labels) > 0 && string(u.Labels) != "null" {
			records = append(records, map[string]any{"user_id": u.UserID, "type": "labels", "labels": u.Labels})
		}
	}
	if err := c.send("/v1/events", records); err != nil {
		return err
	}
	return c.affected(len(records))
}

func insertUser(c *call) error {
	var u user
	if err := c.read(&u); err != nil {
		return err
	}
	return c.labelled([]user{u})
}

func insertUsers(c *call) error {
	var list []user
	if err := c.read(&list); err != nil {
		return err
	}
	return c.labelled(list)
}

func patchUser(c *call) error {
	var u user
	if err := c.read(&u); err != nil {
		return err
	}
	u.UserID = c.r.PathValue("user")
	return c.labelled([]user{u})
}

func userPath(id string) string { return "/v1/users/" + url.PathEscape(id) }

func getUser(c *call) error {
	id := c.r.PathValue("user")
	var u struct {
		Labels []string `json:"labels"`
	}
	if err := c.ask("GET", userPath(id), nil, nil, &u); err != nil {
		return err
	}
	return c.answer(gorseUser(id, u.Labels))
}

func deleteUser(c *call) error {
	if err := c.ask("DELETE", userPath(c.r.PathValue("user")), nil, nil, nil); err != nil {
		return err
	}
	return c.affected(1)
}

func getUsers(c *call) error {
	n, err := c.number("n", defaultN)
	if err != nil {
		return err
	}
	var page users
	if err := c.ask("GET", "/v1/users", withCursor(n, cursorOf(c)), nil, &page); err != nil {
		return err
	}
	out := struct {
		Cursor string
		Users  []shownUser
	}{page.Cursor, []shownUser{}}
	for _, u := range page.Users {
		out.Users = append(out.Users, gorseUser(u.UserID, u.Labels))
	}
	return c.answer(out)
}
