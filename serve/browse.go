package serve

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/corastream/corastream"
)

// ListResponse is the answer of GET /v1/popular, /v1/trending, /v1/latest and
// /v1/items/{id}/similar.
type ListResponse struct {
	Items []ListedItem `json:"items"`
	// Cursor asks for the next page of this very list: ?cursor=CURSOR. It is absent on the last
	// page.
	Cursor string `json:"cursor,omitempty"`
}

// ListedItem is an item of a list.
type ListedItem struct {
	ItemID string          `json:"item_id"`
	Title  string          `json:"title,omitempty"`
	Score  float32         `json:"score"` // compares within one list alone
	Rank   int             `json:"rank"`  // from 1, over all pages
	Why    *corastream.Why `json:"why,omitempty"`
}

func (s *Server) popular(w http.ResponseWriter, r *http.Request) error {
	return s.browse(w, r, corastream.Browse{List: corastream.ListPopular})
}

func (s *Server) trending(w http.ResponseWriter, r *http.Request) error {
	return s.browse(w, r, corastream.Browse{List: corastream.ListTrending})
}

func (s *Server) latest(w http.ResponseWriter, r *http.Request) error {
	return s.browse(w, r, corastream.Browse{List: corastream.ListLatest})
}

func (s *Server) similarItems(w http.ResponseWriter, r *http.Request) error {
	id := plainID(r.PathValue("id"))
	if err := s.checkLookup(id); err != nil {
		return err
	}
	if err := s.deps.View.View(r.Context(), func(st corastream.State) error {
		_, err := knownItem(st, id)
		return err
	}); err != nil {
		return err
	}
	return s.browse(w, r, corastream.Browse{List: corastream.ListSimilar, Item: id})
}

// knownItem is the item's state, which a request must not change. An item of which nothing is known is a 404.
func knownItem(st corastream.State, id string) (*corastream.ItemState, error) {
	it, err := st.Item(id)
	if err == nil && !known(it) {
		err = &Failure{Status: http.StatusNotFound, Code: "unknown_item", Field: "id", Message: "this item is neither in the catalogue nor in any event", Fix: "check the id, or send its catalogue record"}
	}
	return it, err
}

// browse answers with a list that is the same for every caller, or with the next page of one.
func (s *Server) browse(w http.ResponseWriter, r *http.Request, b corastream.Browse) error {
	if s.deps.Browser == nil {
		return missing("a list model", "run the serve stage too")
	}
	cursor, err := s.browseQuery(r.URL.Query(), &b)
	if err != nil {
		return err
	}
	owner, n := b.List+" "+b.Item, b.N
	var page []corastream.Listed
	var from int
	if cursor != "" {
		if page, from, cursor, err = s.pages.next(owner, cursor, n, s.deps.Now()); err != nil {
			return err
		}
	} else {
		b.N = max(n, pageItems)
		all, err := s.deps.Browser.Browse(r.Context(), b)
		if errors.Is(err, corastream.ErrNoLists) {
			return missing("a list model", "run one: it is on by default")
		}
		if err != nil {
			return fmt.Errorf("list %s: %w", b.List, err)
		}
		page, cursor = all[:min(n, len(all))], s.pages.keep(owner, all, n, s.deps.Now())
	}
	out := ListResponse{Items: make([]ListedItem, len(page)), Cursor: cursor}
	for i, it := range page {
		out.Items[i] = ListedItem{ItemID: it.Item, Title: it.Title, Score: it.Score, Rank: from + i + 1, Why: &it.Why}
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// browseDefault is how many items a page has where the request does not say n.
const browseDefault = 10

// browseQuery reads n, window, allow, deny and cursor. Other parameters are refused, as unknown
// fields of a body are.
func (s *Server) browseQuery(q url.Values, b *corastream.Browse) (cursor string, err error) {
	b.N = browseDefault
	for name, values := range q {
		if name != "allow" && name != "deny" && len(values) > 1 {
			return "", badField(name, "send it once", "%d values", len(values))
		}
		v := values[0]
		switch name {
		case "n":
			if b.N, err = s.wanted(v); err != nil {
				return "", err
			}
		case "window":
			if b.List == corastream.ListSimilar {
				return "", badField("window", "leave it out", "similar items have no window")
			}
			if b.Window, err = windowOf(v); err != nil {
				return "", err
			}
		case "cursor":
			cursor = v
		case "allow":
			if b.Allow, err = s.fieldFilter(name, values); err != nil {
				return "", err
			}
		case "deny":
			if b.Deny, err = s.fieldFilter(name, values); err != nil {
				return "", err
			}
		default:
			return "", unknownParameter(name)
		}
	}
	if cursor != "" && (b.Window != 0 || b.Allow != nil || b.Deny != nil) {
		return "", badField("cursor", "send cursor and n alone", "the list that it continues has its filters and window already")
	}
	return cursor, nil
}

func unknownParameter(name string) *Failure {
	return &Failure{Status: http.StatusBadRequest, Code: "unknown_field", Field: fmt.Sprintf("%.64s", name), Message: "there is no such parameter", Fix: "leave it out; /openapi.json lists the parameters"}
}

// wanted reads how many items a page should have.
func (s *Server) wanted(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > s.cfg.MaxCandidates {
		return 0, badField("n", fmt.Sprintf("choose from 1 to %d", s.cfg.MaxCandidates), "%.40q items wanted", v)
	}
	return n, nil
}

// windowOf reads 90m, 24h, 7d or 2w.
func windowOf(v string) (time.Duration, error) {
	unit := map[byte]time.Duration{'m': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	if len(v) >= 2 {
		n, err := strconv.Atoi(v[:len(v)-1])
		if u := unit[v[len(v)-1]]; err == nil && n > 0 && u > 0 && n <= int(corastream.MaxWindow/u) {
			return time.Duration(n) * u, nil
		}
	}
	return 0, badField("window", "write a number and m, h, d or w, up to ten years, as in 7d", "%.40q is no window", v)
}

// fieldFilter reads the values of a parameter that comes as FIELD:VALUE, once or several times.
func (s *Server) fieldFilter(name string, values []string) (map[string][]string, error) {
	out := map[string][]string{}
	for _, v := range values {
		field, value, ok := strings.Cut(v, ":")
		if !ok || field == "" || value == "" {
			return nil, badField(name, "write FIELD:VALUE, as in "+name+"=genre:Comedy", "%.40q names no field and value", v)
		}
		out[field] = append(out[field], value)
	}
	return out, s.checkLists(name, out)
}
