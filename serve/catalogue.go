package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/corastream/corastream"
)

// ItemsResponse is GET /v1/items.
type ItemsResponse struct {
	Items  []ItemLine `json:"items"`
	Cursor string     `json:"cursor,omitempty"` // of the next page; absent on the last one
}

// ItemLine is an item of it.
type ItemLine struct {
	ItemID string            `json:"item_id"`
	Title  string            `json:"title,omitempty"`
	Fields map[string]string `json:"fields,omitempty"`
	Status string            `json:"status"` // "available", "withdrawn" or "removed"
	Events uint32            `json:"events"` // learnt of it
}

// UsersResponse is GET /v1/users.
type UsersResponse struct {
	Users  []UserLine `json:"users"`
	Cursor string     `json:"cursor,omitempty"` // of the next page; absent on the last one
}

// UserLine is a user of it.
type UserLine struct {
	UserID string   `json:"user_id"`
	Events uint32   `json:"events"` // learnt of the user
	Labels []string `json:"labels,omitempty"`
}

// searchScan is how many records one page of a search looks through; what lies behind is on the next page.
const searchScan = 20_000

// pageQuery reads q, n and cursor.
func (s *Server) pageQuery(r *http.Request) (q, cursor string, n int, err error) {
	n = browseDefault
	for name, values := range r.URL.Query() {
		switch name {
		case "q":
			q = strings.TrimSpace(values[0])
		case "n":
			n, err = s.wanted(values[0])
		case "cursor":
			cursor = values[0]
		default:
			err = unknownParameter(name)
		}
		if err != nil {
			return q, cursor, n, err
		}
	}
	if len(q) > s.cfg.MaxIDBytes {
		err = badField("q", "send a part of a title or id", "it is longer than %d bytes", s.cfg.MaxIDBytes)
	}
	return q, cursor, n, err
}

// items lists the catalogue in the order in which items first came; q finds what has it in its id or title.
func (s *Server) items(w http.ResponseWriter, r *http.Request) error {
	q, cursor, n, err := s.pageQuery(r)
	if err != nil {
		return err
	}
	if s.deps.View == nil {
		return missing("a state to look into", "run the serve stage beside the store")
	}
	q = strings.ToLower(q)
	at := 0
	if cursor != "" {
		if at, err = strconv.Atoi(cursor); err != nil || at < 0 {
			return badField("cursor", "send the cursor of the page before", "it is no cursor")
		}
	}
	out := ItemsResponse{Items: []ItemLine{}}
	if err := s.deps.View.View(r.Context(), func(st corastream.State) error {
		looked := 0
		for ; at < st.Items() && len(out.Items) < n && looked < searchScan; at++ {
			it, err := st.ItemAt(uint32(at))
			if err != nil {
				return err
			}
			if looked++; known(it) && (q == "" || strings.Contains(strings.ToLower(it.Title), q) || strings.Contains(strings.ToLower(it.Item.ID), q)) {
				out.Items = append(out.Items, ItemLine{ItemID: it.Item.ID, Title: it.Title, Fields: it.Fields, Status: statusOf(it), Events: it.Count})
			}
		}
		if at < st.Items() {
			out.Cursor = strconv.Itoa(at)
		}
		return nil
	}); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// statusOf says whether an item may be listed.
func statusOf(it *corastream.ItemState) string {
	switch {
	case it.Removed:
		return "removed"
	case it.Withdrawn:
		return "withdrawn"
	}
	return "available"
}

// users lists who is known in the order of ids; q finds the ids that begin with it.
func (s *Server) users(w http.ResponseWriter, r *http.Request) error {
	q, cursor, n, err := s.pageQuery(r)
	if err != nil {
		return err
	}
	if s.deps.Users == nil {
		return missing("a list of users", "run the serve stage beside the store")
	}
	if cursor != "" {
		if err := s.checkID("cursor", cursor); err != nil {
			return err
		}
	}
	found, err := s.deps.Users(q, cursor, n+1)
	if err != nil {
		return err
	}
	out := UsersResponse{Users: []UserLine{}}
	for _, u := range found[:min(n, len(found))] {
		out.Users = append(out.Users, UserLine{UserID: u.ID, Events: u.Count, Labels: u.Labels})
	}
	if len(found) > n {
		out.Cursor = found[n-1].ID
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// itemList is a body of catalogue records: one or an array. Its form is in describe_test.go.
type itemList []json.RawMessage

// record is a catalogue record in any form of the items topic.
type record struct{}

// putItems is POST /v1/items: catalogue records, as the items topic takes them.
func (s *Server) putItems(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Catalogue == nil {
		return noItemBroker()
	}
	wait, err := s.wantsLearnt(r)
	if err != nil {
		return err
	}
	body, err := s.readBody(w, r, "application/x-ndjson")
	if err != nil {
		return err
	}
	list, err := s.splitEvents(body, true)
	if err != nil {
		return err
	}
	return s.accept(w, r, s.deps.Catalogue, wait, list, nil)
}

// ItemPatch is the body of PATCH /v1/items/{id}. What it does not name stays.
type ItemPatch struct {
	Title     *string           `json:"title"`
	Withdrawn *bool             `json:"withdrawn"` // true hides the item from lists, false brings it back
	Fields    map[string]string `json:"fields"`    // each one replaces the field of its name; "" removes it
}

// changeItem writes the whole record of the item again, because a compacted topic forgets the ones before.
func (s *Server) changeItem(w http.ResponseWriter, r *http.Request) error {
	if s.deps.View == nil {
		return missing("a state to look into", "run the serve stage beside the store")
	}
	id, wait, err := s.itemOfPath(r)
	if err != nil {
		return err
	}
	var p ItemPatch
	if err := s.decode(w, r, &p); err != nil {
		return err
	}
	return s.changing(r, id, func(to EventSink) error {
		whole, err := s.changed(r.Context(), id, p)
		if err != nil {
			return err
		}
		return s.sendItem(w, r, to, wait, whole)
	})
}

// changed is the item's whole record with a patch.
func (s *Server) changed(ctx context.Context, id string, p ItemPatch) (whole map[string]any, err error) {
	whole = map[string]any{"item_id": id}
	err = s.deps.View.View(ctx, func(st corastream.State) error {
		it, err := knownItem(st, id)
		if err != nil {
			return err
		}
		fields := map[string]any{}
		for k, v := range it.Fields {
			fields[k] = v
		}
		for k, v := range p.Fields {
			if fields[k] = v; v == "" {
				fields[k] = nil
			}
		}
		withdrawn := it.Withdrawn
		whole["title"] = it.Title
		if p.Title != nil && *p.Title != "" {
			whole["title"] = *p.Title
		} else if p.Title != nil || it.Title == "" {
			whole["title"] = nil
		}
		if p.Withdrawn != nil {
			withdrawn = *p.Withdrawn
		}
		whole["fields"], whole["withdrawn"] = fields, withdrawn
		return nil
	})
	return whole, err
}

// removeItem is DELETE /v1/items/{id}: the item is not listed any more, and its title is forgotten.
func (s *Server) removeItem(w http.ResponseWriter, r *http.Request) error {
	id, wait, err := s.itemOfPath(r)
	if err != nil {
		return err
	}
	return s.changing(r, id, func(to EventSink) error {
		return s.sendItem(w, r, to, wait, map[string]any{"item_id": id, "__deleted": true})
	})
}

// itemOfPath reads what a change of one item begins with: its id from the path, and whether the client waits until the change is learnt.
func (s *Server) itemOfPath(r *http.Request) (id string, wait bool, err error) {
	if s.deps.Catalogue == nil {
		return "", false, noItemBroker()
	}
	id = plainID(r.PathValue("id"))
	if err := s.checkID("id", id); err != nil {
		return "", false, err
	}
	wait, err = s.wantsLearnt(r)
	return id, wait, err
}

func noItemBroker() error {
	return missing("a broker to send items to", "run the ingest stage too, or produce to the topic")
}

func (s *Server) sendItem(w http.ResponseWriter, r *http.Request, to EventSink, wait bool, record map[string]any) error {
	body, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode an item: %w", err)
	}
	return s.accept(w, r, to, wait, [][]byte{body}, nil)
}
