package cfstream

import "github.com/corastream/corastream"

// drawTries bounds the search for an item the user does not know: who knows nearly all of them gets fewer negatives.
const drawTries = 8

// draw picks the n-th negative of an implicit event, nil when none was found. It depends on the event's position and the
// items known by then alone, so a re-run in the same order draws the same. Never the event's own item, one of the user's
// history, or one that is no longer offered.
func draw(s corastream.State, u *corastream.UserState, ev corastream.Event, n int) (*corastream.ItemState, error) {
	items := uint64(s.Items())
	if items < 2 {
		return nil, nil
	}
	h := hash64(ev.Pos.Topic, uint64(uint32(ev.Pos.Partition))<<40^uint64(ev.Pos.Offset))
	for try := range drawTries {
		h = hash64("", h^uint64(n*drawTries+try))
		it, err := s.ItemAt(uint32(h % items))
		if err != nil {
			return nil, err
		}
		if it.ID != ev.Item && !it.Withdrawn && !it.Removed && !knows(u, it.ID) {
			return it, nil
		}
	}
	return nil, nil
}

func knows(u *corastream.UserState, item string) bool {
	for _, h := range newest(u) {
		if h.Item == item {
			return true
		}
	}
	return false
}

// lookBack is how many interactions are searched for an item, so that an event of a user with thousands of them costs no
// more: 1 us in place of 10. An older one may be drawn as a negative, and an old like counts again.
const lookBack = 512

func newest(u *corastream.UserState) []corastream.Interaction {
	return u.History[max(0, len(u.History)-lookBack):]
}
