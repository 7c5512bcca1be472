package serve

import (
	"encoding/json"
	"net/http"
	"time"
)

// takeBack is DELETE /v1/users/{id}/events?item_id=...: it produces an event of type retract,
// which goes through the topic as every other event does.
func (s *Server) takeBack(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Events == nil {
		return missing("a broker to send events to", "run the ingest stage too, or produce to the topic")
	}
	ask := r.URL.Query()
	for name := range ask {
		if name != "item_id" && name != waitParameter {
			return badField(name, "send item_id, and wait", "there is no such parameter")
		}
	}
	user, item := plainID(r.PathValue("id")), plainID(ask.Get("item_id"))
	if err := s.checkID("id", user); err != nil {
		return err
	}
	if err := s.checkID("item_id", item); err != nil {
		return err
	}
	wait, err := s.wantsLearnt(r)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{
		"user_id": user, "item_id": item, "type": "retract", "timestamp": s.deps.Now().UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		return err
	}
	return s.accept(w, r, s.deps.Events, wait, [][]byte{body}, nil)
}
