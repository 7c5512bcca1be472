package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/corastream/corastream"
)

// UserLabels is the body of PUT /v1/users/{id}.
type UserLabels struct {
	// Labels say what the user is, such as student or lang=de. They replace those before; an empty list takes them away.
	Labels []string `json:"labels" api:"required;max=32;each.min=1;each.max=id"`
}

// label is PUT /v1/users/{id}: it produces an event that sets the user's labels, which goes through the topic as every other event
// does.
func (s *Server) label(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Events == nil {
		return missing("a broker to send events to", "run the ingest stage too, or produce to the topic")
	}
	id := plainID(r.PathValue("id"))
	if err := s.checkID("id", id); err != nil {
		return err
	}
	wait, err := s.wantsLearnt(r)
	if err != nil {
		return err
	}
	var q UserLabels
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	switch {
	case q.Labels == nil:
		return &Failure{Status: http.StatusBadRequest, Code: "missing_field", Field: "labels", Message: "labels is missing", Fix: `send a list such as ["student"], or [] to take the labels away`}
	case len(q.Labels) > corastream.MaxLabels:
		return badField("labels", fmt.Sprintf("send at most %d", corastream.MaxLabels), "%d labels", len(q.Labels))
	}
	for i, label := range q.Labels {
		if err := s.checkID(fmt.Sprintf("labels[%d]", i), label); err != nil {
			return err
		}
	}
	body, err := json.Marshal(map[string]any{
		"user_id": id, "type": corastream.KindLabels, "labels": q.Labels, "timestamp": s.deps.Now().UTC().Format(time.RFC3339Nano),
	})
	if err != nil {
		return err
	}
	return s.accept(w, r, s.deps.Events, wait, [][]byte{body}, nil)
}
