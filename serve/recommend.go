package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/corastream/corastream"
)

const coldNote = "nothing is known of this user yet: ranked by what holds for everybody; send events and ask again"

func (s *Server) recommend(w http.ResponseWriter, r *http.Request) error {
	if s.deps.Recommender == nil {
		return missing("a recommender", "run the serve stage too")
	}
	var q RecommendRequest
	if err := s.decode(w, r, &q); err != nil {
		return err
	}
	if err := s.checkRecommend(&q); err != nil {
		return err
	}
	past, err := s.past(q.History)
	if err != nil {
		return err
	}
	req := &corastream.Request{
		ID: q.RequestID, User: string(q.UserID), N: int(q.N), Exclude: q.Exclude, Candidates: q.Candidates, Allow: q.Allow, Deny: q.Deny,
		History: past, Seen: q.Seen, List: q.List, Appended: s.deps.Now(),
	}
	turn, err := s.turn(&q, req)
	if err != nil {
		return err
	}
	if turn.done {
		writeJSON(w, http.StatusOK, responseOf(corastream.Recommendation{User: string(q.UserID), RequestID: q.RequestID, Made: s.deps.Now()}))
		return nil
	}
	recs, err := s.deps.Recommender.Recommend(r.Context(), []corastream.Owed{{User: string(q.UserID), Request: req}})
	if err != nil {
		return err
	}
	if len(recs) != 1 {
		return fmt.Errorf("one recommendation asked for, %d made", len(recs))
	}
	out := responseOf(recs[0])
	s.turned(turn, &q, recs[0], &out)
	if q.WriteBack {
		out.WrittenBack = s.writeBack(r.Context(), &q, &out)
	}
	if q.Explain {
		if err := s.explain(r.Context(), &out); err != nil {
			return err
		}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// turn is the position of a request in a list that is read page by page.
type turn struct {
	begins bool
	from   int    // place of the page's first item, from 0
	after  string // cursor of the page after this one
	done   bool   // nothing follows
}

// recommendOwner names the owner of a list, for its cursor. Visitors without an id share one
// owner. Their cursors are random, so they can not be guessed.
func recommendOwner(user string) string { return "recommend " + user }

// turn prepares a request for its page. The first page asks the recommender for the items that
// follow, too. A later page names the items of the list that was begun.
func (s *Server) turn(q *RecommendRequest, req *corastream.Request) (turn, error) {
	switch {
	case q.Cursor == "":
		return turn{}, nil
	case len(q.Candidates) > 0:
		return turn{}, badField("cursor", "leave candidates out, or cursor", "candidates have no pages")
	case q.Cursor == cursorNew:
		req.Ahead = pageItems
		return turn{begins: true}, nil
	case len(q.Exclude)+len(q.Allow)+len(q.Deny) > 0 || q.List != "" || q.Seen != "":
		return turn{}, badField("cursor", "send user_id, cursor and n alone", "the list that it continues has its filters already")
	}
	n := int(q.N)
	if n == 0 {
		n = browseDefault
	}
	items, from, after, err := s.pages.next(recommendOwner(string(q.UserID)), q.Cursor, n, s.deps.Now())
	if err != nil {
		return turn{}, err
	}
	for _, it := range items {
		req.Candidates = append(req.Candidates, it.Item)
	}
	req.N, req.Keep = len(items), true
	return turn{from: from, after: after, done: len(items) == 0}, nil
}

// turned sets the ranks and the cursor of the next page in an answer.
func (s *Server) turned(t turn, q *RecommendRequest, rec corastream.Recommendation, out *RecommendResponse) {
	out.Cursor = t.after
	for i := range out.Items {
		out.Items[i].Rank += t.from
	}
	if t.begins {
		all := make([]corastream.Listed, 0, len(rec.Items)+len(rec.Ahead))
		for _, it := range rec.Items {
			all = append(all, corastream.Listed{Item: it.Item})
		}
		for _, id := range rec.Ahead {
			all = append(all, corastream.Listed{Item: id})
		}
		out.Cursor = s.pages.keep(recommendOwner(string(q.UserID)), all, len(rec.Items), s.deps.Now())
	}
}

// writeBack produces an impression of the answer's items under the user. It returns false when the
// broker did not take it; the answer is sent all the same.
func (s *Server) writeBack(ctx context.Context, q *RecommendRequest, out *RecommendResponse) bool {
	if len(out.Items) == 0 {
		return false
	}
	ids := make([]string, len(out.Items))
	for i, it := range out.Items {
		ids[i] = it.Item
	}
	ev, err := shownEvent(string(q.UserID), out.ID, ids)
	if err == nil {
		_, err = s.deps.Events.Produce(ctx, [][]byte{ev}, map[string]string{})
	}
	if err != nil {
		s.deps.Log.Warn().Str("error", s.redact(err.Error())).Msg("what was shown is not written back")
	}
	return err == nil
}

// past decodes the history of a request.
func (s *Server) past(history []json.RawMessage) ([]corastream.Interaction, error) {
	if len(history) == 0 {
		return nil, nil
	}
	if s.deps.Past == nil {
		return nil, missing("a reader of histories", "leave history out")
	}
	if len(history) > corastream.MaxPast {
		return nil, badField("history", fmt.Sprintf("send the last %d at most", corastream.MaxPast), "%d interactions", len(history))
	}
	entries := make([][]byte, len(history))
	for i, h := range history {
		entries[i] = h
	}
	past, err := s.deps.Past(entries, s.deps.Now())
	var usage *corastream.UsageError
	if errors.As(err, &usage) {
		return nil, badField("history"+usage.Where, usage.Fix, "%s", usage.What)
	}
	return past, err
}
