package serve

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strings"
)

// eventList is a body of events: one or an array. Its form is in describe_test.go, since the
// decoder of the stream reads it.
type eventList []json.RawMessage

// event is an event in any dialect of the interactions topic: flat JSON (snake, camel or Pascal
// case) or CloudEvents.
type event struct{}

// eventForms are the other media types that events are described with.
func eventForms() []mediaBody {
	return []mediaBody{
		{"application/cloudevents+json", eventList{}},
		{"application/x-ndjson", event{}},
		{"application/cloudevents-batch+json", eventList{}},
	}
}

// events is POST /v1/events: one event or an array, in any dialect of the interactions topic. It
// answers when the broker has all of them. One bad event refuses them all.
func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Events == nil {
		return missing("a broker to send events to", "run the ingest stage too, or produce to the topic")
	}
	wait, err := s.wantsLearnt(r)
	if err != nil {
		return err
	}
	types := []string{"application/cloudevents+json", "application/cloudevents-batch+json", "application/x-ndjson", "application/ndjson", "application/jsonl"}
	if s.fromAllowed(r) {
		types = append(types, "text/plain") // sendBeacon can send nothing else without asking first
	}
	body, err := s.readBody(w, r, types...)
	if err != nil {
		return err
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	list, err := s.splitEvents(r, body, kind == "text/plain" || strings.HasSuffix(kind, "ndjson") || strings.HasSuffix(kind, "jsonl"))
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
	return s.accept(w, r, s.deps.Events, wait, list, headers)
}

// splitEvents returns each event's bytes. lines says that the body may hold several objects, one
// on each line.
func (s *Server) splitEvents(r *http.Request, body []byte, lines bool) ([][]byte, error) {
	body = bytes.TrimSpace(bytes.TrimPrefix(bytes.TrimSpace(body), []byte("\ufeff")))
	if len(body) == 0 {
		return nil, badField("body", "send at least one event", "the body is empty")
	}
	if lines && body[0] == '{' {
		body = append(append([]byte("["), bytes.Join(lineObjects(body), []byte(","))...), ']')
	}
	var raw []json.RawMessage
	if body[0] == '[' {
		if err := decodeStrict(body, &raw); err != nil {
			return nil, err
		}
		if len(raw) == 0 {
			return nil, badField("body", "send at least one event", "the array is empty")
		}
		_, most := s.limits(r)
		if err := atMost("body", len(raw), most); err != nil {
			return nil, err
		}
	} else {
		var one json.RawMessage
		if err := decodeStrict(body, &one); err != nil {
			return nil, err
		}
		raw = append(raw, one)
	}
	return objects(raw)
}

// lineObjects returns the lines that are not blank.
func lineObjects(body []byte) (out [][]byte) {
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			out = append(out, line)
		}
	}
	return out
}

func objects(raw []json.RawMessage) ([][]byte, error) {
	out := make([][]byte, len(raw))
	for i, m := range raw {
		if m[0] != '{' {
			return nil, badField(fmt.Sprintf("[%d]", i), `send an object, as in {"user_id": "u", "item_id": "i", "type": "click"}`, "it is not an object")
		}
		out[i] = m
	}
	return out, nil
}
