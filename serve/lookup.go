package serve

import (
	"context"
	"net/http"
	"time"

	"github.com/corastream/corastream"
)

// UserResponse is the answer of GET /v1/users/{id}.
type UserResponse struct {
	UserID  string        `json:"user_id"`
	Events  uint32        `json:"events"` // learnt in all
	Version uint64        `json:"version"`
	Bias    float32       `json:"bias"`
	Liked   int           `json:"liked"` // of the kept history
	Total   int           `json:"total"` // length of the kept history
	Labels  []string      `json:"labels"`
	History []HistoryLine `json:"history"` // newest first, at most 100
	// Taste is the titles nearest to the personal part of the user's vector: what sets this user
	// apart from everybody.
	Taste []NearRef `json:"taste"`
	// recommendations of this user that went out lately, newest first
	Recent []Made `json:"recent"`
}

// HistoryLine is one interaction of a user's history.
type HistoryLine struct {
	ItemID string    `json:"item_id"`
	Title  string    `json:"title,omitempty"`
	Label  float32   `json:"label"` // 1 liked, 0 not
	Time   time.Time `json:"time"`
}

// ItemResponse is the answer of GET /v1/items/{id}.
type ItemResponse struct {
	ItemID  string            `json:"item_id"`
	Title   string            `json:"title,omitempty"`
	Fields  map[string]string `json:"fields,omitempty"`
	Status  string            `json:"status" api:"enum=available|withdrawn|removed"` // "available", "withdrawn" or "removed"
	Events  uint32            `json:"events"`                                        // learnt in all
	Version uint64            `json:"version"`
	Bias    float32           `json:"bias"`
	Read    bool              `json:"read"` // the LLM has read it: its content vector is there
	Similar []NearRef         `json:"similar"`
}

const (
	lookupNear    = 10
	lookupHistory = 100
)

func (s *Server) user(w http.ResponseWriter, r *http.Request) error {
	id := plainID(r.PathValue("id"))
	if err := s.checkLookup(id); err != nil {
		return err
	}
	var out UserResponse
	var direction []float32
	if err := s.deps.View.View(r.Context(), func(st corastream.State) error {
		u, err := knownUser(st, id)
		if err != nil {
			return err
		}
		if direction, err = s.direction(st, u); err != nil {
			return err
		}
		out = UserResponse{UserID: id, Events: u.Count, Version: u.Version, Bias: u.Bias, Total: len(u.History), History: []HistoryLine{}}
		out.Labels = append([]string{}, u.Labels...)
		for i := len(u.History) - 1; i >= 0; i-- {
			h := u.History[i]
			if h.Label >= 0.5 {
				out.Liked++
			}
			if len(out.History) < lookupHistory {
				it, err := st.Item(h.Item)
				if err != nil {
					return err
				}
				out.History = append(out.History, HistoryLine{ItemID: h.Item, Title: it.Title, Label: h.Label, Time: h.Time.UTC()})
			}
		}
		return nil
	}); err != nil {
		return err
	}
	var err error
	if out.Taste, err = s.near(r.Context(), direction, nil); err != nil {
		return err
	}
	out.Recent = s.recent.of(id)
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) checkLookup(id string) error {
	if s.deps.View == nil || s.deps.Predictor == nil {
		return missing("a state to look into", "run the serve stage beside the store")
	}
	return s.checkID("id", id)
}

// direction returns the user's vector less the vector of a user without events: the part that is
// personal.
func (s *Server) direction(st corastream.State, u *corastream.UserState) ([]float32, error) {
	own, err := s.deps.Predictor.UserVector(st, u)
	if err != nil {
		return nil, err
	}
	common, err := s.deps.Predictor.UserVector(st, &corastream.UserState{ID: u.ID})
	if err != nil {
		return nil, err
	}
	out := append([]float32(nil), own.Vec...)
	for i := range min(len(out), len(common.Vec)) {
		out[i] -= common.Vec[i]
	}
	return out, nil
}

// near returns the items nearest to a direction, with their titles.
func (s *Server) near(ctx context.Context, direction []float32, skip func(string) bool) ([]NearRef, error) {
	out := []NearRef{}
	if s.deps.Neighbours == nil {
		return out, nil
	}
	found, err := s.deps.Neighbours.Nearest(direction, lookupNear, skip)
	if err != nil {
		return nil, err
	}
	err = s.deps.View.View(ctx, func(st corastream.State) error {
		for _, n := range found {
			it, err := st.Item(n.Item)
			if err != nil {
				return err
			}
			out = append(out, NearRef{ItemID: n.Item, Title: it.Title, Cosine: n.Cosine})
		}
		return nil
	})
	return out, err
}

func (s *Server) item(w http.ResponseWriter, r *http.Request) error {
	id := plainID(r.PathValue("id"))
	if err := s.checkLookup(id); err != nil {
		return err
	}
	var out ItemResponse
	var vec []float32
	if err := s.deps.View.View(r.Context(), func(st corastream.State) error {
		it, err := knownItem(st, id)
		if err != nil {
			return err
		}
		e, err := s.deps.Predictor.ItemVector(st, it)
		if err != nil {
			return err
		}
		vec = append(vec, e.Vec...)
		out = ItemResponse{ItemID: id, Title: it.Title, Fields: it.Fields, Status: statusOf(it), Events: it.Count, Version: it.Version, Bias: e.Bias, Read: it.Content != nil}
		return nil
	}); err != nil {
		return err
	}
	var err error
	if out.Similar, err = s.near(r.Context(), vec, func(other string) bool { return other == id }); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}
