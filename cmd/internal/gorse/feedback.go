package gorse

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// feedback is Gorse's.
type feedback struct {
	FeedbackType string
	UserID       string `json:"UserId"`
	ItemID       string `json:"ItemId"`
	Value        float64
	Timestamp    string
}

// event is a feedback as the interactions topic takes it. Its id follows from what it says, so an exact repeat is dropped.
func (f feedback) event() map[string]any {
	out := map[string]any{"user_id": f.UserID, "item_id": f.ItemID, "type": f.FeedbackType}
	if f.FeedbackType == "rating" {
		out["rating"] = f.Value
	}
	if f.Timestamp != "" {
		out["timestamp"] = f.Timestamp
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q %v", f.FeedbackType, f.UserID, f.ItemID, f.Timestamp, f.Value))
		out["id"] = "gorse-" + hex.EncodeToString(sum[:16])
	}
	return out
}

func insertFeedback(c *call) error {
	var list []feedback
	if err := c.read(&list); err != nil {
		return err
	}
	records := make([]map[string]any, len(list))
	for i, f := range list {
		records[i] = f.event()
	}
	if err := c.send("/v1/events", records); err != nil {
		return err
	}
	return c.affected(len(list))
}

func deleteFeedback(c *call) error {
	q := url.Values{"item_id": {c.r.PathValue("item")}, "wait": {"learnt"}}
	if err := c.ask("DELETE", userPath(c.r.PathValue("user"))+"/events", q, nil, nil); err != nil {
		return err
	}
	return c.affected(1)
}

// history is a page of a user's events, newest first.
type history struct {
	Events []struct {
		ItemID string    `json:"item_id"`
		Label  float64   `json:"label"`
		Time   time.Time `json:"time"`
	} `json:"events"`
	Cursor string `json:"cursor"`
}

// read says that a type of feedback says only that an item was seen.
func readType(kind string) bool { return kind == "read" || kind == "impression" || kind == "view" }

// feedbackOf is all feedback of a user, or that of one type: what was liked for a type that likes, the rest for one that reads.
func (c *call) feedbackOf(user, kind string) (out []feedback, err error) {
	out = []feedback{}
	for q := (url.Values{"n": {"500"}}); ; {
		var h history
		if err := c.ask("GET", userPath(user)+"/events", q, nil, &h); err != nil {
			return nil, err
		}
		for _, e := range h.Events {
			name := "read"
			if e.Label >= 0.5 {
				name = "like"
			}
			if kind != "" {
				if readType(kind) != (name == "read") {
					continue
				}
				name = kind
			}
			out = append(out, feedback{FeedbackType: name, UserID: user, ItemID: e.ItemID, Value: e.Label, Timestamp: e.Time.Format(time.RFC3339Nano)})
		}
		if h.Cursor == "" {
			return out, nil
		}
		q.Set("cursor", h.Cursor)
	}
}

func userFeedback(c *call) error {
	list, err := c.feedbackOf(c.r.PathValue("user"), c.r.PathValue("type"))
	if f, ok := err.(*failure); ok && f.status == http.StatusNotFound {
		list, err = []feedback{}, nil
	}
	if err != nil {
		return err
	}
	return c.answer(list)
}

// pairFeedback is what a user did with an item: all of it, or the newest of a type.
func pairFeedback(c *call) error {
	kind := c.r.PathValue("type")
	list, err := c.feedbackOf(c.r.PathValue("user"), kind)
	if err != nil {
		return err
	}
	of := []feedback{}
	for _, f := range list {
		if f.ItemID == c.r.PathValue("item") {
			of = append(of, f)
		}
	}
	switch {
	case kind == "":
		return c.answer(of)
	case len(of) == 0:
		return &failure{http.StatusNotFound, "there is no such feedback"}
	}
	return c.answer(of[0])
}

// allFeedback lists the feedback of user after user. A page ends with a user's last one, so it may be longer than n.
func allFeedback(c *call) error {
	n, err := c.number("n", defaultN)
	if err != nil {
		return err
	}
	out := struct {
		Cursor    string
		Feedback  []feedback
		Feedbacks []feedback `json:",omitempty"` // where gorsejs looks
	}{Cursor: cursorOf(c), Feedback: []feedback{}}
	for len(out.Feedback) < max(1, n) {
		var page users
		if err := c.ask("GET", "/v1/users", withCursor(1, out.Cursor), nil, &page); err != nil {
			return err
		}
		for _, u := range page.Users {
			list, err := c.feedbackOf(u.UserID, c.r.PathValue("type"))
			if err != nil {
				return err
			}
			out.Feedback = append(out.Feedback, list...)
		}
		if out.Cursor = page.Cursor; out.Cursor == "" {
			break
		}
	}
	out.Feedbacks = out.Feedback
	return c.answer(out)
}

// cursorOf reads the cursor: pygorse writes it small, gorsejs in a capital.
func cursorOf(c *call) string {
	q := c.r.URL.Query()
	return strings.TrimSpace(q.Get("cursor") + q.Get("Cursor"))
}

func withCursor(n int, cursor string) url.Values {
	q := url.Values{"n": {fmt.Sprint(min(max(1, n), maxN))}}
	if cursor != "" {
		q.Set("cursor", cursor)
	}
	return q
}

// users is a page of them.
type users struct {
	Users []struct {
		UserID string   `json:"user_id"`
		Labels []string `json:"labels"`
	} `json:"users"`
	Cursor string `json:"cursor"`
}
