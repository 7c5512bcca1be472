package corastream

import (
	"io"
	"time"
)

// Step is one event as a Ranker learns it: what was taken, when, and what the same user had taken before. It names no user.
type Step struct {
	Item     string
	Positive bool
	Met      bool // the user had an event with Item before
	// Retract says that the events with Item in Recent are taken back, those that were liked alone where Likes is set. Nothing
	// else is learnt from such a step.
	Retract bool
	Likes   bool
	Time    time.Time
	// Labels are those of the user at the time.
	Labels []string
	// Recent are the user's last events before this one, newest first, at most Ranker.Window of them.
	Recent []Interaction
}

// Query asks for a list.
type Query struct {
	User   Embedding     // e_u, for retrieval by vectors; zero where nothing is known
	Recent []Interaction // the user's last events, newest first
	Labels []string      // the user's
	Now    time.Time
	N      int                    // items wanted
	Skip   func(item string) bool // items never to be listed; nil: none
	// Repeats lets items of Recent be listed even where the Ranker would leave them out.
	Repeats bool
	// Reasons asks for Source and From of each candidate.
	Reasons bool
}

// Candidate is an item of a list, and why it is there. Scores compare within one list alone.
type Candidate struct {
	Item   string
	Score  float32
	Source string // the retrieval source that speaks most for it: "co-visit", "popular", ...
	From   string // the item of Query.Recent that it came from; "" where the source knows none
	Model  string // the version of what the Ranker trains, by which it was ranked; "" where it trains nothing
}

// Ranker learns from each event what is taken next, and ranks items for a query by it. It is pure: it reads no clock, draws
// nothing at random, and equal calls in equal order give equal state. Rank may run beside other Ranks, Learn and Describe
// run alone; an implementation locks.
type Ranker interface {
	// Window is how many of a user's last events a Step and a Query should hold.
	Window() int
	// Describe takes in a catalogue record.
	Describe(it Item)
	// Learn takes in one event.
	Learn(st Step)
	// Rank gives the best q.N items, best first.
	Rank(q Query) []Candidate
}

// Repeater is what a Ranker may be besides: it knows from its log whether users take again what they have had.
type Repeater interface {
	// Repeats says whether items that the user has had are listed at present.
	Repeats() bool
}

// StepBatch is what one transaction teaches a Ranker: catalogue records first, then events in their order.
type StepBatch struct {
	Items []Item
	Steps []Step
}

// Derived is a Ranker whose state a Store keeps alive: in memory, restored from the last snapshot and the batches since.
type Derived interface {
	Ranker
	// Save writes the whole state. Equal states give equal bytes.
	Save(w io.Writer) error
	// Load replaces the state by one that Save wrote; ErrCorrupt or ErrMismatch when it can not.
	Load(r io.Reader) error
}

// Recent returns the last n events of the history, newest first.
func (u *UserState) Recent(n int) []Interaction {
	n = min(n, len(u.History))
	out := make([]Interaction, n)
	for i := range out {
		out[i] = u.History[len(u.History)-1-i]
	}
	return out
}
