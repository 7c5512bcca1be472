package serve

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/corastream/corastream"
)

// RecommendRequest is the body of POST /v1/recommend.
type RecommendRequest struct {
	_ struct{} `api:"anyOf=user_id|history"`

	// UserID may be left out where there is a history. A new user is answered too, marked cold.
	UserID     ident               `json:"user_id" api:"min=0;notnull"`
	N          whole               `json:"n" api:"min=0;max=candidates"`                                                           // items wanted; 0: the configured number
	Exclude    idents              `json:"exclude" api:"max=candidates"`                                                           // never return these
	Candidates idents              `json:"candidates" api:"max=candidates"`                                                        // rank these and nothing else
	Allow      map[string][]string `json:"allow" api:"max=fields;each.min=1;each.max=candidates;each.each.min=1;each.each.max=id"` // by item field: an item must have one of these values
	Deny       map[string][]string `json:"deny" api:"max=fields;each.min=1;each.max=candidates;each.each.min=1;each.each.max=id"`  // by item field: an item must have none of these values
	// comes back in the answer, and goes into its id; default: a random one
	RequestID string `json:"request_id" api:"max=id"`
	// say for each item where its CF score comes from and which liked item is nearest
	Explain bool `json:"explain"`
	// History are interactions that no log has, oldest first. They follow the user's own, and
	// nothing of them is stored. One without type, label and rating counts as liked.
	History []json.RawMessage `json:"history" api:"max=past;each.form=past"`
	// Seen says which items of the history may be listed again. "exclude": none; "clicked":
	// those that were shown and not clicked; "include": all; "auto": as include where users take
	// items again, else as clicked. Default: as configured (pipeline.seen).
	Seen string `json:"seen" api:"enum=|auto|exclude|clicked|include"`
	// one of the configuration's recommend.lists, by name; default: the user's own list
	List string `json:"list" api:"max=id"`
	// Cursor "new" keeps the list that begins here. The answer's cursor asks for its next page, in
	// a request with user_id, cursor and n alone, and a visitor's history.
	Cursor string `json:"cursor" api:"max=cursor"`
	// put what is shown on the interactions topic, as an impression of the user
	WriteBack bool `json:"write_back"`
}

// RecommendResponse is the answer of POST /v1/recommend.
type RecommendResponse struct {
	ID         string            `json:"id"` // deterministic: equal for equal request_id, user and versions
	UserID     string            `json:"user_id"`
	RequestID  string            `json:"request_id"`
	Items      []RecommendedItem `json:"items"`      // best first
	Candidates int               `json:"candidates"` // how many there were to choose from
	// "", or "cf": scored without the LLM, because no usable checkpoint is loaded or it failed
	Degraded string `json:"degraded" api:"enum=|cf"`
	// nothing is known of the user: scored by what holds for everybody
	Cold bool   `json:"cold"`
	Note string `json:"note,omitempty"`
	// the share of a rollout that the user fell in: active or canary
	Arm        string `json:"arm,omitempty"`
	Checkpoint string `json:"checkpoint,omitempty"` // its digest; absent when degraded
	// Policy is the stochastic policy that drew the list, so that propensity is a true one. It
	// is absent where the list is best first.
	Policy string `json:"policy,omitempty"`
	// "popular": nothing was known to rank by but what most people like
	Fallback string `json:"fallback,omitempty" api:"enum=popular"`
	// of a cluster's replica: how old the state was that this was made from
	Behind   *corastream.Behind  `json:"behind,omitempty"`
	Versions corastream.Versions `json:"versions"`
	Made     time.Time           `json:"made"`
	// of the next page; absent on the last one, and where the request has no cursor
	Cursor      string `json:"cursor,omitempty"`
	WrittenBack bool   `json:"written_back,omitempty"` // the broker has what was shown
	// FreshnessMS is the time from the oldest newly covered event. It is null when this answer
	// covers none.
	FreshnessMS *float64 `json:"freshness_ms"`
}

// RecommendedItem is an item of a recommendation.
type RecommendedItem struct {
	corastream.Scored
	Why *Why `json:"why,omitempty"`
}

// Why says why an item is listed and, where the request asks to explain, splits its CF score.
type Why struct {
	// the retrieval source that speaks most for it: co-visit, session, popular, trending, similar,
	// taste, again, new, ...
	Source string `json:"source,omitempty"`
	ItemID string `json:"item_id,omitempty"` // the item of the history that it came from
	Title  string `json:"title,omitempty"`   // that item's
	Text   string `json:"text,omitempty"`    // the same in words that a page can print: because of TITLE
	*Split
}

// Split is the CF score z = mean + user + item + match, and the liked item that lies nearest.
type Split struct {
	Mean    float32  `json:"mean"`  // mu: what anybody thinks of anything
	User    float32  `json:"user"`  // b_u
	Item    float32  `json:"item"`  // b_i: how popular it is
	Match   float32  `json:"match"` // e_u.e_i: what is personal
	Because *NearRef `json:"because,omitempty"`
}

// NearRef is an item, and the cosine of its vector with another one.
type NearRef struct {
	ItemID string  `json:"item_id"`
	Title  string  `json:"title,omitempty"`
	Cosine float32 `json:"cosine"` // of the two vectors
}

func (s *Server) checkRecommend(q *RecommendRequest) error {
	switch {
	case q.UserID == "" && len(q.History) > 0: // a visitor without an account
	case q.UserID == "":
		return &Failure{Status: http.StatusBadRequest, Code: "missing_field", Field: "user_id", Message: "it is missing or empty", Fix: "give an id, or the visitor's history"}
	default:
		if err := s.checkID("user_id", string(q.UserID)); err != nil {
			return err
		}
	}
	switch {
	case q.WriteBack && q.UserID == "":
		return badField("write_back", "give user_id, or leave write_back out", "a visitor without an id has no events")
	case q.WriteBack && s.deps.Events == nil:
		return missing("a broker to send events to", "leave write_back out")
	case q.List != "":
		if err := s.checkID("list", q.List); err != nil {
			return err
		}
	}
	if err := corastream.CheckSeen("seen", q.Seen); err != nil {
		return err
	}
	if q.N < 0 || int(q.N) > s.cfg.MaxCandidates {
		return badField("n", fmt.Sprintf("choose from 1 to %d, or 0 for the configured number", s.cfg.MaxCandidates), "%d items wanted", q.N)
	}
	if err := s.checkIDs("exclude", q.Exclude); err != nil {
		return err
	}
	if err := s.checkIDs("candidates", q.Candidates); err != nil {
		return err
	}
	for name, lists := range map[string]map[string][]string{"allow": q.Allow, "deny": q.Deny} {
		if err := s.checkLists(name, lists); err != nil {
			return err
		}
	}
	excluded := make(map[string]bool, len(q.Exclude)+len(q.Candidates))
	for _, id := range q.Exclude {
		excluded[id] = true
	}
	if len(q.Candidates) > 0 {
		// Candidates replace retrieval, which applies exclude. So exclude is applied to them here,
		// and an item is ranked once.
		kept := q.Candidates[:0]
		for _, id := range q.Candidates {
			if !excluded[id] {
				kept = append(kept, id)
				excluded[id] = true
			}
		}
		if q.Candidates = kept; len(kept) == 0 {
			return badField("candidates", "leave at least one that exclude does not name", "every candidate is excluded")
		}
	}
	if q.RequestID == "" {
		q.RequestID = "http-" + rand.Text()
	}
	return s.checkID("request_id", q.RequestID)
}

// maxFields bounds the fields that one request filters by.
const maxFields = 16

func (s *Server) checkLists(name string, lists map[string][]string) error {
	if len(lists) > maxFields {
		return badField(name, fmt.Sprintf("name at most %d", maxFields), "%d fields", len(lists))
	}
	for field, values := range lists {
		at := name + "." + field
		if err := s.checkID(name, field); err != nil {
			return err
		}
		if len(values) == 0 {
			return badField(at, "give at least one value", "the list is empty")
		}
		if err := s.checkIDs(at, values); err != nil {
			return err
		}
	}
	return nil
}

func responseOf(rec corastream.Recommendation) RecommendResponse {
	out := RecommendResponse{
		ID: rec.ID, UserID: rec.User, RequestID: rec.RequestID, Items: make([]RecommendedItem, len(rec.Items)), Candidates: rec.Candidates,
		Arm: rec.Arm, Checkpoint: rec.Versions.Generator, Policy: rec.Policy, Fallback: rec.Fallback,
		Degraded: rec.Degraded, Cold: rec.Cold, Behind: rec.Behind, Versions: rec.Versions, Made: rec.Made.UTC(),
	}
	for i, it := range rec.Items {
		out.Items[i] = RecommendedItem{Scored: it}
		if it.Why != (corastream.Why{}) {
			out.Items[i].Why = &Why{Source: it.Why.Source, ItemID: it.Why.Item, Title: it.Why.Title, Text: it.Why.Text}
		}
	}
	if !rec.Oldest.IsZero() {
		f := float64(rec.Freshness().Microseconds()) / 1000
		out.FreshnessMS = &f
	}
	switch {
	case len(rec.Items) == 0:
		out.Note = "nothing to recommend: no item is left after history, exclude and filters"
	case rec.Cold:
		out.Note = coldNote
	}
	return out
}
