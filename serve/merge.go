package serve

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/corastream/corastream"
)

// UserEventsResponse is the answer of GET /v1/users/{id}/events.
type UserEventsResponse struct {
	UserID string      `json:"user_id"`
	Total  int         `json:"total"`            // how many events the store keeps
	Events []UserEvent `json:"events"`           // newest first
	Cursor string      `json:"cursor,omitempty"` // of older ones; absent on the last page
}

// UserEvent is an event of a user that the store keeps.
type UserEvent struct {
	ItemID string    `json:"item_id"`
	Title  string    `json:"title,omitempty"`
	Label  float32   `json:"label"`
	Shown  bool      `json:"shown"` // it was shown and not clicked
	Time   time.Time `json:"time"`
}

// userEvents lists a user's history. Its cursor is the number of older events, so a new event does
// not shift the pages.
func (s *Server) userEvents(w http.ResponseWriter, r *http.Request) error {
	id := plainID(r.PathValue("id"))
	if err := s.checkLookup(id); err != nil {
		return err
	}
	n, older := lookupHistory, -1
	for name, values := range r.URL.Query() {
		var err error
		switch name {
		case "n":
			n, err = s.wanted(values[0])
		case "cursor":
			if older, err = strconv.Atoi(values[0]); err != nil || older < 0 {
				err = badField("cursor", "send the cursor of the page before", "it is no cursor")
			}
		default:
			err = unknownParameter(name)
		}
		if err != nil {
			return err
		}
	}
	var out UserEventsResponse
	if err := s.deps.View.View(r.Context(), func(st corastream.State) error {
		u, err := knownUser(st, id)
		if err != nil {
			return err
		}
		left := len(u.History)
		if older >= 0 {
			left = min(left, older)
		}
		out = UserEventsResponse{UserID: id, Total: len(u.History), Events: []UserEvent{}}
		for _, h := range u.History {
			if s.old(h) {
				out.Total--
			}
		}
		for ; left > 0 && len(out.Events) < n; left-- {
			h := u.History[left-1]
			if s.old(h) {
				continue
			}
			it, err := st.Item(h.Item)
			if err != nil {
				return err
			}
			out.Events = append(out.Events, UserEvent{ItemID: h.Item, Title: it.Title, Label: h.Label, Shown: h.Shown, Time: h.Time.UTC()})
		}
		if left > 0 {
			out.Cursor = strconv.Itoa(left)
		}
		return nil
	}); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// MergeRequest is the body of POST /v1/users/{id}/merge. The interactions of somebody who was not
// logged in become the user's own.
type MergeRequest struct {
	_ struct{} `api:"anyOf=from|history"`

	From string `json:"from" api:"max=id;notnull"` // From is the id that the session's events were sent under.
	// History is what the page remembers of the session, oldest first, as RecommendRequest's.
	// One without type, label and rating counts as liked.
	History []json.RawMessage `json:"history" api:"max=past;each.form=past"`
}

// mergeSession produces the session's events again, under the user. The id of each follows from
// user, item and time, so a second merge of the same session is dropped as a duplicate.
func (s *Server) mergeSession(w http.ResponseWriter, r *http.Request) error {
	id := plainID(r.PathValue("id"))
	if err := s.checkID("id", id); err != nil {
		return err
	}
	var q MergeRequest
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	if s.deps.Events == nil {
		return missing("a broker to send events to", "run the ingest stage too, or produce to the topic")
	}
	wait, err := s.wantsLearnt(r)
	if err != nil {
		return err
	}
	past, err := s.past(q.History)
	if err != nil {
		return err
	}
	if q.From != "" {
		if err := s.checkID("from", q.From); err != nil {
			return err
		}
		if q.From == id {
			return badField("from", "name the session's id", "it is the user's own id")
		}
		stored, err := s.session(r.Context(), q.From)
		if err != nil {
			return err
		}
		past = append(stored, past...)
	}
	if q.From == "" && len(q.History) == 0 {
		return &Failure{Status: http.StatusBadRequest, Code: "missing_field", Field: "from", Message: "neither from nor history is there", Fix: "give the session's id, or its history"}
	}
	events := make([][]byte, len(past))
	for i, h := range past {
		if events[i], err = mergedEvent(id, h); err != nil {
			return err
		}
	}
	return s.accept(w, r, s.deps.Events, wait, events, map[string]string{})
}

// old says that an interaction no longer counts.
func (s *Server) old(h corastream.Interaction) bool { return s.deps.Old != nil && s.deps.Old(h.Time) }

// session returns the last events under an id that the store keeps, oldest first.
func (s *Server) session(ctx context.Context, id string) (out []corastream.Interaction, err error) {
	if s.deps.View == nil {
		return nil, missing("a state to look into", "run the serve stage beside the store, or send history")
	}
	err = s.deps.View.View(ctx, func(st corastream.State) error {
		u, err := st.User(id)
		if err != nil {
			return err
		}
		out = append(out, u.History[max(0, len(u.History)-corastream.MaxPast):]...)
		out = slices.DeleteFunc(out, s.old)
		return nil
	})
	return out, err
}

// mergedEvent encodes an interaction as an event of the user.
func mergedEvent(user string, h corastream.Interaction) ([]byte, error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %d %v %t", user, h.Item, h.Time.UnixNano(), h.Label, h.Shown))
	ev := map[string]any{"id": "merge-" + hex.EncodeToString(sum[:16]), "user_id": user, "timestamp": h.Time.UTC().Format(time.RFC3339Nano)}
	if h.Shown {
		ev["items"], ev["type"] = []string{h.Item}, corastream.KindImpression
	} else {
		ev["item_id"], ev["label"] = h.Item, h.Label
	}
	b, err := json.Marshal(ev)
	if err != nil {
		return nil, fmt.Errorf("encode a merged event: %w", err)
	}
	return b, nil
}

// shownEvent encodes an impression: a list was shown to a user, who has not clicked anything yet.
func shownEvent(user, id string, items []string) ([]byte, error) {
	b, err := json.Marshal(map[string]any{"id": "shown-" + id, "user_id": user, "items": items, "type": corastream.KindImpression})
	if err != nil {
		return nil, fmt.Errorf("encode what was shown: %w", err)
	}
	return b, nil
}
