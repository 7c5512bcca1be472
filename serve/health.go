package serve

import (
	"fmt"
	"net/http"
	"strings"
)

// health is GET /healthz.
type health struct {
	Status string `json:"status" api:"enum=ok"`
}

// readiness is GET /readyz.
type readiness struct {
	Status string  `json:"status" api:"enum=ready|not ready"`
	Checks []Check `json:"checks"`
}

// healthz says that the process runs and answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, health{"ok"})
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

// modelList is GET /v1/models in OpenAI's shape.
type modelList struct {
	Object string      `json:"object" api:"enum=list"`
	Data   []modelLine `json:"data"`
}

// modelLine is a model in OpenAI's shape.
type modelLine struct {
	ID      string `json:"id"`
	Object  string `json:"object" api:"enum=model"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	Parent  string `json:"parent,omitempty"` // the base model
	Digest  string `json:"digest,omitempty"`
}

func (s *Server) modelLines() []modelLine {
	data := []modelLine{}
	if s.deps.Models == nil {
		return data
	}
	for _, m := range s.deps.Models() {
		created := s.started.Unix()
		if !m.Created.IsZero() {
			created = m.Created.Unix()
		}
		data = append(data, modelLine{m.ID, "model", created, "corastream", m.Parent, m.Digest})
	}
	return data
}

// models is GET /v1/models.
func (s *Server) models(w http.ResponseWriter, _ *http.Request) error {
	writeJSON(w, http.StatusOK, modelList{"list", s.modelLines()})
	return nil
}

// model is GET /v1/models/{model}; base:USER is a model too, a child of base.
func (s *Server) model(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("model")
	for _, m := range s.modelLines() {
		if id, ok := strings.CutPrefix(name, m.ID+":"); ok && s.checkID("model", id) == nil {
			m.Parent, m.ID = m.ID, name
		}
		if m.ID == name {
			writeJSON(w, http.StatusOK, m)
			return nil
		}
	}
	return &Failure{Status: http.StatusNotFound, Code: "model_not_found", Field: "model", Message: fmt.Sprintf("there is no model %.80q", name), Fix: "choose one of GET /v1/models, or base:USER"}
}
