package serve

import "net/http"

// healthz says that the process runs and answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
	return nil
}

// readyz says whether to send work here, and if not, why not.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) error {
	ready, checks := s.readiness()
	status, word := http.StatusOK, "ready"
	if !ready {
		status, word = http.StatusServiceUnavailable, "not ready"
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, map[string]any{"status": word, "checks": checks})
	return nil
}

func (s *Server) readiness() (bool, []Check) {
	checks := []Check{{Name: "started", OK: s.ready.Load()}}
	if !checks[0].OK {
		checks[0].Why = "recovering state, loading the model, warming up, or shutting down"
	}
	if s.deps.Status != nil {
		checks = append(checks, s.deps.Status()...)
	}
	ready := true
	for _, c := range checks {
		ready = ready && c.OK
	}
	return ready, checks
}

// models is GET /v1/models, in OpenAI's shape.
func (s *Server) models(w http.ResponseWriter, _ *http.Request) error {
	type line struct {
		ID      string `json:"id"`
		Object  string `json:"object"`
		Created int64  `json:"created"`
		OwnedBy string `json:"owned_by"`
		Parent  string `json:"parent,omitempty"`
		Digest  string `json:"digest,omitempty"`
	}
	data := []line{}
	if s.deps.Models != nil {
		for _, m := range s.deps.Models() {
			created := s.started.Unix()
			if !m.Created.IsZero() {
				created = m.Created.Unix()
			}
			data = append(data, line{m.ID, "model", created, "corastream", m.Parent, m.Digest})
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": data})
	return nil
}
