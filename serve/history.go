package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/corastream/corastream"
)

// EventsResponse is GET /v1/users/{id}/events: the whole history that is kept, newest first.
type EventsResponse struct {
	UserID string        `json:"user_id"`
	Total  int           `json:"total"`
	Events []HistoryLine `json:"events"`
}

func (s *Server) userEvents(w http.ResponseWriter, r *http.Request) error {
	id := plainID(r.PathValue("id"))
	if err := s.checkLookup(id); err != nil {
		return err
	}
	out := EventsResponse{UserID: id, Events: []HistoryLine{}}
	if err := s.deps.View.View(r.Context(), func(st corastream.State) error {
		u, err := st.User(id)
		if err != nil {
			return err
		}
		for i := len(u.History) - 1; i >= 0; i-- {
			h := u.History[i]
			it, err := st.Item(h.Item)
			if err != nil {
				return err
			}
			out.Events = append(out.Events, HistoryLine{ItemID: h.Item, Title: it.Title, Label: h.Label, Time: h.Time.UTC()})
		}
		return nil
	}); err != nil {
		return err
	}
	out.Total = len(out.Events)
	writeJSON(w, http.StatusOK, out)
	return nil
}

// takeBack is DELETE /v1/users/{id}/events?item_id=...: an event of type retract, which goes through the topic as any other does.
func (s *Server) takeBack(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Events == nil {
		return missing("a broker to send events to", "run the ingest stage too, or produce to the topic")
	}
	ask := r.URL.Query()
	for name := range ask {
		if name != "item_id" {
			return badField(name, "send item_id alone", "there is no such parameter")
		}
	}
	user, item := plainID(r.PathValue("id")), plainID(ask.Get("item_id"))
	if err := s.checkID("id", user); err != nil {
		return err
	}
	if err := s.checkID("item_id", item); err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{
		"user_id": user, "item_id": item, "type": "retract", "timestamp": s.deps.Now().UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		return err
	}
	if err := s.deps.Events.Produce(r.Context(), [][]byte{body}, nil); err != nil {
		return fmt.Errorf("produce a retraction: %w", err)
	}
	writeJSON(w, http.StatusAccepted, map[string]int{"accepted": 1})
	return nil
}
