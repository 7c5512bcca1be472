package serve

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// RerankRequest is the body of POST /v1/rerank, as Jina's and Cohere's clients send it. The query
// names the user: an id, or {"user_id": ...}. A document is an item id, a text, which is read as a
// title, or an object with any fields. The prompt's template may name them.
type RerankRequest struct {
	Model           string           `json:"model"`                // one of /v1/models; default: the one in use
	Query           rerankUser       `json:"query" api:"required"` // the user
	Documents       []rerankDocument `json:"documents" api:"required;min=1;max=candidates"`
	TopN            *whole           `json:"top_n" api:"min=1"` // default: all
	ReturnDocuments *bool            `json:"return_documents"`  // default false
	// which fields of an object without a known id are its text, in this order; default: title or text, or else all of them
	RankFields []string `json:"rank_fields"`

	MaxTokensPerDoc any `json:"max_tokens_per_doc"` // accepted, changes nothing
	MaxChunksPerDoc any `json:"max_chunks_per_doc"` // accepted, changes nothing
	Truncation      any `json:"truncation"`         // accepted, changes nothing
	Truncate        any `json:"truncate"`           // accepted, changes nothing
	Priority        any `json:"priority"`           // accepted, changes nothing
}

// RerankResponse is the answer of POST /v1/rerank, best first.
type RerankResponse struct {
	ID      string         `json:"id"`
	Model   string         `json:"model"`
	Results []RerankResult `json:"results"` // best first
	// "", or "cf": scored without the LLM, because no usable checkpoint is loaded or it failed
	Degraded string `json:"degraded" api:"enum=|cf"`
	// nothing is known of the user: scored by what holds for everybody
	Cold bool   `json:"cold"`
	Note string `json:"note,omitempty"`
	// the share of a rollout that the user fell in: active or canary
	Arm        string `json:"arm,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty"` // its digest; absent when degraded
	Usage      usage  `json:"usage"`                // zero: nothing is billed by tokens
}

// RerankResult is the score of one document.
type RerankResult struct {
	Index          int             `json:"index"` // in the request
	RelevanceScore float32         `json:"relevance_score"`
	ItemID         string          `json:"item_id,omitempty"`
	Title          string          `json:"title,omitempty"`
	CF             float32         `json:"cf"`                                   // the CF probability
	Document       json.RawMessage `json:"document,omitempty" api:"form=object"` // as it came; a string comes back as {"text": ...}
}

type rerankUser struct{ id string }

// UnmarshalJSON accepts "id", {"user_id": "id"} and {"user": "id"}.
func (u *rerankUser) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] != '{' {
		return json.Unmarshal(raw, (*ident)(&u.id))
	}
	var o struct {
		UserID ident `json:"user_id"`
		User   ident `json:"user"`
	}
	if len(raw) == 0 || raw[0] != '{' {
		return wrongType[rerankUser](raw)
	}
	err := decodeStrict(raw, &o)
	u.id = string(cmp.Or(o.UserID, o.User))
	return err
}

func (s *Server) rerank(w http.ResponseWriter, r *http.Request) error {
	var q RerankRequest
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	if err := s.checkModel(q.Model); err != nil {
		return err
	}
	user := q.Query.id
	if err := s.checkID("query", user); err != nil {
		return err
	}
	documents, err := q.documents()
	if err != nil {
		return err
	}
	if err := s.checkDocuments("documents", documents); err != nil {
		return err
	}
	n := len(q.Documents)
	if q.TopN != nil {
		if *q.TopN < 1 {
			return badField("top_n", "ask for at least 1, or leave it out for all", "%d documents wanted", *q.TopN)
		}
		n = min(n, int(*q.TopN))
	}
	slate, err := s.scoreSlate(r.Context(), user, documents)
	if err != nil {
		return fmt.Errorf("rerank: %w", err)
	}
	out := RerankResponse{ID: "rerank-" + rand.Text(), Model: cmp.Or(q.Model, s.modelName()), Degraded: slate.degraded, Cold: slate.cold, Arm: slate.arm, Checkpoint: slate.versions.Generator, Results: []RerankResult{}}
	if slate.cold {
		out.Note = coldNote
	}
	for i, d := range documents {
		res := RerankResult{Index: i, RelevanceScore: slate.scores[i], CF: slate.cf[i], ItemID: slate.prompts[i].ItemID, Title: slate.prompts[i].Title}
		if q.ReturnDocuments != nil && *q.ReturnDocuments {
			if res.Document = d.raw; d.raw[0] == '"' {
				res.Document = slices.Concat([]byte(`{"text":`), d.raw, []byte(`}`))
			}
		}
		out.Results = append(out.Results, res)
	}
	slices.SortStableFunc(out.Results, func(a, b RerankResult) int {
		return cmp.Or(cmp.Compare(b.RelevanceScore, a.RelevanceScore), cmp.Compare(b.CF, a.CF))
	})
	out.Results = out.Results[:n]
	writeJSON(w, http.StatusOK, out)
	return nil
}
