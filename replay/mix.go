package replay

import (
	"context"
	"slices"
	"time"

	"github.com/corastream/corastream"
)

// The halves of the mixture that a freshness pass sets apart.
const (
	halfUser  = "user"  // the user's state is live, the model frozen after train
	halfModel = "model" // the model is live, the users' states frozen after train
)

// mix is a corastream.Ranker as a contender. It keeps the users' histories itself: `known` are those that queries are asked with,
// `learnt` those that steps are learnt with. They differ where one half is frozen.
type mix struct {
	name          string
	model         corastream.Ranker
	window        int
	half          string
	known, learnt map[string]*trail
	met           map[[2]string]struct{} // user and item
	progress      func(step string, done, total int)
}

// newMix tells the model the whole catalogue, withdrawn items included.
func newMix(name string, model corastream.Ranker, items []corastream.Item, progress func(string, int, int)) *mix {
	m := &mix{
		name: name, model: model, window: model.Window(), known: map[string]*trail{}, learnt: map[string]*trail{}, met: map[[2]string]struct{}{},
		progress: progress,
	}
	for _, it := range items {
		model.Describe(it)
	}
	return m
}

func (m *mix) fit(ctx context.Context, train []corastream.Event) error {
	for i, ev := range train {
		if i%4096 == 0 {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			m.progress("learn "+m.name, i, len(train))
		}
		if err := m.teach(ev); err != nil {
			return err
		}
	}
	return nil
}

// teach implements teacher: both halves learn train.
func (m *mix) teach(ev corastream.Event) error {
	m.know(ev)
	m.study(ev)
	return nil
}

func (m *mix) learn(ev corastream.Event) error {
	if m.half != halfModel {
		m.know(ev)
	}
	if m.half != halfUser {
		m.study(ev)
	}
	return nil
}

// know brings an event into the history that the user's lists are asked with.
func (m *mix) know(ev corastream.Event) { put(m.known, ev) }

// study has the model learn an event, and before it that something is taken back. Events come in their order whatever the delay, so the
// history is the one just before it.
func (m *mix) study(ev corastream.Event) {
	pair := [2]string{ev.User, ev.Item}
	if t := m.learnt[ev.User]; t.holds(ev) {
		m.model.Learn(corastream.Step{Item: ev.Item, Retract: true, Likes: !ev.Retract, Time: ev.Time, Recent: t.recent(m.window)})
		t.takeBack(ev)
		if !t.met(ev.Item) {
			delete(m.met, pair)
		}
	}
	if ev.Retract {
		return
	}
	_, met := m.met[pair]
	m.met[pair] = struct{}{}
	m.model.Learn(corastream.Step{
		Item: ev.Item, Positive: ev.Positive(), Met: met, Time: ev.Time, Recent: m.learnt[ev.User].recent(m.window),
	})
	put(m.learnt, ev)
}

// remember does nothing: what is frozen hears of nothing.
func (m *mix) remember(corastream.Event) error { return nil }

// see gives no score: the model ranks.
func (m *mix) see(corastream.Event) (sight, error) { return sight{}, nil }

// all is never asked, since a mix is a lister.
func (m *mix) all(string, []float64) error { panic("replay: a list model has no score for every item") }

// list implements lister.
func (m *mix) list(user string, now time.Time, n int, skip func(string) bool) []corastream.Candidate {
	return m.model.Rank(corastream.Query{Recent: m.known[user].recent(m.window), Now: now, N: n, Skip: skip})
}

// trail is a user's history, newest first. It is filled from its end, so the last events are a run of memory that never
// changes once it was handed out.
type trail struct {
	events []corastream.Interaction
	start  int
}

func put(trails map[string]*trail, ev corastream.Event) {
	t := trails[ev.User]
	if t == nil {
		t = &trail{}
		trails[ev.User] = t
	}
	if t.holds(ev) {
		t.takeBack(ev)
	}
	if ev.Retract {
		return
	}
	if t.start == 0 {
		grown := make([]corastream.Interaction, 2*len(t.events)+4)
		t.start = len(grown) - len(t.events)
		copy(grown[t.start:], t.events)
		t.events = grown
	}
	t.start--
	t.events[t.start] = corastream.Interaction{Item: ev.Item, Label: ev.Label, Time: ev.Time}
}

// holds says whether the event takes something of the trail back.
func (t *trail) holds(ev corastream.Event) bool {
	return t != nil && (ev.Retract || ev.Opposes()) && slices.ContainsFunc(t.events[t.start:], ev.TakesBack)
}

// takeBack leaves what was handed out as it is.
func (t *trail) takeBack(ev corastream.Event) {
	t.events = slices.DeleteFunc(slices.Clone(t.events[t.start:]), ev.TakesBack)
	t.start = 0
}

// met says whether the trail has an event with the item.
func (t *trail) met(item string) bool {
	return slices.ContainsFunc(t.events[t.start:], func(h corastream.Interaction) bool { return h.Item == item })
}

// recent are the last n events, newest first. A nil trail has none.
func (t *trail) recent(n int) []corastream.Interaction {
	if t == nil {
		return nil
	}
	end := min(t.start+n, len(t.events))
	return t.events[t.start:end:end]
}
