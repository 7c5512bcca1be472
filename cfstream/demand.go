package cfstream

import (
	"math"
	"time"

	"github.com/corastream/corastream"
	"github.com/corastream/corastream/cfstream/internal/num"
)

// An item's demand is how much it has been liked of late: each like counts half after every demand_half_life, by the events' own
// times. The record's Acc holds it behind the factors: [.. | likes as of the last one | hour of the last one since 2000].

var demandZero = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// ask counts a like into the item's demand. A late event counts as much as it would have by now.
func (m *model) ask(it *corastream.ItemState, at time.Time) {
	k := m.factors
	for len(it.Acc) < k+2 {
		it.Acc = append(it.Acc, 0)
	}
	likes, last := &it.Acc[k], &it.Acc[k+1]
	now := float32(max(0, int64(at.Sub(demandZero)/time.Hour)))
	if *likes == 0 || now >= *last {
		*likes = float32(*likes*m.faded(now-*last)) + 1
		*last = now
	} else {
		*likes += m.faded(*last - now)
	}
}

// searched is a state that looks through the user's history for the event anyway, and keeps what it found: a dislike of a user with a long
// history costs the search, and little else.
type searched interface {
	// FirstTakenBack is what Event.FirstTakenBack says of the history of the event's user.
	FirstTakenBack(ev *corastream.Event) int
}

// takeBack takes out of the counts and the demand what the event takes out of the user's history. What the vectors learnt from it
// stays: the event's own step goes the other way. The version grows by each, so that no delta takes back more than it has steps.
func (m *model) takeBack(s corastream.State, shared *corastream.Embedding, u *corastream.UserState, it *corastream.ItemState, ev corastream.Event) {
	var at int
	if known, ok := s.(searched); ok {
		at = known.FirstTakenBack(&ev)
	} else {
		at = ev.FirstTakenBack(u.History)
	}
	if at < 0 {
		return
	}
	for _, h := range u.History[at:] {
		if !ev.TakesBack(h) {
			continue
		}
		for _, e := range []*corastream.Embedding{shared, &u.Embedding, &it.Embedding} {
			e.Count -= min(1, e.Count)
			touch(e)
		}
		if h.Label >= 0.5 {
			m.unask(it, h.Time)
		}
	}
}

// unask takes a like out of the item's demand.
func (m *model) unask(it *corastream.ItemState, at time.Time) {
	if len(it.Acc) < m.factors+2 {
		return
	}
	likes, last := &it.Acc[m.factors], it.Acc[m.factors+1]
	hour := float32(max(0, int64(at.Sub(demandZero)/time.Hour)))
	*likes = max(0, *likes-m.faded(max(0, last-hour)))
}

// faded is 2^(-hours/half-life), 0 from about 43 half-lives on.
func (m *model) faded(hours float32) float32 {
	x := float64(hours) * math.Ln2 / m.spec.DemandHalfLife.Hours()
	if x > 30 {
		return 0
	}
	return float32(num.Exp(-x))
}

// Demand is what serve.Retriever and replay rank by beside the score: ln of the likes, as they would count at a moment that is the same for all items (forward
// decay: Cormode et al., 2009), so that what is handed out at different times compares. -Inf: never liked.
func (m *model) Demand(it *corastream.ItemState) float32 {
	k := m.factors
	if len(it.Acc) < k+2 || it.Acc[k] <= 0 {
		return float32(math.Inf(-1))
	}
	return float32(math.Log(float64(it.Acc[k])) + float64(it.Acc[k+1])*math.Ln2/m.spec.DemandHalfLife.Hours())
}
