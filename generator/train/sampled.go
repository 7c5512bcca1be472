package train

import (
	"fmt"
	"math/rand/v2"

	"github.com/corastream/corastream"
)

// A log of clicks or purchases says what was taken and never what was not. To each of its rows comes a second one: an item that
// the user has not met, drawn by how often it was taken until then. Drawn that way, popularity alone tells the two apart no better
// than chance, so the AUC over the rows is about taste.

// onlyTaken says whether a log has no event that says no.
func onlyTaken(log []corastream.Event) bool {
	for i := range log {
		if !log[i].Positive() {
			return false
		}
	}
	return len(log) > 0
}

// sampler draws items from the events so far.
type sampler struct {
	rnd  *rand.Rand
	seen []corastream.Event
}

// sampleTries bounds the search for an item that the user has not met.
const sampleTries = 16

// untaken is the row of an item drawn beside ev, with the embeddings of the same moment. It is false where none was found.
func (r *runner) untaken(mem *corastream.Memory, cf CF, ev corastream.Event, others *sampler) (row, bool, error) {
	u, err := mem.User(ev.User)
	if err != nil || len(others.seen) == 0 {
		return row{}, false, err
	}
	met := map[string]bool{ev.Item: true}
	for _, h := range u.History {
		met[h.Item] = true
	}
	for range sampleTries {
		id := others.seen[others.rnd.IntN(len(others.seen))].Item
		if met[id] {
			continue
		}
		it, err := mem.Item(id)
		if err != nil {
			return row{}, false, err
		}
		if it.Title == "" {
			continue
		}
		other := ev
		other.Item, other.Label = id, 0
		x, err := r.snapshot(mem, cf, other, it)
		if err != nil {
			return row{}, false, fmt.Errorf("cf: item %q drawn beside an event of user %q: %w", id, ev.User, err)
		}
		return x, true, nil
	}
	return row{}, false, nil
}
