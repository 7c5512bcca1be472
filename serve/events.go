package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// events is POST /v1/events: one event or an array, in any dialect of the interactions topic. The answer comes when the
// broker has all of them; a bad one refuses all.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Events == nil {
		return missing("a broker to send events to", "run the ingest stage too, or produce to the topic")
	}
	body, err := s.readBody(w, r, "application/cloudevents+json", "application/cloudevents-batch+json")
	if err != nil {
		return err
	}
	list, err := s.splitEvents(body)
	if err != nil {
		return err
	}
	headers := map[string]string{}
	for name, values := range r.Header {
		if name := strings.ToLower(name); strings.HasPrefix(name, "ce-") {
			headers[name] = values[0]
		}
	}
	if len(headers) > 0 {
		if len(list) > 1 {
			return badField("ce-id", "send one event, or CloudEvents in structured mode", "ce- headers describe one event, and the body has %d", len(list))
		}
		headers["content-type"] = "application/json"
	}
	if err := s.deps.Events.Produce(r.Context(), list, headers); err != nil {
		return fmt.Errorf("produce events: %w", err)
	}
	writeJSON(w, http.StatusAccepted, map[string]int{"accepted": len(list)})
	return nil
}

// splitEvents returns each event's bytes.
func (s *Server) splitEvents(body []byte) ([][]byte, error) {
	body = bytes.TrimSpace(body)
	var raw []json.RawMessage
	if body[0] == '[' {
		if err := decodeStrict(body, &raw); err != nil {
			return nil, err
		}
		if len(raw) == 0 {
			return nil, badField("body", "send at least one event", "the array is empty")
		}
		if err := s.checkLen("body", len(raw)); err != nil {
			return nil, err
		}
	} else {
		var one json.RawMessage
		if err := decodeStrict(body, &one); err != nil {
			return nil, err
		}
		raw = append(raw, one)
	}
	out := make([][]byte, len(raw))
	for i, m := range raw {
		if m[0] != '{' {
			return nil, badField(fmt.Sprintf("[%d]", i), `send an object, as in {"user_id": "u", "item_id": "i", "type": "click"}`, "it is not an object")
		}
		out[i] = m
	}
	return out, nil
}
