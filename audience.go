package corastream

import (
	"sync"
	"time"
)

// Who gets a recommendation on the topic for each click: PipelineConfig.Recommendations.
const (
	RecommendAlways    = "always"     // every user whose embedding moved
	RecommendOnRequest = "on_request" // nobody: who asks is answered, over the topic or HTTP
	RecommendActive    = "active"     // users who asked lately
)

// Audience says who is owed a recommendation when he clicks. It remembers who asked in memory alone, so after a start nobody is active
// until he asks. A nil Audience owes everybody.
type Audience struct {
	mode string
	life time.Duration
	now  func() time.Time

	mu    sync.Mutex
	asked map[string]time.Time
}

// maxActive bounds the users that an Audience remembers. Beyond it those who asked longest ago are dropped first.
const maxActive = 1 << 18

// NewAudience makes one; life is how long a user who asked stays active.
func NewAudience(mode string, life time.Duration, now func() time.Time) *Audience {
	if now == nil {
		now = time.Now
	}
	return &Audience{mode: mode, life: life, now: now, asked: map[string]time.Time{}}
}

// Wants says whether a click of the user is followed by a recommendation on the topic.
func (a *Audience) Wants(user string) bool {
	if a == nil || a.mode == RecommendAlways {
		return true
	}
	if a.mode == RecommendOnRequest {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.asked[user]
	return ok && a.now().Sub(at) <= a.life
}

// Ask notes that the user asked for a list.
func (a *Audience) Ask(user string) {
	if a == nil || a.mode != RecommendActive || user == "" {
		return
	}
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.asked[user]; !known && len(a.asked) >= maxActive {
		a.sweep(now)
	}
	a.asked[user] = now
}

// Forget drops a user, for erasure.
func (a *Audience) Forget(user string) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.asked, user)
}

// sweep drops who is no longer active; when that is nobody, the half that asked first.
func (a *Audience) sweep(now time.Time) {
	for oldest := a.life; len(a.asked) >= maxActive; oldest /= 2 {
		for user, at := range a.asked {
			if now.Sub(at) >= oldest {
				delete(a.asked, user)
			}
		}
		if oldest == 0 {
			clear(a.asked)
		}
	}
}
