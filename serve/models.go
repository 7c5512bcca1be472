package serve

import (
	"fmt"
	"net/http"
	"strings"
)

// modelList is the answer of GET /v1/models, in OpenAI's form.
type modelList struct {
	Object string      `json:"object" api:"enum=list"`
	Data   []modelLine `json:"data"`
}

// modelLine is a model in OpenAI's form.
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

// model is GET /v1/models/{model}. base:USER is a model too, with base as its parent.
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

// checkModel refuses names that /v1/models does not list.
func (s *Server) checkModel(name string) error {
	if name == "" || s.deps.Models == nil {
		return nil
	}
	for _, m := range s.deps.Models() {
		if m.ID == name {
			return nil
		}
	}
	return &Failure{Status: http.StatusNotFound, Code: "model_not_found", Field: "model", Message: fmt.Sprintf("there is no model %.80q", name), Fix: "leave model out, or choose one of GET /v1/models"}
}

// modelName returns the model in use: the last of the list, where a checkpoint stands after its
// base model.
func (s *Server) modelName() string {
	if s.deps.Models != nil {
		if all := s.deps.Models(); len(all) > 0 {
			return all[len(all)-1].ID
		}
	}
	return "cf"
}
