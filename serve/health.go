package serve

import (
	"net/http"
)

// health is the answer of GET /healthz.
type health struct {
	Status string `json:"status" api:"enum=ok"`
}

// readiness is the answer of GET /readyz.
type readiness struct {
	Status string  `json:"status" api:"enum=ready|not ready"`
	Checks []Check `json:"checks"`
}

// healthz answers 200 while the process runs.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, health{"ok"})
	return nil
}

// readyz answers 200 when requests may be sent here, and otherwise 503 with the checks that
// failed.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) error {
	ready, checks := s.readiness()
	status, word := http.StatusOK, "ready"
	if !ready {
		status, word = http.StatusServiceUnavailable, "not ready"
		w.Header().Set("Retry-After", "1")
	}
	writeJSON(w, status, readiness{word, checks})
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
