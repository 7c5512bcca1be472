package serve

import (
	"cmp"
	"math"
	"net/http"
	"slices"
	"sync"

	"github.com/corastream/corastream"
)

// Crowd remembers which users took each item lately, so that users of similar taste can be found.
// It is a corastream.Monitor. It holds at most crowdItems items with crowdTakers users each, in
// memory alone. The code that opens the store fills it with Seed.
type Crowd struct {
	mu sync.RWMutex
	by map[string]*ring[string]
}

const (
	crowdItems  = 1 << 20
	crowdTakers = 100
	crowdSeeds  = 50 // of a user's likes that are looked at
	crowdLooked = 100
)

// NewCrowd returns a Crowd without users.
func NewCrowd() *Crowd { return &Crowd{by: map[string]*ring[string]{}} }

// Observe implements corastream.Monitor.
func (c *Crowd) Observe(ev corastream.Event, _ corastream.Pair, _ *corastream.UserState) {
	if ev.Positive() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.add(ev.Item, ev.User)
	}
}

// Seed takes in the last likes of a stored user.
func (c *Crowd) Seed(u *corastream.UserState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, item := range u.Liked(crowdSeeds) {
		c.add(item, u.ID)
	}
}

func (c *Crowd) add(item, user string) {
	r := c.by[item]
	if r == nil {
		if len(c.by) >= crowdItems {
			return
		}
		r = &ring[string]{cap: crowdTakers}
		c.by[item] = r
	}
	if !slices.Contains(r.all, user) {
		r.add(user)
	}
}

// Forget removes a user, for erasure.
func (c *Crowd) Forget(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.by {
		if slices.Contains(r.all, user) {
			r.remove(func(u string) bool { return u == user })
		}
	}
}

// near returns the users who took most of the items. An item counts more when few users take it.
func (c *Crowd) near(self string, items []string) []neighbour {
	c.mu.RLock()
	defer c.mu.RUnlock()
	by := map[string]*neighbour{}
	for _, item := range items {
		r := c.by[item]
		if r == nil {
			continue
		}
		w := 1 / math.Log(2+float64(len(r.all)))
		for _, user := range r.all {
			if user == self {
				continue
			}
			if by[user] == nil {
				by[user] = &neighbour{user: user}
			}
			by[user].score += w
			by[user].shared = append(by[user].shared, item)
		}
	}
	out := make([]neighbour, 0, len(by))
	for _, n := range by {
		out = append(out, *n)
	}
	slices.SortFunc(out, nearer)
	return out[:min(crowdLooked, len(out))]
}

type neighbour struct {
	user   string
	score  float64
	shared []string
}

func nearer(a, b neighbour) int {
	return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.user, b.user))
}

// SimilarUsersResponse is GET /v1/users/{id}/similar.
type SimilarUsersResponse struct {
	UserID string        `json:"user_id"`
	Users  []SimilarUser `json:"users"`
}

// SimilarUser is a user of similar taste.
type SimilarUser struct {
	UserID string       `json:"user_id"`
	Score  float64      `json:"score"`  // compares within one answer alone
	Common int          `json:"common"` // how many of the last 50 likes both have
	Shared []SharedItem `json:"shared"` // some of them
}

// SharedItem is an item that both users took.
type SharedItem struct {
	ItemID string `json:"item_id"`
	Title  string `json:"title,omitempty"`
}

const sharedShown = 5

func (s *Server) similarUsers(w http.ResponseWriter, r *http.Request) error {
	id := plainID(r.PathValue("id"))
	if err := s.checkLookup(id); err != nil {
		return err
	}
	if s.deps.Crowd == nil {
		return missing("the memory of who took what", "ask a process that learns")
	}
	n := browseDefault
	for name, values := range r.URL.Query() {
		var err error
		if name != "n" {
			return unknownParameter(name)
		} else if n, err = s.wanted(values[0]); err != nil {
			return err
		}
	}
	out := SimilarUsersResponse{UserID: id, Users: []SimilarUser{}}
	if err := s.deps.View.View(r.Context(), func(st corastream.State) error {
		u, err := knownUser(st, id)
		if err != nil {
			return err
		}
		found := s.deps.Crowd.near(id, u.Liked(crowdSeeds))
		for i := range found {
			f := &found[i]
			other, err := st.User(f.user)
			if err != nil {
				return err
			}
			if stranger(other) { // erased since
				f.score = 0
				continue
			}
			f.score /= math.Sqrt(float64(1 + len(other.Liked(crowdSeeds)))) // who takes everything is like everybody
		}
		slices.SortFunc(found, nearer)
		for _, f := range found[:min(n, len(found))] {
			if f.score == 0 {
				break
			}
			u := SimilarUser{UserID: f.user, Score: f.score, Common: len(f.shared), Shared: []SharedItem{}}
			slices.Reverse(f.shared) // newest first
			for _, item := range f.shared[:min(sharedShown, len(f.shared))] {
				it, err := st.Item(item)
				if err != nil {
					return err
				}
				u.Shared = append(u.Shared, SharedItem{ItemID: item, Title: it.Title})
			}
			out.Users = append(out.Users, u)
		}
		return nil
	}); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, out)
	return nil
}

// stranger reports whether nothing is known of a user.
func stranger(u *corastream.UserState) bool {
	return u.Version == 0 && u.Count == 0 && len(u.History) == 0 && len(u.Labels) == 0
}

// knownUser is the user's state, which a request must not change. A user of whom nothing is known is a 404.
func knownUser(st corastream.State, id string) (*corastream.UserState, error) {
	u, err := st.User(id)
	if err == nil && stranger(u) {
		err = &Failure{Status: http.StatusNotFound, Code: "unknown_user", Field: "id", Message: "no event of this user has been learnt", Fix: "check the id; /v1/recommend answers for new users too"}
	}
	return u, err
}
