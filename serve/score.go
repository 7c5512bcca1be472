package serve

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/corastream/corastream"
)

// ScoreRequest is the body of POST /v1/score, in one of two forms.
//
// With user_id and items: each item is an id of the catalogue, or a text ({"text": ...}, or a
// string that is no known id), which is read as a title. The answer is the LLM's
// P(Yes)/(P(Yes)+P(No)) with this user's weights.
//
// With query and items, as vLLM's and SGLang's generative scoring: each item is a text, the prompt
// is query+item (or item+query), and the score is the softmax over the labels. A user_id merges
// that user's weights in.
type ScoreRequest struct {
	Model  string     `json:"model"`               // one of /v1/models; default: the one in use
	UserID ident      `json:"user_id" api:"min=0"` // whose weights; required without query
	Items  []document `json:"items" api:"required;min=1;max=candidates"`
	Query  *string    `json:"query"` // text form: the prompt is query+item
	// Labels are for the text form, each exactly one token. Default " Yes" and " No", with the
	// space, as the prompts of this program end: "Yes" and "No" are other tokens.
	Labels        []string `json:"labels" api:"max=labels"`
	LabelTokenIDs []whole  `json:"label_token_ids" api:"max=labels;each.min=0"` // text form: instead of labels
	// text form: over the labels; false gives raw logits. Default true
	ApplySoftmax     *bool `json:"apply_softmax"`
	ItemFirst        bool  `json:"item_first"`         // text form: the prompt is item+query
	AddSpecialTokens *bool `json:"add_special_tokens"` // accepted for vLLM's clients; the tokenizer decides
}

// ScoreResponse is the answer of POST /v1/score, in vLLM's form (data) and in SGLang's (scores).
type ScoreResponse struct {
	ID      string       `json:"id"`
	Object  string       `json:"object" api:"enum=list"` // "list"
	Created int64        `json:"created"`                // unix seconds
	Model   string       `json:"model"`
	UserID  string       `json:"user_id,omitempty"`
	Data    []ScoredText `json:"data"`   // in the order of the request
	Scores  [][]float64  `json:"scores"` // [items][labels]; with user_id alone: [P(Yes), P(No)]
	// "", or "cf": scored without the LLM, because no usable checkpoint is loaded or it failed
	Degraded string `json:"degraded" api:"enum=|cf"`
	// nothing is known of the user: scored by what holds for everybody
	Cold     bool                 `json:"cold"`
	Note     string               `json:"note,omitempty"`
	Versions *corastream.Versions `json:"versions,omitempty"`
	// the share of a rollout that the user fell in: active or canary
	Arm        string `json:"arm,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty"` // its digest; absent when degraded
	Usage      *usage `json:"usage,omitempty"`
}

// ScoredText is the score of one item, in the order of the request.
type ScoredText struct {
	Index  int      `json:"index"`                   // in the request
	Object string   `json:"object" api:"enum=score"` // "score"
	Score  float64  `json:"score"`
	ItemID string   `json:"item_id,omitempty"`
	Title  string   `json:"title,omitempty"`
	CF     *float64 `json:"cf,omitempty"`    // the CF probability
	Known  *bool    `json:"known,omitempty"` // false: not in the catalogue, read as a title
}

type usage struct {
	PromptTokens int `json:"prompt_tokens"`
	TotalTokens  int `json:"total_tokens"`
}

// document is an item of a body: "id or text", {"id": ...} (also "item_id"), or {"text": ...}
// (also "title").
type document struct {
	ID, Text string
	Fields   map[string]string // of an item that no catalogue knows
	raw      json.RawMessage   // as it came, to hand back
}

// UnmarshalJSON accepts the forms above.
func (d *document) UnmarshalJSON(raw []byte) error {
	d.raw = append(json.RawMessage(nil), raw...)
	if len(raw) > 0 && raw[0] == '"' {
		return json.Unmarshal(raw, &d.ID)
	}
	var o struct {
		ID     ident  `json:"id"`
		ItemID ident  `json:"item_id"`
		Text   string `json:"text"`
		Title  string `json:"title"`
	}
	if len(raw) > 0 && (raw[0] == '-' || raw[0] >= '0' && raw[0] <= '9') {
		return json.Unmarshal(raw, (*ident)(&d.ID))
	}
	if len(raw) == 0 || raw[0] != '{' {
		return wrongType[document](raw)
	}
	if err := decodeStrict(raw, &o); err != nil {
		return err
	}
	d.ID, d.Text = string(cmp.Or(o.ID, o.ItemID)), cmp.Or(o.Text, o.Title)
	if d.ID == "" && d.Text == "" {
		return wrongType[document](raw)
	}
	return nil
}

func (s *Server) score(w http.ResponseWriter, r *http.Request) error {
	var q ScoreRequest
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	if err := s.checkModel(q.Model); err != nil {
		return err
	}
	if err := s.checkDocuments("items", q.Items); err != nil {
		return err
	}
	if q.UserID != "" || q.Query == nil {
		if err := s.checkID("user_id", string(q.UserID)); err != nil {
			return err
		}
	}
	out := ScoreResponse{ID: "score-" + rand.Text(), Object: "list", Created: s.deps.Now().Unix(), Model: cmp.Or(q.Model, s.modelName()), UserID: string(q.UserID)}
	if q.Query != nil {
		if err := s.scoreText(r.Context(), &q, &out); err != nil {
			return err
		}
		writeJSON(w, http.StatusOK, out)
		return nil
	}
	if len(q.Labels)+len(q.LabelTokenIDs) > 0 || q.ApplySoftmax != nil || q.ItemFirst || q.AddSpecialTokens != nil {
		return badField("query", "send query too, or leave labels, label_token_ids, apply_softmax, item_first and add_special_tokens out", "these fields belong to the text form, which has a query")
	}
	slate, err := s.scoreSlate(r.Context(), string(q.UserID), q.Items)
	if err != nil {
		return err
	}
	out.Degraded, out.Cold, out.Versions = slate.degraded, slate.cold, &slate.versions
	out.Arm, out.Checkpoint = slate.arm, slate.versions.Generator
	if slate.cold {
		out.Note = coldNote
	}
	for i, p := range slate.prompts {
		score, cf := float64(slate.scores[i]), float64(slate.cf[i])
		out.Data = append(out.Data, ScoredText{Index: i, Object: "score", Score: score, ItemID: p.ItemID, Title: p.Title, CF: &cf, Known: &slate.known[i]})
		out.Scores = append(out.Scores, []float64{score, 1 - score})
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

func (s *Server) checkDocuments(field string, docs []document) error {
	if len(docs) == 0 {
		return &Failure{Status: http.StatusBadRequest, Code: "missing_field", Field: field, Message: "it is missing or empty", Fix: "give at least one"}
	}
	if err := s.checkLen(field, len(docs)); err != nil {
		return err
	}
	for i, d := range docs {
		if d.ID == "" && d.Text == "" {
			return badField(fmt.Sprintf("%s[%d]", field, i), "give an id or a text", "it is empty")
		}
	}
	return nil
}

// scored holds a user's scores of given items.
type scored struct {
	pairs    []corastream.Pair
	prompts  []corastream.Prompt
	known    []bool
	cf       []float32
	scores   []float32
	degraded string
	cold     bool
	arm      string
	versions corastream.Versions
}

// scoreSlate scores items for a user: state, then pairs and prompts, then W_A, then the frozen
// LLM. Where the LLM fails the CF score stands, as in the pipeline.
func (s *Server) scoreSlate(ctx context.Context, user string, docs []document) (*scored, error) {
	if s.deps.View == nil || s.deps.Predictor == nil {
		return nil, missing("a state to score from", "run the serve stage beside the store")
	}
	out := &scored{cf: make([]float32, len(docs)), scores: make([]float32, len(docs))}
	if err := s.deps.View.View(ctx, func(st corastream.State) error { return s.slate(st, user, docs, out) }); err != nil {
		return nil, err
	}
	for i, p := range out.pairs {
		out.cf[i] = p.P()
	}
	arm := s.arm(user)
	out.arm = arm.Name
	logits, err := corastream.ScorePairs(ctx, arm.Generator, s.deps.Scorer, out.pairs, out.prompts)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		if corastream.Failed(err) {
			s.deps.Stats.Degraded.Add(1)
			s.deps.Log.Warn().Err(err).Msg("scoring by CF alone")
		}
		out.degraded, out.scores = "cf", out.cf
		return out, nil
	}
	for i, l := range logits {
		out.scores[i] = l.P()
	}
	out.versions.Generator, out.versions.LLM = arm.Versions.Generator, arm.Versions.LLM
	return out, nil
}

func (s *Server) slate(st corastream.State, user string, docs []document, out *scored) error {
	u, err := st.User(user)
	if err != nil {
		return err
	}
	out.cold, out.versions.User = len(u.History) == 0, u.Version
	history, err := corastream.LikedTitles(st, u, s.deps.History)
	if err != nil {
		return err
	}
	for _, d := range docs {
		prompt := corastream.Prompt{Title: d.Text, Fields: d.Fields, History: history}
		isKnown := false
		if d.ID != "" {
			it, err := st.Item(d.ID)
			if err != nil {
				return err
			}
			if isKnown = known(it); isKnown {
				prompt = corastream.Prompt{ItemID: d.ID, Title: cmp.Or(it.Title, d.Text), Fields: it.Fields, History: history}
			} else if d.Text == "" {
				prompt.Title = d.ID
			}
		}
		// An item that no catalogue has gets the empty id. Its vector is zero, so its score comes
		// from the LLM alone.
		pair, err := corastream.PairOf(st, s.deps.Predictor, user, prompt.ItemID)
		if err != nil {
			return err
		}
		out.pairs, out.prompts, out.known = append(out.pairs, pair), append(out.prompts, prompt), append(out.known, isKnown)
	}
	return nil
}
