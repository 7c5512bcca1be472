package serve

import (
	"fmt"
	"net/http"
)

// erased is the answer of DELETE /v1/users/{id}.
type erased struct {
	Erased bool `json:"erased"`
}

// erase is DELETE /v1/users/{id}: all that is kept of the user goes, and what the log holds of the
// user until now is never learnt again. It may be sent twice.
func (s *Server) erase(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Erase == nil {
		return missing("a store to erase from", "use `corastream erase`, which takes a cluster's shard over")
	}
	user := plainID(r.PathValue("id"))
	if err := s.checkID("id", user); err != nil {
		return err
	}
	ask := r.URL.Query()
	for name := range ask {
		if name != "data" {
			return badField(name, "leave it out", "there is no such parameter")
		}
	}
	if folder := ask.Get("data"); folder != "" && folder != s.deps.Data {
		return &Failure{
			Status: http.StatusConflict, Code: "other_data", Field: "data",
			Message: "this process has its state elsewhere", Fix: "ask the process that has this folder",
		}
	}
	if err := s.deps.Erase(r.Context(), user); err != nil {
		return fmt.Errorf("erase a user: %w", err)
	}
	s.Forget(user)
	writeJSON(w, http.StatusOK, erased{true})
	return nil
}
